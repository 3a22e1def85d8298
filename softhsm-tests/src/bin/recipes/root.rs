//! Root keys on a token whose PIN nobody knows.

use crate::Token;
use cryptoki_sys::{CKA_COPYABLE, CKA_ID, CKA_LABEL, CKA_VALUE_LEN, CKM_ECDSA, CKM_SHA256_HMAC};
use p384::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use portcullis_hsm::{
    Error,
    algorithm::{KeyType, Mechanism},
    domain::{DomainKeys, Verdict, try_forbidden},
    object_id::ObjectId,
    pkcs11::{Attribute, CallMechanism, Module, Template},
    root_key::{NewRootKey, RootKey},
    template::{self, Extraction, Lifetime, Usage},
};
use rsa::{Pkcs1v15Sign, RsaPublicKey, pkcs8::DecodePublicKey};
use sha2::{Digest, Sha256, Sha384};
use std::sync::Arc;

pub(crate) fn run(module: &Arc<Module>) {
    let mut token = Token::make(module, "root");
    for (label, key_type, mechanism) in [
        ("curve", KeyType::EcP384, Mechanism::EcdsaSha384),
        ("rsa", KeyType::Rsa3072, Mechanism::RsaPkcs1Sha256),
    ] {
        let new = NewRootKey {
            id: ObjectId::of(b"ceremony", label),
            label: label.to_owned(),
            key_type,
            mechanisms: vec![mechanism],
        };
        let made = token.as_user(|session| new.create(session)).expect("a root key");
        let twice = token
            .as_user(|session| new.create(session).map(|_| ()))
            .expect_err("it is there");
        assert!(twice.to_string().contains("adopt it or destroy it"), "{twice}");

        // As a later ceremony finds it.
        token.token.forget_session_objects().expect("a new session");
        let digest = match mechanism {
            Mechanism::EcdsaSha384 => Sha384::digest(b"certificate").to_vec(),
            _ => Sha256::digest(b"certificate").to_vec(),
        };
        let (found, signature, allowed) = token
            .as_user(|session| {
                let found = RootKey::find(session, &new.id, key_type)?;
                let signature = found.sign(session, mechanism, &digest)?;
                let allowed = found.try_forbidden(session)?;
                Ok((found, signature, allowed))
            })
            .expect("a signature");
        assert_eq!(found.public_key(), made.public_key());
        assert!(allowed.is_empty(), "the token allowed: {}", allowed.join("; "));
        let public_key = found.public_key();
        match key_type {
            KeyType::EcP384 => {
                let key = VerifyingKey::from_public_key_der(public_key).expect("a P-384 key");
                let signature = Signature::from_slice(&signature).expect("a signature");
                key.verify_prehash(&digest, &signature).expect("it is right");
            }
            _ => {
                let key = RsaPublicKey::from_public_key_der(public_key).expect("an RSA key");
                key.verify(Pkcs1v15Sign::new::<Sha256>(), &digest, &signature)
                    .expect("it is right");
            }
        }

        // Without the user's login there is no signature, also for the security officer.
        let logged_out = token.as_officer(|session| found.sign(session, mechanism, &digest));
        assert!(logged_out.is_err(), "a root key signed without its PIN");
        let hidden = token.as_officer(|session| RootKey::find(session, &new.id, key_type).map(|_| ()));
        assert!(matches!(hidden, Err(Error::ResidentMissing)), "{hidden:?}");
        // Nor by a mechanism that it was not made for.
        let other = match key_type {
            KeyType::EcP384 => None,
            _ => Some(Mechanism::RsaPssSha256),
        };
        if let Some(other) = other {
            let refused =
                token.as_user(|session| RootKey::find(session, &new.id, key_type)?.sign(session, other, &digest));
            assert!(refused.is_err(), "a root key signed by another mechanism");
        }

        // With the login lost nothing is tried, and nothing counts as refused.
        let untried = token.as_user(|session| {
            session.logout()?;
            found.try_forbidden(session)
        });
        assert!(matches!(untried, Err(Error::Call(_))), "{untried:?}");

        let destroyed = token
            .as_user(|session| new.id.destroy(session))
            .expect("it is destroyed");
        assert_eq!(destroyed, 2);
        let gone = token.as_user(|session| RootKey::find(session, &new.id, key_type).map(|_| ()));
        assert!(matches!(gone, Err(Error::ResidentMissing)), "{gone:?}");
    }
}

/// A token that allows what it must not: that is said, and no copy stays on it.
pub(crate) fn weak(module: &Arc<Module>) {
    let mut token = Token::make(module, "weak");
    let (id, key_type) = (ObjectId::of(b"ceremony", "weak"), KeyType::EcP256);
    let named = |template: Template| template.with(Attribute::bytes(CKA_ID, *id.as_bytes()));
    let usage = Usage {
        sign: true,
        ..Usage::NONE
    };
    let private = template::key(key_type, Lifetime::Token, Extraction::Forbidden, usage)
        .with(Attribute::flag(CKA_COPYABLE, true));
    let domain_key = template::key(KeyType::HmacSha256, Lifetime::Token, Extraction::Forbidden, usage)
        .with(Attribute::flag(CKA_COPYABLE, true))
        .with(Attribute::number(CKA_VALUE_LEN, 32))
        .with(Attribute::bytes(CKA_LABEL, b"portcullis-resident-domain-1-mac"))
        .with(Attribute::bytes(CKA_ID, *id.as_bytes()));
    let (allowed, attempts, left) = token
        .as_user(|session| {
            session.generate_key_pair(
                CallMechanism::Plain(template::generation_mechanism(key_type)),
                &named(template::public_half(key_type, Lifetime::Token)),
                &template::frozen(named(private), &[CKM_ECDSA]),
            )?;
            let allowed = RootKey::find(session, &id, key_type)?.try_forbidden(session)?;
            session.generate_key(
                CallMechanism::Plain(template::generation_mechanism(KeyType::HmacSha256)),
                &template::frozen(domain_key, &[CKM_SHA256_HMAC]),
            )?;
            let domain = DomainKeys::find(session, 1, None)?;
            Ok((allowed, try_forbidden(session, &domain)?, id.find(session)?))
        })
        .expect("the attempts");
    assert_eq!(allowed, ["copy it"]);
    let allowed: Vec<_> = attempts
        .iter()
        .filter(|one| one.verdict == Verdict::Allowed)
        .map(|one| one.what.as_str())
        .collect();
    assert!(allowed.contains(&"mac: copy it as it is"), "{allowed:?}");
    assert_eq!(left.len(), 3, "{left:?}");
}

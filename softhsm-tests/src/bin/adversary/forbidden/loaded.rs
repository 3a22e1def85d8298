//! What can be tried with a stolen key token: everything on the way into the HSM, and on the key once it is there.

use super::{
    Trial,
    deeds::{PADDED, own_aes_key, read},
};
use crate::{
    formats::{AES_256, EC_P256, KeyToken, RSA_2048},
    template::{Protection, of_token},
};
use anyhow::{Context, bail, ensure};
use cryptoki::{
    error::Error,
    mechanism::{
        Mechanism, MechanismType,
        rsa::{PkcsMgfType, PkcsPssParams},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};
use p256::ecdsa::signature::{Verifier, hazmat::PrehashVerifier};
use rsa::pkcs8::DecodePublicKey;
use sha2::{Digest, Sha256};

/// Tries everything with a key that the seal key wrapped.
pub(super) fn try_all(trial: &mut Trial<'_>, token: &KeyToken) -> anyhow::Result<()> {
    let name = name(token);
    let [(_, seal), (_, portable), (_, mac)] = trial.domain;
    let keeper = trial.session();

    let tag = keeper.sign(&Mechanism::Sha256Hmac, mac, &token.framed_body)?;
    ensure!(
        tag == token.tag,
        "the tag of the {name} token is not the mac key's over its body"
    );
    let loaded = keeper.unwrap_key(
        &Mechanism::AesKeyWrapPad,
        seal,
        &token.wrapped,
        &of_token(token, Protection::FULL)?,
    )?;
    let works = use_properly(keeper, loaded, token).with_context(|| format!("the {name} key as it is meant"));
    trial.control(format!("{name}: load and use it as it is meant"), |_| {
        works.map_err(|_| Error::InvalidValue)
    })?;

    for (how, protection) in WRONG {
        let template = of_token(token, protection)?;
        trial.attempt(format!("{name}: load it {how}"), |session| {
            session
                .unwrap_key(&Mechanism::AesKeyWrapPad, seal, &token.wrapped, &template)
                .map(drop)
        })?;
    }
    let lax = Protection {
        sensitive: Some(true),
        extractable: Some(true),
    };
    for (how, key, protection, mechanism) in [
        (
            "under the portable key",
            portable,
            Protection::FULL,
            Mechanism::AesKeyWrapPad,
        ),
        (
            "extractable under the portable key",
            portable,
            lax,
            Mechanism::AesKeyWrapPad,
        ),
        ("under the mac key", mac, Protection::FULL, Mechanism::AesKeyWrapPad),
        ("by key wrap", seal, Protection::FULL, Mechanism::AesKeyWrap),
        ("by CBC", seal, Protection::FULL, Mechanism::AesCbc([0; 16])),
        (
            "by CBC with padding",
            seal,
            Protection::FULL,
            Mechanism::AesCbcPad([0; 16]),
        ),
        ("by ECB", seal, Protection::FULL, Mechanism::AesEcb),
    ] {
        let template = of_token(token, protection)?;
        trial.attempt(format!("{name}: load it {how}"), |session| {
            session.unwrap_key(&mechanism, key, &token.wrapped, &template).map(drop)
        })?;
    }
    for (how, mechanism) in [
        ("ECB", Mechanism::AesEcb),
        ("CBC", Mechanism::AesCbc([0; 16])),
        (PADDED, Mechanism::AesKeyWrapPad),
        ("key wrap", Mechanism::AesKeyWrap),
    ] {
        // Whole blocks, because a wrapped key is half a block longer.
        let blocks = &token.wrapped[..token.wrapped.len() / 16 * 16];
        trial.attempt(
            format!("{name}: decrypt its token with the seal key by {how}"),
            |session| session.decrypt(&mechanism, seal, blocks).map(drop),
        )?;
    }
    let secrets: &[_] = match token.key_type {
        RSA_2048 => &[
            AttributeType::PrivateExponent,
            AttributeType::Prime1,
            AttributeType::Prime2,
            AttributeType::Exponent1,
            AttributeType::Exponent2,
            AttributeType::Coefficient,
        ],
        _ => &[AttributeType::Value],
    };
    for secret in secrets {
        trial.attempt(format!("{name}: read {secret:?} of the loaded key"), |session| {
            read(session, loaded, *secret)
        })?;
    }
    let changes = [
        ("extractable", vec![Attribute::Extractable(true)]),
        ("not sensitive", vec![Attribute::Sensitive(false)]),
        ("both", vec![Attribute::Sensitive(false), Attribute::Extractable(true)]),
        (
            "extractable on the token",
            vec![Attribute::Token(true), Attribute::Extractable(true)],
        ),
    ];
    for (how, template) in &changes {
        trial.attempt(format!("{name}: make the loaded key {how}"), |session| {
            session.update_attributes(loaded, template)
        })?;
        trial.attempt(format!("{name}: copy the loaded key {how}"), |session| {
            session.copy_object(loaded, template).map(drop)
        })?;
    }
    for wrapper in trial.wrappers()? {
        for (how, mechanism) in wrapper.mechanisms() {
            trial.attempt(
                format!("{name}: wrap the loaded key under {} by {how}", wrapper.name),
                |session| session.wrap_key(&mechanism, wrapper.key, loaded).map(drop),
            )?;
        }
    }
    keeper.destroy_object(loaded)?;
    Ok(())
}

/// A key under the portable key may be extractable, for an export, but never in clear.
pub(super) fn try_portable(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    let [_, (_, portable), _] = trial.domain;
    let keeper = trial.session();
    let wrapped = keeper.wrap_key(&Mechanism::AesKeyWrapPad, portable, own_aes_key(keeper)?)?;
    let unwrap = |session: &Session, protection: Protection| {
        let mut template = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
        ];
        template.extend(protection.sensitive.map(Attribute::Sensitive));
        template.extend(protection.extractable.map(Attribute::Extractable));
        session
            .unwrap_key(&Mechanism::AesKeyWrapPad, portable, &wrapped, &template)
            .map(drop)
    };
    for extractable in [true, false] {
        let proper = Protection {
            sensitive: Some(true),
            extractable: Some(extractable),
        };
        trial.control(
            format!("portable: load a key with extractable {extractable}"),
            |session| unwrap(session, proper),
        )?;
        for (how, sensitive) in [
            ("not sensitive", Some(false)),
            ("with nothing said of sensitivity", None),
        ] {
            let wrong = Protection {
                sensitive,
                extractable: Some(extractable),
            };
            let what = format!("portable: load a key {how} with extractable {extractable}");
            trial.attempt(what, |session| unwrap(session, wrong))?;
        }
    }
    Ok(())
}

/// Every protection but the full one.
const WRONG: [(&str, Protection); 8] = [
    (
        "extractable",
        Protection {
            sensitive: Some(true),
            extractable: Some(true),
        },
    ),
    (
        "not sensitive",
        Protection {
            sensitive: Some(false),
            extractable: Some(false),
        },
    ),
    (
        "neither sensitive nor protected",
        Protection {
            sensitive: Some(false),
            extractable: Some(true),
        },
    ),
    (
        "with nothing said of sensitivity",
        Protection {
            sensitive: None,
            extractable: Some(false),
        },
    ),
    (
        "with nothing said of extraction",
        Protection {
            sensitive: Some(true),
            extractable: None,
        },
    ),
    (
        "with nothing said of either",
        Protection {
            sensitive: None,
            extractable: None,
        },
    ),
    (
        "extractable, with nothing said of sensitivity",
        Protection {
            sensitive: None,
            extractable: Some(true),
        },
    ),
    (
        "not sensitive, with nothing said of extraction",
        Protection {
            sensitive: Some(false),
            extractable: None,
        },
    ),
];

fn name(token: &KeyToken) -> &'static str {
    match token.key_type {
        RSA_2048 => "sealed RSA key",
        EC_P256 => "sealed P-256 key",
        AES_256 => "sealed AES key",
        _ => "sealed secret",
    }
}

/// Does with a key what it is for, and checks the result outside the token.
fn use_properly(session: &Session, key: ObjectHandle, token: &KeyToken) -> anyhow::Result<()> {
    let message = b"the adversary was here";
    match (token.key_type, token.signing_mechanism()) {
        (EC_P256, Some(1)) => {
            let digest = Sha256::digest(message);
            let signature = session.sign(&Mechanism::Ecdsa, key, &digest)?;
            let signature = p256::ecdsa::Signature::from_slice(&signature)?;
            let public = p256::ecdsa::VerifyingKey::from_public_key_der(&token.public_key)?;
            Ok(public.verify_prehash(&digest, &signature)?)
        }
        (RSA_2048, Some(16)) => {
            let signature = session.sign(&Mechanism::Sha256RsaPkcs, key, message)?;
            let public = rsa::RsaPublicKey::from_public_key_der(&token.public_key)?;
            let public = rsa::pkcs1v15::VerifyingKey::<Sha256>::new(public);
            Ok(public.verify(message, &signature.as_slice().try_into()?)?)
        }
        (RSA_2048, Some(24)) => {
            let params = PkcsPssParams {
                hash_alg: MechanismType::SHA256,
                mgf: PkcsMgfType::MGF1_SHA256,
                s_len: 32.into(),
            };
            let signature = session.sign(&Mechanism::Sha256RsaPkcsPss(params), key, message)?;
            let public = rsa::RsaPublicKey::from_public_key_der(&token.public_key)?;
            let public = rsa::pss::VerifyingKey::<Sha256>::new(public);
            Ok(public.verify(message, &signature.as_slice().try_into()?)?)
        }
        (AES_256, None) => {
            let encrypted = session.encrypt(&Mechanism::AesCbcPad([0; 16]), key, message)?;
            ensure!(session.decrypt(&Mechanism::AesCbcPad([0; 16]), key, &encrypted)? == message);
            Ok(())
        }
        (crate::formats::HMAC_SHA256, None) => {
            ensure!(session.sign(&Mechanism::Sha256Hmac, key, message)?.len() == 32);
            Ok(())
        }
        other => bail!("a key of type and mechanism {other:?} is not known here"),
    }
}

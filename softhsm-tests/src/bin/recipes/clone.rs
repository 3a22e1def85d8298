//! The domain from its origin token to members.

use crate::{Token, all_refused};
use portcullis_hsm::{
    Error,
    domain::{
        DomainKeys, Fingerprint, OaepHash, OriginDomain, Transport, TransportFacts, TrustedKey, try_forbidden,
        try_forbidden_on_origin,
    },
    object_id::ObjectId,
    pkcs11::Module,
};
use std::sync::Arc;

const EPOCH: u32 = 1;
// The only hash that SoftHSM2 has for OAEP.
const HASH: OaepHash = OaepHash::Sha1;

/// A domain is born on the origin token and comes to two members, with a canary before it.
pub(crate) fn run(module: &Arc<Module>) {
    let mut origin = Token::make(module, "origin");
    let (key_wrap, id) = (origin.key_wrap(), ObjectId::of(b"ceremony", "generate"));
    let fingerprint = origin
        .as_user(|session| OriginDomain::create(session, EPOCH, key_wrap, &id)?.fingerprint(session))
        .expect("a domain");
    let attempts = origin
        .as_user(|session| {
            let found = OriginDomain::find(session, EPOCH, key_wrap)?;
            try_forbidden_on_origin(session, &found)
        })
        .expect("the attempts");
    all_refused(&attempts, 100);
    for what in [
        "seal: wrap it under a key of one's own",
        "mac: wrap it to a transport key that is not trusted, by OAEP with SHA-1",
        "portable: trust a transport key as the user",
        "seal: make it wrappable under any key",
        "mac: read the value",
    ] {
        assert!(attempts.iter().any(|one| one.what == what), "{what} was not tried");
    }
    let again = origin.as_user(|session| OriginDomain::create(session, EPOCH, key_wrap, &id));
    assert!(matches!(again, Err(Error::DomainExists(EPOCH))), "{again:?}");

    for label in ["a", "b"] {
        let mut member = Token::make(module, label);
        assert_eq!(
            join(&mut origin, &mut member, &ObjectId::of(b"ceremony", label)),
            fingerprint
        );
        let attempts = member
            .as_user(|session| {
                let keys = DomainKeys::find(session, EPOCH, Some(key_wrap))?;
                try_forbidden(session, &keys)
            })
            .expect("the attempts");
        all_refused(&attempts, 100);
        // What a member holds is no origin: it cannot be cloned on.
        let no_origin = member.as_user(|session| OriginDomain::find(session, EPOCH, key_wrap).map(|_| ()));
        assert!(matches!(no_origin, Err(Error::NoDomain(EPOCH))), "{no_origin:?}");
    }
    let after = origin.as_user(|session| OriginDomain::find(session, EPOCH, key_wrap)?.fingerprint(session));
    assert_eq!(after.expect("the origin's domain"), fingerprint);
}

/// The steps of both sides; returns the fingerprint on the member.
fn join(origin: &mut Token, member: &mut Token, id: &ObjectId) -> Fingerprint {
    let (at_origin, at_member) = (origin.key_wrap(), member.key_wrap());
    // The member asks.
    let (transport, facts) = member
        .as_user(|session| {
            let transport = Transport::generate(session)?;
            let facts = transport.facts(session)?;
            Ok((transport, facts))
        })
        .expect("a transport key");
    let right = TransportFacts {
        local: true,
        sensitive: true,
        always_sensitive: true,
        extractable: false,
        never_extractable: true,
        modifiable: false,
    };
    assert_eq!(facts, right);
    // A logout takes the private half with it: on the member, one login lasts from the request to the end.
    let lost = member.as_user(|session| transport.answer_canary(session, &[0; 384], HASH, at_member).map(|_| ()));
    assert!(lost.is_err(), "a private session object outlived its login");

    let Token { token, user, .. } = member;
    token
        .as_user(user, |there| {
            let transport = Transport::generate(there)?;
            let trusted = origin.as_officer(|here| TrustedKey::transport(here, transport.public_key()))?;
            // A copy would be trusted for longer than this deed.
            for allowed in [
                origin.as_user(|here| trusted.try_forbidden(here))?,
                origin.as_officer(|here| trusted.try_forbidden(here))?,
            ] {
                assert!(allowed.is_empty(), "the token allowed: {}", allowed.join("; "));
            }
            let (wrapped, canary) = origin.as_user(|here| trusted.send_canary(here, HASH, at_origin))?;
            assert_eq!(transport.answer_canary(there, &wrapped, HASH, at_member)?, canary);
            let domain = origin.as_user(|here| {
                let found = OriginDomain::find(here, EPOCH, at_origin)?;
                found.wrap_to(here, &trusted, HASH)
            })?;
            // What is left on the origin's token is what was there before.
            origin.as_user(|here| trusted.destroy(here))?;
            let keys = transport.receive_in_step(there, &domain, at_member, id)?;
            let labels: Vec<_> = id.find(there)?.into_iter().map(|one| one.label).collect();
            assert_eq!(
                labels,
                [
                    "portcullis-domain-1-mac",
                    "portcullis-domain-1-portable",
                    "portcullis-domain-1-seal"
                ]
            );
            let twice = transport.receive_in_step(there, &domain, at_member, id);
            assert!(matches!(twice, Err(Error::DomainExists(EPOCH))), "{twice:?}");
            transport.destroy(there)?;
            keys.fingerprint(there)
        })
        .expect("the member has joined")
}

/// What a ceremony that was interrupted finds again, adopts or destroys.
pub(crate) fn interrupted(module: &Arc<Module>) {
    let mut origin = Token::make(module, "origin");
    let (key_wrap, id) = (origin.key_wrap(), ObjectId::of(b"ceremony", "generate"));
    let other = ObjectId::of(b"another ceremony", "generate");
    let made = origin
        .as_user(|session| OriginDomain::create(session, EPOCH, key_wrap, &id)?.fingerprint(session))
        .expect("a domain");

    // The program was killed: a new session, a new login, and the token tells.
    origin.token.forget_session_objects().expect("a new session");
    let (mine, theirs, adopted) = origin
        .as_user(|session| {
            let adopted = OriginDomain::find(session, EPOCH, key_wrap)?.fingerprint(session)?;
            Ok((id.find(session)?, other.find(session)?, adopted))
        })
        .expect("the objects");
    assert_eq!((mine.len(), theirs.len(), adopted), (3, 0, made));

    // A trusted key ends with its session, whoever is logged in then.
    let transport = origin
        .as_user(|session| Ok(Transport::generate(session)?.public_key().to_vec()))
        .expect("a transport key");
    let trusted = origin
        .as_officer(|session| TrustedKey::transport(session, &transport))
        .expect("a trusted key");
    let wrap = |origin: &mut Token| {
        origin.as_user(|session| {
            let found = OriginDomain::find(session, EPOCH, key_wrap)?;
            found.wrap_to(session, &trusted, HASH).map(|_| ())
        })
    };
    wrap(&mut origin).expect("the trusted key wraps");
    origin.token.forget_session_objects().expect("a new session");
    assert!(wrap(&mut origin).is_err(), "a trusted key outlived its session");

    // Destroyed, by its id alone; what another ceremony made would stay.
    let (none, three) = origin
        .as_user(|session| Ok((other.destroy(session)?, id.destroy(session)?)))
        .expect("the objects are destroyed");
    assert_eq!((none, three), (0, 3));
    let gone = origin.as_user(|session| OriginDomain::find(session, EPOCH, key_wrap).map(|_| ()));
    assert!(matches!(gone, Err(Error::NoDomain(EPOCH))), "{gone:?}");
}

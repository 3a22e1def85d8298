//! The domain under a backup key, lost, and back again.

use crate::{Token, all_refused};
use portcullis_hsm::{
    Error,
    domain::{
        BackupKey, DomainBackup, DomainKeys, Fingerprint, OriginDomain, RestoreAs, try_forbidden,
        try_forbidden_on_origin,
    },
    object_id::ObjectId,
    pkcs11::{Module, Session},
};
use std::sync::Arc;
use zeroize::Zeroizing;

const EPOCH: u32 = 7;

pub(crate) fn run(module: &Arc<Module>) {
    let mut origin = Token::make(module, "origin");
    let (key_wrap, id) = (origin.key_wrap(), ObjectId::of(b"ceremony", "generate"));
    let fingerprint = origin
        .as_user(|session| OriginDomain::create(session, EPOCH, key_wrap, &id)?.fingerprint(session))
        .expect("a domain");
    let (key, another) = origin
        .as_user(|session| {
            Ok((
                BackupKey::draw(session, Some(b"3 1 6 6 2"))?,
                BackupKey::draw(session, None)?,
            ))
        })
        .expect("backup keys");
    assert_ne!(key.expose(), another.expose());
    let trusted = origin
        .as_officer(|session| key.trust(session, key_wrap))
        .expect("a trusted key");
    let backup = origin
        .as_user(|session| OriginDomain::find(session, EPOCH, key_wrap)?.back_up(session, &key, &trusted))
        .expect("a backup");
    origin
        .as_officer(|session| trusted.destroy(session))
        .expect("it is destroyed");
    let kept = backup.to_bytes();
    let secret = key.expose().as_slice();
    assert!(!kept.windows(secret.len()).any(|window| window == secret));

    // The user cannot do it alone: there is nobody to trust the key.
    let alone = origin.as_user(|session| key.trust(session, key_wrap).map(|_| ()));
    assert!(alone.is_err(), "the user trusted a key");
    // The token is lost.
    origin
        .as_user(|session| id.destroy(session))
        .expect("the domain is destroyed");

    let backup = DomainBackup::from_bytes(&kept).expect("the backup");
    assert_eq!((backup.epoch, backup.fingerprint), (EPOCH, fingerprint));
    // From its shares.
    let key = BackupKey::from_bytes(Zeroizing::new(*key.expose()));
    for (label, restore_as) in [("second origin", RestoreAs::Origin), ("member", RestoreAs::Member)] {
        let mut token = Token::make(module, label);
        let step = ObjectId::of(b"ceremony", label);
        let mut restore = |key: &BackupKey| -> Result<Fingerprint, Error> {
            token.as_user(|session| backup.restore(session, key, key_wrap, restore_as, &step))
        };
        let refused = restore(&another).expect_err("another key");
        assert!(refused.to_string().contains("they are of another set"), "{refused}");
        assert_eq!(restore(&key).expect("the domain is back"), fingerprint);
        let twice = restore(&key).expect_err("it is there");
        assert!(matches!(twice, Error::DomainExists(EPOCH)), "{twice}");
        let attempts = token
            .as_user(|session| attempts(session, restore_as, key_wrap))
            .expect("the attempts");
        all_refused(&attempts, 100);
        let objects = token.as_user(|session| step.find(session)).expect("the objects");
        assert_eq!(objects.len(), 3, "{objects:?}");
    }

    // A backup that lies about its fingerprint leaves nothing behind.
    let mut lying = backup.clone();
    lying.fingerprint = Fingerprint::from_bytes([0; 32]);
    let mut token = Token::make(module, "third");
    let step = ObjectId::of(b"ceremony", "third");
    let (refused, left) = token
        .as_user(|session| {
            let refused = lying.restore(session, &key, key_wrap, RestoreAs::Member, &step);
            Ok((refused, step.find(session)?))
        })
        .expect("an answer");
    assert!(matches!(refused, Err(Error::NotAuthentic(_))), "{refused:?}");
    assert!(left.is_empty(), "{left:?}");
}

fn attempts(
    session: &mut Session,
    restored: RestoreAs,
    key_wrap: u64,
) -> Result<Vec<portcullis_hsm::domain::Attempt>, Error> {
    match restored {
        RestoreAs::Origin => {
            let origin = OriginDomain::find(session, EPOCH, key_wrap)?;
            try_forbidden_on_origin(session, &origin)
        }
        RestoreAs::Member => {
            let keys = DomainKeys::find(session, EPOCH, Some(key_wrap))?;
            try_forbidden(session, &keys)
        }
    }
}

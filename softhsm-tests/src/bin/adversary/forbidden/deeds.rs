//! What can be tried on a key, and keys of one's own to try it on first.

use crate::template::{EXTRACTABLE, SENSITIVE, unwrap_template};
use cryptoki::{
    context::Function,
    error::{Error, RvError},
    mechanism::{
        Mechanism, MechanismType,
        aead::GcmParams,
        ekdf::AesCbcDeriveParams,
        rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};

/// A deed: what it gave is of no interest, only whether it gave anything.
pub(super) type Deed = Box<dyn Fn(&Session, ObjectHandle) -> Result<(), Error>>;

/// What an AES key can do that no domain key may do. Beginning an operation counts as doing it.
pub(super) fn aes_deeds() -> Vec<(String, Deed)> {
    let mut deeds: Vec<(String, Deed)> = Vec::new();
    for (mode, mechanism) in [
        ("ECB", Mechanism::AesEcb),
        ("CBC", Mechanism::AesCbc([0; 16])),
        ("CBC with padding", Mechanism::AesCbcPad([0; 16])),
    ] {
        let mechanism = std::rc::Rc::new(mechanism);
        let same = mechanism.clone();
        deeds.push((
            format!("encrypt by {mode}"),
            Box::new(move |session, key| session.encrypt_init(&same, key)),
        ));
        deeds.push((
            format!("decrypt by {mode}"),
            Box::new(move |session, key| session.decrypt_init(&mechanism, key)),
        ));
    }
    deeds.push((
        "encrypt by GCM".to_owned(),
        Box::new(|session, key| {
            session.encrypt_init(&Mechanism::AesGcm(GcmParams::new(&mut [7; 12], &[], 128.into())?), key)
        }),
    ));
    deeds.push((
        "decrypt by GCM".to_owned(),
        Box::new(|session, key| {
            session.decrypt_init(&Mechanism::AesGcm(GcmParams::new(&mut [7; 12], &[], 128.into())?), key)
        }),
    ));
    deeds.push((
        "compute a CMAC".to_owned(),
        Box::new(|session, key| session.sign(&Mechanism::AesCMac, key, b"a message").map(drop)),
    ));
    deeds.push((
        "derive a key by CBC".to_owned(),
        Box::new(|session, key| {
            let template = [
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::GENERIC_SECRET),
                Attribute::ValueLen(32.into()),
                Attribute::Token(false),
                Attribute::Sensitive(false),
                Attribute::Extractable(true),
            ];
            let mechanism = Mechanism::AesCbcEncryptData(AesCbcDeriveParams::new([0; 16], &[0; 32]));
            session.derive_key(&mechanism, key, &template).map(drop)
        }),
    ));
    deeds
}

/// What the mac key may do.
pub(super) const PROPER_MAC: &str = "compute an HMAC with SHA-256";

/// What a generic secret can do.
pub(super) fn secret_deeds() -> Vec<(&'static str, Deed)> {
    vec![
        (
            PROPER_MAC,
            Box::new(|session, key| session.sign(&Mechanism::Sha256Hmac, key, b"a message").map(drop)),
        ),
        (
            "compute an HMAC with SHA-1",
            Box::new(|session, key| session.sign(&Mechanism::Sha1Hmac, key, b"a message").map(drop)),
        ),
        (
            "compute an HMAC with SHA-224",
            Box::new(|session, key| session.sign(&Mechanism::Sha224Hmac, key, b"a message").map(drop)),
        ),
    ]
}

/// Reads the value of a secret key.
pub(super) fn read_value(session: &Session, key: ObjectHandle) -> Result<(), Error> {
    read(session, key, AttributeType::Value)
}

/// Reads an attribute. `cryptoki` leaves out what the token does not give.
pub(super) fn read(session: &Session, key: ObjectHandle, attribute: AttributeType) -> Result<(), Error> {
    match session.get_attributes(key, &[attribute])?[..] {
        [] => Err(Error::Pkcs11(RvError::AttributeSensitive, Function::GetAttributeValue)),
        _ => Ok(()),
    }
}

/// A change of an attribute.
pub(super) struct Change {
    /// What the key would be then.
    pub(super) what: &'static str,
    pub(super) attribute: Attribute,
    /// Whether a key of one's own takes the change.
    pub(super) works_on_own_keys: bool,
}

/// All changes that would matter.
pub(super) fn changes() -> Vec<Change> {
    let change = |what, attribute| Change {
        what,
        attribute,
        works_on_own_keys: false,
    };
    let usual = |what, attribute| Change {
        what,
        attribute,
        works_on_own_keys: true,
    };
    vec![
        change("extractable", Attribute::Extractable(true)),
        change("not sensitive", Attribute::Sensitive(false)),
        usual("able to encrypt", Attribute::Encrypt(true)),
        usual("able to decrypt", Attribute::Decrypt(true)),
        usual("able to sign", Attribute::Sign(true)),
        usual("able to verify", Attribute::Verify(true)),
        usual("able to wrap", Attribute::Wrap(true)),
        usual("able to unwrap", Attribute::Unwrap(true)),
        usual("able to derive", Attribute::Derive(true)),
        usual(
            "another by its label",
            Attribute::Label(b"portcullis-domain-2-seal".to_vec()),
        ),
        usual("another by its id", Attribute::Id(b"portcullis-domain-2-seal".to_vec())),
        change("modifiable", Attribute::Modifiable(true)),
        change("copyable", Attribute::Copyable(true)),
        change("trusted", Attribute::Trusted(true)),
        change("public", Attribute::Private(false)),
        change(
            "free in its mechanisms",
            Attribute::AllowedMechanisms(vec![MechanismType::AES_ECB, MechanismType::AES_CBC]),
        ),
        change("free in what it unwraps", unwrap_template(&[])),
        change(
            "careless in what it unwraps",
            unwrap_template(&[(SENSITIVE, false), (EXTRACTABLE, true)]),
        ),
    ]
}

/// A key under which others can be wrapped.
pub(super) struct Wrapper {
    pub(super) name: &'static str,
    pub(super) key: ObjectHandle,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    OwnAes,
    OwnRsa,
    Domain,
}

pub(super) const PADDED: &str = "key wrap with padding";

impl Wrapper {
    pub(super) fn own_aes(name: &'static str, key: ObjectHandle) -> Self {
        Self {
            name,
            key,
            kind: Kind::OwnAes,
        }
    }

    pub(super) fn own_rsa(name: &'static str, key: ObjectHandle) -> Self {
        Self {
            name,
            key,
            kind: Kind::OwnRsa,
        }
    }

    pub(super) fn domain(name: &'static str, key: ObjectHandle) -> Self {
        Self {
            name,
            key,
            kind: Kind::Domain,
        }
    }

    /// The mechanisms that wrap.
    pub(super) fn mechanisms(&self) -> Vec<(&'static str, Mechanism<'static>)> {
        if self.kind == Kind::OwnRsa {
            let oaep = PkcsOaepParams::new(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1, PkcsOaepSource::empty());
            return vec![
                ("RSA PKCS#1", Mechanism::RsaPkcs),
                ("RSA OAEP", Mechanism::RsaPkcsOaep(oaep)),
            ];
        }
        vec![
            (PADDED, Mechanism::AesKeyWrapPad),
            ("key wrap", Mechanism::AesKeyWrap),
            ("CBC", Mechanism::AesCbc([0; 16])),
        ]
    }

    /// Whether this wrapper may wrap an ordinary key so.
    pub(super) fn may(&self, how: &str) -> bool {
        self.kind != Kind::Domain || (how == PADDED && self.name != "mac")
    }
}

/// An AES key that can do everything and hides nothing.
pub(super) fn own_aes_key(session: &Session) -> Result<ObjectHandle, Error> {
    session.generate_key(&Mechanism::AesKeyGen, &own(KeyType::AES))
}

/// A generic secret that can do everything and hides nothing.
pub(super) fn own_secret(session: &Session) -> Result<ObjectHandle, Error> {
    session.generate_key(&Mechanism::GenericSecretKeyGen, &own(KeyType::GENERIC_SECRET))
}

fn own(key_type: KeyType) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(key_type),
        Attribute::ValueLen(32.into()),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Sign(true),
        Attribute::Verify(true),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
        Attribute::Derive(true),
    ]
}

/// The public half of an RSA key whose private half is one's own: what it wraps, one can read.
pub(super) fn own_rsa_key(session: &Session) -> Result<ObjectHandle, Error> {
    let public = [
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::ModulusBits(2048.into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Wrap(true),
        Attribute::Encrypt(true),
    ];
    let private = [
        Attribute::Token(false),
        Attribute::Unwrap(true),
        Attribute::Decrypt(true),
    ];
    Ok(session
        .generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)?
        .0)
}

//! The domain: three keys that every member of a cluster holds, and that never leave the HSMs.
//!
//! | key | type | use |
//! |---|---|---|
//! | seal | AES-256 | wraps keys that are never exportable; its unwrap template forces SENSITIVE and not EXTRACTABLE |
//! | portable | AES-256 | wraps keys that may be exported under another HSM key; its unwrap template forces SENSITIVE |
//! | mac | HMAC-SHA-256 | authenticates key tokens, rows and probes |
//!
//! A domain is born on one member as an [`Origin`] of session objects that can do nothing but be wrapped. Each member,
//! the origin's own included, makes a [`Transport`] key, receives the three keys under it with their final templates,
//! and forgets the transport key; then the origin is destroyed. From then on no copy can be wrapped.
//!
//! In a ceremony the origin is an [`OriginDomain`] on a token of its own, which is kept offline: its keys can be wrapped, but only
//! under a [`TrustedKey`], for which the security officer logs in. A [`Canary`] goes to a member before the domain does; a
//! [`DomainBackup`] is the domain under a key that custodians have in shares.
//!
//! A token that cannot hold a seal key ([`crate::sealing`]) can hold a *resident* domain: a mac key alone, born on the token
//! under its final template. It authenticates the same things; keys under it are resident keys.

mod backup;
mod canary;
mod clone;
mod destroy;
mod forbidden;
mod origin_token;
mod resident;

pub use backup::{BackupKey, DomainBackup, RestoreAs};
pub use canary::Canary;
pub use clone::{OaepHash, Origin, Transport, TransportFacts, WrappedDomain};
pub use destroy::destroy_epoch;
pub use forbidden::{Attempt, Verdict, try_forbidden, try_forbidden_on_origin};
pub use origin_token::{OriginDomain, TrustedKey};
pub use resident::create_resident;

use crate::{
    Error,
    algorithm::KeyType,
    pkcs11::{Attribute, CallMechanism, ObjectHandle, Session, Template},
    record::{self, CanonicalWriter, RecordKind, Tag},
    template::{self, Extraction, Lifetime, Usage},
};
use cryptoki_sys::*;
use sha2::{Digest, Sha256};
use std::fmt;

/// One of the three domain keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DomainKey {
    /// Wraps keys that are never exportable.
    Seal,
    /// Wraps keys that may be exported.
    Portable,
    /// Authenticates tokens, rows and probes.
    Mac,
}

impl DomainKey {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Seal, Self::Portable, Self::Mac];

    /// The key's name, as it stands in its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Portable => "portable",
            Self::Mac => "mac",
        }
    }

    /// The `CKA_LABEL` and, as bytes, the `CKA_ID` of the key.
    pub fn label(self, epoch: u32) -> String {
        format!("portcullis-domain-{epoch}-{}", self.name())
    }

    /// The template of the key as a member holds it.
    fn member_template(self, epoch: u32, key_wrap: CK_MECHANISM_TYPE) -> Template {
        named(self.template(Lifetime::Token, key_wrap), &self.label(epoch))
    }

    /// What the key is and may do, without its names. `key_wrap` is the token's mechanism for RFC 5649.
    pub(crate) fn template(self, lifetime: Lifetime, key_wrap: CK_MECHANISM_TYPE) -> Template {
        let usage = match self {
            Self::Seal | Self::Portable => Usage {
                wrap: true,
                unwrap: true,
                ..Usage::NONE
            },
            Self::Mac => Usage {
                sign: true,
                verify: true,
                ..Usage::NONE
            },
        };
        let mut template = template::key(self.key_type(), lifetime, Extraction::Forbidden, usage);
        if let Some(unwrap) = self.unwrap_template() {
            template = template.with(Attribute::attributes(CKA_UNWRAP_TEMPLATE, unwrap));
        }
        let mechanism = match self {
            Self::Seal | Self::Portable => key_wrap,
            Self::Mac => CKM_SHA256_HMAC,
        };
        template::frozen(template, &[mechanism])
    }

    /// What the HSM forces on every key that this one unwraps.
    fn unwrap_template(self) -> Option<Template> {
        match self {
            Self::Seal => Some(Template::new([
                Attribute::flag(CKA_SENSITIVE, true),
                Attribute::flag(CKA_EXTRACTABLE, false),
            ])),
            Self::Portable => Some(Template::new([Attribute::flag(CKA_SENSITIVE, true)])),
            Self::Mac => None,
        }
    }

    fn key_type(self) -> KeyType {
        match self {
            Self::Seal | Self::Portable => KeyType::Aes256,
            Self::Mac => KeyType::HmacSha256,
        }
    }
}

/// A domain key's template with its names. `CKA_MODIFIABLE` stays last.
fn named(template: Template, label: &str) -> Template {
    template
        .without(CKA_MODIFIABLE)
        .with(Attribute::bytes(CKA_LABEL, label.as_bytes()))
        .with(Attribute::bytes(CKA_ID, label.as_bytes()))
        .with(Attribute::flag(CKA_MODIFIABLE, false))
}

/// The domain keys of one epoch on one member.
#[derive(Debug, Clone, Copy)]
pub struct DomainKeys {
    epoch: u32,
    mac: ObjectHandle,
    // A resident domain has none.
    sealing: Option<SealingKeys>,
}

#[derive(Debug, Clone, Copy)]
struct SealingKeys {
    seal: ObjectHandle,
    portable: ObjectHandle,
    key_wrap: CK_MECHANISM_TYPE,
}

/// How a key is wrapped under the domain.
#[derive(Debug, Clone, Copy)]
pub struct Wrapping {
    /// The key that wraps and unwraps.
    pub key: ObjectHandle,
    /// RFC 5649 under the name that the token has for it.
    pub mechanism: CallMechanism<'static>,
}

impl DomainKeys {
    /// Finds the domain keys of an epoch, of a sealing or a resident domain. `key_wrap` is the token's mechanism for RFC 5649.
    ///
    /// # Errors
    ///
    /// [`Error::NoDomain`] when the token has none of them; [`Error::TokenSelection`] when one is missing or there
    /// several times, or there are keys of both kinds of domain, which no ceremony leaves behind;
    /// [`Error::Unsupported`] when the token has the keys of a sealing domain and no mechanism for them.
    pub fn find(session: &mut Session, epoch: u32, key_wrap: Option<CK_MECHANISM_TYPE>) -> Result<Self, Error> {
        let mut found = Vec::new();
        for key in DomainKey::ALL {
            found.push(find_labelled(session, &key.label(epoch))?);
        }
        let resident = find_labelled(session, &resident::label(epoch))?;
        if resident.is_empty() && found.iter().all(Vec::is_empty) {
            return Err(Error::NoDomain(epoch));
        }
        match (found.as_slice(), resident.as_slice()) {
            ([seal, portable, mac], []) if found.iter().all(|one| one.len() == 1) => Ok(Self {
                epoch,
                mac: mac[0],
                sealing: Some(SealingKeys {
                    seal: seal[0],
                    portable: portable[0],
                    key_wrap: key_wrap.ok_or_else(|| Error::Unsupported(NEEDS_KEY_WRAP.to_owned()))?,
                }),
            }),
            (_, [mac]) if found.iter().all(Vec::is_empty) => Ok(Self {
                epoch,
                mac: *mac,
                sealing: None,
            }),
            _ => Err(Error::TokenSelection(format!(
                "the token holds {} seal, {} portable and {} mac keys of domain epoch {epoch}, and {} mac keys of a resident \
                 domain (2 means 2 or more); expected one of each of the three, or the last alone",
                found[0].len(),
                found[1].len(),
                found[2].len(),
                resident.len()
            ))),
        }
    }

    /// The epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The key that authenticates.
    pub fn mac(&self) -> ObjectHandle {
        self.mac
    }

    /// Whether keys can be wrapped under it.
    pub fn seals(&self) -> bool {
        self.sealing.is_some()
    }

    /// How keys of this exportability are wrapped.
    ///
    /// # Errors
    ///
    /// [`Error::NothingSeals`] in a resident domain.
    pub fn wrapping(&self, extraction: Extraction) -> Result<Wrapping, Error> {
        let SealingKeys {
            seal,
            portable,
            key_wrap,
        } = self.sealing.ok_or(Error::NothingSeals)?;
        Ok(Wrapping {
            key: match extraction {
                Extraction::Forbidden => seal,
                Extraction::Allowed => portable,
            },
            mechanism: CallMechanism::Plain(key_wrap),
        })
    }

    /// Computes the fingerprint of all its keys: a known key wrapped by each wrapping key, and a tag by the mac key.
    pub fn fingerprint(&self, session: &mut Session) -> Result<Fingerprint, Error> {
        match self.sealing {
            Some(SealingKeys {
                seal,
                portable,
                key_wrap,
            }) => fingerprint_of(session, self.epoch, self.mac, [seal, portable], key_wrap),
            None => {
                let mac = fingerprint_tag(session, self.epoch, self.mac)?;
                Ok(Fingerprint::of_resident_domain(self.epoch, &mac))
            }
        }
    }

    /// The tag of a fixed message: equal on every member of the domain, and so a test that the mac key answers right.
    pub fn known_answer(&self, session: &mut Session) -> Result<Tag, Error> {
        Ok(record::authenticate(
            session,
            self.mac,
            RecordKind::Probe,
            &self.epoch.to_be_bytes(),
        )?)
    }
}

/// The fingerprint of a mac key and the two keys that wrap.
fn fingerprint_of(
    session: &mut Session,
    epoch: u32,
    mac: ObjectHandle,
    wrapping: [ObjectHandle; 2],
    key_wrap: CK_MECHANISM_TYPE,
) -> Result<Fingerprint, Error> {
    let mac = fingerprint_tag(session, epoch, mac)?;
    let known = canary::known_key(session)?;
    let [seal, portable] =
        wrapping.map(|key| session.wrap_key(CallMechanism::Plain(key_wrap), key, known, WRAPPED_CAPACITY));
    session.destroy_object(known)?;
    Ok(Fingerprint::of_parts(epoch, &seal?, &portable?, &mac))
}

fn fingerprint_tag(session: &mut Session, epoch: u32, mac: ObjectHandle) -> Result<Tag, Error> {
    let message = epoch.to_be_bytes();
    Ok(record::authenticate(session, mac, RecordKind::Fingerprint, &message)?)
}

fn find_labelled(session: &mut Session, label: &str) -> Result<Vec<ObjectHandle>, Error> {
    let template = Template::new([
        Attribute::number(CKA_CLASS, CKO_SECRET_KEY),
        Attribute::flag(CKA_TOKEN, true),
        Attribute::bytes(CKA_LABEL, label.as_bytes()),
    ]);
    Ok(session.find_objects(&template, 2)?)
}

/// Identifies a domain: equal on two members exactly when all its keys are equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a domain from what its keys make of known inputs: [`KNOWN_KEY`] wrapped by the seal key and by the
    /// portable key, and the tag of the epoch.
    pub fn of_parts(epoch: u32, wrapped_by_seal: &[u8], wrapped_by_portable: &[u8], mac: &[u8]) -> Self {
        let parts = CanonicalWriter::new()
            .bytes(b"portcullis domain fingerprint v1")
            .u32(epoch)
            .bytes(wrapped_by_seal)
            .bytes(wrapped_by_portable)
            .bytes(mac)
            .finish();
        Self(Sha256::digest(parts).into())
    }

    /// The fingerprint of a resident domain from what its mac key makes of the epoch.
    pub fn of_resident_domain(epoch: u32, mac: &[u8]) -> Self {
        let parts = CanonicalWriter::new()
            .bytes(b"portcullis resident domain fingerprint v1")
            .u32(epoch)
            .bytes(mac)
            .finish();
        Self(Sha256::digest(parts).into())
    }

    /// From its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Public: any constant would do. It is only ever wrapped, to compare wrapping keys.
pub const KNOWN_KEY: &[u8; 32] = b"portcullis-known-fingerprint-key";

const NEEDS_KEY_WRAP: &str =
    "AES key wrap with padding (RFC 5649), without which it cannot use the domain that it holds";

/// More than any wrapped key has: RSA-4096 in PKCS#8 has about 2,400 bytes.
pub(crate) const WRAPPED_CAPACITY: usize = 8192;

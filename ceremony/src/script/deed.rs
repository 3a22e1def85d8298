//! What steps do with tokens: the deeds that change what a token holds, or bring a secret from it to the custodians.

use crate::name::Name;
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism},
    domain::{OaepHash, RestoreAs},
    object_id::ObjectId,
};
use serde::Deserialize;
use std::fmt;

/// What is done with a token. The list is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deed {
    /// An empty token gets its label and two PINs. The security officer's is random, and the custodians have it in shares.
    Initialise {
        /// Where the user's PIN comes from.
        user_pin: UserPin,
    },
    /// The PINs of a token that the custodians have in shares become others, and so do the shares.
    RenewPins,
    /// A token is initialised anew: everything on it is destroyed.
    Wipe,
    /// A domain is born on its origin token.
    GenerateDomain {
        /// The domain's epoch, from 1.
        epoch: u32,
    },
    /// A domain is wrapped under a key that the custodians have in shares.
    BackUpDomain {
        /// The domain's epoch.
        epoch: u32,
    },
    /// A member receives the domain from its origin token.
    JoinDomain {
        /// The domain's epoch.
        epoch: u32,
        /// The origin token.
        from: Name,
        /// The hash of RSA-OAEP.
        oaep_hash: TransportHash,
    },
    /// A domain comes back from its backup.
    RestoreDomain {
        /// The domain's epoch.
        epoch: u32,
        /// What it becomes.
        to_be: RestoredAs,
    },
    /// The keys of a domain are destroyed on a token, whatever ceremony made them.
    DestroyDomain {
        /// The domain's epoch.
        epoch: u32,
    },
    /// A root key is made on a token of its own.
    GenerateRootKey {
        /// Its label.
        label: String,
        /// Its type.
        key_type: RootKeyType,
    },
    /// A root key signs at the table, for a while and so many times.
    ActivateRootKey(Activation),
}

/// Which root key signs, and how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// Its `CKA_ID`, which the ceremony that made it has recorded.
    pub key: ObjectId,
    /// Its type.
    pub key_type: RootKeyType,
    /// How often it may sign.
    pub uses: u32,
    /// For how long it may be used, from when the shares were put together.
    pub within_minutes: u16,
}

/// Where a token's user PIN comes from when it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserPin {
    /// It is random, and the custodians have it in shares: of an origin token and of root keys.
    Shared,
    /// The operator types it: of a member, whose gateway must have it.
    Typed,
}

/// The hash of RSA-OAEP by which a domain travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransportHash {
    /// SHA-256.
    Sha256,
    /// SHA-1, for tokens that have no other.
    Sha1,
}

/// What a restored domain becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestoredAs {
    /// The domain of an origin token, from which members can join.
    Origin,
    /// The sealed domain of a member.
    Member,
}

/// What a root key is, and how it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootKeyType {
    /// ECDSA on P-256 with SHA-256.
    EcP256,
    /// ECDSA on P-384 with SHA-384.
    EcP384,
    /// RSA of 3072 bits, PKCS #1 v1.5 with SHA-256.
    Rsa3072,
    /// RSA of 4096 bits, PKCS #1 v1.5 with SHA-256.
    Rsa4096,
}

impl Deed {
    /// Reads it from its `do` and its `with`; nothing when no deed has this name.
    pub(super) fn parse(name: &str, with: &toml::Table) -> Option<Result<Self, String>> {
        let with = with.clone();
        Some(match name {
            "token.init" => fields(with).map(|Init { user_pin }| Self::Initialise { user_pin }),
            "token.renew-pins" => fields(with).map(|Nothing {}| Self::RenewPins),
            "token.wipe" => fields(with).map(|Nothing {}| Self::Wipe),
            "domain.generate" => {
                fields(with).and_then(|Epoch { epoch }| Ok(Self::GenerateDomain { epoch: counted(epoch)? }))
            }
            "domain.back-up" => {
                fields(with).and_then(|Epoch { epoch }| Ok(Self::BackUpDomain { epoch: counted(epoch)? }))
            }
            "domain.join" => fields(with).and_then(|Join { epoch, from, oaep_hash }| {
                Ok(Self::JoinDomain {
                    epoch: counted(epoch)?,
                    from,
                    oaep_hash,
                })
            }),
            "domain.restore" => fields(with).and_then(|Restore { epoch, to_be }| {
                Ok(Self::RestoreDomain {
                    epoch: counted(epoch)?,
                    to_be,
                })
            }),
            "domain.destroy" => {
                fields(with).and_then(|Epoch { epoch }| Ok(Self::DestroyDomain { epoch: counted(epoch)? }))
            }
            "root-key.generate" => fields(with).and_then(|RootKey { label, key_type }| {
                let fits = (1..=32).contains(&label.len()) && label.bytes().all(|byte| (b' '..=b'~').contains(&byte));
                if !fits {
                    return Err("label: expected 1 to 32 printable ASCII characters".to_owned());
                }
                Ok(Self::GenerateRootKey { label, key_type })
            }),
            "root-key.activate" => fields(with).and_then(|raw: Activate| {
                let key = ObjectId::parse(&raw.key)
                    .ok_or("key: expected the CKA_ID in 64 hexadecimal digits in lower case")?;
                if !(1..=100).contains(&raw.uses) || !(1..=240).contains(&raw.within_minutes) {
                    return Err("expected 1 to 100 uses within 1 to 240 minutes".to_owned());
                }
                Ok(Self::ActivateRootKey(Activation {
                    key,
                    key_type: raw.key_type,
                    uses: raw.uses,
                    within_minutes: raw.within_minutes,
                }))
            }),
            _ => return None,
        })
    }

    /// Its name in scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Initialise { .. } => "token.init",
            Self::RenewPins => "token.renew-pins",
            Self::Wipe => "token.wipe",
            Self::GenerateDomain { .. } => "domain.generate",
            Self::BackUpDomain { .. } => "domain.back-up",
            Self::JoinDomain { .. } => "domain.join",
            Self::RestoreDomain { .. } => "domain.restore",
            Self::DestroyDomain { .. } => "domain.destroy",
            Self::GenerateRootKey { .. } => "root-key.generate",
            Self::ActivateRootKey(_) => "root-key.activate",
        }
    }

    /// Whether it makes token objects, by which an interrupted step is known again.
    pub fn leaves_objects(&self) -> bool {
        match self {
            Self::GenerateDomain { .. }
            | Self::JoinDomain { .. }
            | Self::RestoreDomain { .. }
            | Self::GenerateRootKey { .. } => true,
            // What the backup needs on the token goes with its session.
            Self::Initialise { .. }
            | Self::RenewPins
            | Self::Wipe
            | Self::BackUpDomain { .. }
            | Self::DestroyDomain { .. }
            | Self::ActivateRootKey(_) => false,
        }
    }

    /// Whether it takes away what was not made in the same ceremony.
    pub(super) fn destroys(&self) -> bool {
        matches!(self, Self::Wipe | Self::DestroyDomain { .. })
    }

    /// Whether every custodian gets a share by it.
    pub fn hands_out_shares(&self) -> bool {
        self.sets_pins() || matches!(self, Self::BackUpDomain { .. })
    }

    /// Whether PINs of the token are in new shares after it.
    pub fn sets_pins(&self) -> bool {
        matches!(self, Self::Initialise { .. } | Self::RenewPins)
    }

    /// Another token that takes part.
    pub fn from(&self) -> Option<&Name> {
        match self {
            Self::JoinDomain { from, .. } => Some(from),
            _ => None,
        }
    }

    /// What is done, in words; `on` is the token, `by` the people.
    pub(super) fn in_words(&self, on: &Name, by: &str) -> String {
        match self {
            Self::Initialise {
                user_pin: UserPin::Shared,
            } => format!(
                "{by}: the empty token {on} gets its label and two random PINs, the security officer's and the user's. Every \
                 custodian gets a share of each and shows that it can be decrypted, before the token is touched."
            ),
            Self::Initialise {
                user_pin: UserPin::Typed,
            } => format!(
                "{by}: the empty token {on} gets its label, a random PIN of the security officer, and a user PIN that the first of \
                 them types. Every custodian gets a share of the officer's and shows that it can be decrypted, before the token is \
                 touched."
            ),
            Self::RenewPins => format!(
                "{by}: the PINs of {on} that are in shares become others. Every custodian gets a share of the new ones and shows that it \
                 can be decrypted, before the token is touched; the shares of the old ones are worthless then."
            ),
            Self::Wipe => format!(
                "{by}: {on} is initialised anew, by the security officer's PIN that the custodians' shares give. Everything on it is \
                 destroyed."
            ),
            Self::GenerateDomain { epoch } => format!(
                "{by}: the keys of domain epoch {epoch} are generated on the origin token {on}; what must be impossible with them \
                 is tried, and their fingerprint is read aloud and typed back."
            ),
            Self::BackUpDomain { epoch } => format!(
                "{by}: domain epoch {epoch} on {on} is wrapped under a new random backup key. Every custodian gets a share of that \
                 key and shows that it can be decrypted; nothing else has the key."
            ),
            Self::JoinDomain { epoch, from, oaep_hash } => format!(
                "{by}: {on} asks for domain epoch {epoch} with a key of its own, whose fingerprint is read aloud and typed back; the \
                 custodians sign the request; {from} wraps a worthless key to it first and then the domain (RSA-OAEP with \
                 {oaep_hash}); both fingerprints are compared, and what must be impossible is tried."
            ),
            Self::RestoreDomain { epoch, to_be } => format!(
                "{by}: the custodians' shares give the backup key, and domain epoch {epoch} comes back on {on} as {to_be}; its \
                 fingerprint is compared."
            ),
            Self::DestroyDomain { epoch } => format!(
                "{by}: every key of domain epoch {epoch} on {on} is destroyed, and it is looked for again. What else {on} holds stays."
            ),
            Self::GenerateRootKey { label, key_type } => format!(
                "{by}: the root key \"{label}\" ({key_type}) is generated on {on}; what must be impossible with it is tried, and \
                 its fingerprint is read aloud and typed back."
            ),
            Self::ActivateRootKey(activation) => format!(
                "{by}: the root key with the CKA_ID {} on {on} signs files, {} at most and for {} minutes. Each use is recorded before it \
                 is made; at the end it is seen that {on} refuses to sign.",
                activation.key, activation.uses, activation.within_minutes
            ),
        }
    }
}

impl TransportHash {
    pub(crate) fn oaep(self) -> OaepHash {
        match self {
            Self::Sha256 => OaepHash::Sha256,
            Self::Sha1 => OaepHash::Sha1,
        }
    }
}

impl RestoredAs {
    pub(crate) fn restore_as(self) -> RestoreAs {
        match self {
            Self::Origin => RestoreAs::Origin,
            Self::Member => RestoreAs::Member,
        }
    }
}

impl RootKeyType {
    pub(crate) fn key_type(self) -> KeyType {
        match self {
            Self::EcP256 => KeyType::EcP256,
            Self::EcP384 => KeyType::EcP384,
            Self::Rsa3072 => KeyType::Rsa3072,
            Self::Rsa4096 => KeyType::Rsa4096,
        }
    }

    pub(crate) fn mechanism(self) -> Mechanism {
        match self {
            Self::EcP256 => Mechanism::EcdsaSha256,
            Self::EcP384 => Mechanism::EcdsaSha384,
            Self::Rsa3072 | Self::Rsa4096 => Mechanism::RsaPkcs1Sha256,
        }
    }
}

impl fmt::Display for TransportHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.oaep(), formatter)
    }
}

impl fmt::Display for RestoredAs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Origin => "an origin, from which members can join",
            Self::Member => "a member's sealed domain",
        })
    }
}

impl fmt::Display for RootKeyType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::EcP256 => "ECDSA on P-256",
            Self::EcP384 => "ECDSA on P-384",
            Self::Rsa3072 => "RSA-3072",
            Self::Rsa4096 => "RSA-4096",
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Init {
    user_pin: UserPin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Epoch {
    epoch: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    epoch: u32,
    from: Name,
    oaep_hash: TransportHash,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restore {
    epoch: u32,
    to_be: RestoredAs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootKey {
    label: String,
    #[serde(rename = "type")]
    key_type: RootKeyType,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Activate {
    key: String,
    #[serde(rename = "type")]
    key_type: RootKeyType,
    uses: u32,
    within_minutes: u16,
}

fn fields<T: serde::de::DeserializeOwned>(with: toml::Table) -> Result<T, String> {
    with.try_into()
        .map_err(|error: toml::de::Error| error.message().to_owned())
}

fn counted(epoch: u32) -> Result<u32, String> {
    if epoch == 0 {
        return Err("a domain's epochs begin with 1".to_owned());
    }
    Ok(epoch)
}

/// The names of all deeds.
pub(super) const NAMES: [&str; 10] = [
    "token.init",
    "token.renew-pins",
    "token.wipe",
    "domain.generate",
    "domain.back-up",
    "domain.join",
    "domain.restore",
    "domain.destroy",
    "root-key.generate",
    "root-key.activate",
];

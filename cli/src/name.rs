//! The names of key rings and what they have, as people write them.

use crate::{failure::Failure, input::Source};
use bytes::Bytes;
use std::{fmt, marker::PhantomData, num::NonZeroU32, str::FromStr};

/// A key ring: `ring` or `keyRings/ring`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RingName(Id);

impl RingName {
    /// The last part of the name.
    pub(crate) fn id(&self) -> &str {
        &self.0.0
    }
}

impl FromStr for RingName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let id = text.strip_prefix("keyRings/").unwrap_or(text);
        if id.is_empty() || id.contains('/') {
            return Err(NameError::Ring { found: text.to_owned() });
        }
        id.parse().map(Self)
    }
}

impl fmt::Display for RingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keyRings/{}", self.0.0)
    }
}

/// A key: `ring/key` or `keyRings/ring/keys/key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyName {
    ring: RingName,
    key: Id,
}

impl KeyName {
    pub(crate) fn ring(&self) -> &RingName {
        &self.ring
    }

    /// The last part of the name.
    pub(crate) fn id(&self) -> &str {
        &self.key.0
    }
}

impl FromStr for KeyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse()? {
            KeyTarget::Key(key) => Ok(key),
            KeyTarget::Version(VersionName { key, number }) => Err(NameError::Version {
                key: key.to_string(),
                version: number,
            }),
            KeyTarget::Alias(alias) => Err(NameError::Alias {
                alias: alias.to_string(),
            }),
        }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/keys/{}", self.ring, self.key.0)
    }
}

/// A key, one of its versions, or an alias of either: also `ring/key/3`, `keyRings/ring/keys/key/versions/3`,
/// `ring/@alias` or `keyRings/ring/aliases/alias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyTarget {
    Key(KeyName),
    Version(VersionName),
    Alias(InRing<Alias>),
}

impl KeyTarget {
    /// The name by which the gateway finds the whole key.
    pub(crate) fn whole_key(&self) -> String {
        match self {
            Self::Key(key) => key.to_string(),
            Self::Version(version) => version.key.to_string(),
            Self::Alias(alias) => alias.to_string(),
        }
    }
}

impl FromStr for KeyTarget {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        let (ring, key, version) = match parts[..] {
            ["keyRings", ring, "keys", key] => (ring, key, None),
            ["keyRings", ring, "keys", key, "versions", version] => (ring, key, Some(version)),
            ["keyRings", _, "aliases", _] => return text.parse().map(Self::Alias),
            ["keyRings", ..] => return Err(NameError::Key { found: text.to_owned() }),
            [ring, alias] if alias.starts_with('@') => {
                return format!("{ring}/{}", &alias[1..]).parse().map(Self::Alias);
            }
            [ring, key] => (ring, key, None),
            [ring, key, version] => (ring, key, Some(version)),
            _ => return Err(NameError::Key { found: text.to_owned() }),
        };
        let key = KeyName {
            ring: RingName(ring.parse()?),
            key: key.parse()?,
        };
        match version.map(|version| version.parse().map_err(|_| version)) {
            None => Ok(Self::Key(key)),
            Some(Ok(number)) => Ok(Self::Version(VersionName { key, number })),
            Some(Err(found)) => Err(NameError::Number {
                found: found.to_owned(),
            }),
        }
    }
}

impl fmt::Display for KeyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Version(version) => version.fmt(f),
            Self::Alias(alias) => alias.fmt(f),
        }
    }
}

/// What key an operation uses: one by its name, or an ephemeral one by the file that holds its token, `token:FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyReference {
    Named(KeyTarget),
    Token(Source),
}

impl KeyReference {
    /// The name and the token, as requests have them: one of the two is empty.
    pub(crate) fn read(&self) -> Result<(String, Bytes), Failure> {
        match self {
            Self::Named(key) => Ok((key.to_string(), Bytes::new())),
            Self::Token(file) => {
                let token = file.read(MAX_TOKEN_BYTES, "more than any token")?;
                Ok((String::new(), token.into()))
            }
        }
    }
}

impl FromStr for KeyReference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("token:") {
            Some(file) => match file.parse() {
                Ok(source) => Ok(Self::Token(source)),
            },
            None => text.parse().map(Self::Named),
        }
    }
}

/// One version of a key: `ring/key/3` or `keyRings/ring/keys/key/versions/3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VersionName {
    key: KeyName,
    number: NonZeroU32,
}

impl VersionName {
    /// As people write it: `ring/key/3`.
    pub(crate) fn short(&self) -> String {
        format!("{}/{}/{}", self.key.ring.id(), self.key.id(), self.number)
    }
}

impl FromStr for VersionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse()? {
            KeyTarget::Version(version) => Ok(version),
            KeyTarget::Key(_) | KeyTarget::Alias(_) => Err(NameError::NoVersion { found: text.to_owned() }),
        }
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/versions/{}", self.key, self.number)
    }
}

/// Something else that a ring has: `ring/id` or, as for an alias, `keyRings/ring/aliases/id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InRing<K> {
    ring: RingName,
    id: Id,
    kind: PhantomData<K>,
}

impl<K> InRing<K> {
    pub(crate) fn ring(&self) -> &RingName {
        &self.ring
    }

    /// The last part of the name.
    pub(crate) fn id(&self) -> &str {
        &self.id.0
    }
}

impl<K: Kind> FromStr for InRing<K> {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        let (ring, id) = match parts[..] {
            ["keyRings", ring, collection, id] if collection == K::COLLECTION => (ring, id),
            [ring, id] => (ring, id),
            _ => {
                return Err(NameError::Other {
                    word: K::WORD,
                    collection: K::COLLECTION,
                    found: text.to_owned(),
                });
            }
        };
        Ok(Self {
            ring: RingName(ring.parse()?),
            id: id.parse()?,
            kind: PhantomData,
        })
    }
}

impl<K: Kind> fmt::Display for InRing<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.ring, K::COLLECTION, self.id.0)
    }
}

/// A kind of thing that rings have beside keys.
pub(crate) trait Kind {
    /// The part of the name between the ring and the id.
    const COLLECTION: &'static str;
    /// What stands for it in help.
    const WORD: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $collection:literal, $word:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub(crate) enum $kind {}

            impl Kind for $kind {
                const COLLECTION: &'static str = $collection;
                const WORD: &'static str = $word;
            }
        )*
    };
}

kinds! {
    /// A name that stands for a key or version.
    Alias = "aliases", "ALIAS";
    /// A certificate or data.
    Object = "objects", "OBJECT";
    /// Somebody to whom keys may be exported.
    Recipient = "recipients", "RECIPIENT";
    /// An RSA key for which a key is wrapped.
    ImportJob = "importJobs", "JOB";
}

/// One part of a name that its owner chose.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Id(String);

impl FromStr for Id {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let good = text.len() <= MAX_ID_BYTES
            && text.bytes().next().is_some_and(alphanumeric)
            && text
                .bytes()
                .all(|byte| alphanumeric(byte) || byte == b'-' || byte == b'_');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Id { found: text.to_owned() })
        }
    }
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("a key ring is RING or keyRings/RING, found {found:?}")]
    Ring { found: String },
    #[error(
        "a key is RING/KEY, RING/KEY/VERSION, RING/@ALIAS or keyRings/RING/keys/KEY[/versions/VERSION], found {found:?}"
    )]
    Key { found: String },
    #[error("an id is 1 to 63 characters of a-z, 0-9, - and _, the first a letter or digit; found {found:?}")]
    Id { found: String },
    #[error("a version is a number from 1, found {found:?}")]
    Number { found: String },
    #[error("this is about a whole key, not a version: write {key} without {version}")]
    Version { key: String, version: NonZeroU32 },
    #[error("this is about one version of a key: write RING/KEY/VERSION, found {found:?}")]
    NoVersion { found: String },
    #[error("this is about the key itself: write its own name, not {alias}")]
    Alias { alias: String },
    #[error("expected RING/{word} or keyRings/RING/{collection}/{word}, found {found:?}")]
    Other {
        word: &'static str,
        collection: &'static str,
        found: String,
    },
}

const MAX_ID_BYTES: usize = 63;

/// More than any token of an ephemeral key has.
pub(crate) const MAX_TOKEN_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_has_a_short_and_a_full_name() {
        for text in ["demo", "keyRings/demo"] {
            let ring: RingName = text.parse().expect(text);
            assert_eq!((ring.id(), ring.to_string().as_str()), ("demo", "keyRings/demo"));
        }
        for text in ["", "keyRings/", "demo/tls", "keyRings/demo/keys/tls"] {
            assert_eq!(
                text.parse::<RingName>(),
                Err(NameError::Ring { found: text.into() }),
                "{text}"
            );
        }
    }

    #[test]
    fn a_key_has_a_short_and_a_full_name() {
        for text in ["demo/tls", "keyRings/demo/keys/tls"] {
            let key: KeyName = text.parse().expect(text);
            assert_eq!((key.id(), key.ring().id()), ("tls", "demo"));
            assert_eq!(key.to_string(), "keyRings/demo/keys/tls");
        }
    }

    #[test]
    fn a_version_has_a_short_and_a_full_name() {
        for text in ["demo/tls/3", "keyRings/demo/keys/tls/versions/3"] {
            let target: KeyTarget = text.parse().expect(text);
            assert_eq!(target.to_string(), "keyRings/demo/keys/tls/versions/3");
            assert_eq!(target.whole_key(), "keyRings/demo/keys/tls");
            assert!(
                matches!(text.parse::<KeyName>(), Err(NameError::Version { .. })),
                "{text}"
            );
            let version: VersionName = text.parse().expect(text);
            assert_eq!(
                (version.short().as_str(), version.to_string()),
                ("demo/tls/3", target.to_string())
            );
        }
        for text in ["demo/tls", "demo/@tls"] {
            assert_eq!(
                text.parse::<VersionName>(),
                Err(NameError::NoVersion { found: text.into() })
            );
        }
    }

    #[test]
    fn an_alias_is_marked_where_a_key_could_stand() {
        for text in ["demo/@current", "keyRings/demo/aliases/current"] {
            let target: KeyTarget = text.parse().expect(text);
            assert_eq!(target.to_string(), "keyRings/demo/aliases/current");
            assert_eq!(target.whole_key(), "keyRings/demo/aliases/current");
            assert!(
                matches!(text.parse::<KeyName>(), Err(NameError::Alias { .. })),
                "{text}"
            );
        }
        for text in ["demo/@", "demo/@a/1", "demo/@@a"] {
            assert!(text.parse::<KeyTarget>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_else_a_ring_has_is_named_by_its_kind() {
        for text in ["demo/tls", "keyRings/demo/objects/tls"] {
            let object: InRing<Object> = text.parse().expect(text);
            assert_eq!(object.to_string(), "keyRings/demo/objects/tls");
            assert_eq!(
                (object.ring().to_string().as_str(), object.id()),
                ("keyRings/demo", "tls")
            );
        }
        assert_eq!(
            "demo/a".parse::<InRing<Alias>>().expect("one").to_string(),
            "keyRings/demo/aliases/a"
        );
        for text in ["", "demo", "demo/a/b", "keyRings/demo/aliases/a"] {
            assert!(text.parse::<InRing<Object>>().is_err(), "{text}");
        }
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in [
            "",
            "demo",
            "demo/tls/3/4",
            "keyRings/demo",
            "keyRings/demo/keys",
            "keyRings/demo/keys/tls/versions",
        ] {
            assert_eq!(
                text.parse::<KeyTarget>(),
                Err(NameError::Key { found: text.into() }),
                "{text}"
            );
        }
        for version in ["0", "-1", "x", "", "4294967296"] {
            let text = format!("demo/tls/{version}");
            assert_eq!(
                text.parse::<KeyTarget>(),
                Err(NameError::Number { found: version.into() }),
                "{text}"
            );
        }
    }

    #[test]
    fn ids_are_checked() {
        let longest = "x".repeat(63);
        for id in ["a", "0", "a-b_c9", &longest] {
            assert!(id.parse::<RingName>().is_ok(), "{id}");
        }
        let too_long = "x".repeat(64);
        for id in ["-a", "_a", "A", "ä", "a.b", "a b", &too_long] {
            assert_eq!(id.parse::<RingName>(), Err(NameError::Id { found: id.into() }), "{id}");
            assert_eq!(
                format!("demo/{id}").parse::<KeyName>(),
                Err(NameError::Id { found: id.into() }),
                "{id}"
            );
        }
        assert_eq!("/tls".parse::<KeyName>(), Err(NameError::Id { found: String::new() }));
    }
}

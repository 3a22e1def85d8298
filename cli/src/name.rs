//! The names of key rings, keys and versions, as people write them.

use std::{fmt, num::NonZeroU32, str::FromStr};

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
        let target: KeyTarget = text.parse()?;
        match target.version {
            None => Ok(target.key),
            Some(version) => Err(NameError::Version {
                key: target.key.to_string(),
                version,
            }),
        }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/keys/{}", self.ring, self.key.0)
    }
}

/// A key or one of its versions: also `ring/key/3` or `keyRings/ring/keys/key/versions/3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyTarget {
    key: KeyName,
    version: Option<NonZeroU32>,
}

impl KeyTarget {
    pub(crate) fn key(&self) -> &KeyName {
        &self.key
    }

    pub(crate) fn version(&self) -> Option<NonZeroU32> {
        self.version
    }
}

impl FromStr for KeyTarget {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        let (ring, key, version) = match parts[..] {
            ["keyRings", ring, "keys", key] => (ring, key, None),
            ["keyRings", ring, "keys", key, "versions", version] => (ring, key, Some(version)),
            ["keyRings", ..] => return Err(NameError::Key { found: text.to_owned() }),
            [ring, key] => (ring, key, None),
            [ring, key, version] => (ring, key, Some(version)),
            _ => return Err(NameError::Key { found: text.to_owned() }),
        };
        let version = match version.map(|version| version.parse().map_err(|_| version)) {
            None => None,
            Some(Ok(version)) => Some(version),
            Some(Err(found)) => {
                return Err(NameError::Number {
                    found: found.to_owned(),
                });
            }
        };
        Ok(Self {
            key: KeyName {
                ring: RingName(ring.parse()?),
                key: key.parse()?,
            },
            version,
        })
    }
}

impl fmt::Display for KeyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            None => self.key.fmt(f),
            Some(version) => write!(f, "{}/versions/{version}", self.key),
        }
    }
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
    #[error("a key is RING/KEY, RING/KEY/VERSION or keyRings/RING/keys/KEY[/versions/VERSION], found {found:?}")]
    Key { found: String },
    #[error("an id is 1 to 63 characters of a-z, 0-9, - and _, the first a letter or digit; found {found:?}")]
    Id { found: String },
    #[error("a version is a number from 1, found {found:?}")]
    Number { found: String },
    #[error("this is about a whole key, not a version: write {key} without {version}")]
    Version { key: String, version: NonZeroU32 },
}

const MAX_ID_BYTES: usize = 63;

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
            assert_eq!(target.version(), NonZeroU32::new(3));
            assert_eq!(target.to_string(), "keyRings/demo/keys/tls/versions/3");
            assert_eq!(target.key().to_string(), "keyRings/demo/keys/tls");
            assert!(
                matches!(text.parse::<KeyName>(), Err(NameError::Version { .. })),
                "{text}"
            );
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

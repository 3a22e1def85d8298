//! Resource names: `keyRings/{ring}/keys/{key}/versions/{n}`.

use std::fmt;

/// Whether text is an id: 1 to 63 characters of `a-z`, `0-9`, `-` and `_`, starting with a letter or digit.
pub fn is_id(text: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=63).contains(&text.len()) && text.bytes().all(valid) && !text.starts_with(['-', '_'])
}

/// A name that is not of the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{found}\" is not a {expected}")]
pub struct NameError {
    /// The form, for example `key name: keyRings/{ring}/keys/{key}`.
    pub expected: &'static str,
    /// What was given, cut to a readable length.
    pub found: String,
}

impl NameError {
    fn new(expected: &'static str, found: &str) -> Self {
        Self {
            expected,
            found: found.chars().take(100).collect(),
        }
    }
}

/// The id of a ring, key or alias: the last part of its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

impl Id {
    /// Checks an id.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if is_id(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new(
                "valid id: 1 to 63 of a-z, 0-9, - and _, starting with a letter or digit",
                text,
            ))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The parts of a name between its slashes. No name has more than six; of more there are seven here.
struct Parts<'a> {
    parts: [&'a str; 7],
    count: usize,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (mut parts, mut count) = ([""; 7], 0);
        for (place, part) in parts.iter_mut().zip(text.split('/')) {
            *place = part;
            count += 1;
        }
        Self { parts, count }
    }

    fn as_slice(&self) -> &[&'a str] {
        &self.parts[..self.count]
    }
}

/// `keyRings/{ring}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyRingName(pub Id);

impl KeyRingName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match Parts::of(text).as_slice() {
            ["keyRings", ring] if is_id(ring) => Ok(Self(Id((*ring).to_owned()))),
            _ => Err(NameError::new("key ring name: keyRings/{ring}", text)),
        }
    }
}

impl fmt::Display for KeyRingName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "keyRings/{}", self.0)
    }
}

/// `keyRings/{ring}/aliases/{alias}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AliasName {
    /// The ring.
    pub ring: Id,
    /// The alias.
    pub alias: Id,
}

impl AliasName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        Self::of(text).ok_or_else(|| NameError::new("alias name: keyRings/{ring}/aliases/{alias}", text))
    }

    /// Reads a name, where it may be the name of something else.
    pub fn of(text: &str) -> Option<Self> {
        match Parts::of(text).as_slice() {
            ["keyRings", ring, "aliases", alias] if is_id(ring) && is_id(alias) => Some(Self {
                ring: Id((*ring).to_owned()),
                alias: Id((*alias).to_owned()),
            }),
            _ => None,
        }
    }
}

impl fmt::Display for AliasName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "keyRings/{}/aliases/{}", self.ring, self.alias)
    }
}

/// `keyRings/{ring}/keys/{key}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName {
    /// The ring.
    pub ring: Id,
    /// The key.
    pub key: Id,
}

impl KeyName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match KeyOrVersionName::parse(text) {
            Ok(KeyOrVersionName { key, version: None }) => Ok(key),
            _ => Err(NameError::new("key name: keyRings/{ring}/keys/{key}", text)),
        }
    }

    /// The name of one of the key's versions.
    pub fn version(&self, version: u32) -> String {
        let (ring, key, number) = (self.ring.as_str(), self.key.as_str(), version.to_string());
        ["keyRings/", ring, "/keys/", key, "/versions/", &number].concat()
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "keyRings/{}/keys/{}", self.ring, self.key)
    }
}

/// A key, or one of its versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyOrVersionName {
    /// The key.
    pub key: KeyName,
    /// The version; `None` means the primary one.
    pub version: Option<u32>,
}

impl KeyOrVersionName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let key = |ring: &str, key: &str| KeyName {
            ring: Id(ring.to_owned()),
            key: Id(key.to_owned()),
        };
        match Parts::of(text).as_slice() {
            ["keyRings", ring, "keys", id] if is_id(ring) && is_id(id) => Ok(Self {
                key: key(ring, id),
                version: None,
            }),
            ["keyRings", ring, "keys", id, "versions", number] if is_id(ring) && is_id(id) => {
                match number.parse::<u32>() {
                    // One spelling for each number: no sign, no leading zero.
                    Ok(version) if version > 0 && version.to_string() == *number => Ok(Self {
                        key: key(ring, id),
                        version: Some(version),
                    }),
                    _ => Err(NameError::new("version number from 1", number)),
                }
            }
            _ => Err(NameError::new(
                "key or version name: keyRings/{ring}/keys/{key}[/versions/{n}]",
                text,
            )),
        }
    }
}

impl fmt::Display for KeyOrVersionName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            None => self.key.fmt(formatter),
            Some(version) => formatter.write_str(&self.key.version(version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for text in ["keyRings/r/keys/k", "keyRings/r-1/keys/0_k/versions/12"] {
            assert_eq!(
                KeyOrVersionName::parse(text).map(|name| name.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for text in [
            "",
            "keyRings/",
            "keyRings/R/keys/k",
            "keyRings/r/keys/",
            "keyRings/r/keys/k/",
            "keyRings/r/keys/k/versions/0",
            "keyRings/r/keys/k/versions/01",
            "keyRings/r/keys/k/versions/+1",
            "keyRings/../keys/k",
            "keyRings/r/keys/-k",
            "/keyRings/r/keys/k",
            "keyRings/r/keys/k/versions/4294967296",
            "keyRings/r/keys/k/versions/1/",
            "keyRings/r/keys/k/versions/1/2/3",
        ] {
            assert!(KeyOrVersionName::parse(text).is_err(), "{text}");
        }
    }
}

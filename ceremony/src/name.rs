//! Names in scripts and environments: of steps, seats and tokens.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A name: a letter, then up to 47 letters, digits and hyphens, all in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no name: expected a letter, then at most 47 letters, digits and hyphens, in lower case")]
pub struct NotAName(String);

impl Name {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let mut bytes = text.bytes();
        let begins = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase());
        let goes_on = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if begins && goes_on && text.len() <= LONGEST {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAName(text.chars().take(LONGEST + 1).collect()))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

const LONGEST: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for good in ["c1", "hsm-a", "a"] {
            assert_eq!(Name::parse(good).expect(good).as_str(), good);
        }
        let long = "a".repeat(49);
        for bad in ["", "1c", "-a", "A", "a b", "é", "a_b", "../a", long.as_str()] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }
}

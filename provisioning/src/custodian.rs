//! Who a custodian is.

use crate::{Error, signing_key::PublicKey, text::is_name};
use bech32::{Bech32, primitives::decode::CheckedHrpstring};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What a custodian is called: a role such as `custodian 2`, or a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CustodianName(String);

impl CustodianName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether people would take both names for one.
    pub fn reads_like(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl FromStr for CustodianName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::NotAName(text.to_owned()))
        }
    }
}

/// An age recipient of the kind X25519 (age-encryption.org/v1, section "The X25519 recipient type"): who can decrypt a share.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgeRecipient(String);

impl AgeRecipient {
    /// The recipient as text, beginning with `age1`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgeRecipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::NotARecipient(text.to_owned());
        let decoded = CheckedHrpstring::new::<Bech32>(text).map_err(|_| refused())?;
        let is_lower_case = text.bytes().all(|byte| !byte.is_ascii_uppercase());
        let length = decoded.byte_iter().count();
        if decoded.hrp().as_str() == "age" && is_lower_case && length == X25519_LENGTH {
            Ok(Self(text.to_owned()))
        } else {
            Err(refused())
        }
    }
}

/// A custodian: who signs, and for whom a share is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custodian {
    /// What the custodian is called.
    pub name: CustodianName,
    /// The key whose signatures count as this custodian's.
    pub signing_key: PublicKey,
    /// The recipient to which the custodian's shares are encrypted.
    pub age_recipient: AgeRecipient,
}

macro_rules! text_form {
    ($($kind:ty),*) => { $(
        impl TryFrom<String> for $kind {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.0
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $kind {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    )* };
}

text_form!(CustodianName, AgeRecipient);

const X25519_LENGTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_read_with_their_checksum() {
        let text = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
        assert!(text.parse::<AgeRecipient>().is_err(), "a wrong checksum");
        let bytes = [7; 32];
        let hrp = bech32::Hrp::parse("age").expect("a prefix");
        let right = bech32::encode::<Bech32>(hrp, &bytes).expect("a recipient");
        assert_eq!(right.parse::<AgeRecipient>().expect("a recipient").as_str(), right);
        let short = bech32::encode::<Bech32>(hrp, &bytes[1..]).expect("text");
        let other = bech32::encode::<Bech32>(bech32::Hrp::parse("agf").expect("a prefix"), &bytes).expect("text");
        let modified = bech32::encode::<bech32::Bech32m>(hrp, &bytes).expect("text");
        for wrong in [short, other, modified, right.to_uppercase(), right[..61].to_owned()] {
            assert!(wrong.parse::<AgeRecipient>().is_err(), "{wrong}");
        }
    }
}

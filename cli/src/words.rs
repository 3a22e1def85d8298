//! The words of the command line and of JSON for the API's enumerations.
//!
//! A word is the name in the API without its prefix, in lower case and with hyphens: `KEY_TYPE_EC_P256` is `ec-p256`.
//! So a value that is new in the API has its word at once, and output can be used as input.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use portcullis_client::v1;

/// An enumeration of the API that has words.
pub(crate) trait Word: TryFrom<i32> + Copy + Send + Sync + 'static {
    /// What all names in the API begin with.
    const PREFIX: &'static str;

    /// The name in the API.
    fn api_name(self) -> &'static str;
}

/// The word of a field's value. A value that this program does not know is shown by its number.
pub(crate) fn word<T: Word>(value: i32) -> String {
    match T::try_from(value) {
        Ok(known) => word_of(known),
        Err(_) => format!("unknown-{value}"),
    }
}

/// Parses a word on the command line; its help lists all of them.
pub(crate) fn parser<T: Word>() -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all::<T>().map(word_of)).try_map(|given| {
        // The possible values came from the same list, so the word is in it.
        all::<T>()
            .find(|value| word_of(*value) == given)
            .ok_or("not one of the possible values")
    })
}

/// All values but the unspecified one, in the API's order.
fn all<T: Word>() -> impl Iterator<Item = T> {
    (1..=MAX_NUMBER).filter_map(|number| T::try_from(number).ok())
}

fn word_of<T: Word>(value: T) -> String {
    value
        .api_name()
        .trim_start_matches(T::PREFIX)
        .to_ascii_lowercase()
        .replace('_', "-")
}

/// No enumeration of the API has a larger number.
const MAX_NUMBER: i32 = 255;

impl Word for v1::KeyType {
    const PREFIX: &'static str = "KEY_TYPE_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Word for v1::Mechanism {
    const PREFIX: &'static str = "MECHANISM_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Word for v1::KeyOperation {
    const PREFIX: &'static str = "KEY_OPERATION_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Word for v1::KeyProtection {
    const PREFIX: &'static str = "KEY_PROTECTION_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Word for v1::KeyOrigin {
    const PREFIX: &'static str = "KEY_ORIGIN_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Word for v1::KeyVersionState {
    const PREFIX: &'static str = "KEY_VERSION_STATE_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Word for v1::MemberState {
    const PREFIX: &'static str = "MEMBER_STATE_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Word for v1::BreakerState {
    const PREFIX: &'static str = "BREAKER_STATE_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Word for v1::WorkerState {
    const PREFIX: &'static str = "WORKER_STATE_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Word for v1::PublicKeyFormat {
    const PREFIX: &'static str = "PUBLIC_KEY_FORMAT_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Word for v1::SignatureEncoding {
    const PREFIX: &'static str = "SIGNATURE_ENCODING_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Word for v1::ImportMethod {
    const PREFIX: &'static str = "IMPORT_METHOD_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

impl Word for v1::KeyDestruction {
    const PREFIX: &'static str = "KEY_DESTRUCTION_";
    fn api_name(self) -> &'static str {
        self.as_str_name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<T: Word>() -> Vec<String> {
        all::<T>().map(word_of).collect()
    }

    #[test]
    fn key_types_have_their_words() {
        assert_eq!(
            words::<v1::KeyType>(),
            [
                "rsa-2048",
                "rsa-3072",
                "rsa-4096",
                "ec-p256",
                "ec-p384",
                "ec-p521",
                "ed25519",
                "aes-128",
                "aes-256",
                "hmac-sha256",
                "hmac-sha384",
                "hmac-sha512",
            ]
        );
    }

    #[test]
    fn the_other_words_of_the_command_line() {
        assert_eq!(words::<v1::KeyProtection>(), ["wrapped", "resident"]);
        assert_eq!(words::<v1::PublicKeyFormat>(), ["pem", "der", "jwk"]);
        assert_eq!(words::<v1::SignatureEncoding>(), ["der", "p1363"]);
        let mechanisms = words::<v1::Mechanism>();
        for mechanism in [
            "ecdsa-sha256",
            "rsa-pkcs1-sha512",
            "rsa-pss-sha256",
            "ed25519",
            "aes-gcm",
            "ecdh",
        ] {
            assert!(mechanisms.iter().any(|word| word == mechanism), "{mechanism}");
        }
    }

    #[test]
    fn values_are_shown_by_word_or_number() {
        assert_eq!(word::<v1::KeyVersionState>(6), "destroy-scheduled");
        assert_eq!(word::<v1::KeyVersionState>(0), "unspecified");
        assert_eq!(word::<v1::KeyVersionState>(77), "unknown-77");
    }

    #[test]
    fn a_word_is_parsed_to_its_value() {
        let command = clap::Command::new("test").arg(clap::Arg::new("type").value_parser(parser::<v1::KeyType>()));
        let matches = command
            .clone()
            .try_get_matches_from(["test", "ec-p384"])
            .expect("a known word");
        assert!(matches.get_one("type") == Some(&v1::KeyType::EcP384));
        assert!(command.try_get_matches_from(["test", "dsa-1024"]).is_err());
    }
}

//! Texts inside signed documents: names, times, digests, and the one form in which a document is written.

use crate::Error;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{fmt, str::FromStr};
use time::{
    Duration, OffsetDateTime, PrimitiveDateTime, format_description::StaticFormatDescription,
    macros::format_description,
};

/// A time in UTC, in whole seconds, written as `2026-12-01T09:30:00Z` (RFC 3339).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(OffsetDateTime);

impl Moment {
    /// From seconds since 1970-01-01 UTC; `None` outside of the years 1970 to 9999.
    pub fn from_unix(seconds: i64) -> Option<Self> {
        let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
        (1970..=9999).contains(&time.year()).then_some(Self(time))
    }

    /// Seconds since 1970-01-01 UTC.
    pub fn unix(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// The time this many seconds later; the last one that can be written where that is too late.
    #[must_use]
    pub fn plus_seconds(self, seconds: u32) -> Self {
        self.0
            .checked_add(Duration::seconds(seconds.into()))
            .and_then(|time| Self::from_unix(time.unix_timestamp()))
            .unwrap_or(Self::LAST)
    }

    // 9999-12-31T23:59:59Z.
    const LAST: Self = Self(time::macros::datetime!(9999-12-31 23:59:59 UTC));
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time: expected one such as 2026-12-01T09:30:00Z");
        let time = PrimitiveDateTime::parse(text, FORMAT).map_err(|_| wrong())?;
        let moment = Self::from_unix(time.assume_utc().unix_timestamp()).ok_or_else(wrong)?;
        // One time has one form.
        if moment.to_string() == text {
            Ok(moment)
        } else {
            Err(wrong())
        }
    }
}

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.format(FORMAT).map_err(|_| fmt::Error)?;
        formatter.write_str(&text)
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

const FORMAT: StaticFormatDescription = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// Whether a text can name a custodian, a member or a cluster. Two names that differ in case alone are the same to people.
pub(crate) fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b" .-_".contains(&byte);
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    (1..=64).contains(&bytes.len()) && bytes.iter().copied().all(known) && ends(bytes.first()) && ends(bytes.last())
}

/// 32 bytes as 64 lower-case hexadecimal digits.
pub(crate) fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (hex::encode(bytes) == text).then_some(bytes)
}

/// Writes a document: JSON with an indentation of two spaces, the members in the order of its format, and a line feed.
pub(crate) fn write_json<T: Serialize>(value: &T) -> String {
    // Invariant: the documents of this crate are structures of texts and numbers, which JSON can hold.
    let mut text = serde_json::to_string_pretty(value).expect("a document is JSON");
    text.push('\n');
    text
}

/// Reads a document that is written as [`write_json`] writes it, and no other way: one document has one form.
pub(crate) fn read_json<T: Serialize + DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Error> {
    let malformed = |reason: String| Error::Malformed { what, reason };
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8".to_owned()))?;
    let value: T = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let same = write_json(&value);
    if same != text {
        let line = 1 + same
            .lines()
            .zip(text.lines())
            .take_while(|(one, other)| one == other)
            .count();
        return Err(malformed(format!(
            "from line {line} on it is not written in the form of its format"
        )));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_form() {
        let moment: Moment = "2026-12-01T09:30:00Z".parse().expect("a time");
        assert_eq!(moment.to_string(), "2026-12-01T09:30:00Z");
        assert_eq!(moment.plus_seconds(90).to_string(), "2026-12-01T09:31:30Z");
        assert_eq!(Moment::LAST.plus_seconds(u32::MAX), Moment::LAST);
        for wrong in [
            "2026-12-01 09:30:00Z",
            "2026-12-01T09:30:00+00:00",
            "2026-13-01T09:30:00Z",
            "1969-12-31T23:59:59Z",
            "2026-12-01T09:30:00.5Z",
            "+2026-12-01T09:30:00Z",
            "",
        ] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_words_that_people_read_out() {
        for name in ["custodian 2", "a", "hsm-a.1", "C_1"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", " a", "a ", "a:b", "a\nb", "\u{e9}", &"a".repeat(65)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}

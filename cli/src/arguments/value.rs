//! Values of options that several commands have.

use crate::failure::Failure;
use std::{collections::BTreeMap, str::FromStr, time::Duration};

/// `name=value`; the value may be empty or hold another `=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    name: String,
    value: String,
}

impl Pair {
    /// The pairs by name; a name that is given twice has no one value.
    pub(super) fn map(pairs: &[Self]) -> Result<BTreeMap<String, String>, Failure> {
        let mut map = BTreeMap::new();
        for pair in pairs {
            if map.insert(pair.name.clone(), pair.value.clone()).is_some() {
                return Err(Failure::Usage(format!("{} is given twice", pair.name)));
            }
        }
        Ok(map)
    }
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("expected NAME=VALUE".to_owned()),
        }
    }
}

pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("a call needs some time".to_owned()),
        Ok(timeout) if timeout > MAX_TIMEOUT => Err("a call may take a day at most".to_owned()),
        Ok(timeout) => Ok(timeout),
        Err(error) => Err(format!("expected a time as in 30s or 500ms: {error}")),
    }
}

/// A time that is counted in whole seconds, such as the window of a destruction.
pub(super) fn period(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(period) if period.is_zero() || period.subsec_nanos() > 0 => {
            Err("expected whole seconds, and at least one".to_owned())
        }
        Ok(period) => Ok(period),
        Err(error) => Err(format!("expected a time as in 30d or 12h: {error}")),
    }
}

const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_a_name() {
        assert_eq!(
            "a=b=c".parse(),
            Ok(Pair {
                name: "a".into(),
                value: "b=c".into()
            })
        );
        assert_eq!(
            "a=".parse(),
            Ok(Pair {
                name: "a".into(),
                value: String::new()
            })
        );
        for text in ["", "a", "=b"] {
            assert!(text.parse::<Pair>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_timeout_is_a_positive_time() {
        for (text, good) in [
            ("30s", true),
            ("500ms", true),
            ("1day", true),
            ("1day 1s", false),
            ("0s", false),
            ("30", false),
            ("soon", false),
        ] {
            assert_eq!(timeout(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_period_is_whole_seconds() {
        for (text, good) in [
            ("30d", true),
            ("1s", true),
            ("0s", false),
            ("1500ms", false),
            ("soon", false),
        ] {
            assert_eq!(period(text).is_ok(), good, "{text}");
        }
    }
}

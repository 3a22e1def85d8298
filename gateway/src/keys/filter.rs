//! What a list leaves out (AIP-160, a small part of it): `field=value` terms joined by AND.
//!
//! Keys: `labels.{name}`, `state` (of the primary version), `type`, `purpose`. Versions: `state`. A value may stand in double
//! quotes, in which a backslash takes the next character as it is.

use super::{
    directory::{KeyRecord, VersionRecord},
    purpose::Purpose,
    state::VersionState,
};
use portcullis_hsm::algorithm::KeyType;

/// A filter that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

impl FilterError {
    /// With what is wrong.
    pub fn new(message: String) -> Self {
        Self(message)
    }
}

/// A filter of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyFilter(Vec<KeyTerm>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyTerm {
    Label(String, String),
    State(VersionState),
    Type(KeyType),
    Purpose(Purpose),
}

impl KeyFilter {
    /// Reads a filter; an empty one lets everything pass.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let term = |(field, value): (String, String)| match (field.as_str(), field.strip_prefix("labels.")) {
            (_, Some(label)) if !label.is_empty() => Ok(KeyTerm::Label(label.to_owned(), value)),
            ("state", _) => state(&value).map(KeyTerm::State),
            ("type", _) => match KeyType::ALL.iter().find(|one| one.name() == value) {
                Some(key_type) => Ok(KeyTerm::Type(*key_type)),
                None => Err(FilterError(format!("\"{value}\" is no key type, such as EC_P256"))),
            },
            ("purpose", _) => match Purpose::from_name(&value) {
                Some(purpose) => Ok(KeyTerm::Purpose(purpose)),
                None => Err(FilterError(format!("\"{value}\" is no purpose, such as SIGN_VERIFY"))),
            },
            _ => Err(FilterError(format!(
                "\"{field}\" is no field of keys: expected labels.{{name}}, state, type or purpose"
            ))),
        };
        Ok(Self(terms(text)?.into_iter().map(term).collect::<Result<_, _>>()?))
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key passes.
    pub fn passes(&self, record: &KeyRecord) -> bool {
        self.0.iter().all(|term| match term {
            KeyTerm::Label(name, value) => record.key.labels.get(name) == Some(value),
            KeyTerm::State(state) => record.primary().state() == *state,
            KeyTerm::Type(key_type) => record.profile.key_type == *key_type,
            KeyTerm::Purpose(purpose) => record.key.purpose == *purpose,
        })
    }
}

/// A filter of versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionFilter(Vec<VersionState>);

impl VersionFilter {
    /// Reads a filter; an empty one lets everything pass.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let term = |(field, value): (String, String)| match field.as_str() {
            "state" => state(&value),
            _ => Err(FilterError(format!(
                "\"{field}\" is no field of versions: expected state"
            ))),
        };
        Ok(Self(terms(text)?.into_iter().map(term).collect::<Result<_, _>>()?))
    }

    /// Whether a version passes.
    pub fn passes(&self, version: &VersionRecord) -> bool {
        self.0.iter().all(|state| version.state() == *state)
    }
}

/// The terms of a filter: field and value.
pub fn terms(text: &str) -> Result<Vec<(String, String)>, FilterError> {
    let mut rest = text.trim();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (field, after) = rest
            .split_once('=')
            .ok_or_else(|| FilterError(format!("expected field=value, found \"{}\"", short(rest))))?;
        let field = field.trim();
        if field.is_empty() || field.contains(char::is_whitespace) {
            return Err(FilterError(format!(
                "expected a field before =, found \"{}\"",
                short(field)
            )));
        }
        let (value, after) = value(after.trim_start())?;
        found.push((field.to_owned(), value));
        let after = after.trim_start();
        rest = match after.strip_prefix("AND") {
            Some(next) if next.starts_with(char::is_whitespace) && !next.trim().is_empty() => next.trim_start(),
            None if after.is_empty() => after,
            _ => {
                return Err(FilterError(format!(
                    "expected AND and another term, found \"{}\"",
                    short(after)
                )));
            }
        };
        if found.len() > MOST_TERMS {
            return Err(FilterError(format!("expected at most {MOST_TERMS} terms")));
        }
    }
    Ok(found)
}

/// A value at the start of a text, and what follows it.
fn value(text: &str) -> Result<(String, &str), FilterError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => match characters.next() {
                Some((_, escaped)) => value.push(escaped),
                None => break,
            },
            character => value.push(character),
        }
    }
    Err(FilterError("a value in quotes does not end".to_owned()))
}

fn state(value: &str) -> Result<VersionState, FilterError> {
    VersionState::from_name(value).ok_or_else(|| FilterError(format!("\"{value}\" is no state, such as ACTIVE")))
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

const MOST_TERMS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_joined_by_and() {
        let read = terms(r#"labels.team = payments AND state=ACTIVE AND labels.note="a \"b\" AND c=d""#);
        let expected = [
            ("labels.team", "payments"),
            ("state", "ACTIVE"),
            ("labels.note", r#"a "b" AND c=d"#),
        ];
        let expected: Vec<_> = expected
            .map(|(field, value)| (field.to_owned(), value.to_owned()))
            .into();
        assert_eq!(read, Ok(expected));
        assert_eq!(terms("  "), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_filter_is_refused_by_name() {
        for (text, part) in [
            ("state", "field=value"),
            ("=x", "before ="),
            ("state=ACTIVE OR state=DISABLED", "expected AND"),
            ("state=ACTIVE AND", "expected AND"),
            ("state=\"ACTIVE", "does not end"),
            ("state=BUSY", "no state"),
            ("colour=red", "no field"),
            ("type=EC", "no key type"),
            ("labels.=x", "no field"),
        ] {
            let error = KeyFilter::parse(text).expect_err(text);
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}

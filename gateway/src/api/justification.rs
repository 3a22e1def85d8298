//! Why a caller does something, for the audit log.

use super::ApiError;

/// A caller's reason within its limits: at most 1024 bytes without control characters; may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Justification(String);

impl Justification {
    /// Reads the text of a field.
    pub(super) fn read(field: &'static str, text: &str) -> Result<Self, ApiError> {
        if text.len() > LONGEST || text.chars().any(char::is_control) {
            return Err(ApiError::field(
                field,
                format!("expected at most {LONGEST} bytes without control characters"),
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_short_and_one_line() {
        let read = |text: &str| Justification::read("reason", text).map(|reason| reason.as_str().len());
        assert_eq!(read(""), Ok(0));
        assert_eq!(read(&"x".repeat(LONGEST)), Ok(LONGEST));
        for wrong in ["x".repeat(LONGEST + 1), "two\nlines".to_owned(), "\u{1}".to_owned()] {
            assert!(read(&wrong).is_err(), "{} bytes", wrong.len());
        }
    }
}

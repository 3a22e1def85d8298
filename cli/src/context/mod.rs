//! Named contexts: where a gateway listens and who calls it, in a configuration file.
//!
//! `file` reads and writes the file, `sources` decides which value is used: what is given on the command line counts more
//! than the environment, and that more than the file.

mod file;
mod sources;

pub(crate) use file::ContextFile;
pub(crate) use sources::{Origin, Sources};

use portcullis_client::Endpoint;
use serde::Deserialize;
use std::{fmt, path::PathBuf, str::FromStr};

/// What a context says of a gateway and its caller. Each value may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
}

/// The name of a context: 1 to 63 characters of letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ContextName(String);

impl ContextName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContextName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good = |character: char| character.is_ascii_alphanumeric() || character == '-' || character == '_';
        if (1..=63).contains(&text.len()) && text.chars().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "a context's name is 1 to 63 letters, digits, - and _, found {text:?}"
            ))
        }
    }
}

impl TryFrom<String> for ContextName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for ContextName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

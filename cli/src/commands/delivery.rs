//! Bytes that a command was asked for.

use crate::{
    console::Console,
    document,
    failure::{Exit, Failure},
    output::{Destination, write_file},
};
use serde_json::{Value, json};
use std::path::Path;

/// Bytes that a command was asked for.
pub(crate) struct Delivery<'a> {
    bytes: &'a [u8],
    is_text: bool,
    /// Their place in JSON, if they go to standard output.
    field: (&'static str, Value),
}

impl<'a> Delivery<'a> {
    /// Bytes of any kind: base64 in JSON.
    pub(crate) fn binary(field: &'static str, bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            is_text: false,
            field: (field, json!(document::base64(bytes))),
        }
    }

    /// Text that ends with a newline.
    pub(crate) fn text(field: &'static str, text: &'a str) -> Self {
        Self {
            bytes: text.as_bytes(),
            is_text: true,
            field: (field, json!(text)),
        }
    }

    /// The same with another value in JSON.
    pub(crate) fn with_value(mut self, value: Value) -> Self {
        self.field.1 = value;
        self
    }

    /// Writes them where they shall go, standard output if nothing is said, and says so: `said` gets the file.
    pub(crate) fn to(
        self,
        destination: Option<&Destination>,
        console: Console,
        said: impl FnOnce(&Path) -> String,
        mut document: Value,
    ) -> Result<Exit, Failure> {
        let (field, value) = self.field;
        match destination {
            Some(Destination::File(path)) => {
                write_file(path, self.bytes)?;
                document["out"] = json!(path.to_string_lossy());
                console.result(&said(path), &document)?;
            }
            Some(Destination::StandardOutput) | None => {
                document[field] = value;
                if self.is_text {
                    console.result(String::from_utf8_lossy(self.bytes).trim_end(), &document)?;
                } else {
                    console.bytes(self.bytes, &document)?;
                }
            }
        }
        Ok(Exit::Done)
    }
}

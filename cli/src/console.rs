//! What the program says: results on standard output, notes and failures on standard error.

use crate::{failure::Failure, paint::Paint};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::ColorChoice;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};

/// Where all output goes, in the form that was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    form: Form,
    out: Paint,
    err: Paint,
}

/// The form of results and failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For programs: one JSON document for a result, one for a failure.
    Json,
}

impl Console {
    /// Output in a form, in colours as they are wanted.
    pub(crate) fn new(form: Form, colours: ColorChoice) -> Self {
        Self {
            form,
            out: match form {
                Form::Text => Paint::new(colours, io::stdout().is_terminal()),
                Form::Json => Paint::PLAIN,
            },
            err: match form {
                Form::Text => Paint::new(colours, io::stderr().is_terminal()),
                Form::Json => Paint::PLAIN,
            },
        }
    }

    /// The colours of results.
    pub(crate) fn paint(self) -> Paint {
        self.out
    }

    pub(crate) fn form(self) -> Form {
        self.form
    }

    /// Whether people look at standard error while the command works.
    pub(crate) fn is_watched(self) -> bool {
        self.form == Form::Text && io::stderr().is_terminal()
    }

    /// A result: the text ends without a newline.
    pub(crate) fn result(self, text: &str, document: &Value) -> Result<(), Failure> {
        match self.form {
            Form::Text => write_line(text.as_bytes()),
            Form::Json => write_line(format!("{document:#}").as_bytes()),
        }
    }

    /// One state of something that changes: in the place of the last one on a terminal, below it elsewhere.
    pub(crate) fn frame(self, text: &str, document: &Value) -> Result<(), Failure> {
        match self.form {
            Form::Text if io::stdout().is_terminal() => write_line(format!("{CLEAR}{text}").as_bytes()),
            Form::Text => write_line(format!("{text}\n").as_bytes()),
            Form::Json => write_line(document.to_string().as_bytes()),
        }
    }

    /// A result that is bytes: base64 on a terminal, which shows nothing else safely, and the bytes elsewhere. In JSON
    /// they must be a field of the document.
    pub(crate) fn bytes(self, bytes: &[u8], document: &Value) -> Result<(), Failure> {
        match self.form {
            Form::Json => self.result("", document),
            Form::Text if io::stdout().is_terminal() => write_line(STANDARD.encode(bytes).as_bytes()),
            Form::Text => write_all(bytes),
        }
    }

    /// Something that people should know and that is in the document for programs.
    pub(crate) fn note(self, text: &str) {
        if self.form == Form::Text {
            say(&self.err.advice("note:"), text);
        }
    }

    pub(crate) fn failure(self, failure: &Failure) {
        match self.form {
            Form::Text => {
                say(&self.err.failure("error:"), &failure.text());
                if let Some(help) = failure.help() {
                    say(&self.err.advice("help:"), &help);
                }
            }
            Form::Json => drop(writeln!(io::stderr().lock(), "{:#}", failure.document())),
        }
    }
}

/// Moves to the upper left corner and clears the terminal (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";

fn write_line(line: &[u8]) -> Result<(), Failure> {
    write_all(&[line, b"\n"].concat())
}

fn write_all(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(Failure::StandardOutput)
}

/// Says something on standard error, behind a word that says what it is. Where that is closed there is nobody left to tell.
///
/// What others chose, such as a name in an error message, must not steer the terminal.
fn say(word: &str, text: &str) {
    let harmless = |character: char| {
        if character.is_control() && character != '\n' {
            ' '
        } else {
            character
        }
    };
    let text: String = text.chars().map(harmless).collect();
    drop(writeln!(io::stderr().lock(), "{word} {text}"));
}

//! The bundle: the directory in which a ceremony leaves everything that anyone needs to check it.
//!
//! | file | what it is |
//! |---|---|
//! | `script.toml`, `env.toml` | the script and the environment, byte for byte |
//! | `transcript.jsonl` | the transcript ([`crate::transcript`]) |
//! | `signatures/` | each signature of the transcript as a DSSE envelope, for other tools |
//! | `artefacts/` | files that steps made, by step and attempt |
//! | `report.html`, `report.md` | the transcript for people, made to be printed and signed |
//! | `MANIFEST` | the hashes of all of them |
//!
//! A second copy of the transcript and of the artefacts is on the second medium from the beginning.

mod documents;
mod finish;
mod manifest;
mod verify;

pub use manifest::{Manifest, ManifestError};
pub use verify::{Fault, ReportCheck, Verified, verify};
pub(crate) use verify::{durations, replay};

use crate::name::Name;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A bundle that is being made, and its copy.
#[derive(Debug, Clone)]
pub struct Bundle {
    directory: PathBuf,
    second: PathBuf,
}

impl Bundle {
    /// Makes the directories, and puts script and environment into the first. Neither may exist: nothing is overwritten.
    pub fn create(directory: &Path, second_medium: &Path, script: &[u8], environment: &[u8]) -> io::Result<Self> {
        let bundle = Self::at(directory, second_medium)?;
        for directory in [&bundle.directory, &bundle.second] {
            make_directory(directory)?;
            make_directory(&directory.join(ARTEFACTS))?;
        }
        write_new(&bundle.directory.join(SCRIPT), script)?;
        write_new(&bundle.directory.join(ENVIRONMENT), environment)?;
        Ok(bundle)
    }

    /// A bundle that was begun.
    pub fn at(directory: &Path, second_medium: &Path) -> io::Result<Self> {
        let name = directory.file_name().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the bundle needs a name: its copy on the second medium has the same",
            )
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            second: second_medium.join(name),
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where both copies of the transcript are.
    pub fn transcripts(&self) -> [PathBuf; 2] {
        [self.directory.join(TRANSCRIPT), self.second.join(TRANSCRIPT)]
    }

    /// Keeps a file that a step made on both media, under a name that no other attempt has: nothing is overwritten.
    pub fn keep(&self, name: &str, content: &[u8]) -> io::Result<()> {
        for directory in [&self.directory, &self.second] {
            write_new(&directory.join(ARTEFACTS).join(name), content)?;
        }
        Ok(())
    }

    /// The shares that the attempts of a step handed out, and what else they made.
    pub(crate) fn artefacts_of(&self, step: &Name) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.directory.join(ARTEFACTS))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // An attempt's number comes after the step's name.
            let rest = name.strip_prefix(step.as_str()).and_then(|rest| rest.strip_prefix('-'));
            if rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Where a file that a step made is.
    pub fn artefact(&self, name: &str) -> PathBuf {
        self.directory.join(ARTEFACTS).join(name)
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|error| named(path, &error))?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Writes a file that did not exist, and returns when it is on the medium.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| named(path, &error))?;
    file.write_all(content)?;
    file.sync_all()?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)?.sync_all()
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The script's name in a bundle.
pub const SCRIPT: &str = "script.toml";
/// The environment's name in a bundle.
pub const ENVIRONMENT: &str = "env.toml";
/// The transcript's name in a bundle.
pub const TRANSCRIPT: &str = "transcript.jsonl";
const ARTEFACTS: &str = "artefacts";
const SIGNATURES: &str = "signatures";
const REPORT_HTML: &str = "report.html";
const REPORT_MARKDOWN: &str = "report.md";
const MANIFEST: &str = "MANIFEST";

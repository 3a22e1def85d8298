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
//! A second copy is on the second medium, line by line from the beginning.

mod finish;
mod manifest;
mod verify;

pub use manifest::{Manifest, ManifestError};
pub use verify::{Fault, ReportCheck, Verified, verify};
pub(crate) use verify::{durations, replay};

use std::{
    fs::{DirBuilder, File, OpenOptions},
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
        let directories = [&bundle.directory, &bundle.directory.join(ARTEFACTS), &bundle.second];
        for directory in directories {
            make_directory(directory)?;
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

    /// Keeps a file that a step made, under a name that no other attempt has: nothing is overwritten.
    pub fn keep(&self, name: &str, content: &[u8]) -> io::Result<()> {
        write_new(&self.directory.join(ARTEFACTS).join(name), content)
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

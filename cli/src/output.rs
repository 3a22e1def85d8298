//! Files that a command writes: whole, or not at all.

use crate::{failure::Failure, files::NewFile};
use std::{
    convert::Infallible,
    fs::{self, File, OpenOptions},
    io::{self, Stdout, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

/// Where a command's bytes go: a file, or standard output, written `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    StandardOutput,
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "-" => Self::StandardOutput,
            path => Self::File(path.into()),
        })
    }
}

/// Where bytes go until there are no more of them.
pub(crate) enum Output {
    /// A file without a name yet, and the name that it takes at the end. What had the name before stays whole until then.
    File {
        new: NewFile,
        name: PathBuf,
        path: PathBuf,
    },
    /// A device or pipe, which is written to as it is.
    Device {
        file: File,
        path: PathBuf,
    },
    Standard(Stdout),
}

impl Output {
    /// Opens a destination. A file is not there before [`finish`](Self::finish).
    pub(crate) fn open(destination: &Destination) -> Result<Self, Failure> {
        let path = match destination {
            Destination::StandardOutput => return Ok(Self::Standard(io::stdout())),
            Destination::File(path) => path,
        };
        open(path).map_err(|source| unwritable(path, source))
    }

    /// Ends it: a file takes its name.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::File { new, name, path } => {
                let taken = match name.file_name() {
                    Some(name) => new.take_name(name),
                    None => Err(io::ErrorKind::IsADirectory.into()),
                };
                taken.map_err(|source| unwritable(&path, source))
            }
            Self::Device { mut file, path } => file.flush().map_err(|source| unwritable(&path, source)),
            Self::Standard(mut out) => out.flush().map_err(Failure::StandardOutput),
        }
    }

    /// The file or device, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } | Self::Device { path, .. } => Some(path),
            Self::Standard(_) => None,
        }
    }

    /// Why it could not be written to.
    pub(crate) fn failure(&self, source: io::Error) -> Failure {
        match self {
            Self::File { path, .. } | Self::Device { path, .. } => unwritable(path, source),
            Self::Standard(_) => Failure::StandardOutput(source),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { new, .. } => new.file().write(bytes),
            Self::Device { file, .. } => file.write(bytes),
            Self::Standard(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { .. } => Ok(()),
            Self::Device { file, .. } => file.flush(),
            Self::Standard(out) => out.flush(),
        }
    }
}

/// Writes a file whole, or not at all, readable by its owner only.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut output = Output::open(&Destination::File(path.to_owned()))?;
    match output.write_all(bytes) {
        Ok(()) => output.finish(),
        Err(source) => Err(output.failure(source)),
    }
}

fn open(path: &Path) -> io::Result<Output> {
    let name = match fs::metadata(path) {
        // The file behind a symbolic link is replaced, not the link.
        Ok(found) if found.is_file() => fs::canonicalize(path)?,
        Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => {
            return Ok(Output::Device {
                file: OpenOptions::new().write(true).open(path)?,
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    Ok(Output::File {
        new: NewFile::beside(&name)?,
        name,
        path: path.to_owned(),
    })
}

fn unwritable(path: &Path, source: io::Error) -> Failure {
    Failure::Output {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .expect("the directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_minus_is_standard_output() {
        assert_eq!("-".parse(), Ok(Destination::StandardOutput));
        assert_eq!("out.bin".parse(), Ok(Destination::File("out.bin".into())));
    }

    #[test]
    fn a_new_file_is_the_owners_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.bin");
        write_file(&path, b"bytes").expect("written");
        assert_eq!(fs::read(&path).expect("the file"), b"bytes");
        assert_eq!(
            fs::metadata(&path).expect("the file").permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(names(directory.path()), ["out.bin"]);
    }

    #[test]
    fn an_older_file_is_replaced_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.bin");
        fs::write(&path, b"something longer than what follows").expect("the older file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its mode");
        write_file(&path, b"bytes").expect("written");
        assert_eq!(fs::read(&path).expect("the file"), b"bytes");
        assert_eq!(
            fs::metadata(&path).expect("the file").permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(names(directory.path()), ["out.bin"]);
    }

    #[test]
    fn a_failure_leaves_nothing_behind_and_the_older_file_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        // A name that is too long fails when the finished file is to take it.
        let path = directory.path().join("x".repeat(300));
        assert!(write_file(&path, b"bytes").is_err());
        assert_eq!(names(directory.path()), [""; 0]);

        let taken = directory.path().join("taken");
        fs::create_dir(&taken).expect("a directory");
        assert!(matches!(write_file(&taken, b"bytes"), Err(Failure::Output { .. })));
        assert_eq!(names(directory.path()), ["taken"]);

        let missing = directory.path().join("missing/out.bin");
        let failed = write_file(&missing, b"bytes").expect_err("no directory").to_string();
        assert!(
            failed.contains("No such file") && !failed.contains(".portcullis-"),
            "{failed}"
        );
        assert_eq!(names(directory.path()), ["taken"]);
    }

    #[test]
    fn a_symbolic_link_stays_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, b"before").expect("the file");
        symlink(&file, &link).expect("the link");
        write_file(&link, b"after").expect("written");
        assert_eq!(fs::read(&file).expect("the file"), b"after");
        assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
    }

    #[test]
    fn a_device_is_written_to_and_stays() {
        write_file(Path::new("/dev/null"), b"bytes").expect("written");
        assert!(!fs::metadata("/dev/null").expect("the device").is_file());
    }
}

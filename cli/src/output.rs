//! Files that a command writes: whole, or not at all.

use crate::failure::Failure;
use std::{
    convert::Infallible,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    str::FromStr,
};
use tempfile::NamedTempFile;

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

/// Writes a file: first a temporary one in the same directory, readable by its owner only, which then takes the name.
/// What had the name before stays whole until then. A device or pipe is written to as it is.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write(path, bytes).map_err(|source| Failure::Output {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::metadata(path) {
        // The file behind a symbolic link is replaced, not the link.
        Ok(found) if found.is_file() => replace(&fs::canonicalize(path)?, bytes),
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => OpenOptions::new().write(true).open(path)?.write_all(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => replace(path, bytes),
        Err(error) => Err(error),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = NamedTempFile::with_prefix_in(".portcullis-", directory).map_err(without_its_name)?;
    file.write_all(bytes).map_err(without_its_name)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// An error without the temporary file's name, which says nothing to whoever named another. `tempfile` puts it behind the cause.
fn without_its_name(error: io::Error) -> io::Error {
    match error.to_string().split_once(" at path ") {
        Some((cause, _)) => io::Error::new(error.kind(), cause),
        None => error,
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

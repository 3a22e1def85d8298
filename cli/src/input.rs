//! What a command reads: a file, or standard input.

use crate::failure::Failure;
use std::{
    convert::Infallible,
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::PathBuf,
    str::FromStr,
};
use zeroize::Zeroizing;

/// Where a command's bytes come from: a file, or standard input, written `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    StandardInput,
    File(PathBuf),
}

impl Source {
    pub(crate) fn open(&self) -> Result<Box<dyn Read>, Failure> {
        match self {
            Self::StandardInput => Ok(Box::new(io::stdin().lock())),
            Self::File(path) => Ok(Box::new(File::open(path).map_err(|error| self.unreadable(error))?)),
        }
    }

    /// How many bytes it has, where that is known before they are read.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::StandardInput => None,
            Self::File(path) => {
                let found = fs::metadata(path).ok()?;
                found.is_file().then_some(found.len())
            }
        }
    }

    /// Reads all of it, if it is at most `limit` bytes; `purpose` ends the sentence "is larger than … bytes, ".
    pub(crate) fn read(&self, limit: usize, purpose: &str) -> Result<Vec<u8>, Failure> {
        match self.read_start(&mut self.open()?, limit)? {
            Start::Whole(bytes) => Ok(bytes),
            Start::Part(_) => Err(Failure::Usage(format!(
                "{self} is larger than {limit} bytes, {purpose}"
            ))),
        }
    }

    /// As `read`, for what must not stay in memory.
    pub(crate) fn read_secret(&self, limit: usize, purpose: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        // Room for all of it: what grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
        let more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        self.open()?
            .take(more)
            .read_to_end(&mut bytes)
            .map_err(|error| self.unreadable(error))?;
        if bytes.len() > limit {
            return Err(Failure::Usage(format!(
                "{self} is larger than {limit} bytes, {purpose}"
            )));
        }
        Ok(bytes)
    }

    /// Reads from the opened source until its end or until more than `limit` bytes have come.
    pub(crate) fn read_start(&self, reader: &mut dyn Read, limit: usize) -> Result<Start, Failure> {
        let mut bytes = Vec::new();
        let more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        reader
            .take(more)
            .read_to_end(&mut bytes)
            .map_err(|error| self.unreadable(error))?;
        Ok(if bytes.len() > limit {
            Start::Part(bytes)
        } else {
            Start::Whole(bytes)
        })
    }

    /// Refuses to take two things from standard input: the second would be found empty.
    pub(crate) fn apart_from(&self, other: &Self) -> Result<(), Failure> {
        match (self, other) {
            (Self::StandardInput, Self::StandardInput) => Err(Failure::Usage(
                "only one of the inputs can be standard input".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn unreadable(&self, source: io::Error) -> Failure {
        Failure::Input {
            what: self.to_string(),
            source,
        }
    }
}

/// The beginning of a source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// It was all there is.
    Whole(Vec<u8>),
    /// There may be more, in the reader.
    Part(Vec<u8>),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "-" => Self::StandardInput,
            path => Self::File(path.into()),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StandardInput => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_up_to_the_limit_is_read_and_a_larger_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("in.bin");
        fs::write(&path, b"12345").expect("the file");
        let source = Source::File(path);
        assert_eq!(source.read(5, "").expect("read"), b"12345");
        let error = source.read(4, "the most that fits").expect_err("too large");
        assert!(
            error
                .to_string()
                .ends_with("in.bin is larger than 4 bytes, the most that fits"),
            "{error}"
        );
    }

    #[test]
    fn the_rest_of_a_part_stays_in_the_reader() {
        let mut reader = &b"12345"[..];
        let start = Source::StandardInput.read_start(&mut reader, 2).expect("read");
        assert_eq!((start, reader), (Start::Part(b"123".to_vec()), &b"45"[..]));
    }

    #[test]
    fn standard_input_is_taken_once() {
        let file = Source::File("in.bin".into());
        assert!(Source::StandardInput.apart_from(&Source::StandardInput).is_err());
        assert!(Source::StandardInput.apart_from(&file).is_ok() && file.apart_from(&file).is_ok());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Source::File("/nowhere/in.bin".into()).read(1, "").expect_err("missing");
        assert!(
            error.to_string().starts_with("cannot read /nowhere/in.bin: "),
            "{error}"
        );
    }
}

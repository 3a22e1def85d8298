//! A state directory belongs to one process at a time.

use super::StoreError;
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// A state directory, taken for this process until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes a directory, which is created for its owner alone if it is missing.
    pub fn take(directory: &Path) -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| {
            StoreError::StateDirectory(format!("the state directory {}: {error}", directory.display()))
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(directory.join(NAME))
            .map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = (&mut file).take(LONGEST_HOLDER).read_to_string(&mut holder);
            return Err(StoreError::StateDirectory(format!(
                "the state directory {} is in use by another portcullisd (process {}): stop that first, or give this one \
                 a state_directory of its own",
                directory.display(),
                holder.trim()
            )));
        }
        // The lock is what counts; the number is for people.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

const NAME: &str = "portcullis.lock";
const LONGEST_HOLDER: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let lock = StateLock::take(directory.path()).expect("the lock");
        let refused = StateLock::take(directory.path())
            .expect_err("a second owner")
            .to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        assert!(refused.starts_with("the state directory"), "{refused}");
        drop(lock);
        StateLock::take(directory.path()).expect("the lock again");
    }
}

//! A file without a name, which takes one when it is complete.

use aws_lc_rs::rand;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat, unlinkat},
    io::Errno,
};
use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file without a name, readable by its owner only. If this process is killed before the file has taken its name, nothing is
/// left of it. Where the file system has no such files it has a name for the time being.
pub(crate) struct NewFile {
    file: File,
    directory: Arc<OwnedFd>,
    temporary: Option<String>,
}

impl NewFile {
    /// In the directory of a path, which must exist.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self::inside(Arc::new(openat(CWD, directory, flags, Mode::empty())?))
    }

    /// In an open directory.
    pub(crate) fn inside(directory: Arc<OwnedFd>) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let owners = Mode::RUSR | Mode::WUSR;
        match openat(&directory, ".", flags | OFlags::TMPFILE, owners) {
            Ok(file) if path_of(&file).exists() => Ok(Self {
                file: file.into(),
                directory,
                temporary: None,
            }),
            Ok(_) | Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {
                let name = temporary_name()?;
                let file = openat(&directory, &name, flags | OFlags::CREATE | OFlags::EXCL, owners)?;
                Ok(Self {
                    file: file.into(),
                    directory,
                    temporary: Some(name),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its name, which another file may have until then. It is on disk before.
    pub(crate) fn take_name(mut self, name: &OsStr) -> io::Result<()> {
        self.file.sync_all()?;
        if self.temporary.is_none() {
            // Where nothing has the name yet, it is taken at once.
            match self.link(name) {
                Err(Errno::EXIST) => {}
                result => return Ok(result?),
            }
            let temporary = temporary_name()?;
            self.link(OsStr::new(&temporary))?;
            self.temporary = Some(temporary);
        }
        if let Some(temporary) = &self.temporary {
            renameat(&self.directory, temporary, &self.directory, name)?;
            self.temporary = None;
        }
        Ok(())
    }

    fn link(&self, name: &OsStr) -> Result<(), Errno> {
        linkat(CWD, path_of(&self.file), &self.directory, name, AtFlags::SYMLINK_FOLLOW)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            // Nobody can be told; it is recognised by its name.
            let _ = unlinkat(&self.directory, name, AtFlags::empty());
        }
    }
}

/// Whether a name is that of a file which could not take its own: this program was killed.
pub(crate) fn is_left_over(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

fn temporary_name() -> io::Result<String> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("this system has no random numbers"))?;
    Ok(format!("{PREFIX}{}", hex::encode(bytes)))
}

/// The way to an open file that has no name.
fn path_of(file: &impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into()
}

const PREFIX: &str = ".portcullis-";

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io::Write};

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("the directory");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_seen_of_it_before_it_has_its_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let mut new = NewFile::beside(&path).expect("a file");
        new.file().write_all(b"one").expect("written");
        assert_eq!(names(directory.path()), [""; 0]);
        new.take_name(OsStr::new("file")).expect("named");
        assert_eq!(fs::read(&path).expect("the file"), b"one");

        let mut second = NewFile::beside(&path).expect("a file");
        second.file().write_all(b"two").expect("written");
        second.take_name(OsStr::new("file")).expect("named");
        assert_eq!(fs::read(&path).expect("the file"), b"two");
        drop(NewFile::beside(&path).expect("a file"));
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn what_has_a_name_for_the_time_being_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a directory");
        let named = |name: &str| {
            let mut new = NewFile::beside(&directory.path().join(name)).expect("a file");
            let temporary = temporary_name().expect("a name");
            new.link(OsStr::new(&temporary)).expect("linked");
            assert!(is_left_over(OsStr::new(&temporary)));
            new.temporary = Some(temporary);
            new
        };
        drop(named("file"));
        assert_eq!(names(directory.path()), [""; 0]);
        named("file").take_name(OsStr::new("file")).expect("named");
        named("file").take_name(OsStr::new("file")).expect("named");
        assert_eq!(names(directory.path()), ["file"]);
        assert!(named("x").take_name(OsStr::new(&"x".repeat(300))).is_err());
        assert_eq!(names(directory.path()), ["file"]);
    }
}

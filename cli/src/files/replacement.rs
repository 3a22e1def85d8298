//! A file in the place of another, with what people expect to stay.

use super::{new_file::NewFile, walk::Place};
use rustix::{
    fs::{
        FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fgetxattr,
        flistxattr, fsetxattr, fstat, futimens, openat,
    },
    io::Errno,
};
use std::{
    ffi::CStr,
    fs::File,
    io::{self, Seek},
};

/// A file that is to be replaced, open, as it was found.
pub(crate) struct Original {
    place: Place,
    file: File,
    stat: Stat,
}

/// Why a file is not replaced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreplaceable {
    #[error("it has {0} names (hard links), of which one alone would be replaced")]
    Linked(u64),
    #[error("it changed while it was read")]
    Changed,
    #[error("its owner and group cannot be kept: {0}")]
    Owner(io::Error),
    #[error("its attribute {name} cannot be kept: {source}")]
    Attribute { name: String, source: io::Error },
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Original {
    /// Opens the file of a place, if it is still a file.
    pub(crate) fn open(place: Place) -> Result<Self, Unreplaceable> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = openat(&place.directory, &place.name, flags, Mode::empty())
            .map_err(io::Error::from)?
            .into();
        let stat = fstat(&file).map_err(io::Error::from)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Self { place, file, stat }),
            _ => Err(Unreplaceable::Changed),
        }
    }

    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    pub(crate) fn length(&self) -> u64 {
        self.stat.st_size.try_into().unwrap_or_default()
    }

    /// Puts another file in its place in one step. The new file has the old one's mode, owner, group, attributes and times;
    /// where that cannot be, where the old one has other names, or has changed since it was opened, nothing happens.
    pub(crate) fn replace<E: From<Unreplaceable>>(
        mut self,
        write: impl FnOnce(&mut File, &mut File) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.stat.st_nlink > 1 {
            return Err(Unreplaceable::Linked(self.stat.st_nlink).into());
        }
        let io = |error: io::Error| E::from(Unreplaceable::Io(error));
        let mut new = NewFile::inside(self.place.directory.clone()).map_err(io)?;
        self.file.rewind().map_err(io)?;
        write(&mut self.file, new.file())?;
        self.keep(new.file())?;
        if !self.is_unchanged() {
            return Err(Unreplaceable::Changed.into());
        }
        new.take_name(&self.place.name).map_err(io)
    }

    fn is_unchanged(&self) -> bool {
        let same = |found: Result<Stat, Errno>| {
            found.is_ok_and(|found| {
                let identity = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_size, stat.st_nlink);
                let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
                identity(&found) == identity(&self.stat) && time(&found) == time(&self.stat)
            })
        };
        same(fstat(&self.file)) && same(self.place.look())
    }

    fn keep(&self, new: &File) -> Result<(), Unreplaceable> {
        let found = fstat(new).map_err(io::Error::from)?;
        if (found.st_uid, found.st_gid) != (self.stat.st_uid, self.stat.st_gid) {
            let (owner, group) = (Uid::from_raw(self.stat.st_uid), Gid::from_raw(self.stat.st_gid));
            fchown(new, Some(owner), Some(group)).map_err(|error| Unreplaceable::Owner(error.into()))?;
        }
        self.keep_attributes(new)?;
        // After the owner, because a change of that takes bits away.
        fchmod(new, Mode::from_raw_mode(self.stat.st_mode & 0o7777)).map_err(io::Error::from)?;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: self.stat.st_atime,
                tv_nsec: self.stat.st_atime_nsec as _,
            },
            last_modification: Timespec {
                tv_sec: self.stat.st_mtime,
                tv_nsec: self.stat.st_mtime_nsec as _,
            },
        };
        futimens(new, &times).map_err(io::Error::from)?;
        Ok(())
    }

    /// Access control lists and what people attached. What the system itself keeps there is given by the system.
    fn keep_attributes(&self, new: &File) -> Result<(), Unreplaceable> {
        let names = match attribute(|buffer| flistxattr(&self.file, buffer)) {
            Ok(names) => names,
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        for name in names.split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else {
                continue;
            };
            let text = name.to_string_lossy();
            if !text.starts_with("user.") && !text.starts_with("system.posix_acl") {
                continue;
            }
            attribute(|buffer| fgetxattr(&self.file, name, buffer))
                .and_then(|value| fsetxattr(new, name, &value, XattrFlags::empty()))
                .map_err(|error| Unreplaceable::Attribute {
                    name: text.into_owned(),
                    source: error.into(),
                })?;
        }
        Ok(())
    }
}

/// Reads something whose length is not known before.
fn attribute(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; MOST_ATTRIBUTE_BYTES];
    let length = read(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// What Linux allows an attribute, and a list of their names.
const MOST_ATTRIBUTE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::walk::{Found, walk};
    use std::{
        fs,
        io::{Read, Write},
        os::unix::fs::{MetadataExt, PermissionsExt},
        path::Path,
        time::{Duration, SystemTime},
    };

    fn original(path: &Path) -> Original {
        let mut place = None;
        walk(path, &mut |found| {
            if let Found::File(file) = found {
                place = Some(file);
            }
        });
        Original::open(place.expect("a file")).expect("open")
    }

    fn append(original: Original) -> Result<(), Unreplaceable> {
        original.replace(|old, new| {
            let mut text = String::new();
            old.read_to_string(&mut text)?;
            write!(new, "{text}, and more").map_err(Unreplaceable::Io)
        })
    }

    #[test]
    fn mode_times_and_attributes_stay() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "text").expect("the file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2471)).expect("its mode");
        let file = File::open(&path).expect("the file");
        let then = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        file.set_modified(then).expect("its time");
        let marked = fsetxattr(&file, c"user.portcullis", b"mark", XattrFlags::empty()).is_ok();
        let before = file.metadata().expect("its data");
        append(original(&path)).expect("replaced");
        assert_eq!(fs::read_to_string(&path).expect("the file"), "text, and more");
        let after = fs::metadata(&path).expect("its data");
        assert_ne!(before.ino(), after.ino());
        assert_eq!(
            (before.mode(), before.uid(), before.gid()),
            (after.mode(), after.uid(), after.gid())
        );
        assert_eq!(after.modified().expect("its time"), then);
        let mut value = [0; 10];
        let found = fgetxattr(File::open(&path).expect("the file"), c"user.portcullis", &mut value[..]);
        assert_eq!(found.ok(), marked.then_some(4));
        assert_eq!(fs::read_dir(directory.path()).expect("entries").count(), 1);
    }

    #[test]
    fn what_has_other_names_or_changed_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "text").expect("the file");
        let open = original(&path);
        fs::write(&path, "other").expect("written again");
        assert!(matches!(append(open), Err(Unreplaceable::Changed)));
        let open = original(&path);
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "other").expect("another one");
        assert!(matches!(append(open), Err(Unreplaceable::Changed)));
        fs::hard_link(&path, directory.path().join("second")).expect("a link");
        assert!(matches!(append(original(&path)), Err(Unreplaceable::Linked(2))));
        assert_eq!(fs::read_to_string(&path).expect("the file"), "other");
        assert_eq!(fs::read_dir(directory.path()).expect("entries").count(), 2);
    }
}

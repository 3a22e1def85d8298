//! Notices that files have changed, by looking at them now and then: that works for files that are written over, renamed into
//! place, or reached through links that are exchanged.

use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// What files were like at the last look.
#[derive(Debug)]
pub(super) struct WatchedFiles {
    // Some hold PINs, of which no digest is kept that could be compared with a list of guesses.
    salt: [u8; 32],
    seen: BTreeMap<PathBuf, Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    stamp: Option<Stamp>,
    // `None` where it cannot be read.
    content: Option<[u8; 32]>,
}

/// What changes when a file changes. Its content is read only then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    // It was changed just before the look: another change may leave the same times.
    is_fresh: bool,
}

impl WatchedFiles {
    /// Nothing seen yet.
    pub(super) fn new() -> Self {
        Self {
            salt: rand::random(),
            seen: BTreeMap::new(),
        }
    }

    /// Looks at these files; returns those whose content is another than at the last look. A file that was not among them is
    /// new and not changed.
    pub(super) fn look(&mut self, files: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        let mut seen = BTreeMap::new();
        for path in files {
            let before = self.seen.get(path).copied();
            let now = self.look_at(path, before);
            if before.is_some_and(|before| before.content != now.content) {
                changed.push(path.clone());
            }
            seen.insert(path.clone(), now);
        }
        self.seen = seen;
        changed
    }

    fn look_at(&self, path: &Path, before: Option<Seen>) -> Seen {
        let stamp = Stamp::of(path);
        if let (Some(before), Some(stamp)) = (before, stamp)
            && before.stamp == Some(stamp)
            && !stamp.is_fresh
        {
            return before;
        }
        let content = fs::read(path).ok().map(zeroize::Zeroizing::new);
        let content = content.map(|bytes| {
            Sha256::new_with_prefix(self.salt)
                .chain_update(&*bytes)
                .finalize()
                .into()
        });
        Seen { stamp, content }
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs() as i64;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            is_fresh: (now - FRESH..=now + FRESH).contains(&metadata.ctime()),
        })
    }
}

/// Seconds. Coarser than the times of any file system.
const FRESH: i64 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_are_noticed_however_they_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let (written, renamed, linked, absent) = (at("written"), at("renamed"), at("data/linked"), at("absent"));
        for version in ["one", "two"] {
            fs::create_dir(at(version)).expect("a directory");
            fs::write(at(version).join("linked"), version).expect("a file");
        }
        symlink("one", at("data")).expect("a link");
        fs::write(&written, "1").expect("a file");
        fs::write(&renamed, "1").expect("a file");
        let files = BTreeSet::from([written.clone(), renamed.clone(), linked.clone(), absent.clone()]);
        let mut watched = WatchedFiles::new();
        assert_eq!(watched.look(&files), Vec::<PathBuf>::new());
        assert_eq!(watched.look(&files), Vec::<PathBuf>::new());

        // The same length, and likely within the same tick of the file system's clock.
        fs::write(&written, "2").expect("a file");
        assert_eq!(watched.look(&files), vec![written.clone()]);
        fs::write(at("new"), "2").expect("a file");
        fs::rename(at("new"), &renamed).expect("renamed");
        assert_eq!(watched.look(&files), vec![renamed.clone()]);
        // As Kubernetes does it.
        symlink("two", at("data.new")).expect("a link");
        fs::rename(at("data.new"), at("data")).expect("renamed");
        assert_eq!(watched.look(&files), vec![linked.clone()]);
        fs::write(&absent, "1").expect("a file");
        assert_eq!(watched.look(&files), vec![absent.clone()]);
        fs::remove_file(&absent).expect("removed");
        assert_eq!(watched.look(&files), vec![absent]);
        // Written again with the same content: nothing to reload.
        fs::write(at("new"), "2").expect("a file");
        fs::rename(at("new"), &renamed).expect("renamed");
        assert_eq!(watched.look(&files), Vec::<PathBuf>::new());
    }
}

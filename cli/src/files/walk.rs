//! The files under paths, without following links.

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat},
    io::Errno,
};
use std::{
    ffi::{OsStr, OsString},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file's name in an open directory. The directory stays the same whatever is renamed or linked above it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) directory: Arc<OwnedFd>,
    pub(crate) name: OsString,
    /// What people call it.
    pub(crate) path: PathBuf,
}

impl Place {
    /// What is there now.
    pub(crate) fn look(&self) -> Result<Stat, Errno> {
        statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// What was found under a path.
pub(crate) enum Found {
    File(Place),
    /// Something that is no file, and what it is.
    Other(PathBuf, &'static str),
    /// Something that cannot be looked at.
    Unreadable(PathBuf, io::Error),
}

/// Goes through a path: the file that it names, or all that is in its directory, by name. A link that is named itself is
/// followed; one that is met on the way is not.
pub(crate) fn walk(path: &Path, visit: &mut impl FnMut(Found)) {
    match begin(path) {
        Ok((place, stat)) => enter(place, &stat, visit),
        Err(error) => visit(Found::Unreadable(path.to_owned(), error)),
    }
}

fn begin(path: &Path) -> io::Result<(Place, Stat)> {
    let real = path.canonicalize()?;
    let (directory, name) = match (real.parent(), real.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        // The root of the file system.
        _ => (real.as_path(), OsStr::new(".")),
    };
    let place = Place {
        directory: Arc::new(openat(CWD, directory, DIRECTORY, Mode::empty())?),
        name: name.to_owned(),
        path: path.to_owned(),
    };
    let stat = place.look()?;
    Ok((place, stat))
}

fn enter(place: Place, stat: &Stat, visit: &mut impl FnMut(Found)) {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => visit(Found::File(place)),
        FileType::Directory => match list(&place) {
            Ok(inside) => {
                for place in inside {
                    match place.look() {
                        Ok(stat) => enter(place, &stat, visit),
                        Err(error) => visit(Found::Unreadable(place.path, error.into())),
                    }
                }
            }
            Err(error) => visit(Found::Unreadable(place.path, error)),
        },
        FileType::Symlink => visit(Found::Other(place.path, "a symbolic link, which is not followed")),
        _ => visit(Found::Other(place.path, "neither a file nor a directory")),
    }
}

/// What is in a directory, by name.
fn list(place: &Place) -> io::Result<Vec<Place>> {
    let directory = Arc::new(openat(
        &place.directory,
        &place.name,
        DIRECTORY | OFlags::NOFOLLOW,
        Mode::empty(),
    )?);
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names
        .into_iter()
        .map(|name| Place {
            directory: Arc::clone(&directory),
            path: place.path.join(&name),
            name,
        })
        .collect())
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn seen(path: &Path) -> Vec<String> {
        let mut seen = Vec::new();
        walk(path, &mut |found| {
            seen.push(match found {
                Found::File(place) => place.path.display().to_string(),
                Found::Other(path, what) => format!("{}: {what}", path.display()),
                Found::Unreadable(path, error) => format!("{}: {error}", path.display()),
            });
        });
        seen
    }

    #[test]
    fn a_tree_is_walked_by_name_and_links_are_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("tree");
        fs::create_dir_all(root.join("b/c")).expect("directories");
        for file in ["b/c/3", "b/2", "a", "z"] {
            fs::write(root.join(file), file).expect("a file");
        }
        fs::write(directory.path().join("outside"), "x").expect("a file");
        symlink(directory.path().join("outside"), root.join("b/link")).expect("a link");
        symlink("..", root.join("b/up")).expect("a link");
        let shown = |name: &str| root.join(name).display().to_string();
        let link = |name: &str| format!("{}: a symbolic link, which is not followed", shown(name));
        assert_eq!(
            seen(&root),
            [
                shown("a"),
                shown("b/2"),
                shown("b/c/3"),
                link("b/link"),
                link("b/up"),
                shown("z")
            ]
        );
        assert_eq!(seen(&root.join("a")), [shown("a")]);
        assert_eq!(
            seen(&root.join("b/link")),
            [shown("b/link")],
            "named itself, it is followed"
        );
        assert_eq!(seen(&root.join("b/c/..")).len(), 4);
        assert!(seen(&root.join("absent"))[0].contains("No such file"));
    }
}

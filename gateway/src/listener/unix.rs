//! The Unix socket's file.

use super::ListenError;
use crate::config::UnixListenerSettings;
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// Binds the socket; one that a dead gateway left behind is replaced, one that answers is not.
pub(crate) fn open(settings: &UnixListenerSettings) -> Result<UnixListener, ListenError> {
    let path = &settings.path;
    let failed = |reason: String| ListenError::Unix {
        path: path.clone(),
        reason,
    };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
    }
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(failed("something else is there already".to_owned()));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(failed("another process serves on it".to_owned()));
        }
        fs::remove_file(path).map_err(|error| failed(error.to_string()))?;
    }
    // Bound where nobody else can connect, opened to others, then moved to its place.
    let directory = path.parent().unwrap_or(Path::new("."));
    let hidden = HiddenDirectory::make_in(directory).map_err(|error| failed(error.to_string()))?;
    let bound = hidden.path.join("socket");
    let listener = UnixListener::bind(&bound).map_err(|error| failed(error.to_string()))?;
    fs::set_permissions(&bound, fs::Permissions::from_mode(settings.mode))
        .and_then(|()| fs::rename(&bound, path))
        .map_err(|error| failed(error.to_string()))?;
    Ok(listener)
}

/// A directory of the owner's alone, removed when dropped.
struct HiddenDirectory {
    path: PathBuf,
}

impl HiddenDirectory {
    fn make_in(directory: &Path) -> io::Result<Self> {
        // Short, because a socket's path has at most 107 bytes.
        let path = directory.join(format!(".{:x}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }
}

impl Drop for HiddenDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

//! Before a database is brought to a newer schema, it is copied: the older program can read the copy, and nothing else.

use super::{
    StoreError,
    opening::{beside, create_private, explain, put_in_place, refused},
    schema,
};
use rusqlite::Connection;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Keeps a copy, if a migration follows.
pub(super) fn keep_copy(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    keep_copy_before(connection, path, schema::newest())
}

/// Keeps a copy as `portcullis.sqlite.v1-backup`, for a schema 1, before an upgrade to a newer one. A copy that is there already stays.
fn keep_copy_before(connection: &Connection, path: &Path, newest: i64) -> Result<(), StoreError> {
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|error| explain(path, &error))?;
    if version == 0 || version >= newest {
        return Ok(());
    }
    let copy = free_name(path, version);
    let temporary = beside(&copy, ".new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(&temporary, error)),
        _ => {}
    }
    copy_to(connection, &temporary)
        .and_then(|()| put_in_place(&temporary, &copy).map_err(|error| refused(&copy, error)))
        .map_err(|error| {
            StoreError::Database(format!(
                "no copy can be kept before the upgrade from schema {version}, so nothing was upgraded: {error}"
            ))
        })?;
    tracing::warn!(copy = %copy.display(), from = version, to = newest, "the database is upgraded; the copy is for going back");
    Ok(())
}

/// Copies a database as it is at this moment, also while another process writes to it, into a file that must not exist.
pub(super) fn copy_to(connection: &Connection, to: &Path) -> Result<(), StoreError> {
    create_private(to).map_err(|error| refused(to, error))?;
    let text = to.to_str().ok_or_else(|| refused(to, "its path is not UTF-8"))?;
    // A reading transaction of its own; the target may be an empty file.
    let copied = connection.execute("VACUUM INTO ?1", [text]);
    if let Err(error) = copied {
        let _ = fs::remove_file(to);
        return Err(explain(to, &error));
    }
    Ok(())
}

fn free_name(path: &Path, version: i64) -> PathBuf {
    let first = beside(path, &format!(".v{version}-backup"));
    let more = (2u32..).map(|number| beside(path, &format!(".v{version}-backup-{number}")));
    // Invariant: no directory has that many files.
    [first]
        .into_iter()
        .chain(more)
        .find(|name| !name.exists())
        .expect("a free name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_copy_is_kept_before_an_upgrade_and_none_takes_the_place_of_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("portcullis.sqlite");
        let connection = Connection::open(&path).expect("a database");
        keep_copy_before(&connection, &path, 7).expect("nothing to keep of a new one");
        connection
            .execute_batch("CREATE TABLE kept (it INTEGER); INSERT INTO kept VALUES (1); PRAGMA user_version = 5")
            .expect("content");
        keep_copy_before(&connection, &path, 5).expect("nothing to keep without an upgrade");
        assert_eq!(fs::read_dir(directory.path()).expect("the directory").count(), 1);
        for name in [".v5-backup", ".v5-backup-2"] {
            // What an interrupted attempt left is no copy.
            fs::write(beside(&path, &format!("{name}.new")), "half").expect("a leftover");
            keep_copy_before(&connection, &path, 7).expect("a copy");
            let copy = beside(&path, name);
            let mode = fs::metadata(&copy).expect("the copy").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
            let copy = Connection::open(&copy).expect("the copy");
            let kept: i64 = copy
                .query_row("SELECT it FROM kept", [], |row| row.get(0))
                .expect("its content");
            let version: i64 = copy
                .query_row("PRAGMA user_version", [], |row| row.get(0))
                .expect("its version");
            assert_eq!((kept, version), (1, 5));
        }
    }
}

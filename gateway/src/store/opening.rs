//! Opening a database: what is wrong with it is found and named before anything relies on it.

use super::{StoreError, schema, upgrade};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::{
    ffi::OsString,
    fmt::Display,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// An open database of the current schema.
#[derive(Debug)]
pub(super) struct Database {
    /// Where it is.
    pub(super) path: PathBuf,
    /// For changes.
    pub(super) writer: Connection,
    /// For questions about single things.
    pub(super) reader: Connection,
    /// For lists.
    pub(super) lister: Connection,
}

impl Database {
    /// Opens or creates `portcullis.sqlite` in a directory, which is created for its owner alone if it is missing.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| refused(directory, error))?;
        let path = database_path(directory);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == 0 => {
                return Err(refused(
                    &path,
                    format!("it is empty, and no portcullisd leaves it so: the keys in it are lost. {RESTORE}"),
                ));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(&path)?,
            Err(error) => return Err(refused(&path, error)),
        }
        // SQLite would open for reading alone what it may not write.
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| refused(&path, error))?;
        let explained = |error| explain(&path, &error);
        let mut writer = connect(&path).map_err(explained)?;
        if let Some(damage) = damage(&writer).map_err(explained)? {
            return Err(refused(&path, format!("it is damaged ({damage}). {RESTORE}")));
        }
        upgrade::keep_copy(&writer, &path)?;
        schema::migrate(&mut writer).map_err(|error| match error {
            schema::SchemaError::Sqlite(error) => explain(&path, &error),
            error => refused(&path, error),
        })?;
        let reader = connect(&path).map_err(explained)?;
        let lister = connect(&path).map_err(explained)?;
        Ok(Self {
            path,
            writer,
            reader,
            lister,
        })
    }
}

/// Where the database is in a state directory.
pub(crate) fn database_path(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

/// Makes an empty database, whole or not at all: one without content is then always one that lost it.
fn create(path: &Path) -> Result<(), StoreError> {
    let orphan = beside(path, "-wal");
    if orphan.exists() {
        return Err(refused(
            path,
            format!(
                "it is missing, and {} is still there: the database was removed. {RESTORE}",
                orphan.display()
            ),
        ));
    }
    let temporary = beside(path, ".new");
    for leftover in ["", "-wal", "-shm", "-journal"].map(|suffix| beside(&temporary, suffix)) {
        if let Err(error) = fs::remove_file(&leftover)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(refused(&leftover, error));
        }
    }
    let made = || -> Result<(), StoreError> {
        create_private(&temporary).map_err(|error| refused(&temporary, error))?;
        let mut connection = connect(&temporary).map_err(|error| explain(&temporary, &error))?;
        schema::migrate(&mut connection).map_err(|error| refused(&temporary, error))?;
        connection.close().map_err(|(_, error)| explain(&temporary, &error))
    };
    made()?;
    put_in_place(&temporary, path).map_err(|error| refused(path, error))
}

/// Creates an empty file for its owner alone: SQLite would use the process's umask.
pub(crate) fn create_private(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// Gives a finished file its name, on disk before this returns. Takes the place of nothing.
pub(crate) fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    fs::File::open(temporary)?.sync_all()?;
    // Fails where the name is taken, which a renaming would not.
    fs::hard_link(temporary, path)?;
    fs::remove_file(temporary)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// The path with something at its end.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// A connection with this program's settings.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A commit that was confirmed survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What was deleted is overwritten: a destroyed key's token does not stay in a free page.
    connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
    Ok(connection)
}

/// What is wrong with the content of a database, if something is.
fn damage(connection: &Connection) -> rusqlite::Result<Option<String>> {
    // One line is enough to know.
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((found != "ok").then_some(found))
}

/// Says what an error of SQLite means for the person who starts the gateway.
pub(super) fn explain(path: &Path, error: &rusqlite::Error) -> StoreError {
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process has locked it, such as a backup program or an open sqlite3: end that process"
        }
        Some(ErrorCode::NotADatabase) => {
            "expected a SQLite database, and it is none, or its first page is damaged. Restore a backup with `portcullisd backup restore`"
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            "it is damaged or cut short. Restore a backup with `portcullisd backup restore`"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "portcullisd must be able to read and write it, and to create files beside it"
        }
        Some(ErrorCode::DiskFull) => "the disk is full: make room",
        _ => "",
    };
    match advice {
        "" => refused(path, error),
        advice => refused(path, format!("{advice} (SQLite: {error})")),
    }
}

pub(super) fn refused(path: &Path, why: impl Display) -> StoreError {
    StoreError::Database(format!("the database {}: {why}", path.display()))
}

const NAME: &str = "portcullis.sqlite";
const BUSY: Duration = Duration::from_secs(5);
const RESTORE: &str = "Restore a backup with `portcullisd backup restore`";

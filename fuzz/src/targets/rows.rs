//! The rows of the database, as somebody who can write to it would leave them.

use super::{bytes, vectors};
use crate::{Memory, Subject, Target, Verdict};
use portcullis_gateway::{
    keys::{
        document::{DocumentKey, DocumentRow},
        name::{Id, KeyName},
        purpose::Purpose,
        record::{
            History, KeyProfile, KeyRow, Layout, Protection, Remains, Restriction, RingRow, Row, StoredKey, Tagged,
            VersionRow, from_micros,
        },
        state::VersionState,
        use_count::UseCountRow,
    },
    store::{ResidentIntent, SqliteStore, Store},
};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation, PermittedUse, PermittedUses},
    key_token::{KeyToken, Origin},
};
use rusqlite::{Connection, params_from_iter, types::Value};
use std::{collections::BTreeMap, fmt::Debug, time::Duration};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// A byte that says which table, then the row's columns: for each a byte that says its type, two bytes of length, its bytes.
pub(super) const ROWS: Target = Target {
    name: "rows",
    prepare: || Box::new(Rows::new()),
};

/// The tables that the gateway reads rows of.
const TABLES: [&str; 7] = [
    "key_rings",
    "keys",
    "key_versions",
    "use_counts",
    "documents",
    "restrictions",
    "resident_intents",
];

struct Rows {
    store: SqliteStore,
    /// The other way to the same database.
    disk: Connection,
    runtime: Runtime,
    base: Vec<(usize, Vec<Value>)>,
    usual: Read,
    _directory: TempDir,
}

/// All that the store reads.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    rings: Vec<Tagged<RingRow>>,
    keys: Vec<StoredKey>,
    counts: Vec<Tagged<UseCountRow>>,
    documents: Vec<Tagged<DocumentRow>>,
    intents: Vec<Tagged<ResidentIntent>>,
    /// Rows that were there and could not be read.
    malformed: usize,
}

impl Rows {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::open(directory.path()).expect("a store");
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(fill(&store));
        let disk = Connection::open(directory.path().join("portcullis.sqlite")).expect("the database");
        disk.execute_batch("PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;")
            .expect("settings");
        let base = (0..)
            .zip(TABLES)
            .flat_map(|(number, table)| stored(&disk, number, table))
            .collect();
        let usual = runtime.block_on(read(&store));
        assert_eq!(usual.malformed, 0, "{usual:?}");
        Self {
            store,
            disk,
            runtime,
            base,
            usual,
            _directory: directory,
        }
    }

    /// Leaves one row in the place of those of its table, and the others as they were.
    fn write(&self, table: usize, columns: &[Value]) -> rusqlite::Result<()> {
        let transaction = self.disk.unchecked_transaction()?;
        for name in TABLES {
            transaction.execute(&format!("DELETE FROM {name}"), [])?;
        }
        let others = self.base.iter().filter(|(other, _)| *other != table);
        for (number, columns) in others
            .map(|(number, columns)| (*number, columns.as_slice()))
            .chain([(table, columns)])
        {
            let places = vec!["?"; columns.len()].join(", ");
            let sql = format!("INSERT INTO {} VALUES ({places})", TABLES[number]);
            transaction.prepare_cached(&sql)?.execute(params_from_iter(columns))?;
        }
        transaction.commit()
    }
}

impl Subject for Rows {
    fn samples(&self) -> Vec<Vec<u8>> {
        self.base
            .iter()
            .map(|(table, columns)| encode(*table, columns))
            .collect()
    }

    fn judge(&self, input: &[u8]) -> Verdict {
        let Some((table, columns)) = decode(input) else {
            return Verdict::Refused;
        };
        if self.write(table, &columns).is_err() {
            return Verdict::Refused;
        }
        let found = self.runtime.block_on(read(&self.store));
        let count = |read: &Read| {
            read.rings.len() + read.keys.len() + read.counts.len() + read.documents.len() + read.intents.len()
        };
        compare(&found.rings, &self.usual.rings);
        compare(&found.counts, &self.usual.counts);
        compare(&found.documents, &self.usual.documents);
        compare(&found.intents, &self.usual.intents);
        for key in &found.keys {
            let usual = &self.usual.keys[0];
            compare(std::slice::from_ref(&key.key), std::slice::from_ref(&usual.key));
            compare(&key.versions, &usual.versions);
            for version in &key.versions {
                drop(version.row.parse_token());
                version.row.past();
            }
        }
        if found.malformed == 0 && count(&found) > 0 {
            Verdict::Accepted
        } else {
            Verdict::Refused
        }
    }

    fn memory(&self) -> Memory {
        Memory {
            fixed: 512 * 1024,
            per_byte: 64,
        }
    }
}

/// Two rows have one canonical form, and with it one tag, only if they are one row.
fn compare<T: Row + PartialEq + Debug>(found: &[Tagged<T>], usual: &[Tagged<T>]) {
    for one in found {
        for other in usual {
            let same = one.row.canonical() == other.row.canonical();
            assert_eq!(same, one.row == other.row, "{one:?}\n{other:?}");
        }
    }
}

async fn read(store: &SqliteStore) -> Read {
    let mut malformed = 0;
    let mut count = |error| {
        assert!(
            matches!(error, portcullis_gateway::store::StoreError::Malformed(_)),
            "a row that cannot be read is malformed, not {error}"
        );
        malformed += 1;
    };
    let ring = Id::parse(RING).expect("an id");
    let mut read = Read {
        rings: Vec::new(),
        keys: Vec::new(),
        counts: Vec::new(),
        documents: Vec::new(),
        intents: Vec::new(),
        malformed: 0,
    };
    for listed in store.rings(None, 10).await.expect("the rings") {
        listed.row.map_or_else(&mut count, |row| read.rings.push(row));
    }
    for listed in store.keys(&ring, None, 10).await.expect("the keys") {
        listed.row.map_or_else(&mut count, |row| read.keys.push(row));
    }
    match store.use_count(UID, 1).await {
        Ok(row) => read.counts.extend(row.counted),
        Err(error) => count(error),
    }
    for listed in store.documents(ALIAS, RING, None, 10).await.expect("the documents") {
        listed.row.map_or_else(&mut count, |row| read.documents.push(row));
    }
    for row in store.resident_intents().await.expect("the notes") {
        row.map_or_else(&mut count, |row| read.intents.push(row));
    }
    read.malformed = malformed;
    read
}

async fn fill(store: &SqliteStore) {
    let time = from_micros(1_790_000_000_123_456).expect("a time");
    let tagged = || [7; 32];
    let labels = BTreeMap::from([("team".to_owned(), "payments".to_owned())]);
    let ring = RingRow {
        id: Id::parse(RING).expect("an id"),
        uid: Uuid::from_bytes([1; 16]),
        labels: labels.clone(),
        created: time,
        revision: 1,
        layout: Layout::Two,
        least_destroy_window: Duration::from_secs(3600),
    };
    store
        .create_ring(Tagged::new(ring, tagged()), None)
        .await
        .expect("a ring");
    let vectors = vectors();
    let token = [
        bytes(&vectors["key_tokens"][0]["body"]),
        bytes(&vectors["key_tokens"][0]["tag"]),
    ]
    .concat();
    let public_key = KeyToken::split(&token)
        .and_then(|(body, _)| KeyToken::parse(body))
        .expect("a token")
        .public_key;
    let uses = [PermittedUse::new(Operation::Sign, Mechanism::EcdsaSha256)];
    let key = KeyRow {
        name: KeyName {
            ring: Id::parse(RING).expect("an id"),
            key: Id::parse("signing").expect("an id"),
        },
        uid: UID,
        purpose: Purpose::Custom,
        protection: Protection::Wrapped,
        labels,
        primary_version: 1,
        created: time,
        revision: 1,
        profile: Some(KeyProfile {
            key_type: KeyType::EcP256,
            uses: PermittedUses::new(KeyType::EcP256, uses).expect("the use fits"),
            exportable: false,
            last_version: 2,
            destroy_window: Duration::from_secs(24 * 3600),
        }),
    };
    let version = |number, token: Vec<u8>, layout, history| {
        Tagged::new(
            VersionRow {
                key_uid: UID,
                number,
                state: if token.is_empty() {
                    VersionState::Destroyed
                } else {
                    VersionState::Active
                },
                members: vec!["a".to_owned(), "b".to_owned()],
                created: time,
                revision: 1,
                token,
                layout,
                history,
            },
            tagged(),
        )
    };
    let destroyed = History {
        reason: "no longer needed".to_owned(),
        activated: Some(time),
        deactivated: Some(time),
        compromised: None,
        destroy: Some(time),
        remains: Some(Remains {
            origin: Origin::Generated,
            epoch: 1,
            public_key,
        }),
    };
    let active = History {
        activated: Some(time),
        ..History::default()
    };
    let key = StoredKey {
        key: Tagged::new(key, tagged()),
        versions: vec![
            version(1, token, Layout::One, active),
            version(2, Vec::new(), Layout::Two, destroyed),
        ],
        restrictions: Vec::new(),
        holds: Vec::new(),
        presumed_last_version: 0,
    };
    store.create_key(key, None).await.expect("a key");
    let restriction = Restriction {
        key_uid: UID,
        number: 1,
        state: VersionState::Disabled,
        reason: "under suspicion".to_owned(),
        time,
    };
    store.restrict(restriction, None).await.expect("a restriction");
    let count = UseCountRow {
        key_uid: UID,
        number: 1,
        uses: 12,
        encryptions: 3,
    };
    store
        .put_use_counts(vec![Tagged::new(count, tagged())])
        .await
        .expect("a count");
    store
        .put_document(Tagged::new(alias(time), tagged()), None)
        .await
        .expect("a document");
    let intent = ResidentIntent {
        uid: Uuid::from_bytes([3; 16]),
        version: 1,
        member: "a".to_owned(),
        making: Some(Uuid::from_bytes([4; 16])),
    };
    store
        .begin_resident(Tagged::new(intent, tagged()))
        .await
        .expect("a note");
}

fn alias(time: OffsetDateTime) -> DocumentRow {
    DocumentRow {
        key: DocumentKey {
            kind: ALIAS,
            ring: RING.to_owned(),
            id: "current".to_owned(),
        },
        uid: Uuid::from_bytes([4; 16]),
        created: time,
        updated: time,
        revision: 1,
        body: vec![0, 0, 0, 1, b'k', 0, 0, 0, 0],
    }
}

/// The rows of a table as they are stored.
fn stored(disk: &Connection, number: usize, table: &str) -> Vec<(usize, Vec<Value>)> {
    let mut statement = disk.prepare(&format!("SELECT * FROM {table}")).expect("a table");
    let width = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..width)
            .map(|column| row.get(column))
            .collect::<Result<Vec<Value>, _>>()
    });
    rows.expect("rows").map(|row| (number, row.expect("a row"))).collect()
}

fn encode(table: usize, columns: &[Value]) -> Vec<u8> {
    let mut bytes = vec![table as u8];
    for column in columns {
        let (kind, value) = match column {
            Value::Null => (0, Vec::new()),
            Value::Integer(number) => (1, number.to_be_bytes().to_vec()),
            Value::Text(text) => (2, text.clone().into_bytes()),
            Value::Blob(bytes) => (3, bytes.clone()),
            Value::Real(_) => panic!("the schema has no such column"),
        };
        bytes.push(kind);
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
    }
    bytes
}

fn decode(input: &[u8]) -> Option<(usize, Vec<Value>)> {
    let (table, mut rest) = input.split_first()?;
    let table = usize::from(*table);
    let mut columns = Vec::new();
    while let Some((kind, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk()?;
        let (value, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
        columns.push(match kind {
            0 => Value::Null,
            1 => Value::Integer(i64::from_be_bytes(value.try_into().ok()?)),
            2 => Value::Text(String::from_utf8(value.to_vec()).ok()?),
            _ => Value::Blob(value.to_vec()),
        });
        rest = after;
    }
    (table < TABLES.len() && !columns.is_empty() && columns.len() <= 20).then_some((table, columns))
}

const RING: &str = "demo";
const ALIAS: &str = "alias/1";
const UID: Uuid = Uuid::from_bytes([2; 16]);

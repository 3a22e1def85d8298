//! What is taken away from a database that is restored, because the time after its backup may have taken it away.
//!
//! No HSM is asked: nothing here has a tag, and nothing here can give anything.

use super::{
    StoreError,
    opening::{connect, explain, refused},
    schema,
};
use crate::keys::{
    name::{KeyName, KeyOrVersionName},
    record::{from_micros, micros},
    state::VersionState,
    use_count::MOST_ENCRYPTIONS,
};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::{collections::BTreeMap, path::Path};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// What is known of the time after a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// All of it is in the audit log at hand.
    Known,
    /// A part of it is in no file at hand.
    Unknown,
}

/// A change after the backup that took something away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LostChange {
    /// A version was brought to a state in which it does less.
    Version {
        /// The version.
        version: KeyOrVersionName,
        /// DISABLED, DEACTIVATED or COMPROMISED.
        state: VersionState,
        /// Why.
        reason: String,
        /// When.
        time: OffsetDateTime,
    },
    /// A document was removed.
    Removed {
        /// Its kind, with the number of its layout.
        kind: &'static str,
        /// Its ring.
        ring: String,
        /// Its id.
        id: String,
    },
    /// Ephemeral keys were revoked.
    Revoked {
        /// The ring.
        ring: String,
        /// Whose; empty for everybody's.
        principal: String,
        /// Those that were made before, in microseconds since 1970.
        not_before: u64,
    },
}

/// What is known of the numbers that versions of a key got after the backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// The highest that is named.
    pub(crate) named: u32,
    /// How many versions were made, or may have been, of which the number is not said.
    pub(crate) made: u32,
}

/// What a restore has to take away.
#[derive(Debug)]
pub(crate) struct Precautions {
    /// What is known.
    pub(crate) lost: Lost,
    /// In the order in which it happened.
    pub(crate) changes: Vec<LostChange>,
    /// What was done last to the state of versions, by name.
    pub(crate) last_words: BTreeMap<String, String>,
    /// What is known of the numbers that versions got after the backup, by key.
    pub(crate) numbers: BTreeMap<KeyName, Numbers>,
    /// How often versions encrypted with AES-GCM after the backup, by name.
    pub(crate) encryptions: BTreeMap<String, u64>,
    /// When the backup is restored.
    pub(crate) now: OffsetDateTime,
}

/// What was taken away from a database.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Each thing, for people.
    pub(crate) told: Vec<String>,
    /// How many destructions are stopped.
    pub(crate) held: usize,
}

/// Brings a database that nobody else uses to the current schema and takes precautions in it. Says what it took away.
pub(crate) fn take_precautions(path: &Path, precautions: &Precautions) -> Result<Taken, StoreError> {
    let explained = |error: rusqlite::Error| explain(path, &error);
    let mut connection = connect(path).map_err(explained)?;
    schema::migrate(&mut connection).map_err(|error| refused(path, error))?;
    let transaction = connection.transaction().map_err(explained)?;
    let taken = apply(&transaction, precautions).map_err(explained)?;
    transaction.commit().map_err(explained)?;
    // All of it is in the one file then.
    connection.close().map_err(|(_, error)| explained(error))?;
    Ok(taken)
}

fn apply(transaction: &Transaction<'_>, precautions: &Precautions) -> rusqlite::Result<Taken> {
    let mut taken = Vec::new();
    for change in &precautions.changes {
        taken.extend(apply_change(transaction, change)?);
    }
    let held = hold_destructions(transaction, precautions)?;
    // Whether a job was used after the backup, for an import that is lost, nobody knows.
    let jobs = transaction.execute("DELETE FROM documents WHERE kind = 'import_job/1'", [])?;
    if jobs > 0 {
        taken.push(format!("{jobs} import jobs are removed: each is good for one import"));
    }
    taken.extend(presume_versions(transaction, precautions)?);
    presume_encryptions(transaction, precautions)?;
    if precautions.lost == Lost::Unknown {
        presume_revocation(transaction, "", "", micros(precautions.now))?;
        taken.push("every ephemeral key that was made before now is revoked".to_owned());
        taken.push("no key version encrypts with AES-GCM any more (it still decrypts): rotate the keys".to_owned());
    }
    Ok(Taken {
        held: held.len(),
        told: [taken, held].concat(),
    })
}

/// Makes one change again, as far as it takes something away from what there is. Says so.
fn apply_change(connection: &Connection, change: &LostChange) -> rusqlite::Result<Option<String>> {
    Ok(match change {
        LostChange::Version {
            version,
            state,
            reason,
            time,
        } => {
            let KeyOrVersionName {
                key,
                version: Some(number),
            } = version
            else {
                return Ok(None);
            };
            match state_of(connection, key, *number)? {
                Some((uid, before)) if can_be_restricted(before, *state) => {
                    connection.execute(
                        "INSERT INTO restrictions (key_uid, number, state, reason, time) VALUES (?1, ?2, ?3, ?4, ?5)
                         ON CONFLICT (key_uid, number) DO UPDATE SET state = ?3, reason = ?4, time = ?5",
                        params![uid.as_bytes(), number, *state as i64, reason, micros(*time) as i64],
                    )?;
                    Some(match before.waits_for_destruction() {
                        true => format!("{version} is marked as {state} ({reason})"),
                        false => format!("{version} is {state} ({reason})"),
                    })
                }
                _ => None,
            }
        }
        LostChange::Removed { kind, ring, id } => {
            let removed = connection.execute(
                "DELETE FROM documents WHERE kind = ?1 AND ring_id = ?2 AND id = ?3",
                params![kind, ring, id],
            )?;
            let what = kind.split('/').next().unwrap_or(kind);
            (removed > 0).then(|| format!("the {what} {id} of keyRings/{ring} is removed"))
        }
        LostChange::Revoked {
            ring,
            principal,
            not_before,
        } => {
            presume_revocation(connection, ring, principal, *not_before)?;
            let whose = if principal.is_empty() {
                "all principals"
            } else {
                principal
            };
            Some(format!("ephemeral keys of {whose} in keyRings/{ring} are revoked"))
        }
    })
}

/// Whether a change after the backup takes something away from a version in a state. What waits for its destruction is marked, and waits.
fn can_be_restricted(before: VersionState, to: VersionState) -> bool {
    before.is_restricted_by(to) || (before.waits_for_destruction() && to == VersionState::Compromised)
}

/// Stops every destruction, whatever is known of the time after the backup: it may have been cancelled then and the key be in use, or
/// put off. Nothing that was destroyed comes back, so that a person has to say that it shall be destroyed now.
fn hold_destructions(transaction: &Transaction<'_>, precautions: &Precautions) -> rusqlite::Result<Vec<String>> {
    let mut statement = transaction.prepare(
        "SELECT ring_id, key_id, key_uid, number, destroy FROM key_versions JOIN keys ON keys.uid = key_uid
         WHERE state IN (6, 7) ORDER BY ring_id, key_id, number",
    )?;
    debug_assert_eq!(
        (VersionState::DestroyScheduled as i64, VersionState::Destroying as i64),
        (6, 7)
    );
    let mut rows = statement.query([])?;
    let mut told = Vec::new();
    while let Some(row) = rows.next()? {
        let (ring, key): (String, String) = (row.get(0)?, row.get(1)?);
        let (uid, number): ([u8; 16], u32) = (row.get(2)?, row.get(3)?);
        let name = format!("keyRings/{ring}/keys/{key}/versions/{number}");
        let due = row.get::<_, Option<i64>>(4)?.map(|micros| micros.unsigned_abs());
        let due = due.and_then(from_micros).and_then(|time| time.format(&Rfc3339).ok());
        let due = due.map(|time| format!(" at {time}")).unwrap_or_default();
        let since = match precautions.last_words.get(&name) {
            Some(word) => format!("; {word}"),
            None => String::new(),
        };
        let reason = format!("its destruction{due} is stopped by a restore: schedule it again, or cancel it{since}");
        transaction.execute(
            "INSERT INTO destruction_holds (key_uid, number, reason, time) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key_uid, number) DO UPDATE SET reason = ?3, time = ?4",
            params![uid, number, reason, micros(precautions.now) as i64],
        )?;
        told.push(format!("{name}: {reason}"));
    }
    Ok(told)
}

/// The identity of a version's key, and the state that the version is in now.
fn state_of(connection: &Connection, key: &KeyName, number: u32) -> rusqlite::Result<Option<(Uuid, VersionState)>> {
    let found: Option<([u8; 16], i64, Option<i64>)> = connection
        .prepare_cached(
            "SELECT keys.uid, key_versions.state, restrictions.state FROM keys
             JOIN key_versions ON key_versions.key_uid = keys.uid
             LEFT JOIN restrictions ON restrictions.key_uid = keys.uid AND restrictions.number = key_versions.number
             WHERE ring_id = ?1 AND key_id = ?2 AND key_versions.number = ?3",
        )?
        .query_row(params![key.ring.as_str(), key.key.as_str(), number], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    Ok(found.and_then(|(uid, state, restricted)| {
        let stored = VersionState::from_number(state)?;
        let restricted = restricted.and_then(VersionState::from_number);
        let restricted = restricted.filter(|restricted| stored.is_restricted_by(*restricted));
        Some((Uuid::from_bytes(uid), restricted.unwrap_or(stored)))
    }))
}

/// No number of a version is given again, because another key had it, and callers may know that by it: numbers go on above all that the
/// log names, or, where the log does not say, far above.
fn presume_versions(connection: &Connection, precautions: &Precautions) -> rusqlite::Result<Vec<String>> {
    let mut told = Vec::new();
    if precautions.lost == Lost::Unknown {
        connection.execute(
            &format!("INSERT INTO presumed_versions (key_uid, last_version) SELECT uid, {LAST_VERSION} + ?1 FROM keys WHERE true {RAISE}"),
            [VERSIONS_APART],
        )?;
        told.push(
            "the numbers of new versions go on 1,000,000 further on: which ones were given is not known".to_owned(),
        );
    }
    for (key, Numbers { named, made }) in &precautions.numbers {
        let raised: Option<i64> = connection
            .query_row(
                &format!(
                    "INSERT INTO presumed_versions (key_uid, last_version)
                     SELECT uid, max({LAST_VERSION} + ?3, ?4) FROM keys
                     WHERE ring_id = ?1 AND key_id = ?2 AND max({LAST_VERSION} + ?3, ?4) > {LAST_VERSION}
                     {RAISE} RETURNING last_version"
                ),
                params![key.ring.as_str(), key.key.as_str(), made, named],
                |row| row.get(0),
            )
            .optional()?;
        if let (Some(last), Lost::Known) = (raised, precautions.lost) {
            told.push(format!(
                "{key}: new versions get numbers above {last}, because those up to it were given"
            ));
        }
    }
    Ok(told)
}

/// Every version encrypted as often as the log says, and a little more; or, where the log does not say, as often as it may.
fn presume_encryptions(connection: &Connection, precautions: &Precautions) -> rusqlite::Result<()> {
    let presumed = match precautions.lost {
        Lost::Known => MARGIN,
        Lost::Unknown => MOST_ENCRYPTIONS,
    };
    connection.execute(
        "INSERT INTO presumed_encryptions (key_uid, number, encryptions)
         SELECT key_uid, number, ?1 FROM (SELECT key_uid, number FROM key_versions UNION SELECT key_uid, number FROM use_counts)
         WHERE true
         ON CONFLICT (key_uid, number) DO UPDATE SET encryptions = encryptions + ?1",
        [presumed as i64],
    )?;
    for (version, encryptions) in &precautions.encryptions {
        let Ok(KeyOrVersionName {
            key,
            version: Some(number),
        }) = KeyOrVersionName::parse(version)
        else {
            continue;
        };
        let uid = match state_of(connection, &key, number)? {
            Some((uid, _)) => Some(uid),
            // An ephemeral key, which its owner keeps, is counted by its identity.
            None => key
                .key
                .as_str()
                .strip_prefix("ephemeral-")
                .and_then(|uid| Uuid::parse_str(uid).ok()),
        };
        if let Some(uid) = uid {
            connection
                .prepare_cached(
                    "INSERT INTO presumed_encryptions (key_uid, number, encryptions) VALUES (?1, ?2, ?3)
                     ON CONFLICT (key_uid, number) DO UPDATE SET encryptions = encryptions + ?3",
                )?
                .execute(params![uid.as_bytes(), number, *encryptions as i64])?;
        }
    }
    Ok(())
}

fn presume_revocation(connection: &Connection, ring: &str, principal: &str, not_before: u64) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO presumed_revocations (ring_id, principal, not_before) VALUES (?1, ?2, ?3)
         ON CONFLICT (ring_id, principal) DO UPDATE SET not_before = max(not_before, ?3)",
        params![ring, principal, not_before as i64],
    )?;
    Ok(())
}

/// The highest number that a version of a key has had, as far as its row and those of its versions say.
const LAST_VERSION: &str = "max(
    coalesce(iif(json_valid(profile), json_extract(profile, '$.last_version'), NULL), 0),
    (SELECT coalesce(max(number), 0) FROM key_versions WHERE key_uid = keys.uid))";
const RAISE: &str = "ON CONFLICT (key_uid) DO UPDATE SET last_version = max(last_version, excluded.last_version)";
/// More versions than are made between a backup and a restore.
const VERSIONS_APART: i64 = 1_000_000;
/// More encryptions than can be missing at the end of a log that a crash of the machine cut (50 ms of entries).
const MARGIN: u64 = 1 << 20;

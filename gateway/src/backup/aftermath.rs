//! What happened after a backup, as the audit files at hand tell it: what is lost, and what of it took something away.

use super::container::AuditPosition;
use crate::{
    audit::{
        ChainHead,
        files::{Coverage, read_from},
    },
    keys::{
        alias::Alias,
        document::Document,
        name::{KeyName, KeyOrVersionName, KeyRingName},
        object::StoredObject,
        recipient::Recipient,
        record::micros,
        state::VersionState,
    },
    policy::Action,
    store::{Lost, LostChange, Numbers, Precautions},
};
use portcullis_hsm::algorithm::Mechanism;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    io,
    ops::RangeInclusive,
    path::Path,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What the audit files at hand say of the time after a backup.
#[derive(Debug)]
pub(super) struct Aftermath {
    /// Changes that succeeded: action and resource.
    pub(super) changes: Vec<String>,
    /// What is not known, for people; empty where all is.
    pub(super) unknown: Vec<String>,
    /// What to take away from what is restored.
    pub(super) precautions: Precautions,
}

impl Aftermath {
    /// Reads the log's files. `position` is the place of the backup in the log; `noted` is the end of the log as the gateway noted it.
    pub(super) fn read(
        audit_file: &Path,
        position: Option<&AuditPosition>,
        noted: Option<ChainHead>,
    ) -> io::Result<Self> {
        let backup = position.map_or(0, |position| position.sequence);
        let mut telling = Telling::after(position);
        let coverage = read_from(audit_file, backup + 1, |seq, line| telling.entry(seq, line))?;
        let is_current = audit_file.metadata().is_ok_and(|file| file.len() > 0);
        let unknown = unknown(&coverage, &telling, backup, noted, is_current);
        let lost = if unknown.is_empty() { Lost::Known } else { Lost::Unknown };
        Ok(telling.end(lost, unknown))
    }
}

/// Why the files at hand do not tell all that happened.
fn unknown(
    coverage: &Coverage,
    telling: &Telling<'_>,
    backup: u64,
    noted: Option<ChainHead>,
    is_current: bool,
) -> Vec<String> {
    if telling.is_another_log {
        return vec![format!(
            "the audit log at hand is not the one of the backup: its entry {backup} is another"
        )];
    }
    let mut unknown: Vec<_> = coverage.missing.iter().map(entries_not_looked_at).collect();
    let last = coverage.last.unwrap_or(0).max(backup);
    match noted.map(|noted| noted.next - 1) {
        Some(noted) if noted > last => unknown.push(entries_not_looked_at(&(last + 1..=noted))),
        Some(noted) if noted >= backup => {}
        _ if is_current && coverage.last.is_some_and(|last| last >= backup) => {}
        _ => unknown.push(format!(
            "entries from {} on were not looked at: they are in no file",
            last + 1
        )),
    }
    if !unknown.is_empty() {
        unknown.extend(coverage.unreadable.iter().cloned());
    }
    unknown
}

fn entries_not_looked_at(missing: &RangeInclusive<u64>) -> String {
    let (first, last) = (missing.start(), missing.end());
    format!("entries {first} to {last} were not looked at: they are in no file that can be read")
}

/// Entries as they are read, in their order.
#[derive(Default)]
struct Telling<'a> {
    position: Option<&'a AuditPosition>,
    is_another_log: bool,
    // What was about to be done, by request, until it is known what came of it.
    intents: HashMap<String, Line>,
    changes: Vec<String>,
    stops: BTreeMap<String, Stop>,
    last_words: BTreeMap<String, String>,
    numbers: BTreeMap<KeyName, Numbers>,
    others: Vec<LostChange>,
    encryptions: BTreeMap<String, u64>,
}

/// What was taken from a version, and not given back.
#[derive(Default)]
struct Stop {
    disabled: Option<Why>,
    deactivated: Option<Why>,
    compromised: Option<Why>,
    destruction: Option<Why>,
}

struct Why {
    reason: String,
    time: OffsetDateTime,
}

/// What an entry says that matters here.
#[derive(Deserialize)]
struct Line {
    seq: u64,
    prev: String,
    time: String,
    phase: String,
    #[serde(default)]
    request: String,
    action: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    also: Vec<Also>,
    #[serde(default)]
    mechanism: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    details: Value,
    outcome: String,
}

#[derive(Deserialize)]
struct Also {
    action: String,
    #[serde(default)]
    resource: String,
}

impl Line {
    /// The version under which something may have been encrypted by AES-GCM.
    fn encrypted_with(&self) -> Option<&str> {
        let action = Action::ALL.iter().find(|action| action.name() == self.action)?;
        match action {
            Action::Encrypt if is_counted(&self.mechanism) => Some(&self.resource),
            Action::GenerateDataKey | Action::GenerateSealedDataKey => Some(&self.resource),
            Action::ReEncryptFrom => {
                let to = self.also.iter().find(|also| also.action == Action::ReEncryptTo.name());
                to.map(|to| to.resource.as_str())
            }
            _ => None,
        }
    }
}

/// Whether encryptions by a mechanism are counted in the store.
fn is_counted(mechanism: &str) -> bool {
    [Mechanism::AesGcm, Mechanism::AesGcmCallerIv]
        .iter()
        .any(|counted| counted.name() == mechanism)
}

impl<'a> Telling<'a> {
    fn after(position: Option<&'a AuditPosition>) -> Self {
        Self {
            position,
            ..Self::default()
        }
    }

    fn entry(&mut self, seq: u64, bytes: &[u8]) {
        // What has a number and is none of this program's entries is found by `portcullisd audit verify`.
        let Ok(line) = serde_json::from_slice::<Line>(bytes) else {
            return;
        };
        let backup = self.position.map_or(0, |position| position.sequence);
        if let Some(AuditPosition { hash, .. }) = self.position {
            let is_other = |found: &str| found != hash.as_str();
            let own = || ChainHead::START.after(bytes).hash;
            self.is_another_log |= seq == backup && is_other(&hex::encode(own()));
            self.is_another_log |= seq == backup + 1 && is_other(&line.prev);
        }
        match line.phase.as_str() {
            "intent" => drop(self.intents.insert(line.request.clone(), line)),
            "outcome" => {
                let intent = self.intents.remove(&line.request);
                if seq <= backup {
                    return;
                }
                self.count_encryption(&line);
                // What is refused may name anything; an intent names what was there, or was about to be.
                if line.outcome == "OK" {
                    self.note_numbers(&line);
                }
                let Some(intent) = intent else { return };
                self.note_numbers(&intent);
                self.count_version(&intent);
                if line.outcome == "OK" {
                    self.changes.push(format!("{} {}", line.action, line.resource));
                }
                // Of a call that was interrupted nobody knows whether it did what it began.
                if ["OK", "CANCELLED"].contains(&line.outcome.as_str()) {
                    self.change(&line, &intent.time);
                }
            }
            _ => {}
        }
    }

    /// Notes the numbers of versions that an entry names.
    fn note_numbers(&mut self, line: &Line) {
        let also = line.also.iter().map(|also| also.resource.as_str());
        for resource in also.chain([line.resource.as_str()]) {
            if let Ok(KeyOrVersionName {
                key,
                version: Some(number),
            }) = KeyOrVersionName::parse(resource)
            {
                let numbers = self.numbers.entry(key).or_default();
                numbers.named = numbers.named.max(number);
            }
        }
    }

    /// Counts a version that a rotation made, or may have made: its entries are about the key.
    fn count_version(&mut self, intent: &Line) {
        if intent.action == Action::RotateKey.name()
            && let Ok(KeyOrVersionName { key, .. }) = KeyOrVersionName::parse(&intent.resource)
        {
            let numbers = self.numbers.entry(key).or_default();
            numbers.made = numbers.made.saturating_add(1);
        }
    }

    /// Counts an AES-GCM encryption, also one of which it is not known what came of it.
    fn count_encryption(&mut self, line: &Line) {
        if let Some(version) = line.encrypted_with() {
            *self.encryptions.entry(version.to_owned()).or_default() += 1;
        }
    }

    /// Notes a change that takes something away, or gives back what one before it took.
    fn change(&mut self, line: &Line, since: &str) {
        let is = |action: Action| line.action == action.name();
        let time = OffsetDateTime::parse(since, &Rfc3339).unwrap_or_else(|_| OffsetDateTime::now_utc());
        let why = |what: &str| {
            let reason = format!("{what} after the backup that was restored (audit entry {})", line.seq);
            let mut reason = match line.reason.as_str() {
                "" => reason,
                given => format!("{reason}: {given}"),
            };
            reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
            Some(Why { reason, time })
        };
        if line.action.starts_with("key_version.") {
            let verb = line.action.trim_start_matches("key_version.").replace('_', " ");
            let word = format!(
                "after the backup the last word on it was \"{verb}\" (audit entry {})",
                line.seq
            );
            self.last_words.insert(line.resource.clone(), word);
            let stop = self.stops.entry(line.resource.clone()).or_default();
            if is(Action::DisableVersion) {
                stop.disabled = why("disabled");
            } else if is(Action::EnableVersion) {
                stop.disabled = None;
            } else if is(Action::DeactivateVersion) {
                stop.disabled = None;
                stop.deactivated = why("deactivated");
            } else if is(Action::MarkVersionCompromised) {
                stop.compromised = why("marked as compromised");
            } else if is(Action::ScheduleVersionDestruction) {
                stop.destruction = why("scheduled for destruction");
            } else if is(Action::CancelVersionDestruction) {
                stop.destruction = None;
                stop.disabled = why("saved from destruction");
            }
        } else if is(Action::RevokeEphemeralKeys) {
            if let Ok(KeyRingName(ring)) = KeyRingName::parse(&line.resource) {
                // Where the log does not say whose keys and from when on, it is everybody's until then.
                let told = |detail: &str| line.details.get(detail).and_then(Value::as_str);
                let not_before = told("not_before").and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
                self.others.push(LostChange::Revoked {
                    ring: ring.to_string(),
                    principal: told("owner").unwrap_or_default().to_owned(),
                    not_before: micros(not_before.unwrap_or(time)),
                });
            }
        } else if [Action::DeleteRecipient, Action::DeleteAlias, Action::DeleteObject]
            .map(is)
            .contains(&true)
        {
            self.others.extend(removed(&line.resource));
        }
    }

    fn end(mut self, lost: Lost, unknown: Vec<String>) -> Aftermath {
        let backup = self.position.map_or(0, |position| position.sequence);
        // What was begun and never said to have ended: only what takes something away counts as done.
        let mut begun: Vec<_> = self.intents.drain().map(|(_, line)| line).collect();
        for line in &begun {
            self.note_numbers(line);
            self.count_version(line);
        }
        begun.retain(|line| line.seq > backup && line.action != Action::EnableVersion.name());
        begun.sort_by_key(|line| line.seq);
        for line in &begun {
            self.change(line, &line.time);
        }
        let stops = std::mem::take(&mut self.stops).into_iter();
        let mut changes: Vec<_> = stops.filter_map(|(version, stop)| stop.change(&version)).collect();
        changes.extend(self.others);
        Aftermath {
            changes: self.changes,
            unknown,
            precautions: Precautions {
                lost,
                changes,
                last_words: self.last_words,
                numbers: self.numbers,
                encryptions: self.encryptions,
                now: OffsetDateTime::now_utc(),
            },
        }
    }
}

impl Stop {
    /// The one state that takes away all that was taken.
    fn change(self, version: &str) -> Option<LostChange> {
        let Self {
            disabled,
            deactivated,
            compromised,
            destruction,
        } = self;
        let version = KeyOrVersionName::parse(version).ok()?;
        let (state, why) = match (compromised, destruction.or(disabled), deactivated) {
            (Some(why), ..) => (VersionState::Compromised, why),
            (_, Some(why), _) => (VersionState::Disabled, why),
            (_, _, why) => (VersionState::Deactivated, why?),
        };
        Some(LostChange::Version {
            version,
            state,
            reason: why.reason,
            time: why.time,
        })
    }
}

/// As long as the store takes.
const LONGEST_REASON: usize = 1024;

/// The removal of a document by its name.
fn removed(name: &str) -> Option<LostChange> {
    let [_, ring, collection, id] = name.split('/').collect::<Vec<_>>().try_into().ok()?;
    let kinds = [
        (Recipient::COLLECTION, Recipient::KIND),
        (Alias::COLLECTION, Alias::KIND),
        (StoredObject::COLLECTION, StoredObject::KIND),
    ];
    let (_, kind) = kinds.into_iter().find(|(known, _)| *known == collection)?;
    Some(LostChange::Removed {
        kind,
        ring: ring.to_owned(),
        id: id.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is told by entries, each given by its phase, request, action, resource, outcome and details.
    fn told(entries: &[(&str, &str, &str, &str, &str, Value)]) -> Aftermath {
        let mut telling = Telling::after(None);
        for (seq, (phase, request, action, resource, outcome, details)) in (1..).zip(entries) {
            let line = json!({
                "seq": seq, "prev": "", "time": "2026-01-31T00:00:00Z", "phase": phase, "request": request,
                "action": action, "resource": resource, "outcome": outcome, "details": details,
            });
            telling.entry(seq, line.to_string().as_bytes());
        }
        telling.end(Lost::Known, Vec::new())
    }

    const ONE: &str = "keyRings/ring/keys/one/versions/1";
    const TWO: &str = "keyRings/ring/keys/two/versions/1";

    #[test]
    fn what_failed_was_only_asked_for_or_was_undone_is_not_taken_away_and_what_was_begun_is() {
        let compromise = "key_version.mark_compromised";
        let (disable, enable) = ("key_version.disable", "key_version.enable");
        let aftermath = told(&[
            // Failed.
            ("intent", "a", compromise, ONE, "ALLOWED", Value::Null),
            ("outcome", "a", compromise, ONE, "ETAG_MISMATCH", Value::Null),
            // Only validated: there was no intent.
            ("outcome", "b", compromise, ONE, "OK", Value::Null),
            // Undone.
            ("intent", "c", disable, ONE, "ALLOWED", Value::Null),
            ("outcome", "c", disable, ONE, "OK", Value::Null),
            ("intent", "d", enable, ONE, "ALLOWED", Value::Null),
            ("outcome", "d", enable, ONE, "OK", Value::Null),
            // Begun, and the gateway was killed.
            ("intent", "e", compromise, TWO, "ALLOWED", Value::Null),
        ]);
        let changes = &aftermath.precautions.changes;
        assert!(
            matches!(
                changes.as_slice(),
                [LostChange::Version { version, state: VersionState::Compromised, .. }] if version.to_string() == TWO
            ),
            "{changes:?}"
        );
        assert_eq!(
            aftermath.changes,
            [format!("{disable} {ONE}"), format!("{enable} {ONE}")]
        );
    }

    #[test]
    fn a_revocation_concerns_its_owner_where_the_log_says_who_that_is_and_else_everybody() {
        let revoke = "ephemeral_key.revoke";
        let details = json!({ "owner": "spiffe://example.org/a", "not_before": "2026-01-30T00:00:00Z" });
        let aftermath = told(&[
            ("intent", "a", revoke, "keyRings/ring", "ALLOWED", Value::Null),
            ("outcome", "a", revoke, "keyRings/ring", "OK", details),
            ("intent", "b", revoke, "keyRings/ring", "ALLOWED", Value::Null),
            ("outcome", "b", revoke, "keyRings/ring", "OK", Value::Null),
        ]);
        let day = 24 * 3600 * 1_000_000;
        let second: u64 = 1_769_817_600_000_000;
        let revoked = |principal: &str, not_before| LostChange::Revoked {
            ring: "ring".to_owned(),
            principal: principal.to_owned(),
            not_before,
        };
        let expected = [revoked("spiffe://example.org/a", second - day), revoked("", second)];
        assert_eq!(aftermath.precautions.changes, expected);
    }
}

//! The verbs that move versions through their life, with and without an HSM.

use super::{
    change::{ChangeError, Changes, Mode, Plan, Terms, Windows, find_version, planned, require_revision},
    directory::{BACKGROUND_DEADLINE, DirectoryError, KeyRecord, restriction_patience},
    name::KeyName,
    record::{Restriction, now},
    state::{Verb, VersionState},
};
use crate::store::Created;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A move of a version.
#[derive(Debug, Clone)]
pub struct Move {
    /// The key.
    pub key: KeyName,
    /// The version.
    pub number: u32,
    /// What is done to it.
    pub verb: Verb,
    /// Why; kept with the version.
    pub reason: String,
    /// How long a destruction waits; the key's own window if none is given.
    pub window: Option<Duration>,
}

impl Changes {
    /// Moves a version to another state. What only takes something away also works while no HSM is reachable, or none has
    /// the time for it.
    pub async fn move_version(
        &self,
        wanted: Move,
        terms: Terms,
        windows: Windows,
    ) -> Result<Arc<KeyRecord>, ChangeError> {
        let _lock = self.directory.locks.lock(&wanted.key, terms.deadline).await?;
        let patience = match wanted.verb.only_restricts() {
            true => restriction_patience(terms.deadline),
            false => terms.deadline,
        };
        let record = match self.directory.key_under_lock(&wanted.key, patience).await {
            Err(DirectoryError::Cluster(error)) if wanted.verb.only_restricts() && error.is_for_want_of_a_member() => {
                let unchecked = self.directory.key_unchecked(&wanted.key, terms.deadline).await?;
                return self.restrict(&unchecked, &wanted, terms, Kept::No).await;
            }
            record => record?,
        };
        if self.is_repetition(terms.once.as_ref(), terms.deadline).await? {
            return Ok(record);
        }
        let Some(plan) = self.plan_move(&record, &wanted, &terms, windows).await? else {
            return Ok(record);
        };
        if terms.mode == Mode::Check {
            return Ok(self.directory.assemble(planned(&record, &plan))?);
        }
        match self.authenticate(&record, plan, patience).await {
            Ok(authentic) => self.keep(&record, authentic, terms.once, terms.deadline).await,
            Err(ChangeError::Cluster(error)) if wanted.verb.only_restricts() && error.is_for_want_of_a_member() => {
                self.restrict(&record, &wanted, terms, Kept::Yes).await
            }
            Err(error) => Err(error),
        }
    }

    /// Makes restrictions and holds part of the rows that they concern. Called when members serve again, and now and then.
    pub async fn fold_restrictions(&self) -> Result<(), ChangeError> {
        for name in self.store.restricted_keys().await? {
            let deadline = Instant::now() + BACKGROUND_DEADLINE;
            let _lock = self.directory.locks.lock(&name, deadline).await?;
            let record = self.directory.key_under_lock(&name, deadline).await?;
            let unfolded = record.versions.iter().filter(|version| version.is_unfolded());
            let versions: Vec<_> = unfolded.map(|version| version.folded()).collect();
            if !versions.is_empty() {
                self.commit(&record, Plan { key: None, versions }, None, deadline)
                    .await?;
                tracing::info!(key = %name, "what was restricted or held without an HSM is authenticated now");
            }
        }
        Ok(())
    }

    /// The rows after a move; none where the version is there already.
    async fn plan_move(
        &self,
        record: &KeyRecord,
        wanted: &Move,
        terms: &Terms,
        windows: Windows,
    ) -> Result<Option<Plan>, ChangeError> {
        let version = find_version(record, wanted.number)?;
        let name = || wanted.key.version(wanted.number);
        require_revision(terms.expected, version.revision(), name)?;
        let row = version.folded();
        let to = row
            .state
            .after(wanted.verb, row.past())
            .ok_or_else(|| ChangeError::State {
                name: name(),
                state: row.state.name(),
                required: wanted.verb.applies_to(),
            })?;
        let time = now();
        let mut next = match (wanted.verb, row.state) {
            (Verb::MarkCompromised, VersionState::DestroyScheduled) => {
                if row.history.compromised.is_some() {
                    return Ok(None);
                }
                row.marked_compromised(&wanted.reason, time)
            }
            // Another window counts from now, as the first did: it never leaves less time than the ring allows.
            // What a restore held has no time any more: it gets one.
            (Verb::ScheduleDestruction, VersionState::DestroyScheduled)
                if wanted.window.is_some() || row.history.destroy.is_none() =>
            {
                row.entering(to, &wanted.reason, time)
            }
            _ if to == row.state => return Ok(None),
            _ => {
                let mut next = row.entering(to, &wanted.reason, time);
                next.history.destroy = None;
                next
            }
        };
        // The row in the store has still the revision before: the restriction was never a revision of it.
        next.revision = version.row.revision + 1;
        if wanted.verb == Verb::ScheduleDestruction {
            let ring = self.directory.ring(&wanted.key.ring, terms.deadline).await?;
            let window = match wanted.window {
                Some(window) => {
                    windows.check(window, ring.least_destroy_window)?;
                    window
                }
                None => record
                    .profile
                    .destroy_window
                    .max(windows.least)
                    .max(ring.least_destroy_window),
            };
            next.history.destroy = Some(time + window);
        }
        Ok(Some(Plan {
            key: None,
            versions: vec![next],
        }))
    }

    /// Takes something away from a version without its tag.
    async fn restrict(
        &self,
        record: &KeyRecord,
        wanted: &Move,
        terms: Terms,
        kept: Kept,
    ) -> Result<Arc<KeyRecord>, ChangeError> {
        let version = find_version(record, wanted.number)?;
        let name = || wanted.key.version(wanted.number);
        let row = version.folded();
        let to = row
            .state
            .after(wanted.verb, row.past())
            .ok_or_else(|| ChangeError::State {
                name: name(),
                state: row.state.name(),
                required: wanted.verb.applies_to(),
            })?;
        require_revision(terms.expected, version.revision(), name)?;
        if to == row.state && row.history.compromised.is_some() {
            // It waits for its destruction, and is marked already.
            return Ok(self.directory.assemble(planned(record, &Plan::default()))?);
        }
        let restriction = Restriction {
            key_uid: record.key.uid,
            number: wanted.number,
            state: match wanted.verb {
                Verb::Disable => VersionState::Disabled,
                _ => VersionState::Compromised,
            },
            reason: wanted.reason.clone(),
            time: now(),
        };
        let mut restricted = planned(record, &Plan::default());
        restricted.restrictions.retain(|one| one.number != wanted.number);
        restricted.restrictions.push(restriction.clone());
        let restricted = self.directory.assemble(restricted)?;
        if terms.mode == Mode::Make {
            let _changing = self.directory.changing(&wanted.key.ring);
            match self.store.by(terms.deadline).restrict(restriction, terms.once).await {
                Ok(Created::New | Created::Before) => {}
                Err(error) => {
                    self.directory.forget(&wanted.key).await;
                    return Err(error.into());
                }
            }
            tracing::warn!(version = name(), state = %to, "restricted before an HSM member could authenticate it");
            if kept == Kept::Yes {
                self.directory.remember(&restricted).await;
            }
        }
        Ok(restricted)
    }
}

/// Whether the record that is restricted was checked, and so may be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

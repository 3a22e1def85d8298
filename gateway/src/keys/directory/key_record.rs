//! Key records: a key, what every version of it is, and its versions with their material, as they were checked.

use crate::{
    cluster::Key,
    keys::{
        record::{Hold, KeyProfile, KeyRow, Restriction, VersionRow},
        state::VersionState,
        use_count::UseCounter,
    },
    policy::KeyFacts,
};
use portcullis_hsm::key_token::{KeyToken, Origin};
use std::sync::Arc;

/// A checked key.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    /// The key.
    pub key: KeyRow,
    /// What every version of it is.
    pub profile: KeyProfile,
    /// Its versions, by number.
    pub versions: Vec<VersionRecord>,
}

/// A checked version.
#[derive(Debug, Clone)]
pub struct VersionRecord {
    /// The version.
    pub row: VersionRow,
    /// Its key material, if it has any.
    pub material: Option<Material>,
    /// What was taken from it while no HSM could authenticate that.
    pub restriction: Option<Restriction>,
    /// Its destruction, if a restore stopped that.
    pub hold: Option<Hold>,
    /// How often it was used.
    pub uses: Arc<UseCounter>,
}

/// The key material of a version.
#[derive(Debug, Clone)]
pub struct Material {
    /// What its token says.
    pub token: KeyToken,
    /// The token, for the cluster.
    pub handle: Key,
}

impl KeyRecord {
    /// What a policy may know of the key.
    pub fn facts(&self) -> KeyFacts<'_> {
        KeyFacts {
            name: &self.key.name,
            labels: &self.key.labels,
            purpose: self.key.purpose,
            key_type: self.profile.key_type,
            protection: self.key.protection,
            exportable: self.profile.exportable,
        }
    }

    /// A version by its number.
    pub fn version(&self, number: u32) -> Option<&VersionRecord> {
        self.versions.iter().find(|version| version.row.number == number)
    }

    /// The primary version.
    pub fn primary(&self) -> &VersionRecord {
        // Invariant: `assemble` accepts only keys whose primary version exists.
        self.version(self.key.primary_version)
            .expect("a checked key has its primary version")
    }
}

impl VersionRecord {
    /// Where the version is in its life.
    pub fn state(&self) -> VersionState {
        let state = match &self.hold {
            Some(_) => VersionState::DestroyScheduled,
            None => self.row.state,
        };
        match &self.restriction {
            // What waits for its destruction goes on waiting.
            Some(restriction) if state != VersionState::DestroyScheduled => restriction.state,
            _ => state,
        }
    }

    /// Whether something of it is not in its authenticated row yet.
    pub fn is_unfolded(&self) -> bool {
        self.restriction.is_some() || self.hold.is_some()
    }

    /// The revision that callers see: what is not in the row yet counts, so that an etag from before it is stale.
    pub fn revision(&self) -> u64 {
        self.row.revision + u64::from(self.is_unfolded())
    }

    /// The row with the hold and the restriction, if there are any, as part of it.
    pub fn folded(&self) -> VersionRow {
        let held = match &self.hold {
            Some(hold) => self.row.held(hold),
            None => self.row.clone(),
        };
        let folded = match &self.restriction {
            Some(restriction) => held.restricted(restriction),
            None => held,
        };
        VersionRow {
            revision: self.revision(),
            ..folded
        }
    }

    /// SubjectPublicKeyInfo in DER; empty for secret keys and before an import.
    pub fn public_key(&self) -> &[u8] {
        match (&self.material, &self.row.history.remains) {
            (Some(material), _) => &material.token.public_key,
            (None, Some(remains)) => &remains.public_key,
            (None, None) => &[],
        }
    }

    /// Where the key material came from, if there was any.
    pub fn origin(&self) -> Option<Origin> {
        match (&self.material, &self.row.history.remains) {
            (Some(material), _) => Some(material.token.origin),
            (None, remains) => remains.as_ref().map(|remains| remains.origin),
        }
    }

    /// The domain epoch under which it is, or was, sealed.
    pub fn epoch(&self) -> Option<u32> {
        match (&self.material, &self.row.history.remains) {
            (Some(material), _) => Some(material.token.epoch),
            (None, remains) => remains.as_ref().map(|remains| remains.epoch),
        }
    }
}

//! Ephemeral keys: checked tokens in memory, and what was revoked.
//!
//! A token is believed after an HSM checked its tag once; then it stands as a record of a key with one active version, so that
//! what uses keys need not know the difference. Owner, end and revocation are looked at each time.

use super::{
    directory::{DirectoryError, KeyDirectory, KeyRecord, Material, VersionRecord},
    document::{DocumentError, Documents, KEPT_UNSEEN, Stored},
    name::{Id, KeyName, NameError},
    purpose,
    record::{History, KeyProfile, KeyRow, Layout, Protection, VersionRow, from_micros, micros},
    revocation::Revocation,
    state::VersionState,
    use_count::UseCounter,
};
use crate::{
    cluster::{Cluster, ClusterError, Key, operation::Claim},
    store::{Idempotency, Store, StoreError},
};
use moka::future::Cache;
use portcullis_hsm::{
    ephemeral_token::EphemeralToken,
    key_token::{KeyToken, Storage, TokenDigest, token_digest},
    record::RecordKind,
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use uuid::Uuid;

/// No token lives longer than this from the time when it is made.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Renewals included, no key lives longer than this.
pub const LONGEST_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A checked ephemeral key.
#[derive(Debug)]
pub struct EphemeralKey {
    /// What its token says.
    pub token: EphemeralToken,
    /// The key as operations use keys.
    pub record: Arc<KeyRecord>,
}

/// Why a token is not used.
#[derive(Debug, thiserror::Error)]
pub enum EphemeralError {
    /// It is none of this cluster.
    #[error(
        "the key token is not one that this cluster made: it was changed, is of another kind, or of another domain"
    )]
    Invalid,
    /// Somebody else owns it.
    #[error("the key token belongs to another principal")]
    NotOwner,
    /// Its time is over.
    #[error("the key token has expired: create another ephemeral key")]
    Expired,
    /// It was revoked.
    #[error("the key token was revoked: create another ephemeral key")]
    Revoked,
    /// The check could not be made.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// What was revoked could not be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// Ephemeral keys and revocations in memory.
#[derive(Debug)]
pub struct EphemeralKeys {
    store: Arc<dyn Store>,
    cluster: Arc<Cluster>,
    documents: Arc<Documents>,
    directory: Arc<KeyDirectory>,
    known: Cache<TokenDigest, Arc<EphemeralKey>>,
    revoked: Cache<(Id, String), u64>,
}

impl EphemeralKeys {
    /// Keeps at most `capacity` of them in memory.
    pub fn new(
        store: Arc<dyn Store>,
        cluster: Arc<Cluster>,
        documents: Arc<Documents>,
        directory: Arc<KeyDirectory>,
        capacity: u32,
    ) -> Self {
        Self {
            store,
            cluster,
            documents,
            directory,
            known: Cache::builder()
                .max_capacity(capacity.into())
                .time_to_live(LONGEST_LIFETIME)
                .build(),
            revoked: Cache::builder()
                .max_capacity(capacity.into())
                .time_to_live(KEPT_UNSEEN)
                .build(),
        }
    }

    /// The key of a token, if the principal may still use it now.
    pub async fn open(
        &self,
        sealed: &[u8],
        principal: &str,
        now: OffsetDateTime,
        deadline: Instant,
    ) -> Result<Arc<EphemeralKey>, EphemeralError> {
        let digest = token_digest(sealed);
        let key = match self.known.get(&digest).await {
            Some(key) => key,
            None => {
                let token = self.claimed(sealed)?;
                // What is not even claimed needs no HSM.
                if token.owner != principal {
                    return Err(EphemeralError::NotOwner);
                }
                let key = Arc::new(self.check(sealed, token, deadline).await?);
                self.known.insert(digest, Arc::clone(&key)).await;
                key
            }
        };
        if key.token.owner != principal {
            return Err(EphemeralError::NotOwner);
        }
        if micros(now) >= key.token.expires {
            return Err(EphemeralError::Expired);
        }
        let ring = &key.record.key.name.ring;
        if key.token.created < self.not_before(ring, principal, deadline).await? {
            return Err(EphemeralError::Revoked);
        }
        Ok(key)
    }

    /// The key of a token that a member has just made.
    pub async fn made(&self, sealed: &[u8]) -> Result<Arc<EphemeralKey>, EphemeralError> {
        let token = self.claimed(sealed)?;
        let key = Arc::new(self.assemble(sealed, token).ok_or(EphemeralError::Invalid)?);
        self.known.insert(token_digest(sealed), Arc::clone(&key)).await;
        Ok(key)
    }

    /// Revokes a principal's keys of a ring that were generated before a time. A time that was set before is never set back.
    pub async fn revoke(
        &self,
        ring: &Id,
        principal: &str,
        not_before: u64,
        once: Option<Idempotency>,
        deadline: Instant,
    ) -> Result<u64, DocumentError> {
        let id = Revocation::id(principal);
        let wanted = Revocation {
            principal: principal.to_owned(),
            not_before,
        };
        let later = |before: Stored<Revocation>| {
            Ok::<_, DocumentError>(Revocation {
                not_before: not_before.max(before.content.not_before),
                ..before.content
            })
        };
        let stored = if self.documents.find::<Revocation>(ring, &id, deadline).await?.is_some() {
            self.documents.update(ring, &id, None, once, deadline, later).await?
        } else {
            match self.documents.create(ring, &id, &wanted, once.clone(), deadline).await {
                // Somebody else revoked for the same principal meanwhile.
                Err(DocumentError::Store(StoreError::AlreadyExists(_))) => {
                    self.documents.update(ring, &id, None, once, deadline, later).await?
                }
                created => created?,
            }
        };
        let not_before = stored.content.not_before;
        self.revoked
            .insert((ring.clone(), principal.to_owned()), not_before)
            .await;
        Ok(not_before)
    }

    /// Reads what claims to be an ephemeral token of this domain.
    fn claimed(&self, sealed: &[u8]) -> Result<EphemeralToken, EphemeralError> {
        if sealed.len() > LONGEST_TOKEN {
            return Err(EphemeralError::Invalid);
        }
        let (body, _) = KeyToken::split(sealed).map_err(|_| EphemeralError::Invalid)?;
        let token = EphemeralToken::parse(body).map_err(|_| EphemeralError::Invalid)?;
        if token.epoch != self.cluster.domain().epoch {
            return Err(EphemeralError::Invalid);
        }
        Ok(token)
    }

    async fn check(
        &self,
        sealed: &[u8],
        token: EphemeralToken,
        deadline: Instant,
    ) -> Result<EphemeralKey, EphemeralError> {
        let (body, tag) = KeyToken::split(sealed).map_err(|_| EphemeralError::Invalid)?;
        let claim = Claim {
            kind: RecordKind::EphemeralToken,
            message: body.to_vec(),
            tag: tag.to_vec(),
        };
        match self.cluster.check(&[claim], deadline).await?.as_slice() {
            [true] => self.assemble(sealed, token).ok_or(EphemeralError::Invalid),
            _ => Err(EphemeralError::Invalid),
        }
    }

    /// The key of a checked token; `None` if its ring has no valid id.
    fn assemble(&self, sealed: &[u8], token: EphemeralToken) -> Option<EphemeralKey> {
        let uses = self.directory.uses().ephemeral_counter(token.uid);
        assemble(sealed, token, uses)
    }

    /// From when on a principal's keys of a ring are good.
    async fn not_before(&self, ring: &Id, principal: &str, deadline: Instant) -> Result<u64, EphemeralError> {
        let key = (ring.clone(), principal.to_owned());
        if let Some(not_before) = self.revoked.get(&key).await {
            return Ok(not_before);
        }
        // As it is stored now: what is kept here is kept as long as it may stay unseen already.
        let found = self
            .documents
            .find_stored::<Revocation>(ring, &Revocation::id(principal), deadline)
            .await?;
        let presumed = self.store.by(deadline).presumed_revocation(ring, principal).await;
        let presumed = presumed.map_err(DirectoryError::from)?;
        let not_before = found.map_or(0, |found| found.content.not_before).max(presumed);
        // A revocation that was made meanwhile stays: it is later than what was read.
        let entry = self.revoked.entry(key).or_insert(not_before).await;
        Ok(not_before.max(entry.into_value()))
    }
}

/// What an ephemeral key is called in its ring.
pub fn key_name(ring: Id, uid: Uuid) -> Result<KeyName, NameError> {
    Ok(KeyName {
        ring,
        key: Id::parse(&format!("ephemeral-{uid}"))?,
    })
}

/// The record of a checked token; `None` if its ring has no valid id.
fn assemble(sealed: &[u8], token: EphemeralToken, uses: Arc<UseCounter>) -> Option<EphemeralKey> {
    let created = from_micros(token.created)?;
    let name = key_name(Id::parse(&token.ring).ok()?, token.uid).ok()?;
    let profile = KeyProfile {
        key_type: token.key_type,
        uses: token.uses.clone(),
        exportable: token.storage == Storage::Portable,
        last_version: ONLY_VERSION,
        destroy_window: Duration::ZERO,
    };
    let key = KeyRow {
        name,
        uid: token.uid,
        purpose: purpose::of(token.key_type, &token.uses),
        protection: Protection::Wrapped,
        labels: BTreeMap::new(),
        primary_version: ONLY_VERSION,
        created,
        revision: 1,
        profile: Some(profile.clone()),
    };
    let version = VersionRecord {
        row: VersionRow {
            key_uid: token.uid,
            number: ONLY_VERSION,
            state: VersionState::Active,
            members: Vec::new(),
            created,
            revision: 1,
            token: Vec::new(),
            layout: Layout::Two,
            history: History::default(),
        },
        material: Some(Material {
            token: KeyToken {
                version: ONLY_VERSION,
                ..token.key()
            },
            handle: Key::new(sealed.to_vec(), None),
        }),
        restriction: None,
        hold: None,
        uses,
    };
    let record = Arc::new(KeyRecord {
        key,
        profile,
        versions: vec![version],
    });
    Some(EphemeralKey { token, record })
}

const ONLY_VERSION: u32 = 1;
/// More than any token has: an RSA-4096 key, its public half, and names.
const LONGEST_TOKEN: usize = 16 * 1024;

//! What can be asked of the cluster besides the use of keys: generation, destruction, tags. Each operation with its types,
//! over `Cluster::execute`.

use super::{
    attempt::SendToken,
    core::{Errand, MemberIndex, Needs},
    error::ClusterError,
    shell::{Cluster, MemberSlot, lock},
};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation, PermittedUses},
    key_token::{ResidentName, Storage, TokenDigest, token_digest},
    record::{RecordKind, TAG_LENGTH, Tag},
    worker::protocol::{
        self, AuthenticateRows, CheckRecords, DestroyResident, Generate, List, Record, ReplyBody, RequestBody, Unload,
    },
};
use std::{sync::Arc, time::Instant};
use uuid::Uuid;

/// An authenticated key token, as the cluster uses it.
#[derive(Debug, Clone)]
pub struct Key {
    sealed: Arc<[u8]>,
    digest: TokenDigest,
    // The members that hold it, where it is resident.
    only: Option<Vec<MemberIndex>>,
}

/// A result with the member that gave it.
pub type ByMember<T> = Result<(T, MemberIndex), ClusterError>;

/// A key to be made.
#[derive(Debug, Clone)]
pub struct KeySpecification {
    /// Its identity.
    pub uid: Uuid,
    /// The version's number.
    pub version: u32,
    /// What it is.
    pub key_type: KeyType,
    /// What it may do.
    pub uses: PermittedUses,
    /// How its secret half is kept.
    pub storage: Storage,
    /// Which making of the version this is, where it is resident.
    pub making: Option<Uuid>,
}

/// A message with the tag that it should have.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What the message is.
    pub kind: RecordKind,
    /// The message.
    pub message: Vec<u8>,
    /// The tag.
    pub tag: Vec<u8>,
}

impl Key {
    /// A key from its token; `only` names the members that hold it, where it is resident.
    pub fn new(sealed: Vec<u8>, only: Option<Vec<MemberIndex>>) -> Self {
        Self {
            digest: token_digest(&sealed),
            sealed: sealed.into(),
            only,
        }
    }

    pub(super) fn message(&self, token: SendToken) -> protocol::Key {
        protocol::Key {
            digest: self.digest.to_vec(),
            sealed: (token == SendToken::Yes).then(|| self.sealed.to_vec()),
        }
    }

    /// The key with its token: for what is done with the token and not with a loaded key.
    pub(super) fn whole_message(&self) -> protocol::Key {
        self.message(SendToken::Yes)
    }

    /// What the key is known by on members.
    pub(super) fn digest(&self) -> &TokenDigest {
        &self.digest
    }

    pub(super) fn needs(&self, operation: Operation, mechanism: Mechanism) -> Needs {
        Needs {
            uses: vec![(operation, mechanism)],
            generates: None,
            only: self.only.clone(),
        }
    }

    /// The members that hold it, where it is resident.
    pub(super) fn only(&self) -> Option<&[MemberIndex]> {
        self.only.as_deref()
    }
}

impl KeySpecification {
    pub(super) fn message(&self) -> Generate {
        Generate {
            uid: self.uid.as_bytes().to_vec(),
            version: self.version,
            key_type: self.key_type.number().into(),
            uses: self
                .uses
                .iter()
                .map(|one| u32::from(one.operation.number()) << 16 | u32::from(one.mechanism.number()))
                .collect(),
            exportable: self.storage == Storage::Portable,
            making: bytes_of(self.making),
        }
    }

    /// What its objects are called where it is resident.
    pub fn resident_name(&self) -> ResidentName {
        ResidentName {
            uid: self.uid,
            version: self.version,
            making: self.making,
        }
    }

    /// What a member must be able to do with the key.
    pub(super) fn uses(&self) -> Vec<(Operation, Mechanism)> {
        self.uses.iter().map(|one| (one.operation, one.mechanism)).collect()
    }
}

impl Cluster {
    /// Generates a key and returns its token. A resident key is made on `on`, or adopted there if it was made before.
    pub async fn generate(
        self: &Arc<Self>,
        key: &KeySpecification,
        on: Option<MemberIndex>,
        errand: impl Into<Errand>,
    ) -> ByMember<Vec<u8>> {
        self.require_storage(key.storage)?;
        let needs = Needs {
            uses: key.uses(),
            generates: Some(key.key_type),
            only: on.map(|member| vec![member]),
        };
        let body = |_| {
            let generate = key.message();
            match key.storage {
                Storage::Resident => RequestBody::GenerateResident(generate),
                _ => RequestBody::GenerateWrapped(generate),
            }
        };
        bytes(self.execute(&needs, errand, body).await?)
    }

    /// Destroys a resident key on a member; none there is success.
    pub async fn destroy_resident(
        self: &Arc<Self>,
        name: ResidentName,
        on: MemberIndex,
        errand: impl Into<Errand>,
    ) -> Result<(), ClusterError> {
        let needs = Needs {
            only: Some(vec![on]),
            ..Needs::default()
        };
        let body = |_| {
            RequestBody::DestroyResident(DestroyResident {
                uid: name.uid.as_bytes().to_vec(),
                version: name.version,
                making: bytes_of(name.making),
            })
        };
        match self.execute(&needs, errand, body).await? {
            (ReplyBody::Done(_), _) => Ok(()),
            _ => Err(ClusterError::Protocol),
        }
    }

    /// Tells every member to unload a key that is destroyed. A member that does not serve has it not loaded, or loses it with
    /// its worker; one that does not answer in time keeps it until then, and nothing refers to it any more.
    pub async fn unload(&self, key: &Key, deadline: Instant) {
        let workers = |slot: &Arc<MemberSlot>| -> Vec<_> { lock(&slot.workers).values().cloned().collect() };
        for worker in self.slots().iter().flat_map(workers) {
            let unload = RequestBody::Unload(Unload {
                digest: key.digest.to_vec(),
            });
            if let Ok(Ok(ReplyBody::Failure(failure))) =
                tokio::time::timeout_at(deadline.into(), worker.request(unload, None)).await
            {
                tracing::warn!(why = failure.message, "a worker did not unload a key that is destroyed");
            }
        }
    }

    /// Which of these claims are true, in their order.
    pub async fn check(self: &Arc<Self>, claims: &[Claim], deadline: Instant) -> Result<Vec<bool>, ClusterError> {
        let mut verdicts = Vec::with_capacity(claims.len());
        let mut rest = claims;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(fitting(rest));
            verdicts.extend(self.check_at_once(part, deadline).await?);
            rest = after;
        }
        Ok(verdicts)
    }

    async fn check_at_once(
        self: &Arc<Self>,
        claims: &[Claim],
        errand: impl Into<Errand>,
    ) -> Result<Vec<bool>, ClusterError> {
        let body = |_| {
            let record = |claim: &Claim| Record {
                kind: claim.kind as u32,
                message: claim.message.clone(),
                tag: claim.tag.clone(),
            };
            RequestBody::CheckRecords(CheckRecords {
                records: claims.iter().map(record).collect(),
            })
        };
        let List { items } = list(self.execute(&Needs::default(), errand, body).await?.0, claims.len())?;
        Ok(items.iter().map(|item| item == &[1]).collect())
    }

    /// The tags of rows, in their order.
    pub async fn authenticate_rows(
        self: &Arc<Self>,
        rows: Vec<Vec<u8>>,
        errand: impl Into<Errand>,
    ) -> Result<Vec<Tag>, ClusterError> {
        let body = |_| RequestBody::AuthenticateRows(AuthenticateRows { rows: rows.clone() });
        let List { items } = list(self.execute(&Needs::default(), errand, body).await?.0, rows.len())?;
        items
            .into_iter()
            .map(|tag| <[u8; TAG_LENGTH]>::try_from(tag).map_err(|_| ClusterError::Protocol))
            .collect()
    }
}

fn bytes_of(making: Option<Uuid>) -> Vec<u8> {
    making.map(|making| making.as_bytes().to_vec()).unwrap_or_default()
}

/// How many of some claims, at least one, are checked at once: together they fit a frame several times.
fn fitting(claims: &[Claim]) -> usize {
    let mut bytes = 0;
    let fits = |claim: &&Claim| {
        bytes += claim.message.len();
        bytes <= CLAIM_BYTES_AT_ONCE
    };
    claims.iter().take(CLAIMS_AT_ONCE).take_while(fits).count().max(1)
}

const CLAIMS_AT_ONCE: usize = 64;
const CLAIM_BYTES_AT_ONCE: usize = 2 * 1024 * 1024;

pub(super) fn bytes((reply, member): (ReplyBody, MemberIndex)) -> ByMember<Vec<u8>> {
    match reply {
        ReplyBody::Bytes(bytes) => Ok((bytes, member)),
        _ => Err(ClusterError::Protocol),
    }
}

fn list(reply: ReplyBody, expected: usize) -> Result<List, ClusterError> {
    match reply {
        ReplyBody::List(list) if list.items.len() == expected => Ok(list),
        _ => Err(ClusterError::Protocol),
    }
}

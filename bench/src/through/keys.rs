//! The keys that a measurement makes, uses and destroys again.

use crate::{error::Error, operation::Operation};
use portcullis_client::{
    Client, Code,
    v1::{
        CreateKeyRequest, CreateKeyRingRequest, Key, KeyOperation, KeyProtection, KeyPurpose, ListKeysRequest,
        Mechanism, PermittedUse, ScheduleKeyVersionDestructionRequest,
    },
};
use portcullis_hsm::algorithm::KeyType;
use std::collections::BTreeMap;
use tokio::task::JoinSet;
use uuid::Uuid;

/// A key ring with the keys of one measurement, which its label tells.
#[derive(Clone)]
pub(crate) struct Keys {
    client: Client,
    ring: String,
    label: String,
}

/// What became of the keys.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// How many are scheduled for destruction.
    pub scheduled: usize,
    /// Those that could not be, with the reason.
    pub left: Vec<String>,
}

impl Cleaned {
    /// Nothing is known of any key.
    pub(crate) fn failed(error: Error) -> Self {
        Self {
            scheduled: 0,
            left: vec![format!("keys that could not be listed ({error})")],
        }
    }

    /// One sentence, or two.
    pub(crate) fn text(&self) -> String {
        let scheduled = format!("Keys made for this and scheduled for destruction: {}.", self.scheduled);
        match self.left.first() {
            None => scheduled,
            Some(first) => format!("{scheduled} {} were left, such as {first}.", self.left.len()),
        }
    }
}

impl Keys {
    /// Takes the ring, and makes it if there is none of that name.
    pub(crate) async fn in_ring(client: &Client, ring: &str) -> Result<Self, Error> {
        let request = CreateKeyRingRequest {
            key_ring_id: ring.to_owned(),
            request_id: Uuid::now_v7().to_string(),
            ..CreateKeyRingRequest::default()
        };
        match client.keys().create_key_ring(request).await {
            Ok(_) => {}
            Err(status) if status.code() == Code::AlreadyExists => {}
            Err(status) => return Err(status.into()),
        }
        Ok(Self {
            client: client.clone(),
            ring: ring.to_owned(),
            label: format!("run-{}", Uuid::now_v7().simple()),
        })
    }

    /// What all keys of this measurement are labelled with.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The request that makes a key for an operation.
    pub(crate) fn creation(&self, operation: Operation) -> CreateKeyRequest {
        let key_type = operation.key_type();
        // SoftHSM2 does not wrap Ed25519 keys, and where it can be wrapped it is as fast.
        let resident = key_type == KeyType::Ed25519;
        let protection = if resident {
            KeyProtection::Resident
        } else {
            KeyProtection::Wrapped
        };
        let rsa = matches!(key_type, KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096);
        CreateKeyRequest {
            parent: format!("keyRings/{}", self.ring),
            key_id: format!("{}-{}", operation.word(), Uuid::now_v7().simple()),
            key: Some(Key {
                r#type: key_type.number().into(),
                purpose: if rsa { KeyPurpose::Custom as i32 } else { 0 },
                permitted_uses: if rsa { vec![RSA_USE] } else { Vec::new() },
                protection: protection as i32,
                labels: BTreeMap::from([(LABEL.to_owned(), self.label.clone())]),
                ..Key::default()
            }),
            allow_single_replica: resident,
            request_id: Uuid::now_v7().to_string(),
            ..CreateKeyRequest::default()
        }
    }

    /// Makes a key for an operation; returns its name.
    pub(crate) async fn create(&self, operation: Operation) -> Result<String, Error> {
        let created = self.client.keys().create_key(self.creation(operation)).await?;
        Ok(created.into_inner().name)
    }

    /// Makes so many keys; returns their names.
    pub(crate) async fn create_many(&self, operation: Operation, count: usize) -> Result<Vec<String>, Error> {
        let mut names = Vec::with_capacity(count);
        let mut tasks = JoinSet::new();
        let mut begun = 0;
        while names.len() < count {
            while begun < count && tasks.len() < AT_ONCE {
                let keys = self.clone();
                tasks.spawn(async move { keys.create(operation).await });
                begun += 1;
            }
            match tasks.join_next().await {
                Some(Ok(name)) => names.push(name?),
                Some(Err(_)) | None => break,
            }
        }
        Ok(names)
    }

    /// Schedules the destruction of every key that has this measurement's label, for as soon as the gateway permits.
    ///
    /// Looks again until it finds no more: what was being made when the measurement was interrupted is there a moment later.
    pub(crate) async fn destroy(&self) -> Result<Cleaned, Error> {
        let mut cleaned = Cleaned::default();
        loop {
            let before = cleaned.scheduled;
            cleaned.left.clear();
            self.destroy_listed(&mut cleaned).await?;
            if cleaned.scheduled == before {
                return Ok(cleaned);
            }
        }
    }

    async fn destroy_listed(&self, cleaned: &mut Cleaned) -> Result<(), Error> {
        let mut page_token = String::new();
        loop {
            let request = ListKeysRequest {
                parent: format!("keyRings/{}", self.ring),
                page_size: 1000,
                page_token,
                filter: format!("labels.{LABEL}={} AND state=ACTIVE", self.label),
                with_versions: false,
            };
            let page = self.client.keys().list_keys(request).await?.into_inner();
            self.destroy_all(page.keys, cleaned).await;
            if page.next_page_token.is_empty() {
                return Ok(());
            }
            page_token = page.next_page_token;
        }
    }

    async fn destroy_all(&self, keys: Vec<Key>, cleaned: &mut Cleaned) {
        let mut tasks = JoinSet::new();
        let mut keys = keys.into_iter();
        loop {
            while tasks.len() < AT_ONCE
                && let Some(key) = keys.next()
            {
                tasks.spawn(schedule(self.client.clone(), key.name));
            }
            match tasks.join_next().await {
                None => return,
                Some(Ok(Ok(()))) => cleaned.scheduled += 1,
                Some(Ok(Err(left))) => cleaned.left.push(left),
                Some(Err(error)) => cleaned.left.push(error.to_string()),
            }
        }
    }
}

/// With the shortest window that is permitted: a second on a development gateway, else the ring's own.
async fn schedule(client: Client, key: String) -> Result<(), String> {
    let name = format!("{key}/versions/1");
    let mut last = None;
    for seconds in [Some(1), Some(DAY), None] {
        let request = ScheduleKeyVersionDestructionRequest {
            name: name.clone(),
            reason: "a measurement has ended".to_owned(),
            window: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            request_id: Uuid::now_v7().to_string(),
            ..ScheduleKeyVersionDestructionRequest::default()
        };
        match client.keys().schedule_key_version_destruction(request).await {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == Code::InvalidArgument => last = Some(status),
            Err(status) => return Err(format!("{key}: {}", status.message())),
        }
    }
    let message = last.as_ref().map_or("no window fits", |status| status.message());
    Err(format!("{key}: {message}"))
}

/// The label that marks keys of measurements.
pub(crate) const LABEL: &str = "portcullis-bench";

const RSA_USE: PermittedUse = PermittedUse {
    operation: KeyOperation::Sign as i32,
    mechanism: Mechanism::RsaPkcs1Sha256 as i32,
};
const AT_ONCE: usize = 16;
const DAY: i64 = 24 * 60 * 60;

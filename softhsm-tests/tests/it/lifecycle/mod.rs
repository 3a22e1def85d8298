//! Versions, states, rotation, destruction, aliases, use counts.

mod aliases;
mod counts;
mod destruction;
mod many;
mod moving;
mod restriction;
mod rotation;
mod states;
mod updates;

use portcullis_client::{
    Client, Status,
    v1::{
        ChangeKeyVersionStateRequest, CreateKeyRequest, GetKeyVersionRequest, Key, KeyVersion, KeyVersionState,
        ScheduleKeyVersionDestructionRequest,
    },
};
use portcullis_softhsm_tests::{KeySpec, LONG, key_request};
use prost_types::Duration;
use std::time::Instant;

/// What can be done to a version's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Activate,
    Disable,
    Enable,
    Deactivate,
    MarkCompromised,
    ScheduleDestruction,
    CancelDestruction,
}

const VERBS: [Verb; 7] = [
    Verb::Activate,
    Verb::Disable,
    Verb::Enable,
    Verb::Deactivate,
    Verb::MarkCompromised,
    Verb::ScheduleDestruction,
    Verb::CancelDestruction,
];

fn state_request(version: &str) -> ChangeKeyVersionStateRequest {
    ChangeKeyVersionStateRequest {
        name: version.to_owned(),
        reason: "a test wants it".to_owned(),
        ..Default::default()
    }
}

/// Does something to a version. A destruction waits long enough not to happen.
async fn apply(client: &Client, version: &str, verb: Verb) -> Result<KeyVersion, Status> {
    let (mut keys, request) = (client.keys(), state_request(version));
    let answer = match verb {
        Verb::Activate => keys.activate_key_version(request).await?,
        Verb::Disable => keys.disable_key_version(request).await?,
        Verb::Enable => keys.enable_key_version(request).await?,
        Verb::Deactivate => keys.deactivate_key_version(request).await?,
        Verb::MarkCompromised => keys.mark_key_version_compromised(request).await?,
        Verb::ScheduleDestruction => return schedule(client, version, 3600).await,
        Verb::CancelDestruction => keys.cancel_key_version_destruction(request).await?,
    };
    Ok(answer.into_inner())
}

async fn schedule(client: &Client, version: &str, seconds: i64) -> Result<KeyVersion, Status> {
    let request = ScheduleKeyVersionDestructionRequest {
        name: version.to_owned(),
        reason: "no longer needed".to_owned(),
        window: Some(Duration { seconds, nanos: 0 }),
        ..Default::default()
    };
    Ok(client
        .keys()
        .schedule_key_version_destruction(request)
        .await?
        .into_inner())
}

async fn version(client: &Client, name: &str) -> KeyVersion {
    let request = GetKeyVersionRequest { name: name.to_owned() };
    let answer = client.keys().get_key_version(request).await;
    answer
        .unwrap_or_else(|status| panic!("{name}: {status:?}"))
        .into_inner()
}

/// Waits until a version is in a state.
async fn wait_for_state(client: &Client, name: &str, state: KeyVersionState) -> KeyVersion {
    let end = Instant::now() + LONG;
    loop {
        let found = version(client, name).await;
        if found.state() == state {
            return found;
        }
        assert!(Instant::now() < end, "{name} is still {:?}", found.state());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Destroys a version and waits until that is confirmed.
async fn destroy(client: &Client, name: &str) -> KeyVersion {
    schedule(client, name, 1).await.expect("scheduled");
    wait_for_state(client, name, KeyVersionState::Destroyed).await
}

/// Creates a key whose first version is in a state.
async fn key_in(client: &Client, ring: &str, id: &str, spec: KeySpec, state: KeyVersionState) -> Key {
    let request = CreateKeyRequest {
        pre_active: state == KeyVersionState::PreActive,
        import_only: state == KeyVersionState::PendingImport,
        ..key_request(ring, id, spec)
    };
    let key = client.keys().create_key(request).await.expect("a key").into_inner();
    let first = format!("{}/versions/1", key.name);
    let verb = match state {
        KeyVersionState::Disabled => Verb::Disable,
        KeyVersionState::Deactivated => Verb::Deactivate,
        KeyVersionState::Compromised => Verb::MarkCompromised,
        KeyVersionState::DestroyScheduled => Verb::ScheduleDestruction,
        KeyVersionState::Destroyed => {
            destroy(client, &first).await;
            return key;
        }
        _ => return key,
    };
    apply(client, &first, verb).await.expect("the state");
    key
}

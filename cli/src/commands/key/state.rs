//! The state of a version, and its end.

use crate::{
    arguments::{DestroyArguments, ReasonArguments, StateVerb},
    commands::change::{Change, period},
    console::Console,
    document,
    failure::{Exit, Failure},
    name::VersionName,
    words::word,
};
use portcullis_client::{
    Client, Status,
    v1::{ChangeKeyVersionStateRequest, KeyVersion, KeyVersionState, ScheduleKeyVersionDestructionRequest},
};

/// `portcullis key state`.
pub(super) async fn change(
    client: &Client,
    console: Console,
    version: &VersionName,
    verb: StateVerb,
    why: &ReasonArguments,
) -> Result<Exit, Failure> {
    let change = Change::from(&why.update);
    let request = ChangeKeyVersionStateRequest {
        name: version.to_string(),
        reason: why.reason.clone(),
        etag: change.etag.clone(),
        request_id: change.request_id(),
        validate_only: change.validate_only,
    };
    let changed = call(client, verb, request).await.map_err(change.failed())?;
    let text = change.outcome(|| format!("{} is {}", changed.name, state_word(&changed)));
    console.result(&text, &document::version(&changed))?;
    Ok(Exit::Done)
}

/// `portcullis key destroy`.
pub(super) async fn destroy(client: &Client, console: Console, arguments: &DestroyArguments) -> Result<Exit, Failure> {
    let change = Change::from(&arguments.why.update);
    let request = ScheduleKeyVersionDestructionRequest {
        name: arguments.version.to_string(),
        reason: arguments.why.reason.clone(),
        etag: change.etag.clone(),
        window: arguments.window.map(period),
        request_id: change.request_id(),
        validate_only: change.validate_only,
    };
    let answer = client.keys().schedule_key_version_destruction(request).await;
    let scheduled = answer.map_err(change.failed())?.into_inner();
    let is_waiting = scheduled.state() == KeyVersionState::DestroyScheduled;
    let text = change.outcome(|| match scheduled.destroy_time {
        Some(time) if is_waiting => format!("{} will be destroyed at {time}", scheduled.name),
        _ => format!("{} is {}", scheduled.name, state_word(&scheduled)),
    });
    console.result(&text, &document::version(&scheduled))?;
    if is_waiting && !change.validate_only {
        console.note(&format!(
            "it is not used any more; `portcullis key restore {}` calls the destruction off",
            arguments.version.short()
        ));
    }
    Ok(Exit::Done)
}

/// `portcullis key restore`.
pub(super) async fn restore(
    client: &Client,
    console: Console,
    version: &VersionName,
    why: &ReasonArguments,
) -> Result<Exit, Failure> {
    change(client, console, version, StateVerb::CancelDestruction, why).await?;
    if !why.update.change.validate_only {
        console.note(&format!(
            "it is kept; `portcullis key state {} enable` takes it into use again",
            version.short()
        ));
    }
    Ok(Exit::Done)
}

/// The call of each verb.
async fn call(client: &Client, verb: StateVerb, request: ChangeKeyVersionStateRequest) -> Result<KeyVersion, Status> {
    let mut keys = client.keys();
    let answer = match verb {
        StateVerb::Activate => keys.activate_key_version(request).await,
        StateVerb::Disable => keys.disable_key_version(request).await,
        StateVerb::Enable => keys.enable_key_version(request).await,
        StateVerb::Deactivate => keys.deactivate_key_version(request).await,
        StateVerb::MarkCompromised => keys.mark_key_version_compromised(request).await,
        StateVerb::CancelDestruction => keys.cancel_key_version_destruction(request).await,
    };
    Ok(answer?.into_inner())
}

fn state_word(version: &KeyVersion) -> String {
    word::<KeyVersionState>(version.state)
}

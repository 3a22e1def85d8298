//! Key versions and the verbs that move them through their life.

use crate::{
    api::{
        ApiError, Reason,
        call::Call,
        changing::terms,
        convert,
        justification::Justification,
        listing::{List, page_size},
        lookup::{Trust, find_key, find_key_with, find_version, version_named},
    },
    audit::Details,
    keys::{
        change::Terms,
        filter::VersionFilter,
        life::Move,
        name::{KeyName, KeyOrVersionName},
        state::Verb,
    },
    policy::Circumstances,
};
use portcullis_proto::v1;
use std::{sync::Arc, time::Duration};

pub(super) async fn get(call: &mut Call, request: v1::GetKeyVersionRequest) -> Result<v1::KeyVersion, ApiError> {
    let (name, number) = named(&version_named(call, &request.name).await?)?;
    let record = find_key(call, &name).await?;
    call.finds(name.version(number));
    call.authorise_key(
        record.facts(),
        Circumstances::about_version(number == record.key.primary_version),
    )?;
    let version = find_version(&record, Some(number))?;
    let directory = Arc::clone(&call.gateway().directory);
    let count = directory.uses().total(&version.uses, call.deadline()).await?;
    Ok(v1::KeyVersion {
        use_count: Some(count),
        ..convert::version(&record, version)
    })
}

pub(super) async fn list(
    call: &mut Call,
    request: v1::ListKeyVersionsRequest,
) -> Result<v1::ListKeyVersionsResponse, ApiError> {
    let name = KeyName::parse(&request.parent)?;
    call.names(name.to_string());
    let record = find_key(call, &name).await?;
    call.authorise_key(record.facts(), Circumstances::NONE)?;
    let filter = VersionFilter::parse(&request.filter).map_err(|error| ApiError::field("filter", error))?;
    let list = List::of(call, "versions", &request.parent, &request.filter);
    let after = match list.read_token(&request.page_token)? {
        None => 0,
        Some(last) => last
            .try_into()
            .map(u32::from_be_bytes)
            .map_err(|_| ApiError::field("page_token", "it is not the next_page_token of such a list"))?,
    };
    let limit = page_size(request.page_size)? as usize;
    let mut passing = record
        .versions
        .iter()
        .filter(|version| version.row.number > after && filter.passes(version));
    let page: Vec<_> = passing.by_ref().take(limit).collect();
    let next = passing.next().and(page.last());
    Ok(v1::ListKeyVersionsResponse {
        next_page_token: list.next(next.map(|last| last.row.number.to_be_bytes().to_vec()))?,
        versions: page
            .into_iter()
            .map(|version| convert::version(&record, version))
            .collect(),
    })
}

pub(super) async fn change_state(
    call: &mut Call,
    verb: Verb,
    request: v1::ChangeKeyVersionStateRequest,
) -> Result<v1::KeyVersion, ApiError> {
    let terms = terms(
        call,
        &request.etag,
        &request.request_id,
        request.validate_only,
        &request,
    )?;
    move_version(
        call,
        &request.name,
        verb,
        request.reason,
        None,
        terms,
        request.validate_only,
    )
    .await
}

pub(super) async fn schedule_destruction(
    call: &mut Call,
    request: v1::ScheduleKeyVersionDestructionRequest,
) -> Result<v1::KeyVersion, ApiError> {
    let terms = terms(
        call,
        &request.etag,
        &request.request_id,
        request.validate_only,
        &request,
    )?;
    let window = request
        .window
        .map(|window| convert::duration("window", window))
        .transpose()?;
    let verb = Verb::ScheduleDestruction;
    move_version(
        call,
        &request.name,
        verb,
        request.reason,
        window,
        terms,
        request.validate_only,
    )
    .await
}

async fn move_version(
    call: &mut Call,
    name: &str,
    verb: Verb,
    reason: String,
    window: Option<Duration>,
    terms: Terms,
    validate_only: bool,
) -> Result<v1::KeyVersion, ApiError> {
    // A change is made by the version's own name: an alias may be pointed elsewhere meanwhile.
    let (name, number) = named(&KeyOrVersionName::parse(name)?)?;
    call.names(name.version(number));
    let reason = Justification::read("reason", &reason)?;
    let trust = if verb.only_restricts() {
        Trust::AnythingWithoutHsm
    } else {
        Trust::Checked
    };
    let record = find_key_with(call, &name, trust).await?;
    call.authorise_key(
        record.facts(),
        Circumstances::about_version(number == record.key.primary_version),
    )?;
    call.note_reason(&reason);
    let before = find_version(&record, Some(number))?.state();
    call.note_details(Details::Life {
        before: before.name(),
        state: None,
        destroy_time: None,
        compromise_time: None,
    });
    let gateway = Arc::clone(call.gateway());
    if !validate_only {
        call.intend().await?;
    }
    let wanted = Move {
        key: name,
        number,
        verb,
        reason: reason.as_str().to_owned(),
        window,
    };
    let changed = gateway.changes.move_version(wanted, terms, gateway.windows).await?;
    let version = find_version(&changed, Some(number))?;
    let history = version.folded().history;
    call.note_details(Details::Life {
        before: before.name(),
        state: Some(version.state().name()),
        destroy_time: history.destroy.and_then(convert::text_time),
        compromise_time: history.compromised.and_then(convert::text_time),
    });
    Ok(convert::version(&changed, version))
}

fn named(name: &KeyOrVersionName) -> Result<(KeyName, u32), ApiError> {
    match name.version {
        Some(number) => Ok((name.key.clone(), number)),
        None => Err(ApiError::new(
            Reason::InvalidName,
            "expected the name of a version, found that of a key",
        )),
    }
}

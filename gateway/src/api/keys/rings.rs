//! Key rings.

use crate::{
    api::{
        ApiError,
        call::Call,
        changing::{LabelChange, once, paths, terms, unknown_path},
        convert,
        listing::{Gathering, List, page_size},
    },
    audit::Details,
    keys::name::{Id, KeyRingName},
    policy::{Action, Circumstances, Resource},
};
use portcullis_proto::v1;
use std::{collections::BTreeMap, sync::Arc};

pub(super) async fn create(call: &mut Call, request: v1::CreateKeyRingRequest) -> Result<v1::KeyRing, ApiError> {
    let id = Id::parse(&request.key_ring_id)?;
    call.names(format!("keyRings/{id}"));
    call.authorise_ring(&id, Circumstances::NONE)?;
    let once = once(call, &request.request_id, &request)?;
    call.note_check_only(request.validate_only);
    let ring = request.key_ring.unwrap_or_default();
    let labels = convert::labels(ring.labels)?;
    let gateway = Arc::clone(call.gateway());
    let windows = gateway.windows;
    let least = match ring.least_destroy_window {
        None => windows.least,
        Some(duration) => {
            let least = convert::duration("key_ring.least_destroy_window", duration)?;
            windows.check(least, windows.least)?;
            least
        }
    };
    call.note_details(Details::KeyRing {
        labels: labels.clone(),
        least_destroy_window: Some(least.as_secs()),
    });
    if request.validate_only {
        gateway
            .creation
            .validate_ring(&id, once.as_ref(), call.deadline())
            .await?;
        return Ok(v1::KeyRing {
            name: format!("keyRings/{id}"),
            labels,
            least_destroy_window: Some(convert::to_duration(least)),
            ..v1::KeyRing::default()
        });
    }
    call.intend().await?;
    let row = gateway.creation.ring(&id, labels, least, once, call.deadline()).await?;
    Ok(convert::ring(&row))
}

pub(super) async fn get(call: &mut Call, request: v1::GetKeyRingRequest) -> Result<v1::KeyRing, ApiError> {
    let KeyRingName(id) = KeyRingName::parse(&request.name)?;
    call.names(request.name);
    call.authorise_ring(&id, Circumstances::NONE)?;
    let directory = Arc::clone(&call.gateway().directory);
    Ok(convert::ring(&*directory.ring(&id, call.deadline()).await?))
}

pub(super) async fn list(
    call: &mut Call,
    request: v1::ListKeyRingsRequest,
) -> Result<v1::ListKeyRingsResponse, ApiError> {
    call.names("keyRings");
    call.authorise_list()?;
    let list = List::of(call, "keyRings", "", "");
    let after = list.read_token(&request.page_token)?;
    let directory = Arc::clone(&call.gateway().directory);
    let may_read = |ring: &Id| call.may(Action::ReadKeyRing, Resource::KeyRing(ring));
    let mut page = Gathering::new("keyRings/".to_owned(), after, page_size(request.page_size)?, true);
    while let Some((after, limit)) = page.wanted() {
        let mut piece = directory.rings(after, limit, call.deadline()).await?;
        call.charge(piece.found.len());
        piece
            .unauthentic
            .retain(|name| KeyRingName::parse(name).is_ok_and(|ring| may_read(&ring.0)));
        page.take(
            piece,
            |ring| ring.id.as_str(),
            |ring| may_read(&ring.id).then(|| convert::ring(ring)),
        );
    }
    let (key_rings, unauthentic, next) = page.end();
    Ok(v1::ListKeyRingsResponse {
        key_rings,
        next_page_token: list.next(next)?,
        unauthentic,
    })
}

pub(super) async fn update(call: &mut Call, request: v1::UpdateKeyRingRequest) -> Result<v1::KeyRing, ApiError> {
    let ring = request.key_ring.clone().ok_or_else(|| ApiError::missing("key_ring"))?;
    let KeyRingName(id) = KeyRingName::parse(&ring.name)?;
    call.names(&ring.name);
    call.authorise_ring(&id, Circumstances::NONE)?;
    let terms = terms(call, &ring.etag, &request.request_id, request.validate_only, &request)?;
    let mut change = LabelChange::default();
    for path in paths(request.update_mask)? {
        if !change.take(&path, &ring.labels) {
            return Err(unknown_path(&path, "labels or labels.{name}"));
        }
    }
    change.check()?;
    let gateway = Arc::clone(call.gateway());
    let mut labels = gateway.directory.ring(&id, call.deadline()).await?.labels.clone();
    if change.clone().apply(&mut labels).is_ok() {
        call.note_details(details(labels));
    }
    if !request.validate_only {
        call.intend().await?;
    }
    let row = gateway
        .changes
        .update_ring(&id, terms, |labels| change.apply(labels))
        .await?;
    call.note_details(details(row.labels.clone()));
    Ok(convert::ring(&row))
}

fn details(labels: BTreeMap<String, String>) -> Details {
    Details::KeyRing {
        labels,
        least_destroy_window: None,
    }
}

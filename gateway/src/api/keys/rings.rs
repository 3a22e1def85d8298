//! Key rings.

use crate::{
    api::{
        ApiError,
        call::Call,
        changing::{LabelChange, once, paths, terms, unknown_path},
        convert,
        listing::{List, page_size},
    },
    keys::name::{Id, KeyRingName},
    policy::{Action, Resource},
};
use portcullis_proto::v1;
use std::sync::Arc;

pub(super) async fn create(call: &mut Call, request: v1::CreateKeyRingRequest) -> Result<v1::KeyRing, ApiError> {
    let id = Id::parse(&request.key_ring_id)?;
    call.authorise_ring(format!("keyRings/{id}"), &id)?;
    let once = once(call, &request.request_id, &request)?;
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
    call.authorise_ring(request.name, &id)?;
    let directory = Arc::clone(&call.gateway().directory);
    Ok(convert::ring(&directory.ring(&id, call.deadline()).await?))
}

pub(super) async fn list(
    call: &mut Call,
    request: v1::ListKeyRingsRequest,
) -> Result<v1::ListKeyRingsResponse, ApiError> {
    call.authorise_list("keyRings")?;
    let list = List {
        kind: "keyRings",
        parent: "",
        filter: "",
    };
    let after = list.read_token(&request.page_token)?;
    let limit = page_size(request.page_size)?;
    let gateway = Arc::clone(call.gateway());
    let page = gateway
        .directory
        .rings(after.as_deref(), limit, call.deadline())
        .await?;
    // The rings that the caller may read, of those on the page.
    let may_read_ring = |ring: &Id| call.may(Action::ReadKeyRing, Resource::KeyRing(ring));
    let may_read = |name: &str| KeyRingName::parse(name).is_ok_and(|ring| may_read_ring(&ring.0));
    Ok(v1::ListKeyRingsResponse {
        key_rings: page
            .found
            .iter()
            .filter(|ring| may_read_ring(&ring.id))
            .map(convert::ring)
            .collect(),
        next_page_token: page.next.map(|id| list.token(&id)).unwrap_or_default(),
        unauthentic: page.unauthentic.into_iter().filter(|name| may_read(name)).collect(),
    })
}

pub(super) async fn update(call: &mut Call, request: v1::UpdateKeyRingRequest) -> Result<v1::KeyRing, ApiError> {
    let ring = request.key_ring.clone().ok_or_else(|| ApiError::missing("key_ring"))?;
    let KeyRingName(id) = KeyRingName::parse(&ring.name)?;
    call.authorise_ring(ring.name.clone(), &id)?;
    let terms = terms(call, &ring.etag, &request.request_id, request.validate_only, &request)?;
    let mut change = LabelChange::default();
    for path in paths(request.update_mask)? {
        if !change.take(&path, &ring.labels) {
            return Err(unknown_path(&path, "labels or labels.{name}"));
        }
    }
    change.check()?;
    let gateway = Arc::clone(call.gateway());
    if !request.validate_only {
        call.intend().await?;
    }
    let row = gateway
        .changes
        .update_ring(&id, terms, |labels| change.apply(labels))
        .await?;
    Ok(convert::ring(&row))
}

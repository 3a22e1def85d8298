//! Aliases.

use crate::{
    api::{
        ApiError,
        call::Call,
        changing::{once, paths, ring_of, terms, unknown_path},
        convert,
        listing::{List, page_size},
        lookup::{find_key, find_version},
    },
    keys::{
        alias::Alias,
        document::{DocumentError, Stored},
        name::{AliasName, Id, KeyOrVersionName},
    },
};
use portcullis_proto::v1;
use std::sync::Arc;

pub(super) async fn create(call: &mut Call, request: v1::CreateAliasRequest) -> Result<v1::Alias, ApiError> {
    let name = AliasName {
        ring: ring_of(&request.parent)?,
        alias: Id::parse(&request.alias_id)?,
    };
    call.authorise_ring(name.to_string(), &name.ring)?;
    let once = once(call, &request.request_id, &request)?;
    let wanted = request.alias.unwrap_or_default().target;
    let alias = target(call, &name.ring, &wanted).await?;
    let gateway = Arc::clone(call.gateway());
    gateway.directory.ring(&name.ring, call.deadline()).await?;
    if request.validate_only {
        let found = gateway
            .documents
            .find::<Alias>(&name.ring, name.alias.as_str(), call.deadline())
            .await?;
        if found.is_some() && !gateway.documents.is_repetition(once.as_ref(), call.deadline()).await? {
            return Err(ApiError::already_exists(name.to_string()));
        }
        return Ok(v1::Alias {
            name: name.to_string(),
            target: wanted,
            ..v1::Alias::default()
        });
    }
    call.intend().await?;
    let made = gateway
        .documents
        .create(&name.ring, name.alias.as_str(), &alias, once, call.deadline())
        .await?;
    Ok(shown(&name.ring, &made))
}

pub(super) async fn update(call: &mut Call, request: v1::UpdateAliasRequest) -> Result<v1::Alias, ApiError> {
    let alias = request.alias.clone().ok_or_else(|| ApiError::missing("alias"))?;
    let name = AliasName::parse(&alias.name)?;
    call.authorise_ring(name.to_string(), &name.ring)?;
    let terms = terms(call, &alias.etag, &request.request_id, request.validate_only, &request)?;
    for path in paths(request.update_mask)? {
        if path != "target" {
            return Err(unknown_path(&path, "target"));
        }
    }
    let wanted = target(call, &name.ring, &alias.target).await?;
    let documents = Arc::clone(&call.gateway().documents);
    if request.validate_only {
        let found = documents
            .find::<Alias>(&name.ring, name.alias.as_str(), call.deadline())
            .await?;
        let found = found.ok_or_else(|| DocumentError::Missing(name.to_string()))?;
        if terms.expected.is_some_and(|expected| expected != found.revision) {
            return Err(DocumentError::Stale(name.to_string()).into());
        }
        return Ok(shown(
            &name.ring,
            &Stored {
                content: wanted,
                ..found
            },
        ));
    }
    call.intend().await?;
    let changed: Result<_, DocumentError> = documents
        .update(
            &name.ring,
            name.alias.as_str(),
            terms.expected,
            terms.once,
            terms.deadline,
            |_: Stored<Alias>| Ok(wanted),
        )
        .await;
    Ok(shown(&name.ring, &changed?))
}

pub(super) async fn delete(
    call: &mut Call,
    request: v1::DeleteAliasRequest,
) -> Result<v1::DeleteAliasResponse, ApiError> {
    let name = AliasName::parse(&request.name)?;
    call.authorise_ring(name.to_string(), &name.ring)?;
    let terms = terms(
        call,
        &request.etag,
        &request.request_id,
        request.validate_only,
        &request,
    )?;
    let documents = Arc::clone(&call.gateway().documents);
    if request.validate_only {
        let found = documents
            .find::<Alias>(&name.ring, name.alias.as_str(), call.deadline())
            .await?;
        found.ok_or_else(|| DocumentError::Missing(name.to_string()))?;
        return Ok(v1::DeleteAliasResponse {});
    }
    call.intend().await?;
    documents
        .delete::<Alias>(
            &name.ring,
            name.alias.as_str(),
            terms.expected,
            terms.once,
            terms.deadline,
        )
        .await?;
    Ok(v1::DeleteAliasResponse {})
}

pub(super) async fn list(
    call: &mut Call,
    request: v1::ListAliasesRequest,
) -> Result<v1::ListAliasesResponse, ApiError> {
    let ring = ring_of(&request.parent)?;
    call.authorise_ring(format!("keyRings/{ring}/aliases"), &ring)?;
    let list = List::of(call, "aliases", &request.parent, "");
    let after = list.read_token(&request.page_token)?;
    let limit = page_size(request.page_size)?;
    let gateway = Arc::clone(call.gateway());
    gateway.directory.ring(&ring, call.deadline()).await?;
    let page = gateway
        .documents
        .list::<Alias>(&ring, after.as_deref(), limit, call.deadline())
        .await?;
    call.charge(page.found.len());
    Ok(v1::ListAliasesResponse {
        aliases: page.found.iter().map(|alias| shown(&ring, alias)).collect(),
        next_page_token: list.next(page.next)?,
        unauthentic: page.unauthentic,
    })
}

/// What an alias of a ring shall stand for: a key of the ring, or a version of one, that exists.
async fn target(call: &mut Call, ring: &Id, wanted: &str) -> Result<Alias, ApiError> {
    let name = KeyOrVersionName::parse(wanted)?;
    if name.key.ring != *ring {
        return Err(ApiError::field(
            "alias.target",
            format!("expected a key of keyRings/{ring}, found {name}"),
        ));
    }
    let record = find_key(call, &name.key).await?;
    find_version(&record, name.version)?;
    Ok(Alias {
        key: name.key.key.to_string(),
        version: name.version,
    })
}

fn shown(ring: &Id, alias: &Stored<Alias>) -> v1::Alias {
    v1::Alias {
        name: format!("keyRings/{ring}/aliases/{}", alias.id),
        target: alias
            .content
            .target(ring)
            .map(|target| target.to_string())
            .unwrap_or_default(),
        etag: alias.revision.to_string(),
        create_time: Some(convert::timestamp(alias.created)),
        update_time: Some(convert::timestamp(alias.updated)),
    }
}

//! Aliases.
//!
//! Who points an alias elsewhere decides which key its users reach: the policy is asked about the ring, and about each key that
//! the alias stands for, before and after.

use crate::{
    api::{
        ApiError,
        call::{Call, Second},
        changing::{paths, ring_of, terms, unknown_path},
        convert,
        documents::{self, Current, Made},
        in_ring::InRing,
        lookup::{find_second_key, find_version},
    },
    audit::Details,
    keys::{
        alias::Alias,
        directory::{DirectoryError, KeyRecord},
        document::Stored,
        name::{AliasName, Id, KeyOrVersionName},
    },
    policy::{Action, Circumstances, Resource},
};
use portcullis_proto::v1;
use std::sync::Arc;

pub(super) async fn create(call: &mut Call, request: v1::CreateAliasRequest) -> Result<v1::Alias, ApiError> {
    let name = InRing::new::<Alias>(ring_of(&request.parent)?, Id::parse(&request.alias_id)?);
    call.names(name.to_string());
    call.authorise_ring(&name.ring, Circumstances::NONE)?;
    let terms = terms(call, "", &request.request_id, request.validate_only, &request)?;
    let wanted = request.alias.unwrap_or_default().target;
    let alias = target(call, &name.ring, &wanted).await?;
    let details = Details::Alias {
        target: Some(wanted.clone()),
        before: None,
    };
    match documents::create(call, &name, alias, terms, details).await? {
        Made::Stored(made) => Ok(shown(&name.ring, &made)),
        Made::Planned(_) => Ok(v1::Alias {
            name: name.to_string(),
            target: wanted,
            ..v1::Alias::default()
        }),
    }
}

pub(super) async fn update(call: &mut Call, request: v1::UpdateAliasRequest) -> Result<v1::Alias, ApiError> {
    let alias = request.alias.clone().ok_or_else(|| ApiError::missing("alias"))?;
    let name = named(call, &alias.name)?;
    call.authorise_ring(&name.ring, Circumstances::NONE)?;
    let terms = terms(call, &alias.etag, &request.request_id, request.validate_only, &request)?;
    for path in paths(request.update_mask)? {
        if path != "target" {
            return Err(unknown_path(&path, "target"));
        }
    }
    let wanted = target(call, &name.ring, &alias.target).await?;
    match documents::current::<Alias>(call, &name, &terms).await? {
        Current::Repeated => Ok(shown(&name.ring, &documents::find(call, &name).await?)),
        Current::Ready(found) => {
            let details = Details::Alias {
                target: Some(alias.target),
                before: authorise_before(call, &name.ring, &found.content).await?,
            };
            let changed = documents::replace(call, &name, found, wanted, terms, details).await?;
            Ok(shown(&name.ring, &changed))
        }
    }
}

pub(super) async fn delete(
    call: &mut Call,
    request: v1::DeleteAliasRequest,
) -> Result<v1::DeleteAliasResponse, ApiError> {
    let name = named(call, &request.name)?;
    call.authorise_ring(&name.ring, Circumstances::NONE)?;
    let terms = terms(
        call,
        &request.etag,
        &request.request_id,
        request.validate_only,
        &request,
    )?;
    if let Current::Ready(found) = documents::current::<Alias>(call, &name, &terms).await? {
        let details = Details::Alias {
            target: None,
            before: authorise_before(call, &name.ring, &found.content).await?,
        };
        documents::delete(call, &name, found, terms, details).await?;
    }
    Ok(v1::DeleteAliasResponse {})
}

pub(super) async fn list(
    call: &mut Call,
    request: v1::ListAliasesRequest,
) -> Result<v1::ListAliasesResponse, ApiError> {
    let ring = ring_of(&request.parent)?;
    call.names(format!("keyRings/{ring}/aliases"));
    call.authorise_ring(&ring, Circumstances::NONE)?;
    let page = documents::list::<Alias>(call, &ring, &request.page_token, request.page_size).await?;
    let mut aliases = Vec::new();
    for alias in &page.found {
        if may_see(call, &ring, &alias.content).await? {
            aliases.push(shown(&ring, alias));
        }
    }
    Ok(v1::ListAliasesResponse {
        aliases,
        next_page_token: page.next_page_token,
        unauthentic: page.unauthentic,
    })
}

/// The alias that a call is about.
fn named(call: &mut Call, text: &str) -> Result<InRing, ApiError> {
    let AliasName { ring, alias } = AliasName::parse(text)?;
    let name = InRing::new::<Alias>(ring, alias);
    call.names(name.to_string());
    Ok(name)
}

/// What an alias of a ring shall stand for: a key of the ring, or a version of one, that exists, and to which the caller may
/// point an alias.
async fn target(call: &mut Call, ring: &Id, wanted: &str) -> Result<Alias, ApiError> {
    let name = KeyOrVersionName::parse(wanted)?;
    if name.key.ring != *ring {
        return Err(ApiError::field(
            "alias.target",
            format!("expected a key of keyRings/{ring}, found {name}"),
        ));
    }
    let second = Second {
        action: call.action(),
        named: wanted,
    };
    let record = find_second_key(call, second, &name.key).await?;
    let of = Resource::Key(record.facts());
    call.authorise_also(second, name.to_string(), of, about(&record, &name))?;
    find_version(&record, name.version)?;
    Ok(Alias {
        key: name.key.key.to_string(),
        version: name.version,
    })
}

/// Asks whether the caller may take an alias away from what it stands for, and says what that is. A refusal speaks of the alias,
/// which is what the caller named.
async fn authorise_before(call: &mut Call, ring: &Id, alias: &Alias) -> Result<Option<String>, ApiError> {
    let Some(name) = alias.target(ring) else {
        return Ok(None);
    };
    let directory = Arc::clone(&call.gateway().directory);
    let record = match directory.key(&name.key, call.deadline()).await {
        Ok(record) => record,
        // Nobody is asked about what is not there.
        Err(DirectoryError::NoKey(_)) => return Ok(Some(name.to_string())),
        Err(error) => return Err(error.into()),
    };
    let named = call.named().to_owned();
    let second = Second {
        action: call.action(),
        named: &named,
    };
    let of = Resource::Key(record.facts());
    call.authorise_also(second, name.to_string(), of, about(&record, &name))?;
    Ok(Some(name.to_string()))
}

/// Whether the caller may see an alias because of what it stands for. One that leads nowhere hides nothing.
async fn may_see(call: &Call, ring: &Id, alias: &Alias) -> Result<bool, ApiError> {
    let Some(name) = alias.target(ring) else {
        return Ok(true);
    };
    match call.gateway().directory.key(&name.key, call.deadline()).await {
        Ok(record) => Ok(call.may(Action::ReadAlias, Resource::Key(record.facts()))),
        Err(DirectoryError::NoKey(_)) => Ok(true),
        Err(DirectoryError::NotAuthentic { .. }) => Ok(call.may_whatever_it_is(Action::ReadAlias, &name.key)),
        Err(error) => Err(error.into()),
    }
}

fn about(record: &KeyRecord, name: &KeyOrVersionName) -> Circumstances<'static> {
    Circumstances::about_version(name.version.is_none_or(|number| number == record.key.primary_version))
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

//! Keys.

use crate::{
    api::{
        ApiError, Gateway, Reason,
        call::{Call, Second},
        changing::{LabelChange, once, paths, ring_of, terms, unknown_path},
        convert,
        listing::{Gathering, List, page_size},
        lookup::{find_key, key_named},
    },
    audit::{Details, MadeKey},
    cluster::core::MemberIndex,
    keys::{
        creation::{FirstVersion, WantedKey, WantedVersion},
        directory::{KeyRecord, VersionRecord},
        filter::KeyFilter,
        name::{Id, KeyName},
        purpose,
        record::Protection,
        state::VersionState,
    },
    policy::{Action, Circumstances, KeyFacts, Resource},
};
use portcullis_proto::v1;
use std::sync::Arc;

pub(super) async fn create(call: &mut Call, request: v1::CreateKeyRequest) -> Result<v1::Key, ApiError> {
    let name = KeyName {
        ring: ring_of(&request.parent)?,
        key: Id::parse(&request.key_id)?,
    };
    call.names(name.to_string());
    call.require_chance(call.action(), call.named())?;
    let wanted = wanted_key(name, &request)?;
    call.authorise_key(facts(&wanted), Circumstances::NONE)?;
    let once = once(call, &request.request_id, &request)?;
    call.note_check_only(request.validate_only);
    let details = details(&wanted);
    call.note_details(Details::Key(Box::new(details.clone())));
    let gateway = Arc::clone(call.gateway());
    let wanted = WantedKey {
        member: member(&gateway, &request.member)?,
        ..wanted
    };
    if request.validate_only {
        gateway
            .creation
            .validate_key(&wanted, once.as_ref(), call.deadline())
            .await?;
        return Ok(v1::Key {
            name: wanted.name.to_string(),
            r#type: wanted.key_type.number().into(),
            purpose: wanted.purpose as i32,
            permitted_uses: convert::uses(&wanted.uses),
            protection: wanted.protection as i32,
            exportable: wanted.exportable,
            labels: wanted.labels,
            destroy_window: Some(convert::to_duration(
                wanted.destroy_window.unwrap_or(gateway.windows.usual),
            )),
            ..v1::Key::default()
        });
    }
    call.intend().await?;
    let record = gateway.creation.key(wanted, once, call.errand()).await?;
    call.note_details(Details::Key(Box::new(MadeKey {
        uid: Some(record.key.uid.to_string()),
        destroy_window: Some(record.profile.destroy_window.as_secs()),
        ..details
    })));
    Ok(convert::key(&record))
}

pub(super) async fn get(call: &mut Call, request: v1::GetKeyRequest) -> Result<v1::Key, ApiError> {
    let name = key_named(call, &request.name).await?;
    let record = find_key(call, &name).await?;
    call.finds(name.to_string());
    call.authorise_key(record.facts(), Circumstances::NONE)?;
    Ok(convert::key(&record))
}

pub(super) async fn list(call: &mut Call, request: v1::ListKeysRequest) -> Result<v1::ListKeysResponse, ApiError> {
    let ring = ring_of(&request.parent)?;
    call.names(&request.parent);
    call.authorise_ring(&ring, Circumstances::NONE)?;
    let filter = KeyFilter::parse(&request.filter).map_err(|error| ApiError::field("filter", error))?;
    let list = List::of(call, "keys", &request.parent, &request.filter);
    let after = list.read_token(&request.page_token)?;
    let directory = Arc::clone(&call.gateway().directory);
    // A record that is not authentic has no labels to ask the policy about: it is shown to those who may read it whatever it is.
    // An id that is none cannot be asked about: it is shown to those who may read the ring's keys.
    let may_know = |name: &str| match KeyName::parse(name) {
        Ok(key) => call.may_whatever_it_is(Action::ReadKey, &key),
        Err(_) => call.may(Action::ReadKey, Resource::KeyRing(&ring)),
    };
    // As GetKeyVersion and GetPublicKey ask for each.
    let may_read = |record: &KeyRecord, version: &VersionRecord| {
        let circumstances = Circumstances::about_version(version.row.number == record.key.primary_version);
        call.may_under(Action::ReadKey, Resource::Key(record.facts()), circumstances)
    };
    let prefix = format!("keyRings/{ring}/keys/");
    let mut page = Gathering::new(prefix, after, page_size(request.page_size)?, filter.is_empty());
    while let Some((after, limit)) = page.wanted() {
        let mut piece = directory.keys(&ring, after, limit, call.deadline()).await?;
        call.charge(piece.found.len());
        piece.unauthentic.retain(|name| may_know(name));
        page.take(
            piece,
            |record| record.key.name.key.as_str(),
            |record| {
                let is_shown = filter.passes(record) && call.may(Action::ReadKey, Resource::Key(record.facts()));
                is_shown.then(|| match request.with_versions {
                    true => convert::key_with_versions(record, |version| may_read(record, version)),
                    false => convert::key(record),
                })
            },
        );
    }
    let (keys, unauthentic, next) = page.end();
    Ok(v1::ListKeysResponse {
        keys,
        next_page_token: list.next(next)?,
        unauthentic,
    })
}

pub(super) async fn update(call: &mut Call, request: v1::UpdateKeyRequest) -> Result<v1::Key, ApiError> {
    let key = request.key.clone().ok_or_else(|| ApiError::missing("key"))?;
    let name = KeyName::parse(&key.name)?;
    call.names(name.to_string());
    let record = find_key(call, &name).await?;
    call.authorise_key(record.facts(), Circumstances::NONE)?;
    let terms = terms(call, &key.etag, &request.request_id, request.validate_only, &request)?;
    let mut change = LabelChange::default();
    let mut window = None;
    for path in paths(request.update_mask)? {
        if path == "destroy_window" {
            let wanted = key
                .destroy_window
                .ok_or_else(|| ApiError::missing("key.destroy_window"))?;
            window = Some(convert::duration("key.destroy_window", wanted)?);
        } else if !change.take(&path, &key.labels) {
            return Err(unknown_path(&path, "labels, labels.{name} or destroy_window"));
        }
    }
    change.check()?;
    // Who may change a key as it is may not thereby bring it under policies for other keys.
    let mut labels = record.key.labels.clone();
    if change.clone().apply(&mut labels).is_ok() && labels != record.key.labels {
        let facts = KeyFacts {
            labels: &labels,
            ..record.facts()
        };
        let (action, named) = (Action::UpdateKey, name.to_string());
        let second = Second { action, named: &named };
        call.authorise_also(second, named.clone(), Resource::Key(facts), Circumstances::NONE)?;
    }
    call.note_details(Details::KeyChange {
        labels,
        destroy_window: window.unwrap_or(record.profile.destroy_window).as_secs(),
    });
    let gateway = Arc::clone(call.gateway());
    if !request.validate_only {
        call.intend().await?;
    }
    let windows = gateway.windows;
    let changed = gateway
        .changes
        .update_key(&name, terms, windows, |labels, destroy_window| {
            if let Some(window) = window {
                *destroy_window = window;
            }
            change.apply(labels)
        })
        .await?;
    call.note_details(Details::KeyChange {
        labels: changed.key.labels.clone(),
        destroy_window: changed.profile.destroy_window.as_secs(),
    });
    Ok(convert::key(&changed))
}

pub(super) async fn rotate(call: &mut Call, request: v1::RotateKeyRequest) -> Result<v1::Key, ApiError> {
    let name = KeyName::parse(&request.name)?;
    call.names(name.to_string());
    let record = find_key(call, &name).await?;
    call.authorise_key(record.facts(), Circumstances::NONE)?;
    let terms = terms(
        call,
        &request.etag,
        &request.request_id,
        request.validate_only,
        &request,
    )?;
    require_consent(record.key.protection, request.allow_single_replica, &request.member)?;
    let gateway = Arc::clone(call.gateway());
    let wanted = WantedVersion {
        pre_active: request.pre_active,
        member: member(&gateway, &request.member)?,
    };
    let state = match request.pre_active {
        true => VersionState::PreActive,
        false => VersionState::Active,
    };
    call.note_details(Details::Rotation {
        version: record.profile.last_version + 1,
        state: state.name(),
        primary_version: None,
    });
    if !request.validate_only {
        call.intend().await?;
    }
    let rotated = gateway.creation.rotate(&name, wanted, terms).await?;
    call.note_details(Details::Rotation {
        version: rotated.profile.last_version,
        state: state.name(),
        primary_version: Some(rotated.key.primary_version),
    });
    Ok(convert::key(&rotated))
}

pub(super) async fn set_primary(call: &mut Call, request: v1::SetPrimaryVersionRequest) -> Result<v1::Key, ApiError> {
    let name = KeyName::parse(&request.name)?;
    call.names(name.to_string());
    let record = find_key(call, &name).await?;
    let before = record.key.primary_version;
    call.authorise_key(record.facts(), Circumstances::about_version(request.version == before))?;
    call.finds(name.version(request.version));
    call.note_details(Details::Primary {
        primary_version: request.version,
        before,
    });
    let terms = terms(
        call,
        &request.etag,
        &request.request_id,
        request.validate_only,
        &request,
    )?;
    let gateway = Arc::clone(call.gateway());
    if !request.validate_only {
        call.intend().await?;
    }
    let changed = gateway.changes.set_primary(&name, request.version, terms).await?;
    Ok(convert::key(&changed))
}

/// What the caller wants, checked as far as that is possible without an HSM.
fn wanted_key(name: KeyName, request: &v1::CreateKeyRequest) -> Result<WantedKey, ApiError> {
    let key = request.key.clone().ok_or_else(|| ApiError::missing("key"))?;
    let key_type = convert::key_type(key.r#type)?;
    let listed = convert::permitted_uses(&key.permitted_uses)?;
    let (purpose, uses) = purpose::resolve(key_type, convert::purpose(key.purpose)?, listed)
        .map_err(|error| ApiError::new(Reason::AlgorithmMismatch, error.to_string()))?;
    let protection = convert::protection(key.protection)?;
    if protection == Protection::Resident && key.exportable {
        return Err(ApiError::field(
            "key.exportable",
            "a RESIDENT key is never exportable: leave it out, or choose WRAPPED",
        ));
    }
    let first = match (request.import_only, request.pre_active) {
        (true, true) => {
            return Err(ApiError::field(
                "import_only",
                "what is imported says then whether it is active: leave pre_active out",
            ));
        }
        (true, false) => FirstVersion::PendingImport,
        (false, true) => FirstVersion::PreActive,
        (false, false) => FirstVersion::Active,
    };
    if first != FirstVersion::PendingImport {
        require_consent(protection, request.allow_single_replica, &request.member)?;
    }
    Ok(WantedKey {
        name,
        key_type,
        purpose,
        uses,
        protection,
        exportable: key.exportable,
        labels: convert::labels(key.labels)?,
        destroy_window: key
            .destroy_window
            .map(|window| convert::duration("key.destroy_window", window))
            .transpose()?,
        first,
        member: None,
    })
}

/// Key material that lives on one member needs the caller's consent; other key material lives on none.
pub(in crate::api) fn require_consent(
    protection: Protection,
    allow_single_replica: bool,
    member: &str,
) -> Result<(), ApiError> {
    match protection {
        Protection::Resident if !allow_single_replica => {
            let message = "a RESIDENT key lives on one member and has no failover: accept that with \
                           allow_single_replica, or choose WRAPPED";
            Err(ApiError::new(Reason::SingleReplicaNotAccepted, message))
        }
        Protection::Wrapped if !member.is_empty() => Err(ApiError::field(
            "member",
            "a WRAPPED key lives on no member: leave it out, or choose RESIDENT",
        )),
        _ => Ok(()),
    }
}

/// The member that the caller named, if any.
pub(in crate::api) fn member(gateway: &Gateway, named: &str) -> Result<Option<MemberIndex>, ApiError> {
    match named.strip_prefix("members/").unwrap_or(named) {
        "" => Ok(None),
        member => match gateway.cluster.member(member) {
            Some(index) => Ok(Some(index)),
            None => Err(ApiError::new(
                Reason::MemberNotFound,
                format!("there is no member {member}: ListMembers has their names"),
            )),
        },
    }
}

/// What the audit log says of a key that is to be made.
fn details(wanted: &WantedKey) -> MadeKey {
    let first = match wanted.first {
        FirstVersion::Active => VersionState::Active,
        FirstVersion::PreActive => VersionState::PreActive,
        FirstVersion::PendingImport => VersionState::PendingImport,
    };
    MadeKey {
        uid: None,
        r#type: wanted.key_type.name(),
        purpose: wanted.purpose.name(),
        permitted_uses: wanted.uses.iter().map(|one| one.to_string()).collect(),
        protection: wanted.protection.name(),
        exportable: wanted.exportable,
        labels: wanted.labels.clone(),
        destroy_window: wanted.destroy_window.map(|window| window.as_secs()),
        first_version: first.name(),
    }
}

/// What a policy may know of a key that is to be made.
fn facts(wanted: &WantedKey) -> KeyFacts<'_> {
    KeyFacts {
        name: &wanted.name,
        labels: &wanted.labels,
        purpose: wanted.purpose,
        key_type: wanted.key_type,
        protection: wanted.protection,
        exportable: wanted.exportable,
    }
}

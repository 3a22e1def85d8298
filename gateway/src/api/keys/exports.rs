//! Exports, and the recipients to whom they may go.

use crate::{
    api::{
        ApiError, Reason,
        call::Call,
        changing::{once, ring_of, terms},
        convert,
        in_ring::InRing,
        listing::{List, page_size},
        lookup::{find_key, find_second_key, find_version, require_state, second_version_named, version_named},
    },
    cluster::{operation::Key, transfer::ExportTo},
    crypto::checksum::crc32c,
    keys::{
        directory::{KeyRecord, Material, VersionRecord},
        document::{DocumentError, Stored},
        name::Id,
        recipient::Recipient,
        state::VersionState,
    },
    policy::{Action, Circumstances, Resource},
};
use portcullis_hsm::{
    algorithm::{Mechanism, Operation},
    key_token::{Origin, Storage},
};
use portcullis_proto::v1::{self, export_key_version_request::Recipient as To};
use std::sync::Arc;

pub(super) async fn export_version(
    call: &mut Call,
    request: v1::ExportKeyVersionRequest,
) -> Result<v1::ExportKeyVersionResponse, ApiError> {
    let name = version_named(call, &request.name).await?;
    let record = find_key(call, &name.key).await?;
    let chosen = convert::mechanism(request.mechanism)?;
    call.authorise_key(
        name.to_string(),
        record.facts(),
        Circumstances {
            mechanism: chosen,
            ..Circumstances::default()
        },
    )?;
    let version = find_version(&record, name.version)?;
    let material = exportable(&record, version)?;
    let (recipient, mechanism) = match &request.recipient {
        None => return Err(ApiError::missing("recipient")),
        Some(To::WrappingKey(named)) => {
            let mechanism = choose(chosen, Mechanism::AesKwp, Mechanism::AesKw)?;
            (Chosen::Key(wrapping_key(call, named, mechanism).await?), mechanism)
        }
        Some(To::RegisteredRecipient(named)) => {
            let mechanism = choose(chosen, Mechanism::RsaOaepSha256, Mechanism::RsaOaepSha1)?;
            let found = registered(call, &record.key.name.ring, named).await?;
            (Chosen::Recipient(found.content.public_key), mechanism)
        }
    };
    let version_name = record.key.name.version(version.row.number);
    call.uses(version_name.clone(), Some(mechanism));
    call.intend().await?;
    let to = match &recipient {
        Chosen::Key(key) => ExportTo::WrappingKey(key),
        Chosen::Recipient(public_key) => ExportTo::Recipient(public_key),
    };
    let (wrapped, member) = call
        .gateway()
        .cluster
        .export(&material.handle, to, mechanism, call.deadline())
        .await?;
    call.note_member(member);
    Ok(v1::ExportKeyVersionResponse {
        name: version_name,
        wrapped_key_crc32c: crc32c(&wrapped),
        wrapped_key: wrapped.into(),
        mechanism: mechanism.number().into(),
        public_key: version.public_key().to_vec().into(),
    })
}

/// For whom the key is wrapped.
enum Chosen {
    Key(Key),
    Recipient(Vec<u8>),
}

/// The key material of a version that may leave: portable, and in a state in which a copy of it is worth having.
fn exportable<'a>(record: &KeyRecord, version: &'a VersionRecord) -> Result<&'a Material, ApiError> {
    let name = record.key.name.version(version.row.number);
    let state = version.state();
    match &version.material {
        Some(material) if !matches!(state, VersionState::Active | VersionState::Deactivated) => {
            let _ = material;
            let message = format!("{name} is {state}; this needs ACTIVE or DEACTIVATED");
            Err(ApiError::new(Reason::KeyStateForbidsOperation, message)
                .with("version", name)
                .with("state", state.name()))
        }
        Some(material) if material.token.storage != Storage::Portable => Err(ApiError::new(
            Reason::ExportRefused,
            format!("{name} was not created exportable, and no key becomes so"),
        )),
        Some(material) => Ok(material),
        None => Err(ApiError::new(
            Reason::KeyStateForbidsOperation,
            format!("{name} is {state} and has no key material"),
        )),
    }
}

fn choose(chosen: Option<Mechanism>, usual: Mechanism, other: Mechanism) -> Result<Mechanism, ApiError> {
    match chosen {
        None => Ok(usual),
        Some(chosen) if chosen == usual || chosen == other => Ok(chosen),
        Some(chosen) => Err(ApiError::field(
            "mechanism",
            format!("expected {usual} or {other} for such a recipient, found {chosen}"),
        )),
    }
}

/// A wrapping key under which keys may leave: born in an HSM and never portable. The HSM's worker checks the same again.
async fn wrapping_key(call: &mut Call, named: &str, mechanism: Mechanism) -> Result<Key, ApiError> {
    let name = second_version_named(call, Action::ExportKey, named).await?;
    let record = find_second_key(call, Action::ExportKey, &name.key).await?;
    call.authorise_also(
        Action::ExportKey,
        Resource::Key(record.facts()),
        Circumstances {
            mechanism: Some(mechanism),
            ..Circumstances::default()
        },
    )?;
    let version = find_version(&record, name.version)?;
    if !record.profile.uses.permit(Operation::Wrap, mechanism) {
        let message = format!("{} does not permit WRAP with {mechanism}", record.key.name);
        return Err(ApiError::new(Reason::AlgorithmMismatch, message));
    }
    let material = require_state(call, &record, version, Operation::Wrap, "")?;
    if material.token.origin != Origin::Generated || material.token.storage == Storage::Portable {
        let message = format!(
            "{} was imported or is exportable itself, so it may be known outside of HSMs: wrap under a key that was generated here and is not exportable",
            record.key.name.version(version.row.number)
        );
        return Err(ApiError::new(Reason::ExportRefused, message));
    }
    version.uses.note();
    Ok(material.handle.clone())
}

/// A registered recipient of a ring.
async fn registered(call: &Call, ring: &Id, named: &str) -> Result<Stored<Recipient>, ApiError> {
    let name = InRing::parse::<Recipient>(named)?;
    if name.ring != *ring {
        return Err(ApiError::field(
            "registered_recipient",
            format!("expected a recipient of keyRings/{ring}, found {name}"),
        ));
    }
    find_recipient(call, &name).await
}

pub(super) async fn create_recipient(
    call: &mut Call,
    request: v1::CreateRecipientRequest,
) -> Result<v1::Recipient, ApiError> {
    let name = InRing::new::<Recipient>(ring_of(&request.parent)?, Id::parse(&request.recipient_id)?);
    call.authorise_ring(name.to_string(), &name.ring)?;
    let once = once(call, &request.request_id, &request)?;
    let wanted = request.recipient.ok_or_else(|| ApiError::missing("recipient"))?;
    let recipient = Recipient {
        public_key: wanted.public_key.to_vec(),
        description: wanted.description,
    };
    recipient
        .check()
        .map_err(|message| ApiError::field("recipient", message))?;
    let gateway = Arc::clone(call.gateway());
    gateway.directory.ring(&name.ring, call.deadline()).await?;
    if request.validate_only {
        let found = gateway
            .documents
            .find::<Recipient>(&name.ring, name.id.as_str(), call.deadline())
            .await?;
        if found.is_some() && !gateway.documents.is_repetition(once.as_ref(), call.deadline()).await? {
            return Err(ApiError::already_exists(name.to_string()));
        }
        return Ok(v1::Recipient {
            name: name.to_string(),
            fingerprint: recipient.fingerprint(),
            public_key: recipient.public_key.into(),
            description: recipient.description,
            ..v1::Recipient::default()
        });
    }
    call.intend().await?;
    let made = gateway
        .documents
        .create(&name.ring, name.id.as_str(), &recipient, once, call.deadline())
        .await?;
    Ok(shown(&name.ring, &made))
}

pub(super) async fn get_recipient(
    call: &mut Call,
    request: v1::GetRecipientRequest,
) -> Result<v1::Recipient, ApiError> {
    let name = InRing::parse::<Recipient>(&request.name)?;
    call.authorise_ring(name.to_string(), &name.ring)?;
    Ok(shown(&name.ring, &find_recipient(call, &name).await?))
}

pub(super) async fn list_recipients(
    call: &mut Call,
    request: v1::ListRecipientsRequest,
) -> Result<v1::ListRecipientsResponse, ApiError> {
    let ring = ring_of(&request.parent)?;
    call.authorise_ring(format!("keyRings/{ring}/recipients"), &ring)?;
    let list = List::of(call, "recipients", &request.parent, "");
    let after = list.read_token(&request.page_token)?;
    let limit = page_size(request.page_size)?;
    let gateway = Arc::clone(call.gateway());
    gateway.directory.ring(&ring, call.deadline()).await?;
    let page = gateway
        .documents
        .list::<Recipient>(&ring, after.as_deref(), limit, call.deadline())
        .await?;
    call.charge(page.found.len());
    Ok(v1::ListRecipientsResponse {
        recipients: page.found.iter().map(|one| shown(&ring, one)).collect(),
        next_page_token: list.next(page.next)?,
        unauthentic: page.unauthentic,
    })
}

pub(super) async fn delete_recipient(
    call: &mut Call,
    request: v1::DeleteRecipientRequest,
) -> Result<v1::DeleteRecipientResponse, ApiError> {
    let name = InRing::parse::<Recipient>(&request.name)?;
    call.authorise_ring(name.to_string(), &name.ring)?;
    let terms = terms(
        call,
        &request.etag,
        &request.request_id,
        request.validate_only,
        &request,
    )?;
    if request.validate_only {
        let found = find_recipient(call, &name).await?;
        if terms.expected.is_some_and(|expected| expected != found.revision) {
            return Err(DocumentError::Stale(name.to_string()).into());
        }
        return Ok(v1::DeleteRecipientResponse {});
    }
    call.intend().await?;
    let documents = Arc::clone(&call.gateway().documents);
    documents
        .delete::<Recipient>(&name.ring, name.id.as_str(), terms.expected, terms.once, terms.deadline)
        .await?;
    Ok(v1::DeleteRecipientResponse {})
}

async fn find_recipient(call: &Call, name: &InRing) -> Result<Stored<Recipient>, ApiError> {
    let found = call
        .gateway()
        .documents
        .find::<Recipient>(&name.ring, name.id.as_str(), call.deadline())
        .await?;
    Ok(found.ok_or_else(|| DocumentError::Missing(name.to_string()))?)
}

fn shown(ring: &Id, recipient: &Stored<Recipient>) -> v1::Recipient {
    v1::Recipient {
        name: crate::keys::document::name_of::<Recipient>(ring.as_str(), &recipient.id),
        fingerprint: recipient.content.fingerprint(),
        public_key: recipient.content.public_key.clone().into(),
        description: recipient.content.description.clone(),
        create_time: Some(convert::timestamp(recipient.created)),
        etag: recipient.revision.to_string(),
    }
}

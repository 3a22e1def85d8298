//! Exports: to wrapping keys that were born in an HSM, and to registered recipients.

use crate::{
    api::{
        ApiError, Gateway, Reason,
        call::{Call, Second},
        convert, documents,
        in_ring::InRing,
        lookup::{find_key, find_second_key, second_version_named, version_named},
        target::{Asked, Target, Wish, authorise, decide},
    },
    audit::Details,
    cluster::{ClusterError, core::Needs, operation::Key, transfer::ExportTo},
    crypto::checksum::crc32c,
    keys::{directory::Material, name::Id, recipient::Recipient},
    policy::Action,
};
use portcullis_hsm::{
    algorithm::{Mechanism, Operation},
    key_token::{Origin, Storage},
};
use portcullis_proto::v1::{self, export_key_version_request::Recipient as To};

pub(super) async fn export_version(
    call: &mut Call,
    request: v1::ExportKeyVersionRequest,
) -> Result<v1::ExportKeyVersionResponse, ApiError> {
    let name = version_named(call, &request.name).await?;
    let record = find_key(call, &name.key).await?;
    // The policy is asked about the mechanism that will be used, whether the caller names it or not.
    let mechanism = choose(call.gateway(), &request);
    let wish = Wish::by(Operation::Wrap, mechanism).with_version(name.version);
    let target = authorise(call, &record, wish)?;
    let (version, mechanism) = (target.version, target.mechanism);
    let material = portable(call, &target)?;
    let recipient = match &request.recipient {
        None => return Err(ApiError::missing("recipient")),
        Some(To::WrappingKey(named)) => wrapping_key(call, named, mechanism).await?,
        Some(To::RegisteredRecipient(named)) => registered(call, &record.key.name.ring, named).await?,
    };
    call.note_details(recipient.details());
    call.intend().await?;
    let (wrapped, member) = call
        .gateway()
        .cluster
        .export(&material.handle, recipient.to(), mechanism, call.errand())
        .await?;
    call.note_member(member);
    Ok(v1::ExportKeyVersionResponse {
        name: target.name(),
        wrapped_key_crc32c: crc32c(&wrapped),
        wrapped_key: wrapped.into(),
        mechanism: mechanism.number().into(),
        public_key: version.public_key().to_vec().into(),
    })
}

/// For whom the key is wrapped.
enum Chosen {
    Key { name: String, uid: String, key: Key },
    Recipient { name: String, recipient: Recipient },
}

impl Chosen {
    fn to(&self) -> ExportTo<'_> {
        match self {
            Self::Key { key, .. } => ExportTo::WrappingKey(key),
            Self::Recipient { recipient, .. } => ExportTo::Recipient(&recipient.public_key),
        }
    }

    fn details(&self) -> Details {
        let (recipient, public_key_sha256, key_uid) = match self {
            Self::Key { name, uid, .. } => (name, None, Some(uid.clone())),
            Self::Recipient { name, recipient } => (name, Some(recipient.fingerprint()), None),
        };
        Details::Export {
            recipient: recipient.clone(),
            public_key_sha256,
            key_uid,
        }
    }
}

/// The key material of a version that may leave, and was made to.
fn portable<'r>(call: &mut Call, target: &Target<'r, '_>) -> Result<&'r Material, ApiError> {
    let material = target.material_to_export(call)?;
    if material.token.storage != Storage::Portable {
        let message = format!("{} was not created exportable, and no key becomes so", target.name());
        return Err(ApiError::new(Reason::ExportRefused, message));
    }
    Ok(material)
}

/// The mechanism of an export: the caller's, if it is one for such a recipient, else the best that the members have.
fn choose(gateway: &Gateway, request: &v1::ExportKeyVersionRequest) -> Result<Mechanism, ApiError> {
    let (usual, other) = match &request.recipient {
        None => return Err(ApiError::missing("recipient")),
        Some(To::WrappingKey(_)) => (Mechanism::AesKwp, Mechanism::AesKw),
        Some(To::RegisteredRecipient(_)) => (Mechanism::RsaOaepSha256, Mechanism::RsaOaepSha1),
    };
    match convert::mechanism(request.mechanism)? {
        None if usual == Mechanism::RsaOaepSha256 && !is_supported(gateway, usual) => Ok(other),
        None => Ok(usual),
        Some(chosen) if chosen == usual || chosen == other => Ok(chosen),
        Some(chosen) => Err(ApiError::field(
            "mechanism",
            format!("expected {usual} or {other} for such a recipient, found {chosen}"),
        )),
    }
}

/// Whether a member can wrap by a mechanism, as far as that is known now: it was tried when each was opened.
fn is_supported(gateway: &Gateway, mechanism: Mechanism) -> bool {
    let needs = Needs {
        uses: vec![(Operation::Wrap, mechanism)],
        ..Needs::default()
    };
    !matches!(gateway.cluster.choose(&needs), Err(ClusterError::Unsupported { .. }))
}

/// A wrapping key under which keys may leave: born in an HSM and never portable. The HSM's worker checks the same again.
async fn wrapping_key(call: &mut Call, named: &str, mechanism: Mechanism) -> Result<Chosen, ApiError> {
    let second = Second {
        action: Action::ExportKey,
        named,
    };
    let name = second_version_named(call, second).await?;
    let record = find_second_key(call, second, &name.key).await?;
    let wish = Wish::new(&record, Operation::Wrap, mechanism.number().into()).with_version(name.version);
    let target = decide(call, Asked::Second(second), &record, wish)?.target()?;
    let material = target.material(call, "")?;
    if material.token.origin != Origin::Generated || material.token.storage == Storage::Portable {
        let message = format!(
            "{} was imported or is exportable itself, so it may be known outside of HSMs: wrap under a key that was generated here and is not exportable",
            target.name()
        );
        return Err(ApiError::new(Reason::ExportRefused, message));
    }
    target.version.uses.note();
    Ok(Chosen::Key {
        name: target.name(),
        uid: record.key.uid.to_string(),
        key: material.handle.clone(),
    })
}

/// A registered recipient of a ring.
async fn registered(call: &Call, ring: &Id, named: &str) -> Result<Chosen, ApiError> {
    let name = InRing::parse::<Recipient>(named)?;
    if name.ring != *ring {
        return Err(ApiError::field(
            "registered_recipient",
            format!("expected a recipient of keyRings/{ring}, found {name}"),
        ));
    }
    let found = documents::find::<Recipient>(call, &name).await?;
    Ok(Chosen::Recipient {
        name: name.to_string(),
        recipient: found.content,
    })
}

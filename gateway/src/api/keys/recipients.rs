//! Recipients to whom exportable keys may be exported.

use crate::{
    api::{
        ApiError,
        call::Call,
        changing::{ring_of, terms},
        convert,
        documents::{self, Current, Made},
        in_ring::InRing,
    },
    audit::Details,
    keys::{
        document::{Stored, name_of},
        name::Id,
        recipient::Recipient,
    },
    policy::Circumstances,
};
use portcullis_proto::v1;

pub(super) async fn create(call: &mut Call, request: v1::CreateRecipientRequest) -> Result<v1::Recipient, ApiError> {
    let name = InRing::new::<Recipient>(ring_of(&request.parent)?, Id::parse(&request.recipient_id)?);
    call.names(name.to_string());
    call.authorise_ring(&name.ring, Circumstances::NONE)?;
    let terms = terms(call, "", &request.request_id, request.validate_only, &request)?;
    let wanted = request.recipient.ok_or_else(|| ApiError::missing("recipient"))?;
    let recipient = Recipient {
        public_key: wanted.public_key.to_vec(),
        description: wanted.description,
    };
    recipient
        .check()
        .map_err(|message| ApiError::field("recipient", message))?;
    let details = details(&recipient);
    match documents::create(call, &name, recipient, terms, details).await? {
        Made::Stored(made) => Ok(shown(&name.ring, &made)),
        Made::Planned(recipient) => Ok(v1::Recipient {
            name: name.to_string(),
            fingerprint: recipient.fingerprint(),
            public_key: recipient.public_key.into(),
            description: recipient.description,
            ..v1::Recipient::default()
        }),
    }
}

pub(super) async fn get(call: &mut Call, request: v1::GetRecipientRequest) -> Result<v1::Recipient, ApiError> {
    let name = named(call, &request.name)?;
    call.authorise_ring(&name.ring, Circumstances::NONE)?;
    Ok(shown(&name.ring, &documents::find(call, &name).await?))
}

pub(super) async fn list(
    call: &mut Call,
    request: v1::ListRecipientsRequest,
) -> Result<v1::ListRecipientsResponse, ApiError> {
    let ring = ring_of(&request.parent)?;
    call.names(format!("keyRings/{ring}/recipients"));
    call.authorise_ring(&ring, Circumstances::NONE)?;
    let page = documents::list::<Recipient>(call, &ring, &request.page_token, request.page_size).await?;
    Ok(v1::ListRecipientsResponse {
        recipients: page.found.iter().map(|one| shown(&ring, one)).collect(),
        next_page_token: page.next_page_token,
        unauthentic: page.unauthentic,
    })
}

pub(super) async fn delete(
    call: &mut Call,
    request: v1::DeleteRecipientRequest,
) -> Result<v1::DeleteRecipientResponse, ApiError> {
    let name = named(call, &request.name)?;
    call.authorise_ring(&name.ring, Circumstances::NONE)?;
    let terms = terms(
        call,
        &request.etag,
        &request.request_id,
        request.validate_only,
        &request,
    )?;
    if let Current::Ready(found) = documents::current::<Recipient>(call, &name, &terms).await? {
        let details = details(&found.content);
        documents::delete(call, &name, found, terms, details).await?;
    }
    Ok(v1::DeleteRecipientResponse {})
}

/// The recipient that a call is about.
fn named(call: &mut Call, text: &str) -> Result<InRing, ApiError> {
    let name = InRing::parse::<Recipient>(text)?;
    call.names(name.to_string());
    Ok(name)
}

fn details(recipient: &Recipient) -> Details {
    Details::Recipient {
        public_key_sha256: recipient.fingerprint(),
        description: recipient.description.clone(),
    }
}

fn shown(ring: &Id, recipient: &Stored<Recipient>) -> v1::Recipient {
    v1::Recipient {
        name: name_of::<Recipient>(ring.as_str(), &recipient.id),
        fingerprint: recipient.content.fingerprint(),
        public_key: recipient.content.public_key.clone().into(),
        description: recipient.content.description.clone(),
        create_time: Some(convert::timestamp(recipient.created)),
        etag: recipient.revision.to_string(),
    }
}

//! Import, export and ephemeral keys: from messages to what a member does.

use super::{
    perform::{key_reference, malformed, mechanism_numbered, new_key, storage_of},
    protocol::{
        ReplyBody, RequestBody,
        transfer::{Export, GenerateEphemeral, Import, RenewEphemeral},
    },
};
use crate::{
    Error,
    algorithm::Mechanism,
    domain::OaepHash,
    key_token::Storage,
    member::{ImportSource, Member, Recipient, Tenure},
    pkcs11::Session,
};

/// Does what one of these requests asks for.
pub(super) fn perform(member: &Member, session: &mut Session, body: &RequestBody) -> Result<ReplyBody, Error> {
    match body {
        RequestBody::ImportWrapped(request) => import(member, session, request, storage_of(&request.key)),
        RequestBody::ImportResident(request) => import(member, session, request, Storage::Resident),
        RequestBody::Export(request) => export(member, session, request),
        RequestBody::GenerateEphemeral(GenerateEphemeral {
            key,
            owner,
            ring,
            created,
            expires,
        }) => {
            let tenure = Tenure {
                owner: owner.clone(),
                ring: ring.clone(),
                created: *created,
                expires: *expires,
            };
            let new = new_key(key, storage_of(key))?;
            member.generate_ephemeral(session, &new, tenure).map(ReplyBody::Bytes)
        }
        RequestBody::RenewEphemeral(RenewEphemeral { sealed, expires }) => {
            member.renew_ephemeral(session, sealed, *expires).map(ReplyBody::Bytes)
        }
        _ => Err(malformed("the request")),
    }
}

fn import(member: &Member, session: &mut Session, request: &Import, storage: Storage) -> Result<ReplyBody, Error> {
    let new = new_key(&request.key, storage)?;
    let material = request.material.as_slice();
    let Some(unwrapping) = &request.unwrapping_key else {
        let source = ImportSource::Clear(material);
        return member
            .import(session, &new, source, &request.public_key)
            .map(ReplyBody::Bytes);
    };
    let key = key_reference(unwrapping)?;
    let source = match mechanism_numbered(request.mechanism)? {
        Mechanism::AesKwp => ImportSource::AesKwp { key, wrapped: material },
        mechanism => ImportSource::RsaAes {
            key,
            mechanism,
            wrapped: material,
        },
    };
    member
        .import(session, &new, source, &request.public_key)
        .map(ReplyBody::Bytes)
}

fn export(member: &Member, session: &mut Session, request: &Export) -> Result<ReplyBody, Error> {
    let key = key_reference(&request.key)?;
    let mechanism = mechanism_numbered(request.mechanism)?;
    let wrapping = request.wrapping_key.as_ref().map(key_reference).transpose()?;
    let recipient = match wrapping {
        Some(key) => Recipient::WrappingKey { key, mechanism },
        None => Recipient::RsaPublicKey {
            public_key: &request.recipient,
            hash: OaepHash::of(mechanism).ok_or_else(|| malformed("the mechanism"))?,
        },
    };
    member.export(session, key, recipient).map(ReplyBody::Bytes)
}

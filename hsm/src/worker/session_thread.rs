//! A thread that owns one PKCS#11 session and does the work of the queue.

use super::{
    protocol::{
        AuthenticateRows, CheckRecords, Decrypt, Encrypt, Encrypted, Failure, FailureKind, Generate, Key, List, Random,
        ReplyBody, RequestBody, Sign,
    },
    reply::{Replies, failure},
    transfer,
};
use crate::{
    Error,
    algorithm::{KeyType, Mechanism, Operation, PermittedUse, PermittedUses},
    key_token::{Storage, TokenDigest},
    member::{GcmAssociatedData, KeyReference, Member, NewKey},
    pkcs11::{Session, SessionKind},
    record::RecordKind,
    return_code::Class,
};
use crossbeam_channel::Receiver;
use std::{sync::Arc, time::Instant};
use uuid::Uuid;

/// A request that waits for a session.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) start_by: Option<Instant>,
    pub(super) body: RequestBody,
}

/// Works until the queue is closed and empty.
pub(super) fn work(member: &Arc<Member>, queue: &Receiver<Job>, replies: &Replies) {
    let mut session = None;
    for job in queue {
        let result = if job.start_by.is_some_and(|start_by| Instant::now() >= start_by) {
            Err(too_late())
        } else {
            run(member, &mut session, &job.body).map_err(|error| Failure::from(&error))
        };
        replies.send(job.id, result);
    }
}

/// The answer to work whose time ran out while it waited.
pub(super) fn too_late() -> Failure {
    failure(
        FailureKind::DeadlinePassed,
        "the deadline passed before the work could start",
    )
}

/// Runs a job, and once more after a repair where the return code says that a repair can help.
fn run(member: &Member, session: &mut Option<Session>, body: &RequestBody) -> Result<ReplyBody, Error> {
    let error = match attempt(member, session, body) {
        Ok(reply) => return Ok(reply),
        Err(error) => error,
    };
    match error.class() {
        // A key whose handle was lost is forgotten by now, and is loaded again.
        Class::SessionLost | Class::HandleLost => {}
        Class::LoginLost => member.log_in_again()?,
        Class::CallerFault | Class::Busy | Class::MemberFault | Class::Fatal => return Err(error),
    }
    attempt(member, session, body)
}

/// Runs a job on the thread's session; a session that saw an error is closed.
fn attempt(member: &Member, session: &mut Option<Session>, body: &RequestBody) -> Result<ReplyBody, Error> {
    let mut open = match session.take() {
        Some(open) => open,
        None => member.open_session(SessionKind::ReadOnly)?,
    };
    let result = perform(member, &mut open, body);
    if matches!(result, Ok(_) | Err(Error::NotLoaded | Error::NotPermitted(..))) {
        *session = Some(open);
    }
    result
}

fn perform(member: &Member, session: &mut Session, body: &RequestBody) -> Result<ReplyBody, Error> {
    match body {
        RequestBody::Sign(Sign {
            key,
            operation,
            mechanism,
            data,
        }) => {
            let (digest, sealed) = key_reference(key)?;
            let reference = KeyReference {
                digest: &digest,
                sealed,
            };
            let (operation, mechanism) = (operation_numbered(*operation)?, mechanism_numbered(*mechanism)?);
            member
                .sign(session, reference, operation, mechanism, data)
                .map(ReplyBody::Bytes)
        }
        RequestBody::Encrypt(Encrypt {
            key,
            before_nonce,
            after_nonce,
            plaintext,
        }) => {
            let (digest, sealed) = key_reference(key)?;
            let associated_data = GcmAssociatedData {
                before_nonce,
                after_nonce,
            };
            let output = member.encrypt_gcm(
                session,
                KeyReference {
                    digest: &digest,
                    sealed,
                },
                associated_data,
                plaintext,
            )?;
            Ok(ReplyBody::Encrypted(Encrypted {
                nonce: output.nonce.to_vec(),
                ciphertext: output.ciphertext,
            }))
        }
        RequestBody::Decrypt(Decrypt {
            key,
            before_nonce,
            after_nonce,
            nonce,
            ciphertext,
        }) => {
            let (digest, sealed) = key_reference(key)?;
            let associated_data = GcmAssociatedData {
                before_nonce,
                after_nonce,
            };
            let nonce = nonce.as_slice().try_into().map_err(|_| malformed("the nonce"))?;
            let reference = KeyReference {
                digest: &digest,
                sealed,
            };
            member
                .decrypt_gcm(session, reference, associated_data, nonce, ciphertext)
                .map(ReplyBody::Bytes)
        }
        RequestBody::GenerateWrapped(request) => {
            let new = new_key(request, storage_of(request))?;
            member.generate(session, &new).map(ReplyBody::Bytes)
        }
        RequestBody::Random(Random { length }) => member.random(session, *length as usize).map(ReplyBody::Bytes),
        RequestBody::CheckRecords(CheckRecords { records }) => {
            let mut items = Vec::with_capacity(records.len());
            for record in records {
                let kind = u8::try_from(record.kind).ok().and_then(RecordKind::from_number);
                let kind = kind.ok_or_else(|| malformed("the record kind"))?;
                let authentic = member.is_authentic(session, kind, &record.message, &record.tag)?;
                items.push(vec![u8::from(authentic)]);
            }
            Ok(ReplyBody::List(List { items }))
        }
        RequestBody::AuthenticateRows(AuthenticateRows { rows }) => {
            let tags: Result<Vec<_>, Error> = rows
                .iter()
                .map(|row| Ok(member.authenticate_row(session, row)?.to_vec()))
                .collect();
            Ok(ReplyBody::List(List { items: tags? }))
        }
        body => transfer::perform(member, session, body),
    }
}

/// How a key that is wrapped is stored.
pub(super) fn storage_of(request: &Generate) -> Storage {
    if request.exportable {
        Storage::Portable
    } else {
        Storage::Sealed
    }
}

/// The description of a key to generate.
pub(super) fn new_key(request: &Generate, storage: Storage) -> Result<NewKey, Error> {
    let key_type = u16::try_from(request.key_type).ok().and_then(KeyType::from_number);
    let key_type = key_type.ok_or_else(|| malformed("the key type"))?;
    let uses: Result<Vec<_>, Error> = request
        .uses
        .iter()
        .map(|packed| {
            let operation = operation_numbered(packed >> 16)?;
            Ok(PermittedUse {
                operation,
                mechanism: mechanism_numbered(packed & 0xffff)?,
            })
        })
        .collect();
    Ok(NewKey {
        uid: Uuid::from_slice(&request.uid).map_err(|_| malformed("the uid"))?,
        version: request.version,
        key_type,
        uses: PermittedUses::new(key_type, uses?).map_err(|error| Error::Refused(error.to_string()))?,
        storage,
    })
}

/// A field of a request that the gateway of this build does not send.
pub(super) fn malformed(what: &str) -> Error {
    Error::Refused(format!("{what} is malformed"))
}

pub(super) fn key_reference(key: &Key) -> Result<(TokenDigest, Option<&[u8]>), Error> {
    let digest = key
        .digest
        .as_slice()
        .try_into()
        .map_err(|_| malformed("the token digest"))?;
    Ok((digest, key.sealed.as_deref()))
}

fn operation_numbered(number: u32) -> Result<Operation, Error> {
    u8::try_from(number)
        .ok()
        .and_then(Operation::from_number)
        .ok_or_else(|| malformed("the operation"))
}

pub(super) fn mechanism_numbered(number: u32) -> Result<Mechanism, Error> {
    u16::try_from(number)
        .ok()
        .and_then(Mechanism::from_number)
        .ok_or_else(|| malformed("the mechanism"))
}

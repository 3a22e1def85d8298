//! From a request of the queue to the member's operation, and from its result to the reply.

use super::{
    protocol::{
        Agree, AuthenticateRows, CheckRecords, DataKey, Decrypt, DecryptAsymmetric, DecryptBare, Encrypt, EncryptBare,
        Encrypted, Generate, GenerateDataKey, Key, KeyWithData, List, Random, ReEncrypt, ReplyBody, RequestBody,
        Secret, Sign, VerifyMac,
    },
    transfer,
};
use crate::{
    Error,
    algorithm::{KeyType, Mechanism, Operation, PermittedUse, PermittedUses},
    key_token::{Storage, TokenDigest},
    member::{Gcm, GcmAssociatedData, GcmOutput, KeyReference, Member, Mode, NewKey},
    pkcs11::Session,
    record::RecordKind,
};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Does what a request asks for, on a session of the caller's.
pub(super) fn perform(member: &Member, session: &mut Session, body: &RequestBody) -> Result<ReplyBody, Error> {
    match body {
        RequestBody::Sign(Sign {
            key,
            operation,
            mechanism,
            data,
        }) => {
            let permitted_use = PermittedUse::new(operation_numbered(*operation)?, mechanism_numbered(*mechanism)?);
            member
                .sign(session, key_reference(key)?, permitted_use, data)
                .map(ReplyBody::Bytes)
        }
        RequestBody::VerifyMac(VerifyMac {
            key,
            mechanism,
            data,
            mac,
        }) => {
            let mechanism = mechanism_numbered(*mechanism)?;
            member
                .verify_mac(session, key_reference(key)?, mechanism, data, mac)
                .map(ReplyBody::Verdict)
        }
        RequestBody::Encrypt(Encrypt {
            key,
            before_nonce,
            after_nonce,
            plaintext,
        }) => {
            let gcm = gcm(key, before_nonce, after_nonce)?;
            member
                .encrypt_gcm(session, gcm, plaintext)
                .map(|output| ReplyBody::Encrypted(output.into()))
        }
        RequestBody::Decrypt(Decrypt {
            key,
            before_nonce,
            after_nonce,
            nonce,
            ciphertext,
        }) => {
            let gcm = gcm(key, before_nonce, after_nonce)?;
            member
                .decrypt_gcm(session, gcm, nonce_of(nonce)?, ciphertext)
                .map(secret)
        }
        RequestBody::GenerateDataKey(GenerateDataKey { with, length, reveal }) => {
            let (encrypted, plaintext) = member.generate_data_key(session, with_data(with)?, *length as usize)?;
            Ok(ReplyBody::DataKey(DataKey {
                encrypted: encrypted.into(),
                plaintext: reveal.then(|| plaintext.into()),
            }))
        }
        RequestBody::ReEncrypt(ReEncrypt {
            source,
            nonce,
            ciphertext,
            destination,
        }) => {
            let (source, destination) = (with_data(source)?, with_data(destination)?);
            member
                .re_encrypt(session, source, nonce_of(nonce)?, ciphertext, destination)
                .map(|output| ReplyBody::Encrypted(output.into()))
        }
        RequestBody::EncryptBare(EncryptBare {
            key,
            mechanism,
            plaintext,
            iv,
            associated_data,
        }) => {
            let mode = Mode {
                mechanism: mechanism_numbered(*mechanism)?,
                iv,
                associated_data,
            };
            let output = member.encrypt_bare(session, key_reference(key)?, mode, plaintext)?;
            Ok(ReplyBody::Encrypted(Encrypted {
                nonce: output.iv,
                ciphertext: output.ciphertext,
            }))
        }
        RequestBody::DecryptBare(DecryptBare {
            key,
            mechanism,
            iv,
            ciphertext,
            associated_data,
        }) => {
            let mode = Mode {
                mechanism: mechanism_numbered(*mechanism)?,
                iv,
                associated_data,
            };
            member
                .decrypt_bare(session, key_reference(key)?, mode, ciphertext)
                .map(secret)
        }
        RequestBody::DecryptAsymmetric(DecryptAsymmetric {
            key,
            mechanism,
            ciphertext,
        }) => {
            let mechanism = mechanism_numbered(*mechanism)?;
            member
                .decrypt_asymmetric(session, key_reference(key)?, mechanism, ciphertext)
                .map(secret)
        }
        RequestBody::Agree(Agree { key, peer_point }) => {
            member.agree(session, key_reference(key)?, peer_point).map(secret)
        }
        RequestBody::GenerateWrapped(request) => {
            let new = new_key(request, storage_of(request))?;
            member.generate(session, &new).map(ReplyBody::Bytes)
        }
        RequestBody::Random(Random { length }) => member.random(session, *length as usize).map(secret),
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

/// Which making of a resident version is meant, if it has a name.
pub(super) fn making(bytes: &[u8]) -> Result<Option<Uuid>, Error> {
    match bytes {
        [] => Ok(None),
        bytes => Uuid::from_slice(bytes).map(Some).map_err(|_| malformed("the making")),
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
        making: making(&request.making)?,
    })
}

/// A field of a request that the gateway of this build does not send.
pub(super) fn malformed(what: &str) -> Error {
    Error::Refused(format!("{what} is malformed"))
}

pub(super) fn key_reference(key: &Key) -> Result<KeyReference<'_>, Error> {
    let digest: &TokenDigest = key
        .digest
        .as_slice()
        .try_into()
        .map_err(|_| malformed("the token digest"))?;
    Ok(KeyReference {
        digest,
        sealed: key.sealed.as_deref(),
    })
}

fn gcm<'a>(key: &'a Key, before_nonce: &'a [u8], after_nonce: &'a [u8]) -> Result<Gcm<'a>, Error> {
    Ok(Gcm {
        key: key_reference(key)?,
        associated_data: GcmAssociatedData {
            before_nonce,
            after_nonce,
        },
    })
}

fn with_data(with: &KeyWithData) -> Result<Gcm<'_>, Error> {
    gcm(&with.key, &with.before_nonce, &with.after_nonce)
}

fn nonce_of(bytes: &[u8]) -> Result<&[u8; 12], Error> {
    bytes.try_into().map_err(|_| malformed("the nonce"))
}

fn secret(bytes: Zeroizing<Vec<u8>>) -> ReplyBody {
    ReplyBody::Secret(Secret::from(bytes))
}

impl From<GcmOutput> for Encrypted {
    fn from(output: GcmOutput) -> Self {
        Self {
            nonce: output.nonce.to_vec(),
            ciphertext: output.ciphertext,
        }
    }
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

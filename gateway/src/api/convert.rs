//! Between the API's messages and the gateway's types.

use super::{ApiError, Reason};
use crate::{
    crypto::{ciphertext::Authenticated, signature::Encoding},
    keys::{
        directory::{KeyRecord, VersionRecord},
        purpose::Purpose,
        record::{self, Protection, RingRow},
        state::VersionState,
    },
};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation, PermittedUse},
    key_token::{Origin, Storage},
};
use portcullis_proto::v1;
use prost_types::Timestamp;
use std::collections::{BTreeMap, HashMap};
use time::OffsetDateTime;
use uuid::Uuid;

/// A ring as the API shows it.
pub(super) fn ring(row: &RingRow) -> v1::KeyRing {
    v1::KeyRing {
        name: format!("keyRings/{}", row.id),
        uid: row.uid.to_string(),
        labels: row.labels.clone().into_iter().collect(),
        create_time: Some(timestamp(row.created)),
        etag: row.revision.to_string(),
    }
}

/// A key as the API shows it.
pub(super) fn key(record: &KeyRecord) -> v1::Key {
    let primary = record.primary();
    v1::Key {
        name: record.key.name.to_string(),
        uid: record.key.uid.to_string(),
        r#type: primary.token.key_type.number().into(),
        purpose: record.key.purpose as i32,
        permitted_uses: primary
            .token
            .uses
            .iter()
            .map(|one| v1::PermittedUse {
                operation: one.operation.number().into(),
                mechanism: one.mechanism.number().into(),
            })
            .collect(),
        protection: record.key.protection as i32,
        exportable: primary.token.storage == Storage::Portable,
        labels: record.key.labels.clone().into_iter().collect(),
        primary_version: record.key.primary_version,
        primary: Some(version(record, primary)),
        create_time: Some(timestamp(record.key.created)),
        etag: record.key.revision.to_string(),
        destroy_window: None,
    }
}

/// A version as the API shows it.
pub(super) fn version(record: &KeyRecord, version: &VersionRecord) -> v1::KeyVersion {
    let resident = record.key.protection == Protection::Resident;
    v1::KeyVersion {
        name: record.key.name.version(version.row.number),
        version: version.row.number,
        state: version.row.state as i32,
        state_reason: String::new(),
        origin: match version.token.origin {
            Origin::ImportedWrapped => v1::KeyOrigin::ImportedWrapped,
            Origin::ImportedClear => v1::KeyOrigin::ImportedClear,
            _ => v1::KeyOrigin::Generated,
        }
        .into(),
        domain_epoch: version.token.epoch,
        members: version
            .row
            .members
            .iter()
            .map(|member| format!("members/{member}"))
            .collect(),
        single_replica: resident && version.row.members.len() == 1,
        create_time: Some(timestamp(version.row.created)),
        activation_time: (version.row.state == VersionState::Active).then(|| timestamp(version.row.created)),
        etag: version.row.revision.to_string(),
        ..v1::KeyVersion::default()
    }
}

/// A required key type.
pub(super) fn key_type(number: i32) -> Result<KeyType, ApiError> {
    u16::try_from(number)
        .ok()
        .and_then(KeyType::from_number)
        .ok_or_else(|| ApiError::field("key.type", format!("expected a key type, found {number}")))
}

/// A purpose; none when unspecified.
pub(super) fn purpose(number: i32) -> Result<Option<Purpose>, ApiError> {
    match (number, Purpose::from_number(number)) {
        (0, _) => Ok(None),
        (_, Some(purpose)) => Ok(Some(purpose)),
        (_, None) => Err(ApiError::field(
            "key.purpose",
            format!("expected a purpose, found {number}"),
        )),
    }
}

/// A protection; wrapped when unspecified.
pub(super) fn protection(number: i32) -> Result<Protection, ApiError> {
    match number {
        0 => Ok(Protection::Wrapped),
        number => Protection::from_number(number.into())
            .ok_or_else(|| ApiError::field("key.protection", format!("expected a protection, found {number}"))),
    }
}

/// The listed uses.
pub(super) fn permitted_uses(uses: &[v1::PermittedUse]) -> Result<Vec<PermittedUse>, ApiError> {
    let read = |one: &v1::PermittedUse| {
        let operation = u8::try_from(one.operation).ok().and_then(Operation::from_number)?;
        let mechanism = u16::try_from(one.mechanism).ok().and_then(Mechanism::from_number)?;
        Some(PermittedUse { operation, mechanism })
    };
    uses.iter()
        .map(|one| {
            read(one).ok_or_else(|| {
                let found = format!("operation {}, mechanism {}", one.operation, one.mechanism);
                ApiError::field(
                    "key.permitted_uses",
                    format!("expected an operation and a mechanism, found {found}"),
                )
            })
        })
        .collect()
}

/// A mechanism that the caller chose; none when unspecified.
pub(super) fn mechanism(number: i32) -> Result<Option<Mechanism>, ApiError> {
    match number {
        0 => Ok(None),
        number => match u16::try_from(number).ok().and_then(Mechanism::from_number) {
            Some(mechanism) => Ok(Some(mechanism)),
            None => Err(ApiError::field(
                "mechanism",
                format!("expected a mechanism, found {number}"),
            )),
        },
    }
}

/// An encoding; DER when unspecified.
pub(super) fn encoding(number: i32) -> Result<Encoding, ApiError> {
    match v1::SignatureEncoding::try_from(number) {
        Ok(v1::SignatureEncoding::Unspecified | v1::SignatureEncoding::Der) => Ok(Encoding::Der),
        Ok(v1::SignatureEncoding::P1363) => Ok(Encoding::P1363),
        Err(_) => Err(ApiError::field(
            "encoding",
            format!("expected an encoding, found {number}"),
        )),
    }
}

/// Labels within their limits.
pub(super) fn labels(labels: HashMap<String, String>) -> Result<BTreeMap<String, String>, ApiError> {
    let labels = labels.into_iter().collect();
    record::check_labels(&labels).map_err(|message| ApiError::field("labels", message))?;
    Ok(labels)
}

/// The request id of a change; none when empty.
pub(super) fn request_id(text: &str) -> Result<Option<Uuid>, ApiError> {
    match text {
        "" => Ok(None),
        text => match Uuid::parse_str(text) {
            Ok(id) if !id.is_nil() => Ok(Some(id)),
            _ => Err(ApiError::field("request_id", "expected a UUID")),
        },
    }
}

/// An encryption context within its limits.
pub(super) fn context(context: v1::EncryptionContext, limit: usize) -> Result<Authenticated, ApiError> {
    let size: usize = context.values.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > limit.min(MAX_CONTEXT) {
        let message = format!(
            "the encryption context has {size} bytes; at most {} were expected",
            limit.min(MAX_CONTEXT)
        );
        return Err(ApiError::new(Reason::PayloadTooLarge, message)
            .with("limit", limit.min(MAX_CONTEXT).to_string())
            .with("actual", size.to_string()));
    }
    Ok(Authenticated::Context(context.values.into_iter().collect()))
}

/// A time as the API shows it.
pub(super) fn timestamp(time: OffsetDateTime) -> Timestamp {
    Timestamp {
        seconds: time.unix_timestamp(),
        nanos: time.nanosecond() as i32,
    }
}

const MAX_CONTEXT: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers in tokens and rows are those of the API; a difference would make keys change their meaning.
    #[test]
    fn numbers_agree_with_the_api() {
        for key_type in KeyType::ALL {
            let api = v1::KeyType::try_from(i32::from(key_type.number())).expect("known to the API");
            assert_eq!(api.as_str_name(), format!("KEY_TYPE_{key_type}"));
        }
        for mechanism in Mechanism::ALL {
            let api = v1::Mechanism::try_from(i32::from(mechanism.number())).expect("known to the API");
            assert_eq!(api.as_str_name(), format!("MECHANISM_{mechanism}"));
        }
        for operation in Operation::ALL {
            let api = v1::KeyOperation::try_from(i32::from(operation.number())).expect("known to the API");
            assert_eq!(api.as_str_name(), format!("KEY_OPERATION_{operation}"));
        }
        for state in VersionState::ALL {
            let api = v1::KeyVersionState::try_from(state as i32).expect("known to the API");
            assert_eq!(api.as_str_name(), format!("KEY_VERSION_STATE_{state}"));
        }
    }
}

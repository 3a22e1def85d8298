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
    algorithm::{KeyType, Mechanism, Operation, PermittedUse, PermittedUses},
    key_token::Origin,
};
use portcullis_proto::v1;
use prost_types::Timestamp;
use std::{collections::BTreeMap, time::Duration};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// A ring as the API shows it.
pub(super) fn ring(row: &RingRow) -> v1::KeyRing {
    v1::KeyRing {
        name: format!("keyRings/{}", row.id),
        uid: row.uid.to_string(),
        labels: row.labels.clone(),
        create_time: Some(timestamp(row.created)),
        etag: row.revision.to_string(),
        least_destroy_window: Some(to_duration(row.least_destroy_window)),
    }
}

/// A key as the API shows it.
pub(super) fn key(record: &KeyRecord) -> v1::Key {
    v1::Key {
        name: record.key.name.to_string(),
        uid: record.key.uid.to_string(),
        r#type: record.profile.key_type.number().into(),
        purpose: record.key.purpose as i32,
        permitted_uses: uses(&record.profile.uses),
        protection: record.key.protection as i32,
        exportable: record.profile.exportable,
        labels: record.key.labels.clone(),
        primary_version: record.key.primary_version,
        primary: Some(version(record, record.primary())),
        create_time: Some(timestamp(record.key.created)),
        etag: record.key.revision.to_string(),
        destroy_window: Some(to_duration(record.profile.destroy_window)),
        versions: Vec::new(),
    }
}

/// A key with those of its versions that are chosen, and their public halves.
pub(super) fn key_with_versions(record: &KeyRecord, chosen: impl Fn(&VersionRecord) -> bool) -> v1::Key {
    let versions = record.versions.iter().filter(|version| chosen(version));
    v1::Key {
        versions: versions
            .map(|one| v1::KeyVersion {
                public_key: one.public_key().to_vec().into(),
                ..version(record, one)
            })
            .collect(),
        ..key(record)
    }
}

/// Permitted uses as the API shows them.
pub(super) fn uses(uses: &PermittedUses) -> Vec<v1::PermittedUse> {
    uses.iter()
        .map(|one| v1::PermittedUse {
            operation: one.operation.number().into(),
            mechanism: one.mechanism.number().into(),
        })
        .collect()
}

/// A version as the API shows it, without its use count.
pub(super) fn version(record: &KeyRecord, version: &VersionRecord) -> v1::KeyVersion {
    let resident = record.key.protection == Protection::Resident;
    let row = version.folded();
    let history = row.history;
    let origin = match version.origin() {
        None => v1::KeyOrigin::Unspecified,
        Some(Origin::ImportedWrapped) => v1::KeyOrigin::ImportedWrapped,
        Some(Origin::ImportedClear) => v1::KeyOrigin::ImportedClear,
        Some(_) => v1::KeyOrigin::Generated,
    };
    let destruction = match (row.state, &history.remains) {
        (VersionState::Destroyed, None) => v1::KeyDestruction::Nothing,
        (VersionState::Destroyed, Some(_)) if resident => v1::KeyDestruction::HsmObject,
        (VersionState::Destroyed, Some(_)) => v1::KeyDestruction::StoredToken,
        _ => v1::KeyDestruction::Unspecified,
    };
    v1::KeyVersion {
        name: record.key.name.version(row.number),
        version: row.number,
        state: row.state as i32,
        state_reason: history.reason,
        origin: origin.into(),
        domain_epoch: version.epoch().unwrap_or(0),
        members: row.members.iter().map(|member| format!("members/{member}")).collect(),
        single_replica: resident && row.members.len() == 1,
        create_time: Some(timestamp(row.created)),
        activation_time: history.activated.map(timestamp),
        deactivation_time: history.deactivated.map(timestamp),
        compromise_time: history.compromised.map(timestamp),
        destroy_time: history.destroy.map(timestamp),
        use_count: None,
        etag: version.revision().to_string(),
        destruction: destruction.into(),
        public_key: Default::default(),
    }
}

/// A required key type.
pub(super) fn key_type(number: i32) -> Result<KeyType, ApiError> {
    u16::try_from(number)
        .ok()
        .and_then(KeyType::from_number)
        .ok_or_else(|| ApiError::field("key.type", format!("expected a KeyType, found {number}")))
}

/// A purpose; none when unspecified.
pub(super) fn purpose(number: i32) -> Result<Option<Purpose>, ApiError> {
    match (number, Purpose::from_number(number)) {
        (0, _) => Ok(None),
        (_, Some(purpose)) => Ok(Some(purpose)),
        (_, None) => Err(ApiError::field(
            "key.purpose",
            format!("expected a KeyPurpose, or none, found {number}"),
        )),
    }
}

/// A protection; wrapped when unspecified.
pub(super) fn protection(number: i32) -> Result<Protection, ApiError> {
    match number {
        0 => Ok(Protection::Wrapped),
        number => Protection::from_number(number.into())
            .ok_or_else(|| ApiError::field("key.protection", format!("expected a KeyProtection, found {number}"))),
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
                    format!("expected a KeyOperation and a Mechanism, found {found}"),
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
                format!("expected a Mechanism, found {number}"),
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
            format!("expected a SignatureEncoding, found {number}"),
        )),
    }
}

/// Labels within their limits.
pub(super) fn labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ApiError> {
    record::check_labels(&labels).map_err(|message| ApiError::field("labels", message))?;
    Ok(labels)
}

/// The request id of a change; none when empty.
pub(super) fn request_id(text: &str) -> Result<Option<Uuid>, ApiError> {
    match text {
        "" => Ok(None),
        text => match Uuid::parse_str(text) {
            Ok(id) if !id.is_nil() => Ok(Some(id)),
            _ => {
                let shown: String = text.chars().take(60).collect();
                Err(ApiError::field(
                    "request_id",
                    format!("expected a UUID that is not zero, or none, found \"{shown}\""),
                ))
            }
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
    Ok(Authenticated::Context(context.values))
}

/// A time as the API shows it.
pub(super) fn timestamp(time: OffsetDateTime) -> Timestamp {
    Timestamp {
        seconds: time.unix_timestamp(),
        nanos: time.nanosecond() as i32,
    }
}

/// A time as the audit log writes it (RFC 3339); none where that has no such form.
pub(super) fn text_time(time: OffsetDateTime) -> Option<String> {
    time.format(&Rfc3339).ok()
}

/// A duration that a caller gave, in whole seconds.
pub(super) fn duration(field: &'static str, duration: prost_types::Duration) -> Result<Duration, ApiError> {
    match (u64::try_from(duration.seconds), duration.nanos) {
        (Ok(seconds), 0) if seconds <= LONGEST_DURATION => Ok(Duration::from_secs(seconds)),
        _ => Err(ApiError::field(
            field,
            format!(
                "expected a duration of 0 to {LONGEST_DURATION} whole seconds, found {} s and {} ns",
                duration.seconds, duration.nanos
            ),
        )),
    }
}

/// A duration as the API shows it.
pub(super) fn to_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: 0,
    }
}

/// A hundred years, beyond which times have no meaning here.
const LONGEST_DURATION: u64 = 100 * 366 * 24 * 3600;
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

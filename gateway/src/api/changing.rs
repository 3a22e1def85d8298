//! What all changes have in common: they run to their end, are recognised when they are repeated, say which revision they are
//! meant for and which fields they touch.

use super::{ApiError, Reason, call::Call, convert};
use crate::{
    keys::{
        change::{Mode, Terms},
        name::KeyRingName,
        record::check_labels,
    },
    store::Idempotency,
    telemetry,
};
use prost::Message;
use prost_types::FieldMask;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tonic::{Response, Status};
use uuid::Uuid;

/// Runs a change to its end, even when its caller goes away: between the commit and the audit entry nothing may stop it.
pub(super) async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<Response<T>, Status>> + Send + 'static,
) -> Result<Response<T>, Status> {
    // A panic in the change has written its audit entry when its call was dropped.
    tokio::spawn(telemetry::follow(change)).await.unwrap_or_else(|_| {
        let error = ApiError::new(
            Reason::Internal,
            "the change was interrupted by a mistake in the gateway",
        );
        Err(error.into_status(&Uuid::now_v7().to_string()))
    })
}

/// The caller's promise to recognise a repetition. The hash covers the whole request and what it does; equal messages have
/// equal bytes, because their maps are sorted.
pub(super) fn once(call: &mut Call, request_id: &str, request: &impl Message) -> Result<Option<Idempotency>, ApiError> {
    let Some(request_id) = convert::request_id(request_id)? else {
        return Ok(None);
    };
    call.note_request_id(request_id);
    let mut hash = Sha256::new_with_prefix(call.action().name());
    hash.update([0]);
    hash.update(request.encode_to_vec());
    Ok(Some(Idempotency {
        principal: call.principal().to_owned(),
        request_id,
        request_hash: hash.finalize().into(),
        version: None,
    }))
}

/// What accompanies a change.
pub(super) fn terms(
    call: &mut Call,
    etag: &str,
    request_id: &str,
    validate_only: bool,
    request: &impl Message,
) -> Result<Terms, ApiError> {
    call.note_check_only(validate_only);
    Ok(Terms {
        expected: expected(etag)?,
        once: once(call, request_id, request)?,
        mode: if validate_only { Mode::Check } else { Mode::Make },
        principal: call.errand().principal,
        deadline: call.deadline(),
    })
}

/// The revision that an etag stands for; none when it is empty.
pub(super) fn expected(etag: &str) -> Result<Option<u64>, ApiError> {
    match etag {
        "" => Ok(None),
        etag => match etag.parse() {
            Ok(revision) => Ok(Some(revision)),
            Err(_) => {
                let shown: String = etag.chars().take(60).collect();
                let message = format!("expected the etag that the resource was read with, or none, found \"{shown}\"");
                Err(ApiError::field("etag", message))
            }
        },
    }
}

/// The paths of a mask, which must name something.
pub(super) fn paths(mask: Option<FieldMask>) -> Result<Vec<String>, ApiError> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        return Err(ApiError::field(
            "update_mask",
            "expected the fields to change, found none",
        ));
    }
    Ok(paths)
}

/// The refusal of a path that names nothing that can be changed.
pub(super) fn unknown_path(path: &str, expected: &str) -> ApiError {
    let shown: String = path.chars().take(60).collect();
    ApiError::field(
        "update_mask",
        format!("\"{shown}\" cannot be changed; expected {expected}"),
    )
}

/// What a mask's paths say of labels.
#[derive(Debug, Clone, Default)]
pub(super) struct LabelChange {
    all: Option<BTreeMap<String, String>>,
    single: Vec<(String, Option<String>)>,
}

impl LabelChange {
    /// Takes a path, if it is one of labels.
    pub(super) fn take(&mut self, path: &str, wanted: &BTreeMap<String, String>) -> bool {
        match path.strip_prefix("labels") {
            Some("") => self.all = Some(wanted.clone()),
            Some(rest) => match rest.strip_prefix('.') {
                Some(name) if !name.is_empty() => self.single.push((name.to_owned(), wanted.get(name).cloned())),
                _ => return false,
            },
            None => return false,
        }
        true
    }

    /// Checks the new labels as far as that is possible without the old ones.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        let mut labels = self.all.clone().unwrap_or_default();
        labels.extend(
            self.single
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.clone()?))),
        );
        check_labels(&labels).map_err(|message| ApiError::field("labels", message))
    }

    /// Makes the change; says what is wrong with the result.
    pub(super) fn apply(self, labels: &mut BTreeMap<String, String>) -> Result<(), String> {
        if let Some(all) = self.all {
            *labels = all;
        }
        for (name, value) in self.single {
            match value {
                Some(value) => labels.insert(name, value),
                None => labels.remove(&name),
            };
        }
        check_labels(labels)
    }
}

/// The ring of a parent.
pub(super) fn ring_of(parent: &str) -> Result<crate::keys::name::Id, ApiError> {
    let KeyRingName(ring) = KeyRingName::parse(parent)?;
    Ok(ring)
}

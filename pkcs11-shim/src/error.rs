//! What can go wrong: a return code of PKCS#11, and words for the log.

use cryptoki_sys::*;
use std::fmt;

/// The result of what a caller asked for.
pub type Result<T> = std::result::Result<T, Error>;

/// A return code other than `CKR_OK`, and what the log says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    code: CK_RV,
    /// The gateway's reason, where it is that.
    reason: Option<String>,
    detail: Option<String>,
}

impl Error {
    /// A code with words. They never hold key material, PINs or payloads.
    pub fn new(code: CK_RV, detail: impl Into<String>) -> Self {
        Self {
            code,
            reason: None,
            detail: Some(detail.into()),
        }
    }

    /// What the gateway answered: its reason decides the code.
    pub fn from_reason(reason: &str, message: &str) -> Self {
        Self {
            reason: Some(reason.to_owned()),
            ..Self::new(code_of(reason), format!("the gateway: {reason}: {message}"))
        }
    }

    /// Whether it is the gateway's, for this reason.
    pub fn is(&self, reason: &str) -> bool {
        self.reason.as_deref() == Some(reason)
    }

    /// The code that the caller gets.
    pub fn code(&self) -> CK_RV {
        self.code
    }

    /// The words, where there are any.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl From<CK_RV> for Error {
    fn from(code: CK_RV) -> Self {
        Self {
            code,
            reason: None,
            detail: None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}", self.code)?;
        match &self.detail {
            Some(detail) => write!(formatter, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The code for a reason of the gateway; `CKR_FUNCTION_FAILED` for one that is not known here.
pub fn code_of(reason: &str) -> CK_RV {
    let row = REASONS.iter().find(|(known, _)| *known == reason);
    row.map_or(CKR_FUNCTION_FAILED, |(_, code)| *code)
}

/// Every reason of the gateway with the code that a caller gets for it.
pub const REASONS: &[(&str, CK_RV)] = &[
    ("KEY_NOT_FOUND", CKR_KEY_HANDLE_INVALID),
    ("KEY_RING_NOT_FOUND", CKR_TOKEN_NOT_PRESENT),
    ("KEY_VERSION_NOT_FOUND", CKR_KEY_HANDLE_INVALID),
    ("SERVICE_UNKNOWN", CKR_DEVICE_ERROR),
    ("MEMBER_NOT_FOUND", CKR_DEVICE_ERROR),
    ("KEY_ALREADY_EXISTS", CKR_ATTRIBUTE_VALUE_INVALID),
    ("KEY_RING_ALREADY_EXISTS", CKR_ATTRIBUTE_VALUE_INVALID),
    ("RESOURCE_NOT_FOUND", CKR_OBJECT_HANDLE_INVALID),
    ("RESOURCE_ALREADY_EXISTS", CKR_ATTRIBUTE_VALUE_INVALID),
    ("ETAG_MISMATCH", CKR_FUNCTION_FAILED),
    ("CONCURRENT_CHANGE", CKR_FUNCTION_FAILED),
    ("KEY_USAGE_LIMIT", CKR_KEY_FUNCTION_NOT_PERMITTED),
    ("RATE_LIMITED", CKR_DEVICE_MEMORY),
    ("RESPONSE_TOO_LARGE", CKR_DEVICE_MEMORY),
    ("INVALID_NAME", CKR_ATTRIBUTE_VALUE_INVALID),
    ("FIELD_INVALID", CKR_ARGUMENTS_BAD),
    ("ALGORITHM_MISMATCH", CKR_KEY_FUNCTION_NOT_PERMITTED),
    ("DIGEST_LENGTH_MISMATCH", CKR_DATA_LEN_RANGE),
    ("PAYLOAD_TOO_LARGE", CKR_DATA_LEN_RANGE),
    ("CHECKSUM_MISMATCH", CKR_DEVICE_ERROR),
    ("DECRYPTION_FAILED", CKR_ENCRYPTED_DATA_INVALID),
    ("IMPORT_REFUSED", CKR_WRAPPED_KEY_INVALID),
    ("EXPORT_REFUSED", CKR_KEY_UNEXTRACTABLE),
    ("IMPORT_JOB_EXPIRED", CKR_FUNCTION_FAILED),
    ("IMPORT_JOB_USED", CKR_FUNCTION_FAILED),
    ("KEY_TOKEN_INVALID", CKR_KEY_HANDLE_INVALID),
    ("KEY_TOKEN_EXPIRED", CKR_KEY_HANDLE_INVALID),
    ("KEY_TOKEN_REVOKED", CKR_KEY_HANDLE_INVALID),
    ("REQUEST_ID_REUSED", CKR_FUNCTION_FAILED),
    ("REQUEST_MALFORMED", CKR_DEVICE_ERROR),
    ("SINGLE_REPLICA_NOT_ACCEPTED", CKR_TEMPLATE_INCONSISTENT),
    ("KEY_STATE_FORBIDS_OPERATION", CKR_KEY_FUNCTION_NOT_PERMITTED),
    ("ACCESS_DENIED", CKR_ACTION_PROHIBITED),
    ("UNAUTHENTICATED", CKR_USER_NOT_LOGGED_IN),
    ("CERTIFICATE_EXPIRED", CKR_USER_NOT_LOGGED_IN),
    ("CERTIFICATE_REVOKED", CKR_USER_NOT_LOGGED_IN),
    ("CERTIFICATE_UNTRUSTED", CKR_USER_NOT_LOGGED_IN),
    ("MECHANISM_UNSUPPORTED", CKR_MECHANISM_INVALID),
    ("METHOD_NOT_AVAILABLE", CKR_FUNCTION_NOT_SUPPORTED),
    ("HSM_UNAVAILABLE", CKR_DEVICE_ERROR),
    ("HSM_SATURATED", CKR_DEVICE_MEMORY),
    ("LAST_MEMBER", CKR_DEVICE_ERROR),
    ("WORKER_NOT_STARTED", CKR_DEVICE_ERROR),
    ("REQUESTS_SATURATED", CKR_DEVICE_MEMORY),
    ("GATEWAY_STOPPING", CKR_DEVICE_ERROR),
    ("AUDIT_UNAVAILABLE", CKR_DEVICE_ERROR),
    ("STORE_UNAVAILABLE", CKR_DEVICE_ERROR),
    ("DEADLINE_EXCEEDED", CKR_DEVICE_ERROR),
    ("RECORD_NOT_AUTHENTIC", CKR_DEVICE_ERROR),
    ("RESIDENT_KEY_MISSING", CKR_DEVICE_ERROR),
    ("REQUEST_TOO_LARGE", CKR_DATA_LEN_RANGE),
    ("INTERNAL", CKR_DEVICE_ERROR),
];

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_gateway::api::Reason;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_of_the_gateway_has_a_row_and_every_row_is_a_reason() {
        let here: BTreeSet<_> = REASONS.iter().map(|(reason, _)| *reason).collect();
        let there: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(here, there);
        assert_eq!(here.len(), REASONS.len(), "a reason has two rows");
        assert!(
            REASONS
                .iter()
                .all(|(reason, code)| code_of(reason) == *code && *code != CKR_OK)
        );
        assert_eq!(code_of("SOMETHING_NEW"), CKR_FUNCTION_FAILED);
    }
}

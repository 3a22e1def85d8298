//! What a caller is told when something does not work: a gRPC code, a stable reason, words, and when to retry.

use crate::{
    audit::AuditError,
    cluster::ClusterError,
    identity::EndReason,
    keys::{
        change::ChangeError, directory::DirectoryError, document::DocumentError, ephemeral::EphemeralError,
        name::NameError, use_count::UseError,
    },
    quota::QuotaExceeded,
    store::StoreError,
};
use portcullis_proto::{ERROR_DOMAIN, v1};
use std::{collections::HashMap, time::Duration};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $code:ident;)*) => {
        /// The stable reasons. Programs decide by them, so none ever changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The reason of a name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().find(|one| one.name() == name).copied()
            }

            /// The reason as it stands in `google.rpc.ErrorInfo`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The gRPC code that goes with it.
            pub fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)* }
            }
        }
    };
}

reasons! {
    /// The key does not exist.
    KeyNotFound = "KEY_NOT_FOUND", NotFound;
    /// The key ring does not exist.
    KeyRingNotFound = "KEY_RING_NOT_FOUND", NotFound;
    /// The version does not exist.
    KeyVersionNotFound = "KEY_VERSION_NOT_FOUND", NotFound;
    /// The health service knows no service of this name.
    ServiceUnknown = "SERVICE_UNKNOWN", NotFound;
    /// The member does not exist.
    MemberNotFound = "MEMBER_NOT_FOUND", NotFound;
    /// The name is taken by another key.
    KeyAlreadyExists = "KEY_ALREADY_EXISTS", AlreadyExists;
    /// The name is taken by another ring.
    KeyRingAlreadyExists = "KEY_RING_ALREADY_EXISTS", AlreadyExists;
    /// The resource does not exist.
    ResourceNotFound = "RESOURCE_NOT_FOUND", NotFound;
    /// The name is taken.
    ResourceAlreadyExists = "RESOURCE_ALREADY_EXISTS", AlreadyExists;
    /// The resource changed since the caller read it.
    EtagMismatch = "ETAG_MISMATCH", Aborted;
    /// Somebody else changed the resource at the same time.
    ConcurrentChange = "CONCURRENT_CHANGE", Aborted;
    /// The version was used as often as it may be.
    KeyUsageLimit = "KEY_USAGE_LIMIT", ResourceExhausted;
    /// The principal asked for more than its share.
    RateLimited = "RATE_LIMITED", ResourceExhausted;
    /// The answer would be longer than any answer may be.
    ResponseTooLarge = "RESPONSE_TOO_LARGE", OutOfRange;
    /// A resource name is not of its form.
    InvalidName = "INVALID_NAME", InvalidArgument;
    /// A field has a value that it cannot have.
    FieldInvalid = "FIELD_INVALID", InvalidArgument;
    /// The key cannot be used so.
    AlgorithmMismatch = "ALGORITHM_MISMATCH", InvalidArgument;
    /// A digest is not as long as the mechanism's hash.
    DigestLengthMismatch = "DIGEST_LENGTH_MISMATCH", InvalidArgument;
    /// A payload is longer than the configured limit.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", InvalidArgument;
    /// A payload does not have the checksum that came with it.
    ChecksumMismatch = "CHECKSUM_MISMATCH", InvalidArgument;
    /// The ciphertext or its associated data are wrong; which, is not said.
    DecryptionFailed = "DECRYPTION_FAILED", InvalidArgument;
    /// What was to be imported cannot be unwrapped, or is not what it was declared to be.
    ImportRefused = "IMPORT_REFUSED", InvalidArgument;
    /// The key may not be exported, or not to this recipient or under this key.
    ExportRefused = "EXPORT_REFUSED", FailedPrecondition;
    /// The import job's time is over.
    ImportJobExpired = "IMPORT_JOB_EXPIRED", FailedPrecondition;
    /// The import job was used: it is good for one import.
    ImportJobUsed = "IMPORT_JOB_USED", FailedPrecondition;
    /// The key token is none that this cluster made: changed, of another kind, or of another domain.
    KeyTokenInvalid = "KEY_TOKEN_INVALID", InvalidArgument;
    /// The key token's time is over.
    KeyTokenExpired = "KEY_TOKEN_EXPIRED", FailedPrecondition;
    /// The key token was revoked.
    KeyTokenRevoked = "KEY_TOKEN_REVOKED", FailedPrecondition;
    /// The request id was used for another request.
    RequestIdReused = "REQUEST_ID_REUSED", InvalidArgument;
    /// The request is not a message of its type.
    RequestMalformed = "REQUEST_MALFORMED", InvalidArgument;
    /// A resident key would live on one member, and the caller did not accept that.
    SingleReplicaNotAccepted = "SINGLE_REPLICA_NOT_ACCEPTED", FailedPrecondition;
    /// The version's state does not permit the operation.
    KeyStateForbidsOperation = "KEY_STATE_FORBIDS_OPERATION", FailedPrecondition;
    /// No rule allows it.
    AccessDenied = "ACCESS_DENIED", PermissionDenied;
    /// The caller is unknown.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated;
    /// The client certificate of this connection has expired.
    CertificateExpired = "CERTIFICATE_EXPIRED", Unauthenticated;
    /// The client certificate of this connection was revoked.
    CertificateRevoked = "CERTIFICATE_REVOKED", Unauthenticated;
    /// No authority that is trusted now vouches for the client certificate of this connection.
    CertificateUntrusted = "CERTIFICATE_UNTRUSTED", Unauthenticated;
    /// No member has the mechanism.
    MechanismUnsupported = "MECHANISM_UNSUPPORTED", Unimplemented;
    /// The gateway does not serve this call yet.
    MethodNotAvailable = "METHOD_NOT_AVAILABLE", Unimplemented;
    /// No member that could is ready.
    HsmUnavailable = "HSM_UNAVAILABLE", Unavailable;
    /// All members that could have too much to do.
    HsmSaturated = "HSM_SATURATED", ResourceExhausted;
    /// The only member that serves was to be drained.
    LastMember = "LAST_MEMBER", FailedPrecondition;
    /// A worker that was to take another's place did not come into service.
    WorkerNotStarted = "WORKER_NOT_STARTED", FailedPrecondition;
    /// Too many bytes of unfinished requests are arriving.
    RequestsSaturated = "REQUESTS_SATURATED", ResourceExhausted;
    /// The gateway stops; another one, or the same one a little later, serves.
    GatewayStopping = "GATEWAY_STOPPING", Unavailable;
    /// The audit log cannot be written.
    AuditUnavailable = "AUDIT_UNAVAILABLE", Unavailable;
    /// The database failed.
    StoreUnavailable = "STORE_UNAVAILABLE", Unavailable;
    /// It was not done in time.
    DeadlineExceeded = "DEADLINE_EXCEEDED", DeadlineExceeded;
    /// A stored record was changed or swapped.
    RecordNotAuthentic = "RECORD_NOT_AUTHENTIC", DataLoss;
    /// The one member that held a resident key no longer has it.
    ResidentKeyMissing = "RESIDENT_KEY_MISSING", DataLoss;
    /// The request is longer than any request may be.
    RequestTooLarge = "REQUEST_TOO_LARGE", OutOfRange;
    /// A mistake in the gateway or a surprise by an HSM.
    Internal = "INTERNAL", Internal;
}

/// An error as a caller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    reason: Reason,
    message: String,
    metadata: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// An error with words for people.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        // A status travels in a header, which has its limits.
        if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
            message.truncate(end);
            message.push('…');
        }
        Self {
            reason,
            message,
            metadata: Vec::new(),
            retry_after: None,
        }
    }

    /// A field with a value that it cannot have.
    pub fn field(field: &'static str, message: impl std::fmt::Display) -> Self {
        Self::new(Reason::FieldInvalid, format!("{field}: {message}")).with("field", field)
    }

    /// A field that a request must have, and has not.
    pub fn missing(field: &'static str) -> Self {
        Self::field(field, "expected a value, found none: it is required")
    }

    /// The same error with a fact that programs can read.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    /// The same error with the time after which a retry may help.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The status that is sent. The request id finds the request in the audit log.
    pub fn into_status(self, request_id: &str) -> Status {
        let metadata = self.metadata(request_id);
        let mut details = ErrorDetails::with_error_info(self.reason.name(), ERROR_DOMAIN, metadata);
        if let Some(after) = self.retry_after {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(self.reason.code(), self.message, details)
    }

    /// What the status would say, for one operation of several.
    pub fn into_operation_error(self, request_id: &str) -> v1::OperationError {
        v1::OperationError {
            code: self.reason.code().into(),
            metadata: self.metadata(request_id).into_iter().collect(),
            reason: self.reason.name().to_owned(),
            retry_delay: self.retry_after.and_then(|after| after.try_into().ok()),
            message: self.message,
        }
    }

    fn metadata(&self, request_id: &str) -> HashMap<String, String> {
        let facts = self.metadata.iter().map(|(key, value)| (*key, value.as_str()));
        facts
            .chain([("request_id", request_id)])
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::new(Reason::InvalidName, error.to_string())
    }
}

impl From<EndReason> for ApiError {
    fn from(reason: EndReason) -> Self {
        let name = match reason {
            EndReason::CertificateExpired => Reason::CertificateExpired,
            EndReason::CertificateRevoked => Reason::CertificateRevoked,
            EndReason::CertificateUntrusted => Reason::CertificateUntrusted,
        };
        Self::new(name, reason.words())
    }
}

impl From<AuditError> for ApiError {
    fn from(error: AuditError) -> Self {
        // The path and the cause are for the operator's log, which has them.
        tracing::debug!(%error, "a request is refused");
        Self::new(
            Reason::AuditUnavailable,
            "the audit log cannot be written, and nothing is done unseen",
        )
        .retry_after(Duration::from_secs(5))
    }
}

impl From<ClusterError> for ApiError {
    fn from(error: ClusterError) -> Self {
        let message = error.to_string();
        match error {
            ClusterError::Unavailable { retry_after } => {
                Self::new(Reason::HsmUnavailable, message).retry_after(retry_after)
            }
            ClusterError::Saturated { retry_after } => {
                Self::new(Reason::HsmSaturated, message).retry_after(retry_after)
            }
            ClusterError::ShareTaken { retry_after } => {
                Self::new(Reason::HsmSaturated, message).retry_after(retry_after)
            }
            ClusterError::LastMember => Self::new(Reason::LastMember, message),
            ClusterError::RollFailed(_) => Self::new(Reason::WorkerNotStarted, message),
            ClusterError::DeadlinePassed => Self::new(Reason::DeadlineExceeded, message),
            ClusterError::ResidentMissing => {
                tracing::error!("a resident key is not on its member");
                Self::new(Reason::ResidentKeyMissing, message)
            }
            ClusterError::Unsupported { what, members } => Self::new(Reason::MechanismUnsupported, message)
                .with("mechanism", what)
                .with("members", members.join(",")),
            ClusterError::NothingSeals { members, obstacles } => {
                let codes: Vec<_> = obstacles.into_iter().map(|one| one.code).collect();
                Self::new(Reason::MechanismUnsupported, message)
                    .with("protection", "WRAPPED")
                    .with("obstacles", codes.join(","))
                    .with("members", members.join(","))
            }
            ClusterError::ImportRefused(_) => Self::new(Reason::ImportRefused, message),
            ClusterError::ExportRefused(_) => Self::new(Reason::ExportRefused, message),
            ClusterError::DecryptionFailed => Self::decryption_failed(),
            ClusterError::NotAuthentic(_) => Self::new(Reason::RecordNotAuthentic, message),
            ClusterError::Refused(_) | ClusterError::Unverifiable(_) | ClusterError::Protocol => {
                tracing::error!(error = message, "an HSM member surprised the gateway");
                Self::new(
                    Reason::Internal,
                    "an HSM member did not do what it should; the gateway's log says more",
                )
            }
        }
    }
}

impl ApiError {
    /// A name that is taken.
    pub fn already_exists(name: String) -> Self {
        Self::new(Reason::ResourceAlreadyExists, format!("{name} exists already")).with("resource", name)
    }

    /// The one answer to a wrong ciphertext and to wrong associated data.
    pub fn decryption_failed() -> Self {
        Self::new(
            Reason::DecryptionFailed,
            "the ciphertext, its associated data or its key are wrong",
        )
    }
}

impl From<EphemeralError> for ApiError {
    fn from(error: EphemeralError) -> Self {
        let message = error.to_string();
        match error {
            EphemeralError::Invalid => Self::new(Reason::KeyTokenInvalid, message),
            EphemeralError::NotOwner => Self::new(Reason::AccessDenied, message),
            EphemeralError::Expired => Self::new(Reason::KeyTokenExpired, message),
            EphemeralError::Revoked => Self::new(Reason::KeyTokenRevoked, message),
            EphemeralError::Cluster(error) => error.into(),
            EphemeralError::Directory(error) => error.into(),
        }
    }
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        let message = error.to_string();
        match error {
            DirectoryError::NoRing(name) => Self::new(Reason::KeyRingNotFound, message).with("key_ring", name),
            DirectoryError::NoKey(name) => Self::new(Reason::KeyNotFound, message).with("key", name),
            DirectoryError::NotAuthentic { name, .. } => {
                Self::new(Reason::RecordNotAuthentic, message).with("resource", name)
            }
            DirectoryError::Late => StoreError::Late.into(),
            DirectoryError::Store(_) => store_unavailable(&message),
            DirectoryError::Cluster(error) => error.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::AlreadyExists(name) if name.contains("/keys/") => {
                Self::new(Reason::KeyAlreadyExists, message).with("key", name)
            }
            StoreError::AlreadyExists(name) if name.starts_with("keyRings/") => {
                Self::new(Reason::KeyRingAlreadyExists, message).with("key_ring", name)
            }
            StoreError::AlreadyExists(name) => Self::already_exists(name),
            StoreError::NotFound(name) => Self::new(Reason::KeyRingNotFound, message).with("key_ring", name),
            StoreError::Conflict(name) => Self::new(Reason::ConcurrentChange, message)
                .with("resource", name)
                .retry_after(AT_ONCE),
            StoreError::RequestIdReused => Self::new(Reason::RequestIdReused, message),
            StoreError::Malformed(name) => Self::new(Reason::RecordNotAuthentic, message).with("resource", name),
            // The deadline ended it, not the database: that has its own words.
            StoreError::Late => Self::new(Reason::DeadlineExceeded, message),
            StoreError::StateDirectory(_) | StoreError::Database(_) => store_unavailable(&message),
        }
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let message = error.to_string();
        match error {
            ChangeError::Cluster(error) => error.into(),
            ChangeError::Directory(error) => error.into(),
            ChangeError::Audit(error) => error.into(),
            ChangeError::Store(error) => error.into(),
            ChangeError::Uses(error) => error.into(),
            ChangeError::Stale(name) => Self::new(Reason::EtagMismatch, message).with("resource", name),
            ChangeError::NoVersion(name) => Self::new(Reason::KeyVersionNotFound, message).with("version", name),
            ChangeError::State { name, state, required } => Self::new(Reason::KeyStateForbidsOperation, message)
                .with("version", name)
                .with("state", state)
                .with("required_state", required),
            ChangeError::Window { least, most, .. } => Self::new(Reason::FieldInvalid, message)
                .with("field", "window")
                .with("least", least)
                .with("most", most),
            ChangeError::Labels(_) => Self::new(Reason::FieldInvalid, message).with("field", "labels"),
        }
    }
}

impl From<DocumentError> for ApiError {
    fn from(error: DocumentError) -> Self {
        let message = error.to_string();
        match error {
            DocumentError::Missing(name) => Self::new(Reason::ResourceNotFound, message).with("resource", name),
            DocumentError::Stale(name) => Self::new(Reason::EtagMismatch, message).with("resource", name),
            DocumentError::Directory(error) => error.into(),
            DocumentError::Store(error) => error.into(),
            DocumentError::Cluster(error) => error.into(),
        }
    }
}

impl From<QuotaExceeded> for ApiError {
    fn from(exceeded: QuotaExceeded) -> Self {
        match exceeded {
            QuotaExceeded::Rate { retry_after } => {
                let message = "the principal asks for more operations a second than limits.principal_rate allows";
                Self::new(Reason::RateLimited, message).retry_after(retry_after)
            }
            QuotaExceeded::Concurrency => {
                let message = "the principal has as many operations under way as limits.principal_concurrency allows";
                Self::new(Reason::RateLimited, message).retry_after(SOON)
            }
            QuotaExceeded::Bytes => {
                let message = "the requests under way have as many bytes as limits.bytes_under_way allows in all, or half of \
                               them for one principal";
                Self::new(Reason::RateLimited, message).retry_after(SOON)
            }
        }
    }
}

impl From<UseError> for ApiError {
    fn from(error: UseError) -> Self {
        let message = error.to_string();
        match error {
            UseError::Exhausted => Self::new(Reason::KeyUsageLimit, message),
            UseError::NotAuthentic => Self::new(Reason::RecordNotAuthentic, message),
            UseError::Late => StoreError::Late.into(),
            UseError::Store(_) => store_unavailable(&message),
            UseError::Cluster(error) => error.into(),
        }
    }
}

/// A retry may find that other operations of the principal have ended.
pub(super) const SOON: Duration = Duration::from_millis(50);
/// A retry may be made at once.
const AT_ONCE: Duration = Duration::from_millis(10);
const LONGEST_MESSAGE: usize = 400;

fn store_unavailable(error: &str) -> ApiError {
    tracing::error!(error, "the store failed");
    ApiError::new(
        Reason::StoreUnavailable,
        "the gateway's database failed; the gateway's log says more",
    )
    .retry_after(Duration::from_secs(5))
}

//! What can go wrong, grouped by what the caller can do.

use crate::{connection::ConnectionError, credentials::CredentialsError, v1::OperationError};
use std::{collections::BTreeMap, error::Error as StdError, fmt, time::Duration};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

/// What can go wrong, grouped by what the caller can do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The credentials' files are not right. Repair them.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// There is no connection, or it broke. The variant says whether to repair the set-up or to try again.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The gateway does not know who calls. Repair the credentials.
    #[error("{0}")]
    Unauthenticated(Fault),
    /// What the request names does not exist, or is not visible to the caller.
    #[error("{0}")]
    NotFound(Fault),
    /// The gateway refuses the request: policy, state or input. The same request will be refused again.
    #[error("{0}")]
    Refused(Fault),
    /// The gateway cannot do it now. Try again later, or at another gateway.
    #[error("{0}")]
    Unavailable(Fault),
    /// The deadline passed. The request may have been carried out: repeat a creation only with its request id.
    #[error("the call did not finish within its deadline")]
    TimedOut(Option<Fault>),
    /// The gateway failed. Stop, and look into its log.
    #[error("{0}")]
    Internal(Fault),
    /// An answer did not arrive as it was sent: something between the gateway and here changes bytes.
    #[error("the {what} in the gateway's answer does not have the checksum that came with it")]
    Corrupted {
        /// What was changed.
        what: &'static str,
    },
}

impl Error {
    /// What the gateway answered, if it answered.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Credentials(_) | Self::Connection(_) | Self::TimedOut(None) | Self::Corrupted { .. } => None,
            Self::Unauthenticated(fault)
            | Self::NotFound(fault)
            | Self::Refused(fault)
            | Self::Unavailable(fault)
            | Self::TimedOut(Some(fault))
            | Self::Internal(fault) => Some(fault),
        }
    }

    /// From a failure below gRPC. The reason is somewhere in the chain of sources, as one of the types known here.
    pub(crate) fn from_chain(error: &(dyn StdError + 'static)) -> Self {
        let mut cause = error;
        loop {
            if let Some(error) = cause.downcast_ref::<Self>() {
                return error.clone();
            }
            if cause.is::<TimeoutExpired>() {
                return Self::TimedOut(None);
            }
            match cause.source() {
                Some(deeper) => cause = deeper,
                None => {
                    return ConnectionError::Lost {
                        detail: cause.to_string(),
                    }
                    .into();
                }
            }
        }
    }

    fn from_fault(fault: Fault) -> Self {
        match fault.code {
            Code::NotFound => Self::NotFound(fault),
            Code::Unauthenticated => Self::Unauthenticated(fault),
            Code::DeadlineExceeded => Self::TimedOut(Some(fault)),
            Code::Unavailable | Code::Cancelled => Self::Unavailable(fault),
            Code::Internal | Code::Unknown | Code::DataLoss | Code::Ok => Self::Internal(fault),
            _ if fault.retry_delay.is_some() => Self::Unavailable(fault),
            Code::InvalidArgument
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented => Self::Refused(fault),
        }
    }
}

impl From<Status> for Error {
    /// A status that came over the wire has no source; one that was made here names the cause of the failure.
    fn from(status: Status) -> Self {
        match status.source() {
            Some(cause) => Self::from_chain(cause),
            None => Self::from_fault(Fault::from(&status)),
        }
    }
}

impl From<OperationError> for Error {
    /// From the answer to one operation of a stream or batch: the same as from the status of a call of its own.
    fn from(error: OperationError) -> Self {
        Self::from_fault(error.into())
    }
}

/// An error that the gateway answered.
///
/// Programs decide by [`code`](Fault::code) and [`reason`](Fault::reason); the message, which `Display` gives, is for
/// people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    code: Code,
    message: String,
    reason: Option<String>,
    metadata: BTreeMap<String, String>,
    retry_delay: Option<Duration>,
}

impl Fault {
    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What happened, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The stable reason in UPPER_SNAKE_CASE, from the `google.rpc.ErrorInfo` of the domain `portcullis.v1`.
    ///
    /// `None` where something else than a gateway answered, such as a proxy.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The metadata that belongs to the reason.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The id by which the request is found in the gateway's audit log.
    pub fn request_id(&self) -> Option<&str> {
        self.metadata.get(REQUEST_ID).map(String::as_str)
    }

    /// How long to wait before the next try, where a retry helps.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.retry_delay
    }
}

impl From<&Status> for Fault {
    fn from(status: &Status) -> Self {
        let info = status
            .get_details_error_info()
            .filter(|info| info.domain == portcullis_proto::ERROR_DOMAIN);
        let (reason, metadata) = match info {
            Some(info) => (Some(info.reason), info.metadata.into_iter().collect()),
            None => (None, BTreeMap::new()),
        };
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason,
            metadata,
            retry_delay: status.get_details_retry_info().and_then(|info| info.retry_delay),
        }
    }
}

impl From<OperationError> for Fault {
    fn from(error: OperationError) -> Self {
        Self {
            code: Code::from_i32(error.code),
            message: error.message,
            reason: Some(error.reason).filter(|reason| !reason.is_empty()),
            metadata: error.metadata,
            retry_delay: error.retry_delay.and_then(|delay| delay.try_into().ok()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => write!(f, "the gateway answered {:?} without a message", self.code),
            message => f.write_str(message),
        }
    }
}

const REQUEST_ID: &str = "request_id";

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn status(code: Code, domain: &str, retry_delay: Option<Duration>) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info("A_REASON", domain, [("request_id".to_owned(), "0190".to_owned())]);
        if retry_delay.is_some() {
            details.set_retry_info(retry_delay);
        }
        Status::with_error_details(code, "what happened", details)
    }

    #[test]
    fn reason_metadata_and_delay_are_read_from_the_details() {
        let delay = Duration::from_millis(250);
        let error = Error::from(status(Code::Unavailable, "portcullis.v1", Some(delay)));
        let fault = error.fault().expect("a fault");
        assert_eq!(fault.reason(), Some("A_REASON"));
        assert_eq!(fault.request_id(), Some("0190"));
        assert_eq!(fault.retry_delay(), Some(delay));
        assert_eq!(error.to_string(), "what happened");
    }

    #[test]
    fn a_reason_of_another_domain_is_not_ours() {
        let error = Error::from(status(Code::Unavailable, "proxy.example", None));
        let fault = error.fault().expect("a fault");
        assert_eq!((fault.reason(), fault.request_id()), (None, None));
    }

    #[test]
    fn each_code_has_its_group() {
        let delay = Some(Duration::from_secs(1));
        for (code, delay, group) in [
            (Code::NotFound, None, "NotFound"),
            (Code::Unauthenticated, None, "Unauthenticated"),
            (Code::PermissionDenied, None, "Refused"),
            (Code::InvalidArgument, None, "Refused"),
            (Code::FailedPrecondition, None, "Refused"),
            (Code::AlreadyExists, None, "Refused"),
            (Code::Aborted, None, "Refused"),
            (Code::Unimplemented, None, "Refused"),
            (Code::ResourceExhausted, None, "Refused"),
            (Code::ResourceExhausted, delay, "Unavailable"),
            (Code::Unavailable, None, "Unavailable"),
            (Code::Cancelled, None, "Unavailable"),
            (Code::DeadlineExceeded, delay, "TimedOut"),
            (Code::Internal, None, "Internal"),
            (Code::Unknown, None, "Internal"),
            (Code::DataLoss, None, "Internal"),
        ] {
            let found = match Error::from(status(code, "portcullis.v1", delay)) {
                Error::NotFound(_) => "NotFound",
                Error::Unauthenticated(_) => "Unauthenticated",
                Error::Refused(_) => "Refused",
                Error::Unavailable(_) => "Unavailable",
                Error::TimedOut(Some(_)) => "TimedOut",
                Error::Internal(_) => "Internal",
                other => panic!("{code:?} became {other:?}"),
            };
            assert_eq!(found, group, "{code:?}, {delay:?}");
        }
    }

    #[test]
    fn the_cause_of_a_local_failure_is_found_in_its_chain() {
        let told = ConnectionError::ClientCertificateMissing;
        let status = Status::from_error(Box::new(tonic::ConnectError(Box::new(Error::from(told)))));
        assert!(matches!(
            Error::from(status),
            Error::Connection(ConnectionError::ClientCertificateMissing)
        ));

        let status = Status::from_error(Box::new(TimeoutExpired(())));
        assert!(matches!(Error::from(status), Error::TimedOut(None)));

        let status = Status::from_error("something else".into());
        assert!(matches!(
            Error::from(status),
            Error::Connection(ConnectionError::Lost { .. })
        ));
    }
}

//! Why a command failed, what to do next, and the exit code.

use portcullis_client::{Code, ConnectionError, CredentialsError, Error, Fault, Status, envelope::EnvelopeError};
use serde_json::{Value, json};
use std::{io, path::PathBuf, process::ExitCode, time::Duration};
use uuid::Uuid;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line is wrong, or what it names is not fit for the command.
    #[error("{0}")]
    Usage(String),
    #[error("cannot read {what}: {source}")]
    Input { what: String, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Output { path: PathBuf, source: io::Error },
    #[error("cannot write to standard output: {0}")]
    StandardOutput(io::Error),
    /// The gateway refused, or could not be asked.
    #[error("{error}")]
    Gateway {
        error: Box<Error>,
        /// The request id of a change, by which it can be repeated without being done twice.
        repeatable: Option<Uuid>,
    },
    /// Encrypted data is not what its key and context made.
    #[error("{what}: {error}")]
    Sealed { what: String, error: Box<EnvelopeError> },
    /// Something that should not happen.
    #[error("{0}")]
    Internal(String),
}

/// What to do on this command line about a refusal, where the gateway's words speak of the API.
fn help_with(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "ALGORITHM_MISMATCH" => {
            "--purpose and --mechanism choose a use; `portcullis key show KEY` shows what a key permits"
        }
        "KEY_STATE_FORBIDS_OPERATION" => {
            "`portcullis key versions KEY` shows the states, `portcullis key state` changes them"
        }
        "ETAG_MISMATCH" => "somebody changed it: look at it again, and repeat with the etag that it has now",
        "SINGLE_REPLICA_NOT_ACCEPTED" => "accept it with --allow-single-replica",
        "MECHANISM_UNSUPPORTED" => {
            "a key that cannot be wrapped can live on one member: --protection resident --allow-single-replica"
        }
        _ => return None,
    })
}

fn help_with_sealed(error: &EnvelopeError) -> Option<String> {
    Some(match error {
        EnvelopeError::OtherKey { found, .. } => format!("give {found} as the key"),
        EnvelopeError::CutOff { .. } | EnvelopeError::Damaged { .. } | EnvelopeError::Trailing { .. } => {
            "take it from a backup; a file gets no output, and what a pipe got is authentic as far as it goes"
                .to_owned()
        }
        _ => return None,
    })
}

impl Failure {
    /// Of data that is sealed or opened: a source or destination that failed is told apart by who calls.
    pub(crate) fn sealed(what: impl ToString, error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Gateway(error) => error.into(),
            EnvelopeError::Io(source) => Self::Input {
                what: what.to_string(),
                source,
            },
            error => Self::Sealed {
                what: what.to_string(),
                error: Box::new(error),
            },
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Input { .. } | Self::Output { .. } => Exit::Usage,
            Self::Sealed { error, .. } => match **error {
                EnvelopeError::OtherKey { .. } | EnvelopeError::TooLong { .. } => Exit::Usage,
                _ => Exit::NotValid,
            },
            Self::StandardOutput(_) | Self::Internal(_) => Exit::Internal,
            Self::Gateway { error, .. } => match &**error {
                Error::Refused(fault) => match fault.code() {
                    Code::AlreadyExists | Code::Aborted => Exit::Conflict,
                    Code::PermissionDenied => Exit::Denied,
                    _ => Exit::Refused,
                },
                Error::NotFound(_) => Exit::NotFound,
                Error::Unavailable(_) | Error::TimedOut(_) => Exit::Unavailable,
                Error::Connection(ConnectionError::Lost { .. }) => Exit::Unavailable,
                Error::Connection(_) | Error::Credentials(_) | Error::Unauthenticated(_) => Exit::Connection,
                _ => Exit::Internal,
            },
        }
    }

    /// What to do next, where that is not plain from the message.
    pub(crate) fn help(&self) -> Option<String> {
        let (error, repeatable) = match self {
            Self::Gateway { error, repeatable } => (error, repeatable),
            Self::Sealed { error, .. } => return help_with_sealed(error),
            _ => return None,
        };
        let repeat = |first: &str| match repeatable {
            None => Some(first.to_owned()),
            Some(id) => Some(format!(
                "{first}; it may have been done: with --request-id {id} the command has the same answer and does nothing \
                 twice"
            )),
        };
        match &**error {
            Error::Credentials(CredentialsError::Missing) => Some(
                "give --cert, --key-file and --ca, or set PORTCULLIS_CERT, PORTCULLIS_KEY_FILE and PORTCULLIS_CA"
                    .to_owned(),
            ),
            Error::Credentials(_) => None,
            Error::Connection(ConnectionError::Lost { .. }) => repeat("try again"),
            Error::Connection(ConnectionError::ServerCertificate { .. }) => {
                Some("check --ca (PORTCULLIS_CA) and --endpoint (PORTCULLIS_ENDPOINT)".to_owned())
            }
            Error::Connection(ConnectionError::ClientCertificate(_) | ConnectionError::ClientCertificateMissing)
            | Error::Unauthenticated(_) => {
                Some("check --cert (PORTCULLIS_CERT) and --key-file (PORTCULLIS_KEY_FILE)".to_owned())
            }
            Error::Connection(_) => Some("check --endpoint (PORTCULLIS_ENDPOINT)".to_owned()),
            Error::NotFound(fault) => Some(
                match fault.reason() {
                    Some("MEMBER_NOT_FOUND") => "`portcullis cluster status` shows the members",
                    Some("KEY_VERSION_NOT_FOUND") => "`portcullis key versions KEY` shows the versions",
                    Some("RESOURCE_NOT_FOUND") => {
                        "`portcullis alias list RING`, `object list RING` and `recipient list RING` show what there is"
                    }
                    _ => "`portcullis ring list` and `portcullis key list RING` show what there is",
                }
                .to_owned(),
            ),
            Error::Refused(fault) => match fault.code() {
                _ if fault.reason().and_then(help_with).is_some() => {
                    fault.reason().and_then(help_with).map(str::to_owned)
                }
                Code::PermissionDenied => Some(
                    "an operator can permit it in the gateway's policy; `portcullis policy explain` on its host says why".to_owned(),
                ),
                Code::Unimplemented if fault.reason() == Some("METHOD_NOT_AVAILABLE") => {
                    Some("this gateway does not serve the call; a newer one may".to_owned())
                }
                _ => None,
            },
            Error::Unavailable(fault) => repeat(&match fault.retry_delay() {
                Some(delay) => format!("try again after {}", humantime::format_duration(delay)),
                None => "try again later".to_owned(),
            }),
            Error::TimedOut(_) => repeat("try again, or allow more time with --timeout"),
            _ => Some("the gateway's log has the cause".to_owned()),
        }
    }

    /// `portcullis` shows this with `--json`.
    pub(crate) fn document(&self) -> Value {
        let fault = self.fault();
        json!({
            "error": {
                "kind": self.exit().word(),
                "exit_code": self.exit() as u8,
                "message": self.to_string(),
                "help": self.help(),
                "code": fault.map(|fault| code_name(fault.code())),
                "reason": fault.and_then(Fault::reason),
                "request_id": fault.and_then(Fault::request_id),
                "metadata": fault.map(Fault::metadata),
                "retry_delay_seconds": fault.and_then(Fault::retry_delay).map(|delay: Duration| delay.as_secs_f64()),
            }
        })
    }

    /// The message with reason and request id.
    pub(crate) fn text(&self) -> String {
        let found = self.fault().map(|fault| (fault.reason(), fault.request_id()));
        let details = match found {
            Some((Some(reason), Some(id))) => format!(" ({reason}, request {id})"),
            Some((Some(reason), None)) => format!(" ({reason})"),
            Some((None, _)) | None => String::new(),
        };
        format!("{self}{details}")
    }

    fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Gateway { error, .. } => error.fault(),
            _ => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Gateway {
            error: Box::new(error),
            repeatable: None,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Error::from(status).into()
    }
}

/// How a run ends. The numbers are part of the interface; `--help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    /// A signature is not valid, or encrypted data was changed or cut off.
    NotValid = 1,
    Usage = 2,
    Refused = 3,
    NotFound = 4,
    Unavailable = 5,
    Connection = 6,
    /// It exists already, or was changed meanwhile.
    Conflict = 7,
    /// The gateway's policy does not allow it.
    Denied = 8,
    Internal = 70,
}

impl Exit {
    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotValid => "not_valid",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Connection => "connection",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Internal => "internal",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The name of a code in gRPC's documents.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, StatusExt};

    fn answered(code: Code, message: &str, retry_delay: Option<Duration>) -> Failure {
        let mut details = ErrorDetails::new();
        details.set_error_info(
            "A_REASON",
            "portcullis.v1",
            [("request_id".to_owned(), "0190".to_owned())],
        );
        if retry_delay.is_some() {
            details.set_retry_info(retry_delay);
        }
        Failure::from(Status::with_error_details(code, message, details))
    }

    fn connection(error: ConnectionError) -> Failure {
        Failure::from(Error::from(error))
    }

    #[test]
    fn each_group_of_failures_has_its_exit_code() {
        for (code, exit) in [
            (Code::PermissionDenied, 8),
            (Code::FailedPrecondition, 3),
            (Code::InvalidArgument, 3),
            (Code::AlreadyExists, 7),
            (Code::Aborted, 7),
            (Code::Unimplemented, 3),
            (Code::NotFound, 4),
            (Code::Unavailable, 5),
            (Code::DeadlineExceeded, 5),
            (Code::Unauthenticated, 6),
            (Code::Internal, 70),
            (Code::Unknown, 70),
        ] {
            assert_eq!(answered(code, "", None).exit() as u8, exit, "{code:?}");
        }
        let io = || io::Error::from(io::ErrorKind::NotFound);
        for (failure, exit) in [
            (Failure::Usage(String::new()), 2),
            (
                Failure::Input {
                    what: "a file".into(),
                    source: io(),
                },
                2,
            ),
            (
                Failure::Output {
                    path: "a file".into(),
                    source: io(),
                },
                2,
            ),
            (Failure::StandardOutput(io()), 70),
            (Failure::Internal(String::new()), 70),
            (
                connection(ConnectionError::NoSocket {
                    path: "api.sock".into(),
                }),
                6,
            ),
            (connection(ConnectionError::ClientCertificateMissing), 6),
            (connection(ConnectionError::Lost { detail: String::new() }), 5),
            (Failure::from(Error::from(CredentialsError::Missing)), 6),
        ] {
            assert_eq!(failure.exit() as u8, exit, "{failure:?}");
        }
    }

    #[test]
    fn reason_and_request_id_stand_behind_the_message() {
        let failure = answered(Code::NotFound, "keyRings/demo/keys/nope does not exist", None);
        let text = failure.text();
        assert_eq!(text, "keyRings/demo/keys/nope does not exist (A_REASON, request 0190)",);
    }

    #[test]
    fn the_retry_delay_is_told() {
        let failure = answered(Code::Unavailable, "no member is ready", Some(Duration::from_secs(2)));
        assert_eq!(failure.help().as_deref(), Some("try again after 2s"));
        assert_eq!(failure.document()["error"]["retry_delay_seconds"], 2.0);
    }

    #[test]
    fn a_change_whose_answer_is_missing_tells_how_to_repeat_it() {
        let id = Uuid::from_u128(7);
        let error = Error::Connection(ConnectionError::Lost { detail: "reset".into() });
        let help = Failure::Gateway {
            error: Box::new(error),
            repeatable: Some(id),
        }
        .help()
        .expect("help");
        assert!(help.contains(&format!("--request-id {id}")), "{help}");
    }

    #[test]
    fn the_document_has_what_programs_decide_by() {
        let document = answered(Code::NotFound, "it does not exist", None).document();
        let error = &document["error"];
        assert_eq!(error["kind"], "not_found");
        assert_eq!(error["exit_code"], 4);
        assert_eq!(error["code"], "NOT_FOUND");
        assert_eq!(error["reason"], "A_REASON");
        assert_eq!(error["request_id"], "0190");
        assert_eq!(error["metadata"]["request_id"], "0190");
        assert!(error["retry_delay_seconds"].is_null());
        let document = Failure::Usage("wrong".into()).document();
        assert_eq!(document["error"]["kind"], "usage");
        assert!(document["error"]["code"].is_null());
    }
}

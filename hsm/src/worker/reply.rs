//! From results to reply messages.

use super::protocol::{Failure, FailureKind, Reply, ReplyBody, write_frame};
use crate::{Error, pkcs11::CallError, public_key::PublicKeyError, return_code::Class};
use std::{
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
};

/// The worker's end of the socket for replies, shared by all threads.
#[derive(Debug, Clone)]
pub(super) struct Replies(Arc<Mutex<UnixStream>>);

impl Replies {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    /// Sends a reply. A gateway that is gone is noticed by the reader, which ends the process.
    pub(super) fn send(&self, id: u64, result: Result<ReplyBody, Failure>) {
        let reply = Reply {
            id,
            body: Some(result.unwrap_or_else(ReplyBody::Failure)),
        };
        let mut stream = self.0.lock().unwrap_or_else(|lock| lock.into_inner());
        if let Err(error) = write_frame(&mut *stream, &reply) {
            tracing::debug!(%error, "a reply could not be sent");
        }
    }
}

/// A failure that is not an error of the HSM.
pub(super) fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure {
        kind: kind.into(),
        message: message.into(),
        return_code: 0,
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let kind = match error {
            Error::DecryptionFailed => FailureKind::DecryptionFailed,
            Error::NotAuthentic(_) | Error::Token(_) => FailureKind::NotAuthentic,
            Error::NotLoaded => FailureKind::KeyNeeded,
            Error::Unsupported(_) | Error::NotWrappable(_) => FailureKind::Unsupported,
            Error::ImportRefused(_) => FailureKind::ImportRefused,
            Error::ExportRefused(_) => FailureKind::ExportRefused,
            Error::ResidentMissing => FailureKind::KeyMissing,
            _ => match error.class() {
                Class::CallerFault => FailureKind::Refused,
                Class::Busy => FailureKind::Busy,
                Class::Fatal => FailureKind::Fatal,
                // What was lost came back lost after one repair: the member's fault.
                Class::MemberFault | Class::SessionLost | Class::LoginLost | Class::HandleLost => {
                    FailureKind::MemberFault
                }
            },
        };
        let return_code = match error {
            Error::Call(CallError { code, .. })
            | Error::PinRefused(CallError { code, .. })
            | Error::PublicKey(PublicKeyError::Call(CallError { code, .. })) => code.value(),
            _ => 0,
        };
        Self {
            kind: kind.into(),
            message: error.to_string(),
            return_code,
        }
    }
}

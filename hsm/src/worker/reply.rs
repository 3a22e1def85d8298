//! From results to reply messages.

use super::protocol::{Failure, FailureKind, Reply, ReplyBody, write_frame};
use crate::{Error, pkcs11::CallError, public_key::PublicKeyError, return_code::Class};
use std::{
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// When a request came and when the work on it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    came: Instant,
    began: Instant,
}

impl Timing {
    /// Work that begins now on a request that came then.
    pub(super) fn begin(came: Instant) -> Self {
        Self {
            came,
            began: Instant::now(),
        }
    }

    /// When the work began.
    pub(super) fn began(self) -> Instant {
        self.began
    }
}

/// The worker's end of the socket for replies, shared by all threads.
#[derive(Debug, Clone)]
pub(super) struct Replies(Arc<Mutex<UnixStream>>);

impl Replies {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    /// Sends the reply to work that is done. A gateway that is gone is noticed by the reader, which ends the process.
    pub(super) fn send(&self, id: u64, timing: Timing, result: Result<ReplyBody, Failure>) {
        self.write(Reply {
            id,
            body: Some(result.unwrap_or_else(ReplyBody::Failure)),
            waited_us: micros(timing.began.duration_since(timing.came)),
            worked_us: micros(timing.began.elapsed()),
        });
    }

    /// Sends the reply to a request that nothing was done for.
    pub(super) fn send_at_once(&self, id: u64, body: ReplyBody) {
        self.write(Reply {
            id,
            body: Some(body),
            ..Reply::default()
        });
    }

    fn write(&self, reply: Reply) {
        let mut stream = self.0.lock().unwrap_or_else(|lock| lock.into_inner());
        if let Err(error) = write_frame(&mut *stream, &reply) {
            tracing::debug!(%error, "a reply could not be sent");
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
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
            Error::Unsupported(_) | Error::NotWrappable(_) | Error::NothingSeals => FailureKind::Unsupported,
            Error::ImportRefused(_) => FailureKind::ImportRefused,
            Error::ExportRefused(_) => FailureKind::ExportRefused,
            Error::ResidentMissing => FailureKind::KeyMissing,
            Error::TokenAbsent(_) => FailureKind::TokenAbsent,
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
            | Error::Keeper(CallError { code, .. })
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

//! From results to reply messages.

use super::protocol::{Failure, FailureKind, Reply, ReplyBody, encode_frame};
use crate::{Error, pkcs11::CallError, public_key::PublicKeyError, return_code::Class};
use std::{
    io::Write,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

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

    /// The reply to work that ends now.
    fn reply(self, id: u64, result: Result<ReplyBody, Failure>) -> Reply {
        Reply {
            id,
            body: Some(result.unwrap_or_else(ReplyBody::Failure)),
            waited_us: micros(self.began.duration_since(self.came)),
            worked_us: micros(self.began.elapsed()),
        }
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
        self.write(&encode_frame(&timing.reply(id, result)));
    }

    /// Sends the reply to a request that nothing was done for.
    pub(super) fn send_at_once(&self, id: u64, body: ReplyBody) {
        let reply = Reply {
            id,
            body: Some(body),
            ..Reply::default()
        };
        self.write(&encode_frame(&reply));
    }

    fn write(&self, frames: &[u8]) {
        let mut stream = self.0.lock().unwrap_or_else(|lock| lock.into_inner());
        if let Err(error) = stream.write_all(frames) {
            tracing::debug!(%error, "a reply could not be sent");
        }
    }
}

/// Replies to work that is done, of one thread, on their way together.
pub(super) struct HeldReplies<'a> {
    replies: &'a Replies,
    frames: Zeroizing<Vec<u8>>,
    // When the work on the first of them began.
    since: Option<Instant>,
}

impl<'a> HeldReplies<'a> {
    /// None yet.
    pub(super) fn new(replies: &'a Replies) -> Self {
        Self {
            replies,
            // Never grown, which would leave a copy behind that nobody wipes.
            frames: Zeroizing::new(Vec::with_capacity(HELD_BYTES)),
            since: None,
        }
    }

    /// Adds the reply to work that is done. It is sent with the next ones, or at once if they took long or are many.
    pub(super) fn add(&mut self, id: u64, timing: Timing, result: Result<ReplyBody, Failure>) {
        let frame = encode_frame(&timing.reply(id, result));
        if self.frames.len() + frame.len() > HELD_BYTES {
            self.send();
        }
        if frame.len() > HELD_BYTES {
            return self.replies.write(&frame);
        }
        self.frames.extend_from_slice(&frame);
        // From the beginning of the work: what takes long by itself is not held at all.
        if self.since.get_or_insert(timing.began).elapsed() >= HELD_FOR {
            self.send();
        }
    }

    /// Sends what is held.
    pub(super) fn send(&mut self) {
        if !self.frames.is_empty() {
            self.replies.write(&self.frames);
        }
        self.frames.fill(0);
        self.frames.clear();
        self.since = None;
    }
}

/// As much as is held at most, and so long after the work on the first of them began.
const HELD_BYTES: usize = 32 << 10;
const HELD_FOR: Duration = Duration::from_micros(200);

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

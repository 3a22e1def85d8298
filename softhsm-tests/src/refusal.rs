//! How the gateway says no.

use portcullis_proto::ERROR_DOMAIN;
use std::{collections::HashMap, fmt::Debug, time::Duration};
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, StatusExt};

/// An error of the gateway, read and checked for its form.
#[derive(Debug)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The stable reason.
    pub reason: String,
    /// The message for people.
    pub message: String,
    /// What belongs to the reason.
    pub metadata: HashMap<String, String>,
    /// When to try again, where that helps.
    pub retry_after: Option<Duration>,
}

/// Reads the error of a call that must fail.
///
/// # Panics
///
/// When the call succeeded, or when the error has not the form of every error: exactly one `ErrorInfo`, of the gateway's
/// domain, with a request id.
#[track_caller]
pub fn refusal<T>(result: Result<T, Status>) -> Refusal {
    match result {
        Ok(_) => panic!("the call succeeded; it should have been refused"),
        Err(status) => Refusal::read(&status),
    }
}

impl Refusal {
    #[track_caller]
    fn read(status: &Status) -> Self {
        let details = status.get_error_details_vec();
        let infos: Vec<_> = details
            .into_iter()
            .filter_map(|detail| match detail {
                ErrorDetail::ErrorInfo(info) => Some(info),
                _ => None,
            })
            .collect();
        assert_eq!(infos.len(), 1, "an error has exactly one ErrorInfo: {status:?}");
        let info = infos.into_iter().next().expect("one");
        assert_eq!(info.domain, ERROR_DOMAIN, "{status:?}");
        let request_id = info.metadata.get("request_id").map(String::as_str).unwrap_or_default();
        assert!(!request_id.is_empty(), "no request_id in the metadata of {status:?}");
        assert!(!status.message().is_empty(), "an error has a message: {status:?}");
        Self {
            code: status.code(),
            reason: info.reason,
            message: status.message().to_owned(),
            metadata: info.metadata,
            retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
        }
    }

    /// Checks code and reason.
    #[track_caller]
    pub fn is(self, code: Code, reason: &str) -> Self {
        assert_eq!((self.code, self.reason.as_str()), (code, reason), "{self:?}");
        self
    }

    /// Checks an entry of the metadata.
    #[track_caller]
    pub fn with(self, key: &str, value: impl ToString) -> Self {
        assert_eq!(self.metadata.get(key), Some(&value.to_string()), "{key} of {self:?}");
        self
    }

    /// Checks that the gateway says when to try again.
    #[track_caller]
    pub fn retryable(self) -> Self {
        assert!(
            self.retry_after.is_some_and(|delay| delay > Duration::ZERO),
            "no RetryInfo in {self:?}"
        );
        self
    }

    /// Checks that the message names something.
    #[track_caller]
    pub fn naming(self, what: &str) -> Self {
        assert!(
            self.message.contains(what),
            "the message does not name {what}: {self:?}"
        );
        self
    }
}

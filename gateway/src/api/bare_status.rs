//! Statuses that the transport makes (a message too long, an unknown method) get their reason here, so that every error has
//! one.

use super::{ApiError, Reason};
use tonic::{Code, Status};
use uuid::Uuid;

/// Adds a `google.rpc.ErrorInfo` to a response that ends in an error without one.
pub(crate) fn explain<B>(mut response: http::Response<B>) -> http::Response<B> {
    if response.headers().contains_key(DETAILS) {
        return response;
    }
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    if status.code() == Code::Ok {
        return response;
    }
    let explained = explained(&status);
    if let Err(error) = explained.add_header(response.headers_mut()) {
        tracing::debug!(%error, "a status could not be explained");
    }
    response
}

/// What a status of the transport means.
pub(super) fn meaning(status: &Status) -> ApiError {
    let (reason, words) = match status.code() {
        Code::OutOfRange => (Reason::RequestTooLarge, "the request is longer than any may be"),
        Code::Unimplemented => (Reason::MethodNotAvailable, "the gateway has no such method"),
        Code::Internal | Code::InvalidArgument => (Reason::RequestMalformed, "the request is malformed"),
        Code::DeadlineExceeded | Code::Cancelled => (Reason::DeadlineExceeded, "the deadline passed"),
        Code::ResourceExhausted => (Reason::RequestsSaturated, "too much is arriving"),
        Code::NotFound => (Reason::ServiceUnknown, "there is no such service"),
        _ => (Reason::Internal, "the transport failed"),
    };
    // The transport's own words say more, where it has any.
    let words = if status.message().is_empty() {
        words
    } else {
        status.message()
    };
    ApiError::new(reason, words)
}

/// The status with its `google.rpc.ErrorInfo`.
fn explained(status: &Status) -> Status {
    let meaning = meaning(status);
    let reason = meaning.reason();
    let explained = meaning.into_status(&Uuid::now_v7().to_string());
    let code = if reason == Reason::Internal {
        status.code()
    } else {
        reason.code()
    };
    Status::with_details(code, explained.message(), explained.details().to_vec().into())
}

const DETAILS: &str = "grpc-status-details-bin";

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt;

    #[test]
    fn a_bare_status_gets_a_reason_and_others_stay_as_they_are() {
        let bare: http::Response<()> = Status::out_of_range("too long").into_http();
        let status = Status::from_header_map(explain(bare).headers()).expect("a status");
        assert_eq!(status.code(), Code::OutOfRange);
        assert_eq!(
            status.get_details_error_info().map(|info| info.reason),
            Some("REQUEST_TOO_LARGE".to_owned())
        );
        let ours: http::Response<()> = ApiError::new(Reason::KeyNotFound, "no").into_status("1").into_http();
        let status = Status::from_header_map(explain(ours).headers()).expect("a status");
        assert_eq!(
            status.get_details_error_info().map(|info| info.reason),
            Some("KEY_NOT_FOUND".to_owned())
        );
        let fine = explain(http::Response::new(()));
        assert!(!fine.headers().contains_key(DETAILS));
    }
}

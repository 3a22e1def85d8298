//! Why there is no connection to the gateway, or no longer.

use crate::{endpoint::Endpoint, peer};
use rustls::{AlertDescription, CertificateError};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why there is no connection to the gateway, or no longer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// There is no file at a Unix endpoint's path.
    #[error("there is no socket at {}: the gateway is not running, or listens elsewhere", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The permissions of the socket's file keep this user out.
    #[error("this user may not open the socket {}", path.display())]
    NoPermission {
        /// The path.
        path: PathBuf,
    },
    /// Nothing accepts connections there.
    #[error("nothing listens at {endpoint}: the gateway is not running, or listens elsewhere")]
    NothingListens {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The host's name has no address.
    #[error("the host {host} has no address: {source}")]
    UnknownHost {
        /// The host.
        host: String,
        /// What the resolver said.
        source: Arc<io::Error>,
    },
    /// The network or the operating system failed in another way.
    #[error("cannot connect to {endpoint}: {source}")]
    Unreachable {
        /// The endpoint.
        endpoint: Endpoint,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The connection was not ready within [`CONNECT_TIMEOUT`](crate::CONNECT_TIMEOUT).
    #[error("{endpoint} did not answer within {}", Seconds(crate::CONNECT_TIMEOUT))]
    NoAnswer {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// What answers there does not do TLS 1.3 with HTTP/2.
    #[error("what listens at {endpoint} does not speak HTTP/2 over TLS 1.3 ({found}): is it the gateway?")]
    NotTheGateway {
        /// The endpoint.
        endpoint: Endpoint,
        /// What was found instead.
        found: String,
    },
    /// The gateway's certificate was not accepted by this client.
    #[error("the certificate of {endpoint} is not accepted: {fault}")]
    ServerCertificate {
        /// The endpoint.
        endpoint: Endpoint,
        /// What is wrong with it.
        fault: ServerCertificateFault,
    },
    /// The gateway refused the client's certificate.
    #[error("the gateway refused the client certificate: {0}")]
    ClientCertificate(CertificateRefusal),
    /// The gateway wants a client certificate and got none: there is none, or none whose key it can check.
    #[error("the gateway requires a client certificate and none was given")]
    ClientCertificateMissing,
    /// The other side closed the connection before it had said anything.
    #[error("{endpoint} closed the connection without an answer; the gateway's log says why")]
    Closed {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// An open connection broke. A call that was under way may have been carried out.
    #[error("the connection to the gateway broke: {detail}")]
    Lost {
        /// What the HTTP/2 library said.
        detail: String,
    },
}

impl ConnectionError {
    /// From a failed attempt to open the Unix socket at `path`.
    pub(crate) fn from_socket(endpoint: &Endpoint, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NoSocket { path: path.to_owned() },
            io::ErrorKind::PermissionDenied => Self::NoPermission { path: path.to_owned() },
            _ => Self::from_network(endpoint, source),
        }
    }

    /// From a failed attempt to open a TCP connection.
    pub(crate) fn from_network(endpoint: &Endpoint, source: io::Error) -> Self {
        let endpoint = endpoint.clone();
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::NothingListens { endpoint },
            _ => Self::Unreachable {
                endpoint,
                source: Arc::new(source),
            },
        }
    }

    /// From a failed TLS handshake. The trust bundle is the one the gateway's certificate was checked against.
    pub(crate) fn from_handshake(endpoint: &Endpoint, trust_bundle: &Path, source: io::Error) -> Self {
        if let Some(alert) = peer::alert(&source) {
            return Self::from_alert(endpoint, alert);
        }
        let endpoint = endpoint.clone();
        match source.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(error)) => Self::ServerCertificate {
                endpoint,
                fault: ServerCertificateFault::new(error, trust_bundle),
            },
            Some(error) => Self::NotTheGateway {
                endpoint,
                found: error.to_string(),
            },
            None => match source.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    Self::Closed { endpoint }
                }
                _ => Self::Unreachable {
                    endpoint,
                    source: Arc::new(source),
                },
            },
        }
    }

    /// From an alert by which the gateway ended the connection (RFC 8446, section 6.2).
    pub(crate) fn from_alert(endpoint: &Endpoint, alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired => Self::ClientCertificateMissing,
            AlertDescription::CertificateExpired => Self::ClientCertificate(CertificateRefusal::Expired),
            AlertDescription::UnknownCA => Self::ClientCertificate(CertificateRefusal::UnknownAuthority),
            AlertDescription::CertificateRevoked => Self::ClientCertificate(CertificateRefusal::Revoked),
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => Self::ClientCertificate(CertificateRefusal::Unacceptable {
                alert: format!("{alert:?}"),
            }),
            alert => Self::NotTheGateway {
                endpoint: endpoint.clone(),
                found: format!("TLS alert {alert:?}"),
            },
        }
    }
}

/// Why a gateway refused a client's certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateRefusal {
    /// Its time is over, or has not begun.
    #[error("it has expired, or is not valid yet")]
    Expired,
    /// Its issuer is not among the gateway's authorities for clients.
    #[error("it was not issued by an authority the gateway trusts")]
    UnknownAuthority,
    /// Its issuer has revoked it.
    #[error("it is revoked")]
    Revoked,
    /// Another reason, which the gateway's log has in full.
    #[error("it is not acceptable as a client certificate (TLS alert {alert}); the gateway's log says why")]
    Unacceptable {
        /// The name of the TLS alert.
        alert: String,
    },
}

/// Why this client does not accept the gateway's certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerCertificateFault {
    /// No authority in the trust bundle has issued it.
    #[error("it was not issued by an authority in the trust bundle {}", trust_bundle.display())]
    UnknownAuthority {
        /// The file of the trust bundle.
        trust_bundle: PathBuf,
    },
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not begun.
    #[error("it is not valid yet; is this machine's clock right?")]
    NotValidYet,
    /// It is for other hosts.
    #[error("it is not for the host in the endpoint ({detail})")]
    OtherHost {
        /// What the TLS library said.
        detail: String,
    },
    /// Another fault.
    #[error("{detail}")]
    Other {
        /// What the TLS library said.
        detail: String,
    },
}

impl ServerCertificateFault {
    fn new(error: &CertificateError, trust_bundle: &Path) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownAuthority {
                trust_bundle: trust_bundle.to_owned(),
            },
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotValidYet,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::OtherHost {
                detail: error.to_string(),
            },
            error => Self::Other {
                detail: error.to_string(),
            },
        }
    }
}

/// A duration of whole seconds, for people.
struct Seconds(std::time::Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        "https://gateway.example:8443".parse().expect("an endpoint")
    }

    fn told(alert: AlertDescription) -> String {
        ConnectionError::from_alert(&endpoint(), alert).to_string()
    }

    #[test]
    fn each_alert_about_the_certificate_is_told_in_words() {
        for (alert, words) in [
            (
                AlertDescription::CertificateExpired,
                "refused the client certificate: it has expired",
            ),
            (
                AlertDescription::UnknownCA,
                "it was not issued by an authority the gateway trusts",
            ),
            (AlertDescription::CertificateRevoked, "it is revoked"),
            (
                AlertDescription::CertificateRequired,
                "requires a client certificate and none was given",
            ),
            (AlertDescription::BadCertificate, "(TLS alert BadCertificate)"),
            (AlertDescription::CertificateUnknown, "(TLS alert CertificateUnknown)"),
        ] {
            let text = told(alert);
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn an_alert_about_something_else_does_not_blame_the_certificate() {
        let text = told(AlertDescription::ProtocolVersion);
        assert!(
            text.contains("does not speak HTTP/2 over TLS 1.3") && !text.contains("certificate"),
            "{text}"
        );
    }

    #[test]
    fn socket_errors_name_the_path() {
        let path = Path::new("/run/portcullis/api.sock");
        let endpoint = Endpoint::unix(path);
        let from = |kind| ConnectionError::from_socket(&endpoint, path, io::Error::from(kind));
        assert!(matches!(
            from(io::ErrorKind::NotFound),
            ConnectionError::NoSocket { .. }
        ));
        assert!(matches!(
            from(io::ErrorKind::PermissionDenied),
            ConnectionError::NoPermission { .. }
        ));
        assert!(matches!(
            from(io::ErrorKind::ConnectionRefused),
            ConnectionError::NothingListens { .. }
        ));
        for kind in [
            io::ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ConnectionRefused,
        ] {
            assert!(from(kind).to_string().contains("/run/portcullis/api.sock"));
        }
    }
}

//! Where a gateway listens.

use http::{Uri, uri::Authority};
use rustls_pki_types::ServerName;
use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

/// Where a gateway listens: `unix:/path/to/socket` or `https://host:port`.
///
/// The path may be relative. The port is required, and nothing may follow it but one `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Arc<Address>);

/// The two kinds of endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Https(HttpsAddress),
}

/// A host and port, checked to be usable both in a URI and as the name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpsAddress {
    origin: Uri,
    authority: Authority,
    port: u16,
    server_name: ServerName<'static>,
}

impl Endpoint {
    /// The endpoint of the Unix socket at `path`.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Address::Unix(path.into())))
    }

    pub(crate) fn address(&self) -> &Address {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(EndpointError::PathMissing),
                path => Ok(Self::unix(path)),
            };
        }
        if let Some(rest) = text.strip_prefix("https://") {
            return HttpsAddress::parse(rest).map(|address| Self(Arc::new(Address::Https(address))));
        }
        if text.starts_with("http://") {
            return Err(EndpointError::Plaintext);
        }
        Err(EndpointError::Scheme { found: text.to_owned() })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Https(address) => write!(f, "https://{}", address.authority),
        }
    }
}

impl HttpsAddress {
    fn parse(text: &str) -> Result<Self, EndpointError> {
        let text = text.strip_suffix('/').unwrap_or(text);
        if let Some(at) = text.find(['/', '?', '#', '@']) {
            return Err(EndpointError::Excess {
                found: text[at..].to_owned(),
            });
        }
        let authority: Authority = text
            .parse()
            .map_err(|_| EndpointError::Host { found: text.to_owned() })?;
        let origin = format!("https://{authority}")
            .parse()
            .map_err(|_| EndpointError::Host { found: text.to_owned() })?;
        let host = bare_host(&authority);
        let server_name = ServerName::try_from(host.to_owned()).map_err(|_| EndpointError::Host {
            found: authority.host().to_owned(),
        })?;
        // The parser of `http` answers `None` for a port that is out of range as well as for one that is not there.
        let port = match (authority.port_u16(), authority.as_str().strip_prefix(authority.host())) {
            (Some(port), _) if port > 0 => port,
            (None, None | Some("" | ":")) => return Err(EndpointError::PortMissing { host: host.to_owned() }),
            (_, rest) => {
                let found = rest.unwrap_or_default().trim_start_matches(':').to_owned();
                return Err(EndpointError::Port { found });
            }
        };
        Ok(Self {
            origin,
            authority,
            port,
            server_name,
        })
    }

    /// The host as the resolver takes it: without the brackets around an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        bare_host(&self.authority)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The name that the gateway's certificate must be for.
    pub(crate) fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }

    /// Scheme, host and port, as they go into the HTTP/2 headers.
    pub(crate) fn origin(&self) -> &Uri {
        &self.origin
    }
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It starts with neither `unix:` nor `https://`.
    #[error("an endpoint is unix:PATH or https://HOST:PORT, found {found:?}")]
    Scheme {
        /// The whole text.
        found: String,
    },
    /// It starts with `http://`.
    #[error("http:// is not possible: the gateway has no plaintext listener; use https://HOST:PORT or unix:PATH")]
    Plaintext,
    /// `unix:` with nothing behind it.
    #[error("unix: needs the path of a socket, as in unix:/run/portcullis/api.sock")]
    PathMissing,
    /// What stands for the host is neither a name nor an address.
    #[error("{found:?} is not a host; an endpoint is https://HOST:PORT")]
    Host {
        /// What stands in the place of the host.
        found: String,
    },
    /// There is no port.
    #[error("the port is missing: write https://{host}:PORT")]
    PortMissing {
        /// The host.
        host: String,
    },
    /// The port is not a number from 1 to 65535.
    #[error("{found:?} is not a port; a port is a number from 1 to 65535")]
    Port {
        /// What stands in the place of the port.
        found: String,
    },
    /// Something other than a host and a port is in it.
    #[error("an endpoint is https://HOST:PORT and nothing more, found {found:?} as well")]
    Excess {
        /// From the first character that does not belong.
        found: String,
    },
}

fn bare_host(authority: &Authority) -> &str {
    authority.host().trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        text.parse()
    }

    #[test]
    fn unix_paths_may_be_absolute_or_relative() {
        for path in ["/run/portcullis/api.sock", "state/api.sock"] {
            let endpoint = parse(&format!("unix:{path}")).expect("a Unix endpoint");
            assert_eq!(endpoint, Endpoint::unix(path));
            assert_eq!(endpoint.to_string(), format!("unix:{path}"));
        }
        assert_eq!(parse("unix:"), Err(EndpointError::PathMissing));
    }

    #[test]
    fn https_endpoints_have_a_host_and_a_port() {
        for (text, host, port) in [
            ("https://gateway.example:8443", "gateway.example", 8443),
            ("https://gateway.example:8443/", "gateway.example", 8443),
            ("https://127.0.0.1:1", "127.0.0.1", 1),
            ("https://[::1]:65535", "::1", 65535),
        ] {
            let endpoint = parse(text).expect(text);
            let Address::Https(address) = endpoint.address() else {
                panic!("{text} is not https")
            };
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(endpoint.to_string(), text.trim_end_matches('/'));
        }
    }

    #[test]
    fn a_missing_port_is_named() {
        for text in [
            "https://gateway.example",
            "https://gateway.example:",
            "https://gateway.example/",
        ] {
            assert_eq!(
                parse(text),
                Err(EndpointError::PortMissing {
                    host: "gateway.example".into()
                }),
                "{text}"
            );
        }
        assert_eq!(
            parse("https://[::1]"),
            Err(EndpointError::PortMissing { host: "::1".into() })
        );
    }

    #[test]
    fn a_wrong_port_is_named() {
        for port in ["0", "65536", "99999"] {
            let text = format!("https://gateway.example:{port}");
            assert_eq!(parse(&text), Err(EndpointError::Port { found: port.into() }), "{text}");
        }
    }

    #[test]
    fn plaintext_is_refused_with_the_reason() {
        let error = parse("http://gateway.example:8080").expect_err("http");
        assert_eq!(error, EndpointError::Plaintext);
        assert!(error.to_string().contains("no plaintext listener"));
    }

    #[test]
    fn nothing_may_follow_the_port() {
        for (text, found) in [
            ("https://gateway.example:8443/v1", "/v1"),
            ("https://gateway.example:8443?x", "?x"),
            ("https://user@gateway.example:8443", "@gateway.example:8443"),
        ] {
            assert_eq!(
                parse(text),
                Err(EndpointError::Excess { found: found.into() }),
                "{text}"
            );
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "gateway.example:8443",
            "/run/portcullis/api.sock",
            "ftp://gateway.example:21",
        ] {
            assert_eq!(parse(text), Err(EndpointError::Scheme { found: text.into() }), "{text}");
        }
        for text in [
            "https://",
            "https://:8443",
            "https://two words:8443",
            "https://-:1",
            "https://::1:8443",
        ] {
            assert!(
                matches!(parse(text), Err(EndpointError::Host { .. })),
                "{text}: {:?}",
                parse(text)
            );
        }
    }
}

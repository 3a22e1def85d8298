//! Where a gateway listens.

use rustls_pki_types::ServerName;
use std::{fmt, path::PathBuf, str::FromStr};

/// Where a gateway listens: `unix:/path/to/socket` or `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Address);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Https {
        host: String,
        port: u16,
        name: ServerName<'static>,
        origin: http::Uri,
    },
}

impl Endpoint {
    /// Whether connections are made by TLS.
    pub fn is_https(&self) -> bool {
        matches!(self.0, Address::Https { .. })
    }

    pub(super) fn address(&self) -> &Address {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("endpoint: expected unix:/path or https://host:port, found {text:?}: {what}");
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Self(Address::Unix(path.into()))),
                // A host may change its directory at any time.
                false => Err(wrong("the path must be absolute")),
            };
        }
        let Some(authority) = text.strip_prefix("https://") else {
            return Err(wrong("it is neither"));
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let origin: http::Uri = format!("https://{authority}")
            .parse()
            .map_err(|_| wrong("it is no URI"))?;
        let parts = origin.authority().ok_or_else(|| wrong("it names no host"))?;
        if parts.as_str() != authority || authority.contains('@') {
            return Err(wrong("nothing may stand beside host and port"));
        }
        let host = parts.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = parts
            .port_u16()
            .filter(|port| *port > 0)
            .ok_or_else(|| wrong("the port is required"))?;
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong("the host is no name of a server"))?;
        Ok(Self(Address::Https {
            host,
            port,
            name,
            origin,
        }))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Address::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Address::Https { host, port, .. } => write!(formatter, "https://{host}:{port}"),
        }
    }
}

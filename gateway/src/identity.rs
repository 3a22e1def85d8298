//! Who a caller is.
//!
//! A principal is a typed name: `unix:uid=1000` from a Unix socket's peer credentials, `spiffe://…` from the URI in a
//! client certificate, else `x509:` and the certificate's subject. The three spaces cannot collide.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicUsize},
};
use tokio::net::unix::UCred;
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// A caller's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

/// Why a certificate names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is not a certificate that can be read.
    #[error("the client certificate cannot be read: {0}")]
    Unreadable(String),
    /// The SPIFFE standard allows one URI.
    #[error("the client certificate holds {0} spiffe:// URIs; expected at most one")]
    SeveralIds(usize),
    /// Neither a SPIFFE id nor a subject.
    #[error("the client certificate holds neither a spiffe:// URI nor a subject")]
    Nameless,
}

impl Principal {
    /// The user at the other end of a Unix socket.
    pub fn of_unix_peer(credentials: &UCred) -> Self {
        Self(format!("unix:uid={}", credentials.uid()).into())
    }

    /// The subject of a client certificate (DER) whose chain has been verified.
    pub fn of_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let unreadable = |error: x509_cert::der::Error| IdentityError::Unreadable(error.to_string());
        let certificate = Certificate::from_der(der).map_err(unreadable)?;
        let certificate = certificate.tbs_certificate();
        let names = certificate.get_extension::<SubjectAltName>().map_err(unreadable)?;
        let ids: Vec<&str> = names
            .iter()
            .flat_map(|(_, names)| &names.0)
            .filter_map(|name| match name {
                GeneralName::UniformResourceIdentifier(uri) if uri.as_str().starts_with(SPIFFE) => Some(uri.as_str()),
                _ => None,
            })
            .collect();
        match ids.as_slice() {
            [id] => Ok(Self((*id).into())),
            [] if certificate.subject().is_empty() => Err(IdentityError::Nameless),
            [] => Ok(Self(format!("x509:{}", certificate.subject()).into())),
            several => Err(IdentityError::SeveralIds(several.len())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How a caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationMethod {
    /// A Unix socket's peer credentials.
    UnixPeer,
    /// A client certificate over TLS.
    ClientCertificate,
}

impl AuthenticationMethod {
    /// The name in the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnixPeer => "unix-peer",
            Self::ClientCertificate => "client-certificate",
        }
    }
}

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Who it is.
    pub principal: Principal,
    /// How that is known.
    pub method: AuthenticationMethod,
    /// Where it is: an address and port, or `unix:pid=…`.
    pub address: String,
    /// The bytes of its requests that are still arriving.
    pub arriving: AtomicUsize,
}

impl Peer {
    /// A peer that has sent nothing yet.
    pub fn new(principal: Principal, method: AuthenticationMethod, address: String) -> Self {
        Self {
            principal,
            method,
            address,
            arriving: AtomicUsize::new(0),
        }
    }
}

/// A principal or, with `*` at its end, all that start so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalPattern {
    text: String,
    prefix: bool,
}

impl PrincipalPattern {
    /// Reads a pattern; says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, prefix) = match text.strip_suffix('*') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let known = ["unix:uid=", SPIFFE, "x509:"]
            .iter()
            .any(|space| name.starts_with(space));
        if (known || text == "*") && !name.contains('*') {
            Ok(Self {
                text: name.to_owned(),
                prefix,
            })
        } else {
            Err(format!(
                "\"{text}\" is no principal: expected unix:uid=…, spiffe://…, x509:… (with an optional * at the end), or *"
            ))
        }
    }

    /// Whether a principal is meant.
    pub fn matches(&self, principal: &Principal) -> bool {
        if self.prefix {
            principal.0.starts_with(&self.text)
        } else {
            *principal.0 == self.text
        }
    }
}

const SPIFFE: &str = "spiffe://";

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(subject: Option<&str>, uris: &[&str]) -> Vec<u8> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(subject) = subject {
            parameters.distinguished_name.push(DnType::CommonName, subject);
        }
        for uri in uris {
            parameters
                .subject_alt_names
                .push(SanType::URI((*uri).try_into().expect("an ASCII URI")));
        }
        let key = KeyPair::generate().expect("a key");
        parameters.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn a_spiffe_id_comes_before_the_subject() {
        let principal = Principal::of_certificate(&certificate(Some("ci"), &["spiffe://example.org/ci"]));
        assert_eq!(
            principal.map(|one| one.to_string()),
            Ok("spiffe://example.org/ci".to_owned())
        );
    }

    #[test]
    fn a_subject_is_typed_and_cannot_pass_for_a_spiffe_id() {
        let principal =
            Principal::of_certificate(&certificate(Some("spiffe://example.org/ci"), &["https://example.org"]));
        let name = principal.expect("a principal").to_string();
        assert!(name.starts_with("x509:CN=spiffe:"), "{name}");
    }

    #[test]
    fn several_spiffe_ids_or_none_and_no_subject_name_nobody() {
        let several = certificate(Some("ci"), &["spiffe://example.org/a", "spiffe://example.org/b"]);
        assert_eq!(Principal::of_certificate(&several), Err(IdentityError::SeveralIds(2)));
        assert_eq!(
            Principal::of_certificate(&certificate(None, &[])),
            Err(IdentityError::Nameless)
        );
        assert!(matches!(
            Principal::of_certificate(b"rubbish"),
            Err(IdentityError::Unreadable(_))
        ));
    }

    #[test]
    fn patterns_match_whole_names_or_prefixes() {
        let principal = Principal("spiffe://example.org/pay".into());
        for (pattern, expected) in [
            ("spiffe://example.org/pay", true),
            ("spiffe://example.org/pa", false),
            ("spiffe://example.org/*", true),
            ("*", true),
            ("unix:uid=*", false),
        ] {
            assert_eq!(
                PrincipalPattern::parse(pattern).map(|one| one.matches(&principal)),
                Ok(expected),
                "{pattern}"
            );
        }
        assert!(PrincipalPattern::parse("alice").is_err());
        assert!(PrincipalPattern::parse("spiffe://*/x").is_err());
    }
}

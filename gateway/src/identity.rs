//! Who a caller is.
//!
//! A principal is a typed name, and the types cannot collide:
//!
//! - `unix:uid=1000`, from a Unix socket's peer credentials;
//! - `spiffe://trust-domain/path`, from the one URI in a client certificate (`spiffe`);
//! - `x509:{issuer}:{subject}`, from any other client certificate: the SHA-256 of the public key that signed it, of which
//!   the first 32 hexadecimal digits are taken, and its subject (`subject`). Two authorities that give one name to two
//!   clients so make two principals.
//!
//! A certificate that means to hold a SPIFFE id and is not a good X.509-SVID names nobody, rather than something else.

mod spiffe;
mod subject;

pub use spiffe::{SpiffeId, check_trust_domain};

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicUsize},
    time::SystemTime,
};
use subject::subject_text;
use tokio::net::unix::UCred;
use tokio_util::sync::CancellationToken;
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName, name::GeneralName},
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
    /// A certificate with a SPIFFE id holds that one URI (X.509-SVID, section 2).
    #[error("the client certificate holds a SPIFFE id among {0} URIs; expected that one alone")]
    SeveralUris(usize),
    /// The id is not of its form.
    #[error("the client certificate's SPIFFE id {id:?} is not valid: {reason}")]
    SpiffeId {
        /// What was found.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A workload's certificate cannot sign others (X.509-SVID, section 5.2).
    #[error("the client certificate holds a SPIFFE id and may sign certificates: it is an authority, not a workload")]
    Authority,
    /// Neither a SPIFFE id nor a subject.
    #[error("the client certificate holds neither a spiffe:// URI nor a subject")]
    Nameless,
}

/// What a client certificate says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertifiedName {
    /// A workload of a trust domain.
    Spiffe(SpiffeId),
    /// A subject, as text that no other subject has.
    Subject(String),
}

impl CertifiedName {
    /// Reads the name in a certificate (DER). Whether it may be believed is another question.
    pub fn of(der: &[u8]) -> Result<Self, IdentityError> {
        let unreadable = |error: x509_cert::der::Error| IdentityError::Unreadable(error.to_string());
        let certificate = Certificate::from_der(der).map_err(unreadable)?;
        let certificate = certificate.tbs_certificate();
        let names = certificate.get_extension::<SubjectAltName>().map_err(unreadable)?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|(_, names)| &names.0)
            .filter_map(|name| match name {
                GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
                _ => None,
            })
            .collect();
        let Some(id) = uris.iter().find(|uri| SpiffeId::is_meant(uri)) else {
            return match certificate.subject() {
                subject if subject.is_empty() => Err(IdentityError::Nameless),
                subject => Ok(Self::Subject(subject_text(subject))),
            };
        };
        if uris.len() != 1 {
            return Err(IdentityError::SeveralUris(uris.len()));
        }
        let is_authority = certificate
            .get_extension::<BasicConstraints>()
            .map_err(unreadable)?
            .is_some_and(|(_, constraints)| constraints.ca);
        let signs_others = certificate
            .get_extension::<KeyUsage>()
            .map_err(unreadable)?
            .is_some_and(|(_, usage)| usage.key_cert_sign() || usage.crl_sign());
        if is_authority || signs_others {
            return Err(IdentityError::Authority);
        }
        SpiffeId::parse(id)
            .map(Self::Spiffe)
            .map_err(|reason| IdentityError::SpiffeId {
                id: (*id).to_owned(),
                reason,
            })
    }
}

impl Principal {
    /// The user at the other end of a Unix socket.
    pub fn of_unix_peer(credentials: &UCred) -> Self {
        Self(format!("unix:uid={}", credentials.uid()).into())
    }

    /// The workload of a SPIFFE id.
    pub fn of_workload(id: &SpiffeId) -> Self {
        Self(id.as_str().into())
    }

    /// The holder of a client certificate that was verified: by its name, and by the public key (SubjectPublicKeyInfo, DER)
    /// that signed it.
    pub fn of_certificate(name: &CertifiedName, issuer_key: &[u8]) -> Self {
        match name {
            CertifiedName::Spiffe(id) => Self::of_workload(id),
            CertifiedName::Subject(subject) => {
                let issuer = hex::encode(&Sha256::digest(issuer_key)[..ISSUER_LENGTH]);
                Self(format!("x509:{issuer}:{subject}").into())
            }
        }
    }

    /// The principal that a pattern without a `*` means.
    pub fn named(pattern: &PrincipalPattern) -> Option<Self> {
        pattern.is_exact().then(|| Self(pattern.text.as_str().into()))
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
    certificate: Option<ClientCertificate>,
    end: OnceLock<EndReason>,
    ended: CancellationToken,
}

/// What a peer proved itself with, kept so that it can be judged again.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The certificate and what the client sent with it, the client's own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// When the first certificate on the way to the authority ends.
    pub valid_until: SystemTime,
}

/// Why a peer is no longer believed to be who it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its certificate, or one on the way to the authority, has expired.
    CertificateExpired,
    /// Its certificate, or one on the way to the authority, was revoked.
    CertificateRevoked,
    /// No authority that is trusted now vouches for it.
    CertificateUntrusted,
}

impl EndReason {
    /// What happened, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::CertificateExpired => "the client certificate of this connection has expired: connect with a new one",
            Self::CertificateRevoked => "the client certificate of this connection was revoked",
            Self::CertificateUntrusted => {
                "the client certificate of this connection is no longer vouched for by an authority that is trusted"
            }
        }
    }
}

impl Peer {
    /// A peer that has sent nothing yet.
    pub fn new(principal: Principal, method: AuthenticationMethod, address: String) -> Self {
        Self {
            principal,
            method,
            address,
            arriving: AtomicUsize::new(0),
            certificate: None,
            end: OnceLock::new(),
            ended: CancellationToken::new(),
        }
    }

    /// A peer that showed a certificate, and is believed as long as that is.
    pub fn with_certificate(principal: Principal, address: String, certificate: ClientCertificate) -> Self {
        Self {
            certificate: Some(certificate),
            ..Self::new(principal, AuthenticationMethod::ClientCertificate, address)
        }
    }

    /// The certificate; `None` on a Unix socket.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_ref()
    }

    /// Ends it: nothing more is served to it. The first reason counts.
    pub fn end(&self, reason: EndReason) {
        if self.end.set(reason).is_ok() {
            self.ended.cancel();
        }
    }

    /// Whether it has ended. The clock is asked too, so nothing is served in the moment before a timer fires.
    pub fn ended(&self) -> Option<EndReason> {
        if let Some(reason) = self.end.get() {
            return Some(*reason);
        }
        let expired = self
            .certificate
            .as_ref()
            .is_some_and(|certificate| certificate.valid_until <= SystemTime::now());
        if expired {
            self.end(EndReason::CertificateExpired);
        }
        self.end.get().copied()
    }

    /// Waits until it has ended, for streams that end with it.
    pub async fn until_ended(&self) {
        self.ended.cancelled().await;
    }

    /// Is cancelled when it has ended.
    pub fn end_token(&self) -> &CancellationToken {
        &self.ended
    }
}

/// A principal or, with `*` at its end, all that start so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
        if !(known || text == "*") || name.contains('*') {
            return Err(format!(
                "\"{text}\" is no principal: expected unix:uid=…, spiffe://…, x509:… (with an optional * at the end), or *"
            ));
        }
        if prefix && !ends_a_part(name) {
            return Err(format!(
                "\"{text}\" would also mean principals whose names only begin alike: expected a * after a whole part of the \
                 name, as in spiffe://example.org/*, x509:{{issuer}}:* or unix:uid=*"
            ));
        }
        Ok(Self {
            text: name.to_owned(),
            prefix,
        })
    }

    /// Whether it means one principal.
    pub fn is_exact(&self) -> bool {
        !self.prefix
    }

    /// Whether all that another pattern means is meant by this one too.
    pub fn covers(&self, other: &Self) -> bool {
        if self.prefix {
            other.text.starts_with(&self.text)
        } else {
            self == other
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

impl fmt::Display for PrincipalPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)?;
        formatter.write_str(if self.prefix { "*" } else { "" })
    }
}

/// Whether a prefix of names ends where a part of them does: after the path segment, the issuer, an attribute of the subject, or
/// the kind of name.
fn ends_a_part(prefix: &str) -> bool {
    match prefix {
        "" | "unix:uid=" => true,
        prefix if prefix.starts_with(SPIFFE) => prefix.ends_with('/'),
        prefix if prefix.starts_with("x509:") => {
            let attribute = prefix.ends_with(',') && !prefix.ends_with("\\,");
            attribute || prefix.ends_with(':') && prefix.matches(':').count() <= 2
        }
        _ => false,
    }
}

const SPIFFE: &str = "spiffe://";
/// 128 bits: nobody finds another key with the same.
const ISSUER_LENGTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(subject: Option<&str>, uris: &[&str]) -> Vec<u8> {
        changed(subject, uris, |_| {})
    }

    fn changed(subject: Option<&str>, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
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
        change(&mut parameters);
        let key = KeyPair::generate().expect("a key");
        parameters.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn principal(certificate: &[u8], issuer_key: &[u8]) -> Result<String, IdentityError> {
        CertifiedName::of(certificate).map(|name| Principal::of_certificate(&name, issuer_key).to_string())
    }

    #[test]
    fn a_spiffe_id_comes_before_the_subject() {
        let certificate = certificate(Some("ci"), &["spiffe://example.org/ci"]);
        assert_eq!(
            principal(&certificate, b"key"),
            Ok("spiffe://example.org/ci".to_owned())
        );
    }

    #[test]
    fn a_subject_is_typed_with_its_issuer_and_cannot_pass_for_a_spiffe_id() {
        let certificate = certificate(Some("spiffe://example.org/ci"), &["https://example.org"]);
        let (one, other) = (
            principal(&certificate, b"a key"),
            principal(&certificate, b"another key"),
        );
        let one = one.expect("a principal");
        assert_eq!(one, "x509:8fa3aab2faa9b79e0a0398da5b5abd07:CN=spiffe://example.org/ci");
        assert_ne!(Ok(one), other);
    }

    #[test]
    fn a_bad_svid_names_nobody() {
        let id = "spiffe://example.org/a";
        for uris in [
            &[id, "spiffe://example.org/b"][..],
            &[id, "https://example.org"],
            &[id, id],
        ] {
            assert_eq!(
                principal(&certificate(Some("ci"), uris), b""),
                Err(IdentityError::SeveralUris(2))
            );
        }
        for id in [
            "spiffe://example.org",
            "SPIFFE://example.org/a",
            "spiffe://example.org/a/../b",
        ] {
            let found = principal(&certificate(Some("ci"), &[id]), b"");
            assert!(matches!(found, Err(IdentityError::SpiffeId { .. })), "{id}: {found:?}");
        }
        let authority = changed(Some("ci"), &[id], |parameters| {
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        });
        let signer = changed(Some("ci"), &[id], |parameters| {
            parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        });
        for certificate in [authority, signer] {
            assert_eq!(principal(&certificate, b""), Err(IdentityError::Authority));
        }
        assert_eq!(principal(&certificate(None, &[]), b""), Err(IdentityError::Nameless));
        assert!(matches!(principal(b"rubbish", b""), Err(IdentityError::Unreadable(_))));
    }

    #[test]
    fn a_peer_ends_once_and_by_the_clock() {
        let peer = |valid_until| {
            let id = SpiffeId::parse("spiffe://example.org/a").expect("an id");
            let certificate = ClientCertificate {
                chain: Vec::new(),
                valid_until,
            };
            Peer::with_certificate(Principal::of_workload(&id), String::new(), certificate)
        };
        let hour = std::time::Duration::from_secs(3600);
        let living = peer(SystemTime::now() + hour);
        assert_eq!(living.ended(), None);
        living.end(EndReason::CertificateRevoked);
        living.end(EndReason::CertificateUntrusted);
        assert_eq!(living.ended(), Some(EndReason::CertificateRevoked));
        let expired = peer(SystemTime::now() - hour);
        assert_eq!(expired.ended(), Some(EndReason::CertificateExpired));
        assert!(expired.end_token().is_cancelled());
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

    #[test]
    fn a_pattern_ends_after_a_whole_part_of_the_name() {
        let issuer = "x509:8fa3aab2faa9b79e0a0398da5b5abd07";
        for good in [
            "*".to_owned(),
            "unix:uid=*".to_owned(),
            "spiffe://*".to_owned(),
            "spiffe://example.org/*".to_owned(),
            "spiffe://example.org/team/*".to_owned(),
            "x509:*".to_owned(),
            format!("{issuer}:*"),
            format!("{issuer}:CN=ci,*"),
        ] {
            assert!(PrincipalPattern::parse(&good).is_ok(), "{good}");
        }
        // These would reach example.org.evil, another user, another team, another authority and another name.
        for wrong in [
            "spiffe://example.org*".to_owned(),
            "unix:uid=100*".to_owned(),
            "spiffe://example.org/team*".to_owned(),
            "x509:8fa3*".to_owned(),
            format!("{issuer}:CN=ci*"),
            format!("{issuer}:CN=a:*"),
            format!("{issuer}:CN=a\\,*"),
        ] {
            let error = PrincipalPattern::parse(&wrong).expect_err(&wrong);
            assert!(error.contains("only begin alike"), "{error}");
        }
    }
}

//! Whom the mTLS listener believes: authorities, trust domains, revocation lists; and the certificate that it shows.
//!
//! All of it is read from files into one value that is exchanged as a whole. A certificate is judged in one place,
//! [`Trust::examine`]: in the handshake, right after it (a resumed session skips the first), and again whenever the trust
//! changes.

use crate::{
    config::{Problem, RevocationPolicy, TlsListenerSettings},
    identity::{CertifiedName, ClientCertificate, EndReason, IdentityError, Principal},
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{self, CryptoProvider, aws_lc_rs},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    version::TLS13,
};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, TrustAnchor, UnixTime,
    pem::{self, PemObject},
};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_cert::{Certificate, crl::CertificateList, der::Decode};

/// What a handshake needs, all read at one time.
#[derive(Debug)]
pub struct TlsState {
    /// How TLS is spoken, with the certificate to show.
    pub(super) config: Arc<ServerConfig>,
    /// Whom to believe.
    pub(super) trust: Arc<Trust>,
    /// When the certificate to show expires.
    pub(super) expires: Option<SystemTime>,
}

impl TlsState {
    /// Reads every file that the settings name; reports everything that is wrong with them.
    pub fn read(settings: &TlsListenerSettings) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let certificates = read_certificates("listen.tls.certificate", &settings.certificate, &mut problems);
        let key = PrivateKeyDer::from_pem_file(&settings.private_key);
        let key = key.map_err(|error| {
            let message = format!("expected a private key in PEM: {}", pem_words(&error));
            problems.push(problem("listen.tls.private_key", &settings.private_key, message));
        });
        let trust = Arc::new(Trust::read(settings, &mut problems));
        let expires = certificates.first().and_then(|shown| {
            let shown = Certificate::from_der(shown).ok()?;
            Some(shown.tbs_certificate().validity().not_after.to_system_time())
        });
        if let (true, Ok(key)) = (problems.is_empty(), key) {
            match server_config(certificates, key, &trust) {
                Ok(config) => {
                    return Ok(Self {
                        config: Arc::new(config),
                        trust,
                        expires,
                    });
                }
                Err(error) => {
                    let message = format!("certificate and key do not fit: {error}");
                    problems.push(problem("listen.tls.certificate", &settings.certificate, message));
                }
            }
        }
        Err(problems)
    }

    /// Who the holder of a certificate in a PEM file is; other certificates in the file are those that the client sends with it.
    pub fn principal_in(&self, path: &Path) -> Result<Principal, Vec<Problem>> {
        let mut problems = Vec::new();
        let chain = read_certificates("certificate", path, &mut problems);
        let Some((client, others)) = chain.split_first() else {
            return Err(problems);
        };
        match self.trust.examine(client, others, UnixTime::now()) {
            Ok(examined) => Ok(examined.principal),
            Err(error) => Err(vec![problem("certificate", path, error.to_string())]),
        }
    }

    /// When the first revocation list that counts is out of date, if one is going to be.
    pub fn next_change(&self) -> Option<SystemTime> {
        self.trust.next_change
    }
}

/// TLS 1.3 with a client certificate of a known authority, and HTTP/2.
fn server_config(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    trust: &Arc<Trust>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&trust.provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::<Trust>::clone(trust))
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Whom to believe.
#[derive(Debug)]
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    authorities: Vec<TrustAnchor<'static>>,
    // Authorities that alone may vouch for SPIFFE ids of a trust domain.
    domains: BTreeMap<String, Vec<TrustAnchor<'static>>>,
    lists: Vec<CertRevocationList<'static>>,
    policy: RevocationPolicy,
    next_change: Option<SystemTime>,
    hints: Vec<DistinguishedName>,
}

/// A client whose certificate is believed.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) principal: Principal,
    pub(super) certificate: ClientCertificate,
}

/// Why a certificate is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untrusted {
    #[error(transparent)]
    Name(#[from] IdentityError),
    #[error("the client certificate is not trusted: {0:?}")]
    Path(webpki::Error),
}

impl Untrusted {
    /// Why a connection that was believed before ends.
    pub(super) fn end_reason(&self) -> EndReason {
        match self {
            Self::Path(webpki::Error::CertExpired { .. }) => EndReason::CertificateExpired,
            Self::Path(webpki::Error::CertRevoked) => EndReason::CertificateRevoked,
            _ => EndReason::CertificateUntrusted,
        }
    }
}

impl Trust {
    fn read(settings: &TlsListenerSettings, problems: &mut Vec<Problem>) -> Self {
        let authorities = read_anchors("listen.tls.client_authorities", &settings.client_authorities, problems);
        let domains: BTreeMap<_, _> = settings
            .trust_domains
            .iter()
            .map(|(domain, path)| {
                let setting = format!("listen.tls.trust_domains.{domain}");
                (domain.clone(), read_anchors(&setting, path, problems))
            })
            .collect();
        let mut lists = Lists::default();
        for path in &settings.revocation_lists {
            lists.read(path, problems);
        }
        let all = authorities.iter().chain(domains.values().flatten());
        let hints: HashSet<Vec<u8>> = all.map(|anchor| sequence(&anchor.subject)).collect();
        let keys: HashSet<&[u8]> = authorities.iter().map(|one| &*one.subject_public_key_info).collect();
        if keys.len() > 1 && domains.is_empty() {
            tracing::warn!(
                "listen.tls.client_authorities names several authorities, and each may vouch for any SPIFFE id; \
                 listen.tls.trust_domains binds a trust domain to its own"
            );
        }
        Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            authorities,
            domains,
            lists: lists.lists,
            policy: settings.revocation_policy,
            // Out of date, such a list goes on counting under the other policy.
            next_change: lists
                .first_update
                .filter(|_| settings.revocation_policy == RevocationPolicy::Require),
            hints: hints.into_iter().map(DistinguishedName::from).collect(),
        }
    }

    /// Judges a client's certificate and what it sent with it.
    pub(super) fn examine(
        &self,
        client: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Examined, Untrusted> {
        let name = CertifiedName::of(client)?;
        let anchors = match &name {
            CertifiedName::Spiffe(id) => self.domains.get(id.trust_domain()).unwrap_or(&self.authorities),
            CertifiedName::Subject(_) => &self.authorities,
        };
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().collect();
        // Fails only without lists: then nothing is asked about revocation.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            let options = options.with_depth(RevocationCheckDepth::Chain);
            match self.policy {
                RevocationPolicy::Require => options
                    .with_status_policy(UnknownStatusPolicy::Deny)
                    .with_expiration_policy(ExpirationPolicy::Enforce),
                RevocationPolicy::Prefer => options
                    .with_status_policy(UnknownStatusPolicy::Allow)
                    .with_expiration_policy(ExpirationPolicy::Ignore),
            }
            .build()
        });
        let entity = EndEntityCert::try_from(client).map_err(Untrusted::Path)?;
        let path = entity
            .verify_for_usage(
                self.provider.signature_verification_algorithms.all,
                anchors,
                others,
                now,
                KeyUsage::client_auth(),
                revocation,
                None,
            )
            .map_err(Untrusted::Path)?;
        let mut valid_until = not_after(client)?;
        for certificate in path.intermediate_certificates() {
            valid_until = valid_until.min(not_after(&certificate.der())?);
        }
        let issuer_key = match path.intermediate_certificates().next() {
            Some(issuer) => issuer.subject_public_key_info().to_vec(),
            None => sequence(&path.anchor().subject_public_key_info),
        };
        let chain = [client].into_iter().chain(others);
        Ok(Examined {
            principal: Principal::of_certificate(&name, &issuer_key),
            certificate: ClientCertificate {
                chain: chain.map(|one| one.clone().into_owned()).collect(),
                valid_until,
            },
        })
    }

    /// Judges a certificate again, as of now.
    pub(super) fn examine_again(&self, certificate: &ClientCertificate) -> Result<(), Untrusted> {
        let Some((client, others)) = certificate.chain.split_first() else {
            return Err(Untrusted::Path(webpki::Error::BadDer));
        };
        self.examine(client, others, UnixTime::now()).map(|_| ())
    }
}

impl ClientCertVerifier for Trust {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        client: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.examine(client, others, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(error) => {
                let told = alert(&error);
                tracing::debug!(%error, "a client certificate was refused");
                Err(told
                    .unwrap_or_else(|| CertificateError::Other(OtherError(Arc::new(error))))
                    .into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The error that makes rustls send the alert that says why (RFC 8446, section 6.2), where there is one.
fn alert(error: &Untrusted) -> Option<CertificateError> {
    use webpki::Error;
    match error {
        Untrusted::Name(_) => None,
        Untrusted::Path(error) => match error {
            Error::BadDer | Error::BadDerTime => Some(CertificateError::BadEncoding),
            Error::CertNotValidYet { .. } => Some(CertificateError::NotValidYet),
            Error::CertExpired { .. } => Some(CertificateError::Expired),
            Error::UnknownIssuer => Some(CertificateError::UnknownIssuer),
            Error::CertRevoked => Some(CertificateError::Revoked),
            Error::UnknownRevocationStatus => Some(CertificateError::UnknownRevocationStatus),
            Error::CrlExpired { .. } => Some(CertificateError::ExpiredRevocationList),
            Error::InvalidSignatureForPublicKey => Some(CertificateError::BadSignature),
            Error::RequiredEkuNotFoundContext(_) => Some(CertificateError::InvalidPurpose),
            _ => None,
        },
    }
}

/// The revocation lists read so far.
#[derive(Default)]
struct Lists {
    lists: Vec<CertRevocationList<'static>>,
    // Of two lists about the same certificates, webpki asks the first alone, which may be the older one.
    seen: HashSet<(Vec<u8>, Option<Vec<u8>>)>,
    first_update: Option<SystemTime>,
}

impl Lists {
    fn read(&mut self, path: &Path, problems: &mut Vec<Problem>) {
        let setting = "listen.tls.revocation_lists";
        let before = self.lists.len();
        let found = match fs::read(path) {
            Err(error) => return problems.push(problem(setting, path, format!("cannot be read: {error}"))),
            Ok(bytes) if bytes.starts_with(b"\x30") => vec![CertificateRevocationListDer::from(bytes)],
            Ok(bytes) => match CertificateRevocationListDer::pem_slice_iter(&bytes).collect() {
                Ok(lists) => lists,
                Err(error) => {
                    let message = format!("expected a revocation list in PEM or DER: {}", pem_words(&error));
                    return problems.push(problem(setting, path, message));
                }
            },
        };
        for der in &found {
            if let Err(message) = self.add(der) {
                problems.push(problem(setting, path, message));
            }
        }
        if found.is_empty() && self.lists.len() == before {
            problems.push(problem(
                setting,
                path,
                "holds no revocation list in PEM or DER".to_owned(),
            ));
        }
    }

    fn add(&mut self, der: &CertificateRevocationListDer<'_>) -> Result<(), String> {
        let unusable = |error: &dyn std::fmt::Debug| {
            format!("is not a usable revocation list (RFC 5280, version 2, with a next update): {error:?}")
        };
        let list = OwnedCertRevocationList::from_der(der).map_err(|error| unusable(&error))?;
        let list = CertRevocationList::from(list);
        // webpki keeps the time to itself.
        let read =
            CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der).map_err(|error| unusable(&error))?;
        let issuer = read.tbs_cert_list.issuer;
        let about = (
            list.issuer().to_vec(),
            list.issuing_distribution_point().map(<[u8]>::to_vec),
        );
        if !self.seen.insert(about) {
            return Err(format!(
                "is a second list of {issuer}: name only the newest one, because a list that is older hides what it says"
            ));
        }
        let next = read.tbs_cert_list.next_update.map(|time| time.to_system_time());
        if next.is_some_and(|next| next <= SystemTime::now()) {
            tracing::warn!(%issuer, "a revocation list is out of date");
        }
        self.first_update = self.first_update.into_iter().chain(next).min();
        self.lists.push(list);
        Ok(())
    }
}

fn read_anchors(setting: &str, path: &Path, problems: &mut Vec<Problem>) -> Vec<TrustAnchor<'static>> {
    let mut anchors = Vec::new();
    for certificate in read_certificates(setting, path, problems) {
        match webpki::anchor_from_trusted_cert(&certificate) {
            Ok(anchor) => anchors.push(anchor.to_owned()),
            Err(error) => problems.push(problem(setting, path, format!("not a usable authority: {error:?}"))),
        }
    }
    anchors
}

fn read_certificates(setting: &str, path: &Path, problems: &mut Vec<Problem>) -> Vec<CertificateDer<'static>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let message = match read {
        Ok(certificates) if certificates.is_empty() => "it holds no certificate in PEM".to_owned(),
        Ok(certificates) => return certificates,
        Err(error) => format!("expected certificates in PEM: {}", pem_words(&error)),
    };
    problems.push(problem(setting, path, message));
    Vec::new()
}

fn problem(setting: &str, path: &Path, message: String) -> Problem {
    Problem {
        line: None,
        setting: setting.to_owned(),
        message: format!("{}: {message}", path.display()),
    }
}

/// A PEM error without what stands in the file: that may be a key.
fn pem_words(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "there is none in the file".to_owned(),
        _ => "the file is malformed".to_owned(),
    }
}

/// A trust anchor's fields are kept without their outermost tag and length: puts them back (DER, X.690 section 8.1.3).
fn sequence(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    let mut der = vec![0x30];
    if content.len() >= 0x80 {
        der.push(0x80 | length.len() as u8);
    }
    der.extend_from_slice(length);
    der.extend_from_slice(content);
    der
}

fn not_after(der: &CertificateDer<'_>) -> Result<SystemTime, Untrusted> {
    let certificate = Certificate::from_der(der).map_err(|error| IdentityError::Unreadable(error.to_string()))?;
    let seconds = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    // The last second counts whole: a certificate is good through it (RFC 5280, section 4.1.2.5).
    Ok(SystemTime::UNIX_EPOCH + seconds + Duration::from_secs(1))
}

//! The files by which client and gateway know each other.

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fmt, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use x509_cert::der::Decode;
use zeroize::Zeroizing;

/// The paths of a client's certificate chain, its private key and the trust bundle for the gateway, all in PEM.
///
/// Only paths are kept. The files are read for each connection, so a renewed certificate is used by the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    certificate_chain: PathBuf,
    private_key: PathBuf,
    trust_bundle: PathBuf,
}

impl Credentials {
    /// Names the three files; reads none of them.
    pub fn new(
        certificate_chain: impl Into<PathBuf>,
        private_key: impl Into<PathBuf>,
        trust_bundle: impl Into<PathBuf>,
    ) -> Self {
        Self {
            certificate_chain: certificate_chain.into(),
            private_key: private_key.into(),
            trust_bundle: trust_bundle.into(),
        }
    }

    pub(crate) fn trust_bundle(&self) -> &Path {
        &self.trust_bundle
    }

    /// Reads the files into the settings of a connection: TLS 1.3, HTTP/2, this client's certificate, and the trust
    /// bundle as the only authorities.
    pub(crate) async fn load(&self) -> Result<(ClientConfig, Loaded), CredentialsError> {
        // Before the files are read: what changes meanwhile is seen as changed.
        let stamps = self.stamps().await;
        let chain = certificates(&self.certificate_chain, CredentialsPart::CertificateChain).await?;
        let loaded = Loaded::new(stamps, &chain);
        let key = self.load_private_key().await?;
        let roots = self.load_trust_bundle().await?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| self.unusable(source))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|source| self.unusable(source))?;
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        Ok((config, loaded))
    }

    /// Whether the files hold something else than what was loaded, as far as that can be told without reading the key.
    pub(crate) async fn differ_from(&self, loaded: &Loaded) -> bool {
        if self.stamps().await != loaded.stamps {
            return true;
        }
        // At the end of a certificate's time nothing rests on what a file system says about its files.
        loaded.is_ending()
            && certificates(&self.certificate_chain, CredentialsPart::CertificateChain)
                .await
                .is_ok_and(|chain| chain.first() != loaded.certificate.as_ref())
    }

    async fn stamps(&self) -> [Option<Stamp>; 3] {
        let mut stamps = [None; 3];
        for (stamp, path) in stamps
            .iter_mut()
            .zip([&self.certificate_chain, &self.private_key, &self.trust_bundle])
        {
            *stamp = tokio::fs::metadata(path).await.ok().map(|found| Stamp::of(&found));
        }
        stamps
    }

    async fn load_private_key(&self) -> Result<PrivateKeyDer<'static>, CredentialsError> {
        let path = &self.private_key;
        let text = Zeroizing::new(read(path, CredentialsPart::PrivateKey).await?);
        if text
            .windows(ENCRYPTED_KEY_MARK.len())
            .any(|window| window == ENCRYPTED_KEY_MARK)
        {
            return Err(CredentialsError::EncryptedKey { path: path.clone() });
        }
        // The parser's error may quote the file, so it goes no further.
        PrivateKeyDer::from_pem_slice(&text).map_err(|_| CredentialsError::Content {
            path: path.clone(),
            expected: CredentialsPart::PrivateKey,
        })
    }

    async fn load_trust_bundle(&self) -> Result<RootCertStore, CredentialsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.trust_bundle, CredentialsPart::TrustBundle).await? {
            roots.add(certificate).map_err(|_| CredentialsError::Content {
                path: self.trust_bundle.clone(),
                expected: CredentialsPart::TrustBundle,
            })?;
        }
        Ok(roots)
    }

    fn unusable(&self, source: rustls::Error) -> CredentialsError {
        let (certificate, key) = (self.certificate_chain.clone(), self.private_key.clone());
        match source {
            rustls::Error::InconsistentKeys(_) => CredentialsError::Mismatch { certificate, key },
            source => CredentialsError::Unusable {
                certificate,
                key,
                source,
            },
        }
    }
}

/// What was read from the files for a connection.
#[derive(Debug)]
pub(crate) struct Loaded {
    stamps: [Option<Stamp>; 3],
    certificate: Option<CertificateDer<'static>>,
    /// From when on it is about to expire.
    ends: Option<SystemTime>,
}

impl Loaded {
    fn new(stamps: [Option<Stamp>; 3], chain: &[CertificateDer<'static>]) -> Self {
        let certificate = chain.first().cloned();
        // A certificate that this cannot read is the gateway's to judge.
        let parsed = certificate
            .as_ref()
            .and_then(|der| x509_cert::Certificate::from_der(der).ok());
        let ends = parsed.map(|parsed| {
            let validity = parsed.tbs_certificate().validity();
            let (from, until) = (
                validity.not_before.to_system_time(),
                validity.not_after.to_system_time(),
            );
            let lifetime = until.duration_since(from).unwrap_or_default();
            until - (lifetime / 10).min(LONGEST_ENDING)
        });
        Self {
            stamps,
            certificate,
            ends,
        }
    }

    fn is_ending(&self) -> bool {
        self.ends.is_some_and(|ends| SystemTime::now() >= ends)
    }
}

/// What tells that a file is another one, or was written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &std::fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// The three files of [`Credentials`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialsPart {
    /// The client's certificate, followed by the intermediate ones.
    CertificateChain,
    /// The private key of the first certificate in the chain.
    PrivateKey,
    /// The authorities that may issue the gateway's certificate.
    TrustBundle,
}

impl fmt::Display for CredentialsPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CertificateChain => "a certificate chain in PEM, the client's own certificate first",
            Self::PrivateKey => "a private key in PEM (PKCS #8, SEC 1 or PKCS #1), not encrypted",
            Self::TrustBundle => "the certificates of the gateway's authorities in PEM",
        })
    }
}

/// Why the credentials cannot be used. Says which file, what was expected and what was found; never its content.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// An `https` endpoint without credentials.
    #[error("an https endpoint needs a client certificate, its private key and a trust bundle")]
    Missing,
    /// A file cannot be read.
    #[error("cannot read {}: {source} (expected {expected})", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: CredentialsPart,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// A file holds something else, or nothing.
    #[error("{} does not hold what it should: expected {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: CredentialsPart,
    },
    /// The private key is encrypted.
    #[error("the private key in {} is encrypted: expected {}", path.display(), CredentialsPart::PrivateKey)]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// The private key is not the certificate's.
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The file of the certificate chain.
        certificate: PathBuf,
        /// The file of the private key.
        key: PathBuf,
    },
    /// The TLS library refuses the certificate or the key.
    #[error("the certificate in {} and the private key in {} cannot be used: {source}", certificate.display(), key.display())]
    Unusable {
        /// The file of the certificate chain.
        certificate: PathBuf,
        /// The file of the private key.
        key: PathBuf,
        /// What the TLS library said.
        source: rustls::Error,
    },
}

async fn certificates(path: &Path, part: CredentialsPart) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let text = read(path, part).await?;
    let content = || CredentialsError::Content {
        path: path.to_owned(),
        expected: part,
    };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|_| content())?;
    if certificates.is_empty() {
        Err(content())
    } else {
        Ok(certificates)
    }
}

async fn read(path: &Path, expected: CredentialsPart) -> Result<Vec<u8>, CredentialsError> {
    tokio::fs::read(path)
        .await
        .map_err(|source| CredentialsError::Unreadable {
            path: path.to_owned(),
            expected,
            source: Arc::new(source),
        })
}

/// A certificate is about to expire in the last tenth of its time, but not earlier than an hour before its end.
const LONGEST_ENDING: Duration = Duration::from_secs(60 * 60);

/// The name of HTTP/2 in TLS (RFC 9113).
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";

const ENCRYPTED_KEY_MARK: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use std::fs;
    use tempfile::TempDir;

    struct Files {
        directory: TempDir,
        credentials: Credentials,
    }

    impl Files {
        /// A usable set: a certificate that is its own authority.
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["client".into()]).expect("a key");
            let at = |name| directory.path().join(name);
            fs::write(at("client.pem"), cert.pem()).expect("client.pem");
            fs::write(at("client.key"), signing_key.serialize_pem()).expect("client.key");
            fs::write(at("ca.pem"), cert.pem()).expect("ca.pem");
            let credentials = Credentials::new(at("client.pem"), at("client.key"), at("ca.pem"));
            Self { directory, credentials }
        }

        fn write(&self, name: &str, content: &str) {
            fs::write(self.directory.path().join(name), content).expect(name);
        }

        async fn error(&self) -> CredentialsError {
            self.credentials
                .load()
                .await
                .map(|_| ())
                .expect_err("the credentials are not usable")
        }
    }

    #[tokio::test]
    async fn usable_files_give_http2_settings() {
        let (config, _) = Files::new().credentials.load().await.expect("usable");
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
    }

    #[tokio::test]
    async fn a_file_that_is_written_again_or_exchanged_is_noticed() {
        let files = Files::new();
        for name in ["client.pem", "client.key", "ca.pem"] {
            let (_, loaded) = files.credentials.load().await.expect("usable");
            assert!(!files.credentials.differ_from(&loaded).await, "{name}");
            let (path, new) = (files.directory.path().join(name), files.directory.path().join("new"));
            fs::copy(&path, &new).expect("a copy");
            fs::rename(&new, &path).expect("in its place");
            assert!(files.credentials.differ_from(&loaded).await, "{name}");
        }
    }

    #[tokio::test]
    async fn a_missing_file_is_named_with_what_was_expected() {
        for (name, part) in [
            ("client.pem", CredentialsPart::CertificateChain),
            ("client.key", CredentialsPart::PrivateKey),
            ("ca.pem", CredentialsPart::TrustBundle),
        ] {
            let files = Files::new();
            fs::remove_file(files.directory.path().join(name)).expect(name);
            let error = files.error().await;
            assert!(
                matches!(&error, CredentialsError::Unreadable { path, expected, .. }
                    if path.ends_with(name) && *expected == part),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn a_file_with_other_content_is_named_with_what_was_expected() {
        for (name, part) in [
            ("client.pem", CredentialsPart::CertificateChain),
            ("client.key", CredentialsPart::PrivateKey),
            ("ca.pem", CredentialsPart::TrustBundle),
        ] {
            for content in [
                "",
                "no PEM at all",
                "-----BEGIN CERTIFICATE-----\n??\n-----END CERTIFICATE-----\n",
            ] {
                let files = Files::new();
                files.write(name, content);
                let error = files.error().await;
                assert!(
                    matches!(&error, CredentialsError::Content { path, expected }
                        if path.ends_with(name) && *expected == part),
                    "{name}, {content:?}: {error}"
                );
            }
        }
    }

    #[tokio::test]
    async fn an_encrypted_key_is_told_apart() {
        let files = Files::new();
        files.write(
            "client.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let error = files.error().await;
        assert!(matches!(error, CredentialsError::EncryptedKey { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_key_of_another_certificate_is_told_apart() {
        let (files, others) = (Files::new(), Files::new());
        let key = fs::read_to_string(others.directory.path().join("client.key")).expect("the other key");
        files.write("client.key", &key);
        let error = files.error().await;
        assert!(matches!(error, CredentialsError::Mismatch { .. }), "{error}");
    }

    #[tokio::test]
    async fn no_error_and_no_debug_output_quotes_the_private_key() {
        let files = Files::new();
        let path = files.directory.path().join("client.key");
        let canary = fs::read_to_string(&path)
            .expect("the key")
            .lines()
            .nth(1)
            .expect("a line of the key")
            .to_owned();
        files.write("client.key", &format!("-----BEGIN PRIVATE KEY-----\n{canary}\n"));
        let error = files.error().await;
        for text in [
            format!("{error}"),
            format!("{error:?}"),
            format!("{:?}", files.credentials),
        ] {
            assert!(!text.contains(&canary), "{text}");
        }
    }
}

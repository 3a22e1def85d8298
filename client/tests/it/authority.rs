//! Certificates for the tests.

use portcullis_client::Credentials;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
    RevocationReason, RevokedCertParams, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::{fs, sync::Arc};
use tempfile::TempDir;

/// An authority that issues certificates to gateways and clients.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a client's certificate is to be like.
#[derive(Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) not_after: i32,
    pub(crate) serial: u64,
    pub(crate) algorithm: &'static SignatureAlgorithm,
}

impl Wish {
    pub(crate) const USUAL: Self = Self {
        not_after: 4000,
        serial: 1,
        algorithm: &PKCS_ECDSA_P256_SHA256,
    };
    pub(crate) const EXPIRED: Self = Self {
        not_after: 2001,
        ..Self::USUAL
    };
    pub(crate) const ED25519: Self = Self {
        algorithm: &PKCS_ED25519,
        ..Self::USUAL
    };
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    /// Files of a client whose certificate this authority issued and who trusts `trusted` to issue the gateway's.
    pub(crate) fn client(&self, wish: Wish, trusted: &Self) -> (TempDir, Credentials) {
        let key = KeyPair::generate_for(wish.algorithm).expect("a key");
        let mut params = CertificateParams::new(["client.example".into()]).expect("parameters");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(wish.not_after, 1, 1);
        params.serial_number = Some(SerialNumber::from(wish.serial));
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");

        let directory = tempfile::tempdir().expect("a directory");
        let at = |name| directory.path().join(name);
        fs::write(at("client.pem"), certificate.pem()).expect("client.pem");
        fs::write(at("client.key"), key.serialize_pem()).expect("client.key");
        fs::write(at("ca.pem"), trusted.0.pem()).expect("ca.pem");
        let credentials = Credentials::new(at("client.pem"), at("client.key"), at("ca.pem"));
        (directory, credentials)
    }

    /// Settings of a gateway at `host` whose certificate this authority issued and which admits clients of `clients`.
    pub(crate) fn gateway(&self, host: &str, clients: &Admission<'_>) -> Arc<ServerConfig> {
        let (certificate, key) = self.server_certificate(host);
        let provider = Arc::new(clients.provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients.roots()), provider.clone())
            .with_crls(clients.revocation_list())
            .build()
            .expect("a verifier");
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key)
            .expect("the gateway's certificate");
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    fn server_certificate(&self, host: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([host.to_owned()]).expect("parameters");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.into(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }
}

/// Which clients a gateway admits.
pub(crate) struct Admission<'a> {
    pub(crate) authority: &'a Authority,
    /// The serial number of a certificate that was revoked.
    pub(crate) revoked: Option<u64>,
    /// Whether the gateway can check signatures by Ed25519 keys.
    pub(crate) ed25519: bool,
}

impl<'a> Admission<'a> {
    pub(crate) fn of(authority: &'a Authority) -> Self {
        Self {
            authority,
            revoked: None,
            ed25519: true,
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.0.der().clone()).expect("an authority");
        roots
    }

    fn revocation_list(&self) -> Option<CertificateRevocationListDer<'static>> {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(self.revoked?),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Some(list.signed_by(&self.authority.0).expect("a revocation list").into())
    }

    fn provider(&self) -> CryptoProvider {
        let provider = aws_lc_rs::default_provider();
        if self.ed25519 {
            return provider;
        }
        let all = provider.signature_verification_algorithms;
        let known: Vec<_> = all
            .mapping
            .iter()
            .copied()
            .filter(|(scheme, _)| *scheme != rustls::SignatureScheme::ED25519)
            .collect();
        CryptoProvider {
            signature_verification_algorithms: WebPkiSupportedAlgorithms {
                mapping: known.leak(),
                ..all
            },
            ..provider
        }
    }
}

//! Certificates for clients: good ones and wrong ones; and lists of revoked ones.

use portcullis_client::Credentials;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

/// Somebody who issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    // What clients send with their certificates, when this is not known to the gateway itself.
    intermediate: bool,
    serial: Vec<u8>,
}

/// What a client's certificate is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'w> {
    /// The URI that names the client; none when `None`.
    pub uri: Option<&'w str>,
    /// The subject's common name.
    pub common_name: &'w str,
    /// The year in which it ends.
    pub ends: i32,
    /// How long it is good from now on, instead.
    pub lasts: Option<Duration>,
}

impl Wish<'static> {
    /// A certificate of the developer.
    pub const DEVELOPER: Self = Self {
        uri: Some("spiffe://portcullis.dev/developer"),
        common_name: "developer",
        ends: 4000,
        lasts: None,
    };
    /// One that ended long ago.
    pub const EXPIRED: Self = Self {
        ends: 2001,
        ..Self::DEVELOPER
    };
}

impl<'w> Wish<'w> {
    /// A certificate of somebody else.
    pub fn of(uri: &'w str) -> Self {
        Self {
            uri: Some(uri),
            common_name: "somebody",
            ends: 4000,
            lasts: None,
        }
    }
}

/// A client's files, which are removed with it.
pub struct Identity {
    directory: TempDir,
    trust_bundle: PathBuf,
    serial: Vec<u8>,
}

impl Authority {
    /// An authority that no gateway knows.
    pub fn foreign() -> Self {
        Self::named("a foreign authority")
    }

    /// An authority of a name, with a key that no other has.
    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = authority_params(name);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            intermediate: false,
            serial: Vec::new(),
        }
    }

    /// An authority below this one; its clients send its certificate with theirs.
    pub fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = authority_params(name);
        let serial = random_serial();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            intermediate: true,
            serial,
        }
    }

    /// An authority from its PEM files.
    pub fn from_files(certificate: &Path, private_key: &Path) -> Self {
        let certificate = fs::read_to_string(certificate).expect("the authority's certificate");
        let key = fs::read_to_string(private_key).expect("the authority's key");
        let key = KeyPair::from_pem(&key).expect("a private key");
        Self {
            issuer: Issuer::from_ca_cert_pem(&certificate, key).expect("an authority"),
            certificate,
            intermediate: false,
            serial: Vec::new(),
        }
    }

    /// The authority's own certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The number of an intermediate authority's certificate.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// A list that revokes the certificates of these numbers and is good for so long from now on, or was until then.
    pub fn revocation_list(&self, revoked: &[&[u8]], until: SystemTime) -> String {
        let long_ago = date_time_ymd(2020, 1, 1);
        let list = CertificateRevocationListParams {
            this_update: long_ago,
            next_update: until.into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(serial),
                    revocation_time: long_ago,
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }

    /// A gateway's certificate and key, PEM.
    pub fn server(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params
            .subject_alt_names
            .push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// Issues a client's certificate; the client trusts the gateway through `trust_bundle`.
    pub fn client(&self, wish: Wish<'_>, trust_bundle: &Path) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, wish.common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = match wish.lasts {
            Some(lasts) => (SystemTime::now() + lasts).into(),
            None => date_time_ymd(wish.ends, 1, 1),
        };
        let serial = random_serial();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        if let Some(uri) = wish.uri {
            params
                .subject_alt_names
                .push(SanType::URI(uri.try_into().expect("an ASCII URI")));
        }
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let directory = crate::temporary_directory();
        let mut chain = certificate.pem();
        if self.intermediate {
            chain.push_str(&self.certificate);
        }
        fs::write(directory.path().join("client.pem"), chain).expect("client.pem");
        fs::write(directory.path().join("client.key"), key.serialize_pem()).expect("client.key");
        Identity {
            directory,
            trust_bundle: trust_bundle.to_owned(),
            serial,
        }
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A positive number as DER has it: no leading zero, no leading one-bit.
fn random_serial() -> Vec<u8> {
    // Part of a public key that nobody uses: as random as one, and 04 before it is not.
    let mut serial = KeyPair::generate().expect("a key").public_key_raw()[1..17].to_vec();
    serial[0] = 0x40 | (serial[0] & 0x3f);
    serial
}

impl Identity {
    /// The files as the client library takes them.
    pub fn credentials(&self) -> Credentials {
        Credentials::new(self.certificate(), self.private_key(), &self.trust_bundle)
    }

    /// The certificate's number.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The certificate's file.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("client.pem")
    }

    /// The private key's file.
    pub fn private_key(&self) -> PathBuf {
        self.directory.path().join("client.key")
    }

    /// The authorities that vouch for the gateway.
    pub fn trust_bundle(&self) -> &Path {
        &self.trust_bundle
    }
}

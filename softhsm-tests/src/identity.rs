//! Certificates for clients: good ones and wrong ones.

use portcullis_client::Credentials;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Somebody who issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
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
}

impl Wish<'static> {
    /// A certificate of the developer.
    pub const DEVELOPER: Self = Self {
        uri: Some("spiffe://portcullis.dev/developer"),
        common_name: "developer",
        ends: 4000,
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
        }
    }
}

/// A client's files, which are removed with it.
pub struct Identity {
    directory: TempDir,
    trust_bundle: PathBuf,
}

impl Authority {
    /// An authority that no gateway knows.
    pub fn foreign() -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params
            .distinguished_name
            .push(DnType::CommonName, "a foreign authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self {
            issuer: Issuer::new(params, KeyPair::generate().expect("a key")),
        }
    }

    /// An authority from its PEM files.
    pub fn from_files(certificate: &Path, private_key: &Path) -> Self {
        let certificate = fs::read_to_string(certificate).expect("the authority's certificate");
        let key = fs::read_to_string(private_key).expect("the authority's key");
        let key = KeyPair::from_pem(&key).expect("a private key");
        Self {
            issuer: Issuer::from_ca_cert_pem(&certificate, key).expect("an authority"),
        }
    }

    /// Issues a client's certificate; the client trusts the gateway through `trust_bundle`.
    pub fn client(&self, wish: Wish<'_>, trust_bundle: &Path) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, wish.common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(wish.ends, 1, 1);
        if let Some(uri) = wish.uri {
            params
                .subject_alt_names
                .push(SanType::URI(uri.try_into().expect("an ASCII URI")));
        }
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let directory = crate::temporary_directory();
        fs::write(directory.path().join("client.pem"), certificate.pem()).expect("client.pem");
        fs::write(directory.path().join("client.key"), key.serialize_pem()).expect("client.key");
        Identity {
            directory,
            trust_bundle: trust_bundle.to_owned(),
        }
    }
}

impl Identity {
    /// The files as the client library takes them.
    pub fn credentials(&self) -> Credentials {
        Credentials::new(self.certificate(), self.private_key(), &self.trust_bundle)
    }

    /// The certificate's file.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("client.pem")
    }

    /// The private key's file.
    pub fn private_key(&self) -> PathBuf {
        self.directory.path().join("client.key")
    }
}

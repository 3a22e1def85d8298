//! Certificates for the echo over TLS. The gateway's own cannot be used: its private key is its own.

use crate::error::Error;
use portcullis_client::Credentials;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// An authority with a server's and a client's certificate, all made for one measurement.
pub(super) struct Pki {
    /// PEM.
    pub(super) authority: String,
    /// PEM.
    pub(super) server_certificate: String,
    /// PEM.
    pub(super) server_key: String,
    /// In files of the directory.
    pub(super) client: Credentials,
}

impl Pki {
    pub(super) fn make(directory: &Path) -> Result<Self, Error> {
        let failed = |error: rcgen::Error| Error::Helper {
            what: "the echo",
            problem: format!("its certificates cannot be made: {error}"),
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut parameters = CertificateParams::default();
        parameters
            .distinguished_name
            .push(DnType::CommonName, "portcullis bench");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = parameters.self_signed(&key).map_err(failed)?.pem();
        let issuer = Issuer::new(parameters, key);
        let issue = |names: Vec<String>, usage: ExtendedKeyUsagePurpose| {
            let key = KeyPair::generate()?;
            let mut parameters = CertificateParams::new(names)?;
            parameters
                .distinguished_name
                .push(DnType::CommonName, "portcullis bench");
            parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            parameters.extended_key_usages = vec![usage];
            let certificate = parameters.signed_by(&key, &issuer)?;
            Ok((certificate.pem(), key.serialize_pem()))
        };
        let (server_certificate, server_key) =
            issue(vec!["localhost".to_owned()], ExtendedKeyUsagePurpose::ServerAuth).map_err(failed)?;
        let (certificate, key) = issue(Vec::new(), ExtendedKeyUsagePurpose::ClientAuth).map_err(failed)?;
        let client = Credentials::new(
            write(directory, "client.pem", &certificate)?,
            write(directory, "client.key", &key)?,
            write(directory, "ca.pem", &authority)?,
        );
        Ok(Self {
            authority,
            server_certificate,
            server_key,
            client,
        })
    }
}

fn write(directory: &Path, name: &str, text: &str) -> Result<PathBuf, Error> {
    let path = directory.join(name);
    let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
    match file.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(path),
        Err(source) => Err(Error::File { path, source }),
    }
}

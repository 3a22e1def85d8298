//! The certificates of a development cluster.

use super::{make_directory, write_file};
use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use std::{fs, net::Ipv4Addr, path::Path};
use time::{Duration, OffsetDateTime};
use x509_cert::{Certificate, der::DecodePem};

/// Who the developer is on mTLS.
pub(super) const DEVELOPER: &str = "spiffe://portcullis.dev/developer";

/// Makes an authority, and certificates for the gateway and the developer.
pub(super) fn make(directory: &Path) -> Result<()> {
    make_directory(directory)?;
    let mut authority = CertificateParams::default();
    authority
        .distinguished_name
        .push(DnType::CommonName, "Portcullis development authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut authority, Duration::days(3650));
    let key = KeyPair::generate()?;
    let certificate = authority.self_signed(&key)?;
    write_file(&directory.join("ca.key"), key.serialize_pem().as_bytes())?;
    write_file(&directory.join("ca.pem"), certificate.pem().as_bytes())?;
    issue_all(directory, &Issuer::from_params(&authority, &key))
}

/// Issues the gateway's and the developer's certificates anew when they are about to expire.
pub(super) fn renew(directory: &Path) -> Result<()> {
    let soon = OffsetDateTime::now_utc() + Duration::days(7);
    for name in ["server", "developer"] {
        let pem = fs::read_to_string(directory.join(format!("{name}.pem")))
            .with_context(|| format!("{name}.pem in {}", directory.display()))?;
        let expires = Certificate::from_pem(&pem)?
            .tbs_certificate()
            .validity()
            .not_after
            .to_unix_duration();
        if (expires.as_secs() as i64) < soon.unix_timestamp() {
            let certificate = fs::read_to_string(directory.join("ca.pem"))?;
            let key = KeyPair::from_pem(&fs::read_to_string(directory.join("ca.key"))?)?;
            return issue_all(directory, &Issuer::from_ca_cert_pem(&certificate, &key)?);
        }
    }
    Ok(())
}

fn issue_all(directory: &Path, authority: &Issuer<'_, &KeyPair>) -> Result<()> {
    let mut server = CertificateParams::new(vec!["localhost".to_owned()])?;
    server.distinguished_name.push(DnType::CommonName, "portcullisd");
    server
        .subject_alt_names
        .push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    issue(directory, "server", server, authority)?;
    let mut developer = CertificateParams::default();
    developer.distinguished_name.push(DnType::CommonName, "developer");
    developer.subject_alt_names.push(SanType::URI(DEVELOPER.try_into()?));
    developer.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    issue(directory, "developer", developer, authority)
}

fn issue(
    directory: &Path,
    name: &str,
    mut parameters: CertificateParams,
    authority: &Issuer<'_, &KeyPair>,
) -> Result<()> {
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.use_authority_key_identifier_extension = true;
    validity(&mut parameters, Duration::days(365));
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, authority)?;
    write_file(&directory.join(format!("{name}.key")), key.serialize_pem().as_bytes())?;
    write_file(&directory.join(format!("{name}.pem")), certificate.pem().as_bytes())
}

fn validity(parameters: &mut CertificateParams, length: Duration) {
    let now = OffsetDateTime::now_utc();
    // A clock that is a little behind must not make a new certificate invalid.
    parameters.not_before = now - Duration::hours(1);
    parameters.not_after = now + length;
}

//! Where the gateway listens, and whom it believes there.

use super::{
    RevocationPolicy, TlsListenerSettings, UnixListenerSettings,
    document::{Problems, Section},
};
use crate::identity::check_trust_domain;
use std::{collections::BTreeMap, path::PathBuf};

/// Reads `[listen.unix]` and `[listen.tls]`.
pub(super) fn read_listeners(
    root: &mut Section<'_>,
    problems: &mut Problems<'_>,
) -> (Option<UnixListenerSettings>, Option<TlsListenerSettings>) {
    let mut listen = root.section("listen", problems);
    let mut unix = listen.section("unix", problems);
    let mut tls = listen.section("tls", problems);
    listen.finish(problems);
    if unix.at().is_none() && tls.at().is_none() {
        problems.note(
            None,
            "listen",
            "names neither a Unix socket [listen.unix] nor an mTLS address [listen.tls]",
        );
    }
    let unix_settings = unix.at().and_then(|_| {
        let path = unix.required_path("path", problems);
        let mode = unix.mode("mode", problems, 0o600);
        Some(UnixListenerSettings { path: path?, mode })
    });
    unix.finish(problems);
    let tls_settings = tls.at().and_then(|_| read_tls(&mut tls, problems));
    tls.finish(problems);
    (unix_settings, tls_settings)
}

fn read_tls(tls: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<TlsListenerSettings> {
    let address = tls.required_address("address", problems);
    let certificate = tls.required_path("certificate", problems);
    let private_key = tls.required_path("private_key", problems);
    let client_authorities = tls.required_path("client_authorities", problems);
    let trust_domains = read_trust_domains(tls, problems);
    let revocation_lists = tls.paths("revocation_lists", problems).unwrap_or_default();
    let expected = "\"require\" or \"prefer\"";
    let revocation_policy = tls.optional("revocation_policy", problems, expected, |value| {
        match value.as_str()? {
            "require" => Some(RevocationPolicy::Require),
            "prefer" => Some(RevocationPolicy::Prefer),
            _ => None,
        }
    });
    if revocation_policy == Some(RevocationPolicy::Require) && revocation_lists.is_empty() {
        problems.note(
            tls.at(),
            tls.setting("revocation_policy"),
            "is \"require\", and revocation_lists names no list: nobody could be looked up. Name the lists, or leave it out",
        );
    }
    Some(TlsListenerSettings {
        address: address?,
        certificate: certificate?,
        private_key: private_key?,
        client_authorities: client_authorities?,
        trust_domains,
        revocation_lists,
        revocation_policy: revocation_policy.unwrap_or(RevocationPolicy::Require),
    })
}

/// A table of trust domains, each with the file of its authorities.
fn read_trust_domains(tls: &mut Section<'_>, problems: &mut Problems<'_>) -> BTreeMap<String, PathBuf> {
    let mut section = tls.section("trust_domains", problems);
    let mut domains = BTreeMap::new();
    for name in section.keys() {
        let setting = section.setting(&name);
        let path = section.path(&name, problems);
        if let Err(reason) = check_trust_domain(&name) {
            problems.note(
                section.at(),
                setting,
                format!("\"{name}\" is no trust domain: {reason}"),
            );
        } else if let Some(path) = path {
            domains.insert(name, path);
        }
    }
    domains
}

//! Certificates, and the files that say whom the mTLS listener believes.

use super::sample;
use crate::{Memory, Pure, Subject, Target, Verdict};
use portcullis_gateway::{
    config::{RevocationPolicy, TlsListenerSettings},
    identity::{CertifiedName, Principal},
    keys::object::{Content, StoredObject},
    listener::TlsState,
};
use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::PathBuf};
use tempfile::TempDir;

/// A certificate in DER.
pub(super) const CERTIFICATES: Target = Target {
    name: "certificates",
    prepare: || {
        Box::new(Pure {
            samples: || {
                [sample!("subject.der"), sample!("spiffe.der"), sample!("authority.der")]
                    .map(<[u8]>::to_vec)
                    .to_vec()
            },
            judge: judge_certificate,
            memory: Memory {
                fixed: 16 * 1024,
                per_byte: 64,
            },
        })
    },
};

/// A byte that says which file of the listener's it is, and the file.
pub(super) const TRUST: Target = Target {
    name: "trust",
    prepare: || Box::new(Trust::new()),
};

fn judge_certificate(der: &[u8]) -> Verdict {
    let named = CertifiedName::of(der);
    if let Ok(name) = &named {
        let principal = Principal::of_certificate(name, b"an issuer's key");
        let text = principal.as_str();
        assert!(text.starts_with("spiffe://") || text.starts_with("x509:"));
        assert!(
            !text.chars().any(char::is_control),
            "a principal is one line that can be shown: {text:?}"
        );
    }
    let object = StoredObject {
        label: Vec::new(),
        object_id: Vec::new(),
        key: String::new(),
        content: Content::Certificate {
            certificate: der.to_vec(),
            chain: vec![der.to_vec()],
        },
    };
    assert!(object.check().is_err() || object.certified_key().is_some());
    Verdict::of(&named)
}

struct Trust {
    directory: TempDir,
    settings: TlsListenerSettings,
}

/// The files, and what is in them.
const FILES: [(&str, &[u8]); 5] = [
    ("client.pem", sample!("spiffe.pem")),
    ("authority.pem", sample!("authority.pem")),
    ("revocations.pem", sample!("revocations.pem")),
    ("server.pem", sample!("subject.pem")),
    ("server.key", sample!("server.key")),
];

impl Trust {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| directory.path().join(name);
        let settings = TlsListenerSettings {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            certificate: file("server.pem"),
            private_key: file("server.key"),
            client_authorities: file("authority.pem"),
            trust_domains: BTreeMap::from([("example.org".to_owned(), file("authority.pem"))]),
            revocation_lists: vec![file("revocations.pem")],
            revocation_policy: RevocationPolicy::Require,
        };
        Self { directory, settings }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Subject for Trust {
    fn samples(&self) -> Vec<Vec<u8>> {
        FILES
            .iter()
            .zip(0..)
            .map(|((_, content), number)| [&[number], *content].concat())
            .collect()
    }

    fn judge(&self, input: &[u8]) -> Verdict {
        let Some((number, content)) = input
            .split_first()
            .filter(|(number, _)| usize::from(**number) < FILES.len())
        else {
            return Verdict::Refused;
        };
        for (place, (name, usual)) in (0..).zip(FILES) {
            fs::write(self.file(name), if place == *number { content } else { usual }).expect("a file");
        }
        let read = TlsState::read(&self.settings).and_then(|state| {
            let _ = state.next_change();
            let principal = state.principal_in(&self.file("client.pem"))?;
            assert!(!principal.as_str().is_empty());
            Ok(principal)
        });
        if let Err(problems) = &read {
            assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.to_string().is_empty()));
        }
        Verdict::of(&read)
    }

    fn memory(&self) -> Memory {
        Memory {
            fixed: 512 * 1024,
            per_byte: 64,
        }
    }
}

//! What requests and settings name: keys, rings, principals, places; and the filters of lists.

use crate::{Memory, Pure, Target, Verdict};
use portcullis_gateway::{
    identity::{PrincipalPattern, SpiffeId, check_trust_domain},
    keys::{
        filter::{KeyFilter, VersionFilter, terms},
        name::{AliasName, Id, KeyName, KeyOrVersionName, KeyRingName},
        object::ObjectFilter,
    },
    policy::{Place, Role},
};
use std::fmt::{Debug, Display};

/// Names of any kind.
pub(super) const NAMES: Target = Target {
    name: "names",
    prepare: || {
        Box::new(Pure {
            samples: || {
                let names = [
                    "keyRings/demo",
                    "keyRings/demo/keys/signing",
                    "keyRings/demo/keys/signing/versions/12",
                    "keyRings/demo/aliases/current",
                    "demo-ring",
                    "demo/signing",
                    "unix:uid=1000",
                    "spiffe://example.org/payments/*",
                    "spiffe://example.org/payments/api",
                    "x509:CN=payments,O=Example#0011223344556677",
                    "example.org",
                    "key_user",
                    "*",
                ];
                names.map(|name| name.as_bytes().to_vec()).to_vec()
            },
            judge: judge_name,
            memory: Memory::USUAL,
        })
    },
};

/// Filters of any list.
pub(super) const FILTERS: Target = Target {
    name: "filters",
    prepare: || {
        Box::new(Pure {
            samples: || {
                let filters = [
                    "",
                    "state=ACTIVE",
                    "labels.team=\"a \\\"b\\\" c\" AND type=EC_P256 AND purpose=SIGN_VERIFY AND state=DISABLED",
                    "kind=certificate AND label=6c6162656c AND object_id=01",
                    "kind=data AND application=payments AND key=keyRings/demo/keys/signing",
                ];
                filters.map(|filter| filter.as_bytes().to_vec()).to_vec()
            },
            judge: judge_filter,
            memory: Memory::USUAL,
        })
    },
};

fn judge_name(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused;
    };
    let verdicts = [
        reads_back(text, Id::parse),
        reads_back(text, KeyRingName::parse),
        reads_back(text, KeyName::parse),
        reads_back(text, AliasName::parse),
        reads_back(text, KeyOrVersionName::parse),
        reads_back(text, PrincipalPattern::parse),
        Verdict::of(&SpiffeId::parse(text).map(|id| {
            assert_eq!(id.as_str(), text);
            assert!(SpiffeId::is_meant(text) && check_trust_domain(id.trust_domain()).is_ok());
        })),
        Verdict::of(&check_trust_domain(text)),
        Verdict::of(&Role::parse(text)),
        Verdict::of(&Place::parse_ring(text)),
        Verdict::of(&Place::parse_key(text)),
    ];
    if let Ok(pattern) = PrincipalPattern::parse(text) {
        assert!(pattern.covers(&pattern));
    }
    verdicts.into_iter().fold(Verdict::Refused, Verdict::or)
}

/// A name that is read is shown as it was written: two texts are never one name.
fn reads_back<T: Display + Debug, E: Display + Debug>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Verdict {
    let parsed = parse(text);
    match &parsed {
        Ok(name) => assert_eq!(name.to_string(), text),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Verdict::of(&parsed)
}

fn judge_filter(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused;
    };
    if let Ok(terms) = terms(text) {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let written: Vec<String> = terms
            .iter()
            .map(|(field, value)| format!("{field}=\"{}\"", quoted(value)))
            .collect();
        assert_eq!(
            super::names::terms(&written.join(" AND ")),
            Ok(terms),
            "what it says can be written again"
        );
    }
    let keys = KeyFilter::parse(text);
    if let Ok(filter) = &keys {
        assert_eq!(filter.is_empty(), text.trim().is_empty());
    }
    Verdict::of(&keys)
        .or(Verdict::of(&VersionFilter::parse(text)))
        .or(Verdict::of(&ObjectFilter::parse(text, "keyRings/demo/keys/")))
}

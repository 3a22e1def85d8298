//! What callers of the PKCS#11 module give it: templates, mechanisms with their parameters, and its configuration.

use super::sample;
use crate::{Memory, Pure, Subject, Target, Verdict};
use cryptoki_sys::*;
use portcullis_pkcs11::{config::Config, fuzzing::Keys};

/// Attributes, each with its type (u32), its length (u16) and its value.
pub(super) const TEMPLATES: Target = Target {
    name: "pkcs11_templates",
    prepare: || {
        Box::new(Fuzzed {
            keys: keys(),
            samples: templates(),
            judge: judge_template,
        })
    },
};

/// A mechanism's number (u32), its parameters and what is behind their first pointer (each after its length, a u16), and what is behind
/// the second one.
pub(super) const MECHANISMS: Target = Target {
    name: "pkcs11_mechanisms",
    prepare: || {
        Box::new(Fuzzed {
            keys: keys(),
            samples: mechanisms(),
            judge: judge_mechanism,
        })
    },
};

/// The module's configuration.
pub(super) const SETTINGS: Target = Target {
    name: "pkcs11_settings",
    prepare: || {
        Box::new(Pure {
            samples: || {
                let page = include_str!("../../../docs/pkcs11.md");
                let sample = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
                let short = "endpoint = \"unix:/run/portcullis.sock\"\nlog = { level = \"off\", syslog = true }\n";
                [sample.expect("the page has a sample"), short]
                    .map(|text| text.as_bytes().to_vec())
                    .to_vec()
            },
            judge: |input| match std::str::from_utf8(input).map(Config::parse) {
                Ok(Ok(config)) => {
                    assert!((1..=64).contains(&config.connections) && !config.timeout.is_zero());
                    assert!(config.credentials.is_some() || !format!("{}", config.endpoint).starts_with("https"));
                    Verdict::Accepted
                }
                Ok(Err(message)) => {
                    assert!(!message.is_empty(), "what is refused has a reason");
                    Verdict::Refused
                }
                Err(_) => Verdict::Refused,
            },
            memory: Memory {
                fixed: 64 * 1024,
                per_byte: 256,
            },
        })
    },
};

struct Fuzzed {
    keys: Keys,
    samples: Vec<Vec<u8>>,
    judge: fn(&Keys, &[u8]) -> Option<bool>,
}

impl Subject for Fuzzed {
    fn samples(&self) -> Vec<Vec<u8>> {
        self.samples.clone()
    }

    fn judge(&self, input: &[u8]) -> Verdict {
        match (self.judge)(&self.keys, input) {
            Some(true) => Verdict::Accepted,
            Some(false) | None => Verdict::Refused,
        }
    }

    fn memory(&self) -> Memory {
        Memory {
            // The arithmetic of a modulus of 4096 bits.
            fixed: 256 * 1024,
            per_byte: 64,
        }
    }
}

fn keys() -> Keys {
    Keys::new(&[
        sample!("rsa.spki"),
        sample!("p256.spki"),
        sample!("p384.spki"),
        sample!("p521.spki"),
        sample!("ed25519.spki"),
    ])
}

fn judge_template(keys: &Keys, input: &[u8]) -> Option<bool> {
    let mut attributes = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let (kind, after) = rest.split_first_chunk::<4>()?;
        let (value, after) = run(after)?;
        attributes.push((u32::from_le_bytes(*kind).into(), value.to_vec()));
        rest = after;
    }
    // As many as the module takes.
    (attributes.len() <= 256).then(|| keys.template(attributes))
}

fn judge_mechanism(keys: &Keys, input: &[u8]) -> Option<bool> {
    let (kind, rest) = input.split_first_chunk::<4>()?;
    let (parameter, rest) = run(rest)?;
    let (first, second) = run(rest)?;
    Some(keys.mechanism(u32::from_le_bytes(*kind).into(), parameter, [first, second]))
}

/// Bytes after their length.
fn run(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_le_bytes(*length).into())
}

fn templates() -> Vec<Vec<u8>> {
    let number = |number: u64| number.to_ne_bytes().to_vec();
    let label = || (CKA_LABEL, b"label".to_vec());
    let p256 = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07".to_vec();
    let info = sample!("p256.spki");
    let point = [&[4, 65], &info[info.len() - 65..]].concat();
    let templates = [
        vec![
            (CKA_MODULUS_BITS, number(2048)),
            (CKA_PUBLIC_EXPONENT, vec![1, 0, 1]),
            (CKA_SIGN, vec![1]),
        ],
        vec![
            (CKA_EC_PARAMS, p256.clone()),
            (CKA_DERIVE, vec![1]),
            (CKA_TOKEN, vec![1]),
        ],
        vec![(CKA_VALUE_LEN, number(32)), (CKA_WRAP, vec![1]), (CKA_UNWRAP, vec![1])],
        vec![
            (CKA_VALUE_LEN, number(16)),
            (CKA_ALLOWED_MECHANISMS, number(CKM_AES_GCM)),
        ],
        vec![
            (CKA_CLASS, number(CKO_PUBLIC_KEY)),
            (CKA_KEY_TYPE, number(CKK_EC)),
            (CKA_EC_PARAMS, p256),
            (CKA_EC_POINT, point),
            (CKA_ID, b"id".to_vec()),
        ],
        vec![
            (CKA_CLASS, number(CKO_SECRET_KEY)),
            (CKA_KEY_TYPE, number(CKK_AES)),
            (CKA_TOKEN, vec![1]),
        ],
        vec![
            (CKA_CLASS, number(CKO_PRIVATE_KEY)),
            (CKA_KEY_TYPE, number(CKK_EC)),
            (CKA_TOKEN, vec![1]),
            (CKA_PUBLIC_KEY_INFO, info.to_vec()),
        ],
        vec![(CKA_CLASS, number(CKO_SECRET_KEY)), (CKA_VALUE, vec![7; 20])],
        vec![(CKA_CLASS, number(CKO_DATA)), (CKA_APPLICATION, b"text".to_vec())],
        vec![(CKA_VALUE, sample!("subject.der").to_vec())],
    ];
    let templates = templates.map(|template| {
        let attributes = template.into_iter().chain([label()]);
        attributes
            .flat_map(|(kind, value)| {
                let (kind, length) = ((kind as u32).to_le_bytes(), (value.len() as u16).to_le_bytes());
                [&kind[..], &length, &value].concat()
            })
            .collect()
    });
    templates.to_vec()
}

fn mechanisms() -> Vec<Vec<u8>> {
    let numbers = |numbers: &[u64]| numbers.iter().flat_map(|one| one.to_ne_bytes()).collect::<Vec<_>>();
    let pss = numbers(&[CKM_SHA256, CKG_MGF1_SHA256, 32]);
    let mechanisms: [(_, Vec<u8>, &[u8], &[u8]); 10] = [
        (CKM_SHA256_RSA_PKCS, vec![], b"message", &[1; 256]),
        (CKM_RSA_PKCS_PSS, pss.clone(), &[5; 32], &[1; 256]),
        (CKM_SHA256_RSA_PKCS_PSS, pss, b"message", &[1; 256]),
        (
            CKM_RSA_PKCS_OAEP,
            numbers(&[CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED]),
            b"",
            b"",
        ),
        (CKM_ECDSA, vec![], &[5; 32], &[1; 64]),
        (CKM_ECDSA_SHA512, vec![], b"message", &[1; 132]),
        (CKM_EDDSA, vec![], b"message", &[1; 64]),
        (CKM_AES_CTR, [numbers(&[128]), vec![7; 16]].concat(), b"", b""),
        (CKM_AES_GCM, numbers(&[128]), &[9; 12], b"data"),
        (CKM_AES_CBC_PAD, vec![7; 16], b"", b""),
    ];
    let mechanisms = mechanisms.map(|(kind, parameter, first, second)| {
        let length = |bytes: &[u8]| (bytes.len() as u16).to_le_bytes();
        let kind = (kind as u32).to_le_bytes();
        [
            &kind[..],
            &length(&parameter),
            &parameter,
            &length(first),
            first,
            second,
        ]
        .concat()
    });
    mechanisms.to_vec()
}

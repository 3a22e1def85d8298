//! Public keys, private keys and signatures, as imports, recipients, peers and verifications bring them.

use super::sample;
use crate::{Memory, Pure, Target, Verdict};
use portcullis_gateway::{
    crypto::{
        agreement::peer_point,
        rsa::{self, is_below_modulus},
        signature::{Encoding, Input, p1363_to_der, verify},
    },
    keys::jwk::json_web_key,
};
use portcullis_hsm::{
    algorithm::{Family, KeyType, Mechanism, Operation, PermittedUse, PermittedUses},
    private_key::ClearPrivateKey,
    public_key::{bare_public_key, canonical_public_key, curve_point, rsa_components},
};

/// SubjectPublicKeyInfo.
pub(super) const PUBLIC_KEYS: Target = Target {
    name: "public_keys",
    prepare: || {
        Box::new(Pure {
            samples: || {
                let keys = [
                    sample!("rsa.spki"),
                    sample!("p256.spki"),
                    sample!("p384.spki"),
                    sample!("p521.spki"),
                    sample!("ed25519.spki"),
                ];
                keys.map(<[u8]>::to_vec).to_vec()
            },
            judge: judge_public,
            memory: Memory::USUAL,
        })
    },
};

/// PKCS#8.
pub(super) const PRIVATE_KEYS: Target = Target {
    name: "private_keys",
    prepare: || {
        Box::new(Pure {
            samples: || {
                let keys = [
                    sample!("rsa.pk8"),
                    sample!("p256.pk8"),
                    sample!("p384.pk8"),
                    sample!("p521.pk8"),
                    sample!("ed25519.pk8"),
                ];
                keys.map(<[u8]>::to_vec).to_vec()
            },
            judge: judge_private,
            memory: Memory::USUAL,
        })
    },
};

/// A byte that says whose, and a signature of one message.
pub(super) const SIGNATURES: Target = Target {
    name: "signatures",
    prepare: || {
        Box::new(Pure {
            samples: || {
                SIGNERS
                    .iter()
                    .zip(0..)
                    .map(|(signer, number)| [&[number], signer.signature].concat())
                    .collect()
            },
            judge: judge_signature,
            memory: Memory::USUAL,
        })
    },
};

fn judge_public(input: &[u8]) -> Verdict {
    let mut verdict = Verdict::Refused;
    drop((rsa_components(input), curve_point(input), rsa::Recipient::read(input)));
    assert!(!is_below_modulus(input, &[0xff; 256]));
    for key_type in KeyType::ALL.iter().copied() {
        let bare = bare_public_key(key_type, input);
        let canonical = canonical_public_key(key_type, input);
        assert_eq!(bare.is_ok(), canonical.is_ok(), "what is read can be stored");
        if let (Ok(bare), Ok(canonical)) = (bare, canonical) {
            verdict = Verdict::Accepted;
            assert!(key_type.is_asymmetric());
            assert_eq!(
                canonical_public_key(key_type, &canonical),
                Ok(canonical.clone()),
                "a key is stored in one form"
            );
            if !matches!(key_type.family(), Family::Rsa(_)) {
                assert_eq!(bare_public_key(key_type, &canonical), Ok(bare));
            }
            // A point that is not on the curve has a form, but is no peer.
            if peer_point(key_type, &canonical).is_ok() || matches!(key_type.family(), Family::Rsa(_)) {
                assert!(json_web_key("kid", key_type, &uses(key_type), &canonical).is_some());
            }
        }
        if let Ok(point) = peer_point(key_type, input) {
            assert_eq!(point.len(), 1 + 2 * key_type.field_length().expect("a curve"));
            assert_eq!(bare_public_key(key_type, input), Ok(point), "a peer's key is a key");
        }
    }
    verdict
}

/// Some use of a key pair.
fn uses(key_type: KeyType) -> PermittedUses {
    let mechanism = match key_type {
        KeyType::EcP256 => Mechanism::EcdsaSha256,
        KeyType::EcP384 => Mechanism::EcdsaSha384,
        KeyType::EcP521 => Mechanism::EcdsaSha512,
        KeyType::Ed25519 => Mechanism::Ed25519,
        _ => Mechanism::RsaPssSha256,
    };
    PermittedUses::new(key_type, [PermittedUse::new(Operation::Sign, mechanism)]).expect("the use fits")
}

fn judge_private(input: &[u8]) -> Verdict {
    let mut readable = 0;
    for key_type in KeyType::ALL.iter().copied() {
        if let Ok(key) = ClearPrivateKey::from_pkcs8(key_type, input) {
            readable += 1;
            assert!(key_type.is_asymmetric() && !key.attributes.is_empty());
            if let Some(public_key) = key.public_key {
                assert!(
                    canonical_public_key(key_type, &public_key).is_ok(),
                    "its public half is a public key"
                );
            }
        }
    }
    assert!(readable <= 1, "a private key is of one type");
    if readable == 1 {
        Verdict::Accepted
    } else {
        Verdict::Refused
    }
}

struct Signer {
    key_type: KeyType,
    mechanism: Mechanism,
    public_key: &'static [u8],
    signature: &'static [u8],
}

const SIGNERS: [Signer; 3] = [
    Signer {
        key_type: KeyType::EcP256,
        mechanism: Mechanism::EcdsaSha256,
        public_key: sample!("p256.spki"),
        signature: sample!("p256.sig"),
    },
    Signer {
        key_type: KeyType::Rsa2048,
        mechanism: Mechanism::RsaPkcs1Sha256,
        public_key: sample!("rsa.spki"),
        signature: sample!("rsa.sig"),
    },
    Signer {
        key_type: KeyType::Ed25519,
        mechanism: Mechanism::Ed25519,
        public_key: sample!("ed25519.spki"),
        signature: sample!("ed25519.sig"),
    },
];

fn judge_signature(input: &[u8]) -> Verdict {
    let Some((signer, signature)) = input
        .split_first()
        .and_then(|(number, rest)| Some((SIGNERS.get(usize::from(*number))?, rest)))
    else {
        return Verdict::Refused;
    };
    let check = |signature: &[u8], encoding| {
        let message = Input::Message(MESSAGE);
        verify(
            signer.key_type,
            signer.mechanism,
            signer.public_key,
            message,
            signature,
            encoding,
        )
        .expect("a known key")
    };
    let accepted = check(signature, Encoding::Der);
    assert!(
        !accepted || signature == signer.signature,
        "a signature that was changed is none"
    );
    if signer.key_type.family() == Family::Ec
        && let Some(der) = p1363_to_der(signer.key_type, signature)
    {
        assert_eq!(
            check(signature, Encoding::P1363),
            check(&der, Encoding::Der),
            "both encodings mean the same"
        );
    }
    // Most of what is made of a signature is none; whose it claims to be was read.
    if accepted || signature.len() == signer.signature.len() {
        Verdict::Accepted
    } else {
        Verdict::Refused
    }
}

const MESSAGE: &[u8] = b"message";

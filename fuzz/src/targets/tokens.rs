//! Key tokens and ephemeral key tokens, with their tags.

use super::{bytes, vectors};
use crate::{Memory, Pure, Subject, Target, Verdict};
use aws_lc_rs::hmac;
use portcullis_hsm::{
    ephemeral_token::EphemeralToken,
    key_token::{KeyToken, Storage, token_digest},
    record::{RecordKind, framed},
};

/// Stored key tokens.
pub(super) const KEY_TOKENS: Target = Target {
    name: "key_tokens",
    prepare: || Box::new(Tokens::of("key_tokens", RecordKind::KeyToken, judge_key)),
};

/// Tokens that their owners keep.
pub(super) const EPHEMERAL_TOKENS: Target = Target {
    name: "ephemeral_tokens",
    prepare: || {
        Box::new(Tokens::of(
            "ephemeral_key_tokens",
            RecordKind::EphemeralToken,
            judge_ephemeral,
        ))
    },
};

struct Tokens {
    samples: Vec<Vec<u8>>,
    kind: RecordKind,
    mac: hmac::Key,
    bodies: Pure,
}

impl Tokens {
    fn of(list: &str, kind: RecordKind, judge: fn(&[u8]) -> Verdict) -> Self {
        let vectors = vectors();
        let tokens = vectors[list].as_array().expect("tokens");
        Self {
            samples: tokens
                .iter()
                .map(|token| [bytes(&token["body"]), bytes(&token["tag"])].concat())
                .collect(),
            kind,
            mac: hmac::Key::new(hmac::HMAC_SHA256, &bytes(&vectors["mac_key"])),
            bodies: Pure {
                samples: Vec::new,
                judge,
                memory: Memory::USUAL,
            },
        }
    }

    fn is_authentic(&self, kind: RecordKind, body: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.mac, &framed(kind, body), tag).is_ok()
    }
}

impl Subject for Tokens {
    fn samples(&self) -> Vec<Vec<u8>> {
        self.samples.clone()
    }

    fn judge(&self, sealed: &[u8]) -> Verdict {
        let Ok((body, tag)) = KeyToken::split(sealed) else {
            assert!(sealed.len() < 32);
            return Verdict::Refused;
        };
        assert_eq!([body, tag].concat(), sealed);
        let known = self.samples.iter().find(|sample| sample.as_slice() == sealed);
        // Only what was sealed has its tag, and only as what it was sealed.
        assert_eq!(self.is_authentic(self.kind, body, tag), known.is_some());
        for other in [RecordKind::KeyToken, RecordKind::EphemeralToken, RecordKind::Row] {
            assert!(other == self.kind || !self.is_authentic(other, body, tag));
        }
        for sample in &self.samples {
            assert_eq!(token_digest(sample) == token_digest(sealed), sample == sealed);
        }
        self.bodies.judge(body)
    }
}

fn judge_key(body: &[u8]) -> Verdict {
    let token = match KeyToken::parse(body) {
        Ok(token) => token,
        Err(error) => return refused(&error),
    };
    assert_eq!(token.body(), body, "a token has one form");
    assert!(!EphemeralToken::is_claimed_by(body) && EphemeralToken::parse(body).is_err());
    assert!(token.version > 0, "versions count from 1");
    match token.storage {
        Storage::Resident => {
            assert!([0, 16].contains(&token.wrapped.len()), "a making has a name, or none");
            assert_eq!(token.resident_name().object_id().len(), 20 + token.wrapped.len());
        }
        _ => assert!(!token.wrapped.is_empty()),
    }
    assert_eq!(token.public_key.is_empty(), !token.key_type.is_asymmetric());
    assert!(token.uses.iter().len() > 0);
    Verdict::Accepted
}

fn judge_ephemeral(body: &[u8]) -> Verdict {
    let token = match EphemeralToken::parse(body) {
        Ok(token) => token,
        Err(error) => return refused(&error),
    };
    assert_eq!(token.body(), body, "a token has one form");
    assert!(EphemeralToken::is_claimed_by(body) && KeyToken::parse(body).is_err());
    assert!(!token.owner.is_empty() && !token.ring.is_empty());
    assert!(token.created < token.expires);
    assert_eq!(token.key().wrapped, token.wrapped);
    Verdict::Accepted
}

fn refused(error: &portcullis_hsm::key_token::TokenError) -> Verdict {
    assert!(!error.to_string().is_empty());
    Verdict::Refused
}

//! What is signed or verified: a message, or its digest.
//!
//! A message travels to the gateway as it is while it fits into one request. A larger one is hashed here, where the
//! mechanism signs a hash; the gateway accepts either.

use crate::{
    arguments::MessageArguments,
    console::Console,
    failure::Failure,
    input::{Source, Start},
    name::KeyReference,
    progress::{Progress, Unit},
    words::word,
};
use aws_lc_rs::digest::{self, Context};
use portcullis_client::{
    Client,
    v1::{GetKeyRequest, Key, KeyOperation, Mechanism},
};
use std::{io::Read, str::FromStr};

/// What is signed or verified, and how as far as that is known.
pub(crate) struct Message {
    pub(crate) content: Content,
    /// Unspecified where the key has only one.
    pub(crate) mechanism: Mechanism,
}

/// A message or its digest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Message(Vec<u8>),
    Digest(Vec<u8>),
}

impl Message {
    /// Reads what the arguments name. Asks the gateway for the key's mechanism only if a large message must be hashed
    /// and the mechanism was not given.
    pub(crate) async fn read(
        client: &Client,
        console: Console,
        key: &KeyReference,
        given: &MessageArguments,
    ) -> Result<Self, Failure> {
        let mechanism = given.mechanism.unwrap_or(Mechanism::Unspecified);
        if let Some(HexDigest(digest)) = &given.digest {
            return Ok(Self {
                content: Content::Digest(digest.clone()),
                mechanism,
            });
        }
        let Some(source) = &given.input else {
            return Err(Failure::Usage(
                "give the message with --in, or its digest with --digest".to_owned(),
            ));
        };
        if given.raw_digest {
            let digest = source.read(MAX_DIGEST_BYTES, "the longest digest")?;
            return Ok(Self {
                content: Content::Digest(digest),
                mechanism,
            });
        }
        let mut reader = source.open()?;
        match source.read_start(&mut reader, MAX_MESSAGE_BYTES)? {
            Start::Whole(message) => Ok(Self {
                content: Content::Message(message),
                mechanism,
            }),
            Start::Part(start) => {
                let mechanism = match given.mechanism {
                    Some(mechanism) => mechanism,
                    None => sole_mechanism(&key_of(client, key).await?)?,
                };
                let hash = hash_of(mechanism).ok_or_else(|| Failure::Usage(format!(
                    "{source} is larger than {MAX_MESSAGE_BYTES} bytes, the most that {} signs: it signs the message \
                     itself and not a digest",
                    word::<Mechanism>(mechanism as i32)
                )))?;
                Ok(Self {
                    content: Content::Digest(hash_all(console, hash, source, &start, reader)?),
                    mechanism,
                })
            }
        }
    }
}

/// A digest in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HexDigest(Vec<u8>);

impl FromStr for HexDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match hex::decode(text) {
            Ok(digest) if (1..=MAX_DIGEST_BYTES).contains(&digest.len()) => Ok(Self(digest)),
            Ok(digest) => Err(format!(
                "a digest has 1 to {MAX_DIGEST_BYTES} bytes, found {}",
                digest.len()
            )),
            Err(error) => Err(format!("expected a digest in hexadecimal: {error}")),
        }
    }
}

/// Bytes in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HexBytes(pub(crate) Vec<u8>);

impl FromStr for HexBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        hex::decode(text)
            .map(Self)
            .map_err(|error| format!("expected bytes in hexadecimal: {error}"))
    }
}

async fn key_of(client: &Client, key: &KeyReference) -> Result<Key, Failure> {
    match key {
        KeyReference::Named(target) => {
            let request = GetKeyRequest {
                name: target.whole_key(),
            };
            Ok(client.keys().get_key(request).await?.into_inner())
        }
        KeyReference::Token(_) => Err(Failure::Usage(
            "the message is hashed here, and a token does not say how: choose with --mechanism".to_owned(),
        )),
    }
}

/// The one mechanism that a key signs with.
fn sole_mechanism(key: &Key) -> Result<Mechanism, Failure> {
    let signing: Vec<Mechanism> = key
        .permitted_uses
        .iter()
        .filter(|used| used.operation() == KeyOperation::Sign)
        .map(|used| used.mechanism())
        .collect();
    match signing[..] {
        [mechanism] => Ok(mechanism),
        [] => Err(Failure::Usage(format!("{} is not a signing key", key.name))),
        _ => {
            let words: Vec<_> = signing
                .iter()
                .map(|mechanism| word::<Mechanism>(*mechanism as i32))
                .collect();
            let all = words.join(", ");
            Err(Failure::Usage(format!(
                "{} signs in several ways; choose with --mechanism: {all}",
                key.name
            )))
        }
    }
}

/// The hash whose value a mechanism signs; `None` where it signs the message itself, or does not sign.
fn hash_of(mechanism: Mechanism) -> Option<&'static digest::Algorithm> {
    match mechanism {
        Mechanism::EcdsaSha256 | Mechanism::RsaPkcs1Sha256 | Mechanism::RsaPssSha256 => Some(&digest::SHA256),
        Mechanism::EcdsaSha384 | Mechanism::RsaPkcs1Sha384 | Mechanism::RsaPssSha384 => Some(&digest::SHA384),
        Mechanism::EcdsaSha512 | Mechanism::RsaPkcs1Sha512 | Mechanism::RsaPssSha512 => Some(&digest::SHA512),
        _ => None,
    }
}

/// Hashes what was read already and then the rest, in pieces.
fn hash_all(
    console: Console,
    hash: &'static digest::Algorithm,
    source: &Source,
    start: &[u8],
    mut rest: impl Read,
) -> Result<Vec<u8>, Failure> {
    let mut progress = Progress::new(console, Unit::Bytes, source.length());
    let mut context = Context::new(hash);
    context.update(start);
    progress.advance(start.len() as u64);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match rest.read(&mut piece) {
            Ok(0) => return Ok(context.finish().as_ref().to_vec()),
            Ok(length) => {
                context.update(&piece[..length]);
                progress.advance(length as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(source.unreadable(error)),
        }
    }
}

/// The largest message that is sent whole: 1 MiB.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// SHA-512's.
const MAX_DIGEST_BYTES: usize = 64;

const PIECE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Form;
    use clap::ColorChoice;
    use portcullis_client::v1::PermittedUse;

    fn key(uses: &[(KeyOperation, Mechanism)]) -> Key {
        let permitted_uses = uses
            .iter()
            .map(|(operation, mechanism)| PermittedUse {
                operation: *operation as i32,
                mechanism: *mechanism as i32,
            })
            .collect();
        Key {
            name: "keyRings/demo/keys/tls".to_owned(),
            permitted_uses,
            ..Default::default()
        }
    }

    #[test]
    fn digests_are_hexadecimal() {
        assert_eq!("00ff".parse(), Ok(HexDigest(vec![0, 255])));
        assert_eq!("00FF".parse(), Ok(HexDigest(vec![0, 255])));
        for text in ["", "0", "xy", "0x00", &"00".repeat(65)] {
            assert!(text.parse::<HexDigest>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_with_one_signing_mechanism_needs_no_choice() {
        let uses = [
            (KeyOperation::Decrypt, Mechanism::RsaOaepSha256),
            (KeyOperation::Sign, Mechanism::RsaPssSha384),
        ];
        assert!(sole_mechanism(&key(&uses)).is_ok_and(|mechanism| mechanism == Mechanism::RsaPssSha384));
    }

    #[test]
    fn a_key_with_several_asks_for_the_choice() {
        let uses = [
            (KeyOperation::Sign, Mechanism::RsaPkcs1Sha256),
            (KeyOperation::Sign, Mechanism::RsaPssSha256),
        ];
        let error = sole_mechanism(&key(&uses)).expect_err("a choice");
        assert!(
            error
                .to_string()
                .ends_with("--mechanism: rsa-pkcs1-sha256, rsa-pss-sha256"),
            "{error}"
        );
        assert!(sole_mechanism(&key(&[])).is_err());
    }

    #[test]
    fn a_message_is_hashed_over_its_pieces() {
        // SHA-256 of "abc" (FIPS 180-4).
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hash = hash_of(Mechanism::EcdsaSha256).expect("a hash");
        let found = hash_all(
            Console::new(Form::Json, ColorChoice::Never),
            hash,
            &Source::StandardInput,
            b"a",
            &b"bc"[..],
        )
        .expect("hashed");
        assert_eq!(hex::encode(found), expected);
    }

    #[test]
    fn each_mechanism_has_the_hash_in_its_name() {
        for number in 0..=255 {
            let Ok(mechanism) = Mechanism::try_from(number) else {
                continue;
            };
            let name = mechanism.as_str_name();
            let signs = name.contains("ECDSA") || name.contains("RSA_PKCS1_SHA") || name.contains("RSA_PSS");
            let length = hash_of(mechanism).map(digest::Algorithm::output_len);
            let bits: usize = name
                .rsplit("SHA")
                .next()
                .and_then(|bits| bits.parse().ok())
                .unwrap_or_default();
            assert_eq!(length, signs.then_some(bits / 8), "{name}");
        }
    }
}

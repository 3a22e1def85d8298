//! The cryptography of sealed data: suite 1 of docs/formats.md.
//!
//! HKDF-SHA-512 makes the message key and the commitment from the data key; chunks are AES-256-GCM under the message key, each
//! with its number and whether it is the last one in the nonce.

use super::{
    error::EnvelopeError,
    header::{COMMITMENT_BYTES, FORMAT, MESSAGE_ID_BYTES, SUITE},
};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    constant_time::verify_slices_are_equal,
    digest,
    hkdf::{HKDF_SHA512, KeyType, Salt},
};
use zeroize::{Zeroize, Zeroizing};

/// The bytes of plaintext in each chunk but the last: 64 KiB.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// By how much a sealed chunk is longer.
pub(crate) const TAG_BYTES: usize = 16;

/// The longest message: 2^32 chunks, 256 TiB.
pub const MOST_BYTES: u64 = CHUNK_BYTES as u64 * MOST_CHUNKS;

pub(crate) const DATA_KEY_BYTES: usize = 32;

/// SHA-256 of what is authenticated, in the form of docs/formats.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AuthenticatedDigest([u8; 32]);

impl AuthenticatedDigest {
    pub(crate) fn of(authenticated: &[u8]) -> Self {
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, authenticated).as_ref());
        Self(digest)
    }
}

/// The keys of one message.
pub(crate) struct MessageKey {
    key: LessSafeKey,
    commitment: [u8; COMMITMENT_BYTES],
}

impl MessageKey {
    /// Derives them from a data key.
    pub(crate) fn derive(
        data_key: &[u8; DATA_KEY_BYTES],
        message_id: &[u8; MESSAGE_ID_BYTES],
        authenticated: AuthenticatedDigest,
    ) -> Self {
        let mut derived = Zeroizing::new([0; DERIVED_BYTES]);
        let info: [&[u8]; 3] = [LABEL, &[FORMAT, SUITE], &authenticated.0];
        let filled = Salt::new(HKDF_SHA512, message_id)
            .extract(data_key)
            .expand(&info, Derived)
            .and_then(|okm| okm.fill(&mut *derived));
        // Invariant: 64 bytes are one block of HKDF-SHA-512, which gives up to 255.
        filled.expect("HKDF-SHA-512 gives 64 bytes");
        let (key, commitment) = derived.split_at(DATA_KEY_BYTES);
        let mut committed = [0; COMMITMENT_BYTES];
        committed.copy_from_slice(commitment);
        // Invariant: the key has 32 bytes.
        let key = UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes");
        Self {
            key: LessSafeKey::new(key),
            commitment: committed,
        }
    }

    pub(crate) fn commitment(&self) -> [u8; COMMITMENT_BYTES] {
        self.commitment
    }

    /// Whether a header was made with this data key, message id and authenticated data.
    pub(crate) fn matches(&self, commitment: &[u8; COMMITMENT_BYTES]) -> bool {
        verify_slices_are_equal(&self.commitment, commitment).is_ok()
    }
}

/// Seals the chunks of a message, one after the other.
pub(crate) struct ChunkSealer {
    key: LessSafeKey,
    next: u64,
}

impl ChunkSealer {
    pub(crate) fn new(key: MessageKey) -> Self {
        Self { key: key.key, next: 0 }
    }

    /// Seals a chunk in its place.
    pub(crate) fn seal(&mut self, chunk: &mut Vec<u8>, place: Place) -> Result<(), EnvelopeError> {
        if self.next == MOST_CHUNKS {
            return Err(EnvelopeError::TooLong { most: MOST_BYTES });
        }
        let nonce = nonce(self.next, place);
        self.next += 1;
        // Invariant: a chunk is far below what AES-GCM takes at once (SP 800-38D: 2^36 bytes).
        self.key
            .seal_in_place_append_tag(nonce, Aad::empty(), chunk)
            .expect("a chunk is below the limit of AES-GCM");
        Ok(())
    }
}

/// Opens the chunks of a message, one after the other.
pub(crate) struct ChunkOpener {
    key: LessSafeKey,
    next: u64,
    released: u64,
}

impl ChunkOpener {
    pub(crate) fn new(key: MessageKey) -> Self {
        Self {
            key: key.key,
            next: 0,
            released: 0,
        }
    }

    /// Opens a chunk into `plaintext`, which is empty when it fails.
    pub(crate) fn open(
        &mut self,
        sealed: &[u8],
        place: Place,
        plaintext: &mut Zeroizing<Vec<u8>>,
    ) -> Result<(), EnvelopeError> {
        let at = self.released;
        // What was in it is written over, and wiped when it is dropped.
        plaintext.clear();
        if self.next == MOST_CHUNKS {
            return Err(EnvelopeError::TooLong { most: MOST_BYTES });
        }
        if sealed.len() < TAG_BYTES {
            return Err(EnvelopeError::CutOff { at });
        }
        plaintext.resize(sealed.len() - TAG_BYTES, 0);
        if self.opens(sealed, place, plaintext) {
            // Only an empty message has an empty chunk: there is one form for everything.
            if plaintext.is_empty() && self.next > 0 {
                return Err(EnvelopeError::Damaged { at });
            }
            self.next += 1;
            self.released += plaintext.len() as u64;
            return Ok(());
        }
        let elsewhere = self.opens(sealed, place.other(), plaintext);
        let length = plaintext.len() as u64;
        plaintext.zeroize();
        Err(match (elsewhere, place) {
            (true, Place::Last) => EnvelopeError::CutOff { at: at + length },
            (true, Place::Within) => EnvelopeError::Trailing { at: at + length },
            (false, _) => EnvelopeError::Damaged { at },
        })
    }

    fn opens(&self, sealed: &[u8], place: Place, plaintext: &mut [u8]) -> bool {
        let (ciphertext, tag) = sealed.split_at(sealed.len() - TAG_BYTES);
        self.key
            .open_separate_gather(nonce(self.next, place), Aad::empty(), ciphertext, tag, plaintext)
            .is_ok()
    }
}

/// Where in a message a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Within,
    Last,
}

impl Place {
    fn other(self) -> Self {
        match self {
            Self::Within => Self::Last,
            Self::Last => Self::Within,
        }
    }
}

/// Three zeros, the chunk's number as `u64`, and 1 for the last chunk.
fn nonce(number: u64, place: Place) -> Nonce {
    let mut bytes = [0; 12];
    bytes[3..11].copy_from_slice(&number.to_be_bytes());
    bytes[11] = u8::from(place == Place::Last);
    Nonce::assume_unique_for_key(bytes)
}

struct Derived;

impl KeyType for Derived {
    fn len(&self) -> usize {
        DERIVED_BYTES
    }
}

const DERIVED_BYTES: usize = DATA_KEY_BYTES + COMMITMENT_BYTES;

const LABEL: &[u8] = b"portcullis file v1\0";

const MOST_CHUNKS: u64 = 1 << 32;

//! One share.

use super::{Challenge, Proof, SetId, ShareError};
use hmac::{Hmac, KeyInit, Mac};
use portcullis_provisioning::quorum::Threshold;
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// A custodian's share. It is secret as a whole, and wiped when it is dropped.
pub struct Share {
    pub(super) set: SetId,
    pub(super) threshold: Threshold,
    pub(super) index: u8,
    // Keeps the commitment from telling anything of the share.
    pub(super) salt: Zeroizing<[u8; 16]>,
    pub(super) value: Zeroizing<Vec<u8>>,
}

impl Share {
    /// The set that it is of.
    pub fn set(&self) -> SetId {
        self.set
    }

    /// Its number, from 1.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// How many are needed, of how many.
    pub fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// The share as it is encrypted: `docs/formats.md` has it byte by byte.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEAD + self.value.len() + CHECK));
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.set.0);
        bytes.extend_from_slice(&[self.threshold.need(), self.threshold.of(), self.index]);
        bytes.extend_from_slice(self.salt.as_slice());
        bytes.extend_from_slice(&self.value);
        let check = Sha256::digest(bytes.as_slice());
        bytes.extend_from_slice(&check[..CHECK]);
        bytes
    }

    /// Reads a share.
    ///
    /// # Errors
    ///
    /// [`ShareError::NotAShare`] when it is none or was damaged, [`ShareError::ZeroIndex`], [`ShareError::IndexAbove`], and
    /// [`ShareError::Roster`] for a threshold that no set has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ShareError> {
        let (content, check) = bytes.split_last_chunk::<CHECK>().ok_or(ShareError::NotAShare)?;
        if Sha256::digest(content)[..CHECK] != *check {
            return Err(ShareError::NotAShare);
        }
        let (head, value) = content.split_first_chunk::<HEAD>().ok_or(ShareError::NotAShare)?;
        let [version, rest @ ..] = head;
        let (set, rest) = rest.split_first_chunk::<16>().ok_or(ShareError::NotAShare)?;
        let ([need, of, index], salt) = rest.split_first_chunk::<3>().ok_or(ShareError::NotAShare)?;
        let salt: &[u8; 16] = salt.try_into().map_err(|_| ShareError::NotAShare)?;
        if *version != VERSION || value.is_empty() {
            return Err(ShareError::NotAShare);
        }
        let threshold = Threshold::new((*need).into(), (*of).into())?;
        match *index {
            0 => Err(ShareError::ZeroIndex),
            index if index > *of => Err(ShareError::IndexAbove { index, of: *of }),
            index => Ok(Self {
                set: SetId(*set),
                threshold,
                index,
                salt: Zeroizing::new(*salt),
                value: Zeroizing::new(value.to_vec()),
            }),
        }
    }

    /// Answers a challenge: shows that whoever answers has this share, and tells nothing of it.
    pub fn answer(&self, challenge: &Challenge) -> Proof {
        let key = Zeroizing::new(self.digest(PROOF_KEY));
        // Invariant: HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("a key for HMAC");
        mac.update(PROOF);
        mac.update(&challenge.0);
        Proof(mac.finalize().into_bytes().into())
    }

    pub(super) fn commitment(&self) -> [u8; 32] {
        self.digest(COMMITMENT)
    }

    fn digest(&self, tag: &[u8]) -> [u8; 32] {
        Sha256::new_with_prefix(tag)
            .chain_update(self.set.0)
            .chain_update([self.index])
            .chain_update(self.salt.as_slice())
            .chain_update(self.value.as_slice())
            .finalize()
            .into()
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "share {} of set {}", self.index, self.set)
    }
}

const VERSION: u8 = 1;
// Version, set, needed, of, number, salt.
const HEAD: usize = 1 + 16 + 3 + 16;
const CHECK: usize = 4;
const COMMITMENT: &[u8] = b"portcullis share commitment v1\0";
const PROOF_KEY: &[u8] = b"portcullis share proof key v1\0";
const PROOF: &[u8] = b"portcullis share proof v1\0";

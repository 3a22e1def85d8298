//! What is public about a set of shares.

use super::{Secret, Share, ShareError};
use portcullis_provisioning::{custodian::CustodianName, quorum::Threshold};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// Names a set of shares, so that shares of different sets are never mixed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub(super) [u8; 16]);

impl SetId {
    /// From its 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        (hex::encode(bytes) == text).then_some(Self(bytes))
    }

    /// Its 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SetId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A set of shares, without anything secret: it stands in the transcript, and shares are checked against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct SetDescription {
    /// The set.
    pub set: SetId,
    /// What the secret is, in words.
    pub purpose: String,
    /// How many of the custodians are needed.
    pub threshold: Threshold,
    /// Who has the shares 1, 2, 3, …
    pub custodians: Vec<CustodianName>,
    // SHA-256 over the set, each share's number and salt, and the share.
    pub(super) commitments: Vec<[u8; 32]>,
    // SHA-256 over the set and the secret.
    pub(super) secret_commitment: [u8; 32],
}

impl SetDescription {
    /// The custodian with the share of this number.
    ///
    /// # Errors
    ///
    /// [`ShareError::ZeroIndex`], [`ShareError::IndexAbove`].
    pub fn custodian(&self, index: u8) -> Result<&CustodianName, ShareError> {
        let place = usize::from(index).checked_sub(1).ok_or(ShareError::ZeroIndex)?;
        self.custodians.get(place).ok_or(ShareError::IndexAbove {
            index,
            of: self.threshold.of(),
        })
    }

    /// Checks a share against the set.
    ///
    /// # Errors
    ///
    /// [`ShareError::ForeignSet`], [`ShareError::ZeroIndex`], [`ShareError::IndexAbove`], [`ShareError::Tampered`].
    pub fn check(&self, share: &Share) -> Result<&CustodianName, ShareError> {
        if share.set != self.set {
            return Err(ShareError::ForeignSet {
                expected: self.set,
                found: share.set,
            });
        }
        let custodian = self.custodian(share.index)?;
        let commitment = self.commitments.get(usize::from(share.index) - 1);
        if commitment == Some(&share.commitment()) && share.threshold == self.threshold {
            Ok(custodian)
        } else {
            Err(ShareError::Tampered(custodian.clone()))
        }
    }

    pub(super) fn is_secret(&self, secret: &Secret) -> bool {
        secret_commitment(self.set, secret) == self.secret_commitment
    }
}

/// What names a secret that was drawn at random, and tells nothing else of it.
pub(super) fn secret_commitment(set: SetId, secret: &Secret) -> [u8; 32] {
    Sha256::new_with_prefix(SECRET)
        .chain_update(set.0)
        .chain_update(secret.expose())
        .finalize()
        .into()
}

/// The description as it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    set: String,
    purpose: String,
    need: u32,
    custodians: Vec<CustodianName>,
    commitments: Vec<String>,
    secret_commitment: String,
}

impl From<SetDescription> for Written {
    fn from(description: SetDescription) -> Self {
        Self {
            set: description.set.to_string(),
            purpose: description.purpose,
            need: description.threshold.need().into(),
            custodians: description.custodians,
            commitments: description.commitments.iter().map(hex::encode).collect(),
            secret_commitment: hex::encode(description.secret_commitment),
        }
    }
}

impl TryFrom<Written> for SetDescription {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let digest = |text: &String| -> Result<[u8; 32], String> {
            let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
            bytes.ok_or_else(|| format!("{text:?} is no commitment: expected 64 hexadecimal digits"))
        };
        let threshold = Threshold::new(written.need, written.custodians.len()).map_err(|error| error.to_string())?;
        for (place, name) in written.custodians.iter().enumerate() {
            // As with a roster: one person would count twice.
            if written.custodians[..place].contains(name) {
                return Err(portcullis_provisioning::Error::DuplicateCustodian(name.clone()).to_string());
            }
        }
        let commitments = written.commitments.iter().map(digest).collect::<Result<Vec<_>, _>>()?;
        if commitments.len() != written.custodians.len() {
            return Err(format!(
                "{} commitments for {} custodians",
                commitments.len(),
                written.custodians.len()
            ));
        }
        Ok(Self {
            set: SetId::parse(&written.set).ok_or_else(|| format!("{:?} names no set of shares", written.set))?,
            purpose: written.purpose,
            threshold,
            custodians: written.custodians,
            commitments,
            secret_commitment: digest(&written.secret_commitment)?,
        })
    }
}

const SECRET: &[u8] = b"portcullis share set secret v1\0";

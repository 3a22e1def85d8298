//! Handing shares out in two steps: nothing rests on a set before every custodian has shown to have a share of it.

use super::{SetDescription, Share, ShareError};
use age::x25519;
use portcullis_provisioning::custodian::{AgeRecipient, CustodianName};
use rand::CryptoRng;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A share encrypted to its custodian, as a file of age (age-encryption.org/v1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedShare {
    /// The share's number.
    pub index: u8,
    /// Whose it is.
    pub custodian: CustodianName,
    /// The file.
    pub file: Vec<u8>,
}

impl EncryptedShare {
    pub(super) fn new(share: &Share, custodian: &CustodianName, recipient: &AgeRecipient) -> Result<Self, ShareError> {
        let refused = |reason: String| ShareError::NotEncrypted {
            custodian: custodian.clone(),
            reason,
        };
        let recipient: x25519::Recipient = recipient
            .as_str()
            .parse()
            .map_err(|error: &str| refused(error.to_owned()))?;
        let file = age::encrypt(&recipient, &share.to_bytes()).map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            index: share.index,
            custodian: custodian.clone(),
            file,
        })
    }
}

/// Decrypts a share with a custodian's identity (`AGE-SECRET-KEY-1…`).
pub fn open(file: &[u8], identity: &str) -> Result<Share, ShareError> {
    let refused = |reason: String| ShareError::NotDecrypted(reason);
    let identity: x25519::Identity = identity
        .trim()
        .parse()
        .map_err(|_| refused("it is no identity of age".to_owned()))?;
    let bytes = Zeroizing::new(age::decrypt(&identity, file).map_err(|error| refused(error.to_string()))?);
    Share::from_bytes(&bytes)
}

/// What a custodian answers, to show that the share is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge(pub [u8; 32]);

/// The answer to a challenge.
#[derive(Clone, Copy)]
pub struct Proof(pub [u8; 32]);

/// A set whose shares are encrypted and on their way. Nothing may depend on it yet.
pub struct Distribution {
    description: SetDescription,
    encrypted: Vec<EncryptedShare>,
    expected: Vec<Expected>,
}

struct Expected {
    challenge: Challenge,
    proof: Proof,
    is_proved: bool,
}

impl Distribution {
    pub(super) fn new(
        description: SetDescription,
        encrypted: Vec<EncryptedShare>,
        shares: &[Share],
        random: &mut impl CryptoRng,
    ) -> Self {
        let expected = shares.iter().map(|share| {
            let mut challenge = Challenge([0; 32]);
            random.fill_bytes(&mut challenge.0);
            Expected {
                proof: share.answer(&challenge),
                challenge,
                is_proved: false,
            }
        });
        Self {
            expected: expected.collect(),
            description,
            encrypted,
        }
    }

    /// What is public about the set.
    pub fn description(&self) -> &SetDescription {
        &self.description
    }

    /// The encrypted shares, to be written to disk before anybody is asked to prove.
    pub fn encrypted(&self) -> &[EncryptedShare] {
        &self.encrypted
    }

    /// What a custodian has to answer.
    pub fn challenge(&self, custodian: &CustodianName) -> Result<Challenge, ShareError> {
        let place = self.place(custodian)?;
        Ok(self.expected[place].challenge)
    }

    /// Takes a custodian's answer.
    ///
    /// # Errors
    ///
    /// [`ShareError::UnknownCustodian`], [`ShareError::WrongProof`].
    pub fn prove(&mut self, custodian: &CustodianName, proof: &Proof) -> Result<(), ShareError> {
        let place = self.place(custodian)?;
        let expected = &mut self.expected[place];
        if !bool::from(expected.proof.0.ct_eq(&proof.0)) {
            return Err(ShareError::WrongProof(custodian.clone()));
        }
        expected.is_proved = true;
        Ok(())
    }

    /// Who has not answered yet.
    pub fn missing(&self) -> Vec<&CustodianName> {
        let custodians = self.description.custodians.iter().zip(&self.expected);
        custodians
            .filter(|(_, expected)| !expected.is_proved)
            .map(|(name, _)| name)
            .collect()
    }

    /// The set, once everybody has answered: from now on something may depend on it.
    ///
    /// # Errors
    ///
    /// [`ShareError::NotProved`], with the names of those who have not.
    pub fn activate(&self) -> Result<SetDescription, ShareError> {
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(self.description.clone());
        }
        let names: Vec<_> = missing.into_iter().map(CustodianName::as_str).collect();
        Err(ShareError::NotProved(names.join(", ")))
    }

    fn place(&self, custodian: &CustodianName) -> Result<usize, ShareError> {
        let found = self.description.custodians.iter().position(|name| name == custodian);
        found.ok_or_else(|| ShareError::UnknownCustodian(custodian.clone()))
    }
}

impl fmt::Debug for Distribution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Distribution")
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

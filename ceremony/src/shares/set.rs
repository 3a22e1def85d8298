//! Splitting a secret, and showing that every group of custodians that should can put it together again.

use super::{Distribution, EncryptedShare, SetDescription, SetId, Share, ShareError, description::secret_commitment};
use portcullis_provisioning::{
    custodian::{AgeRecipient, CustodianName},
    quorum::{Roster, Threshold},
};
use rand::CryptoRng;
use std::fmt;
use subtle::ConstantTimeEq;
use vsss_rs::{Gf256, IdentifierGf256};
use zeroize::Zeroizing;

/// What is split: a PIN, or a key. Wiped when it is dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A secret of 16 to 64 bytes.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, ShareError> {
        if (16..=64).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(ShareError::SecretLength(bytes.len()))
        }
    }

    /// The secret itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    fn is(&self, other: &[u8]) -> bool {
        self.0.ct_eq(other).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Whether all shares may be needed, so that the loss of one is the loss of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllNeeded {
    /// Refused.
    Refused,
    /// Meant.
    Meant,
}

/// A secret in shares, before they are handed out.
pub struct ShareSet {
    description: SetDescription,
    recipients: Vec<AgeRecipient>,
    shares: Vec<Share>,
}

impl ShareSet {
    /// Splits a secret among a roster's custodians, of whom so many are needed.
    ///
    /// # Errors
    ///
    /// [`ShareError::Roster`] for a threshold below 2 or above the number of custodians; [`ShareError::AllNeeded`];
    /// [`ShareError::DoesNotCombine`] when a group of custodians would not get the secret back.
    pub fn split(
        secret: &Secret,
        purpose: &str,
        roster: &Roster,
        need: u32,
        all_needed: AllNeeded,
        random: &mut impl CryptoRng,
    ) -> Result<Self, ShareError> {
        let threshold = roster.threshold(need)?;
        if threshold.needs_all() && all_needed == AllNeeded::Refused {
            return Err(ShareError::AllNeeded(threshold.of()));
        }
        let mut set = SetId([0; 16]);
        random.fill_bytes(&mut set.0);
        let mut shares = Vec::new();
        for (index, value) in (1..).zip(raw_shares(secret, threshold, random)?) {
            let mut salt = Zeroizing::new([0; 16]);
            random.fill_bytes(salt.as_mut_slice());
            shares.push(Share {
                set,
                threshold,
                index,
                salt,
                value,
            });
        }
        let custodians: Vec<_> = roster.custodians().iter().map(|one| one.name.clone()).collect();
        check_groups(secret, &shares, &custodians, threshold)?;
        Ok(Self {
            description: SetDescription {
                set,
                purpose: purpose.to_owned(),
                threshold,
                custodians,
                commitments: shares.iter().map(Share::commitment).collect(),
                secret_commitment: secret_commitment(set, secret),
            },
            recipients: roster
                .custodians()
                .iter()
                .map(|one| one.age_recipient.clone())
                .collect(),
            shares,
        })
    }

    /// What is public about it.
    pub fn description(&self) -> &SetDescription {
        &self.description
    }

    /// Encrypts each share to its custodian, and wipes it. `random` draws the challenges that custodians answer.
    pub fn encrypt(self, random: &mut impl CryptoRng) -> Result<Distribution, ShareError> {
        let mut encrypted = Vec::new();
        for (share, recipient) in self.shares.iter().zip(&self.recipients) {
            let custodian = self.description.custodian(share.index)?;
            encrypted.push(EncryptedShare::new(share, custodian, recipient)?);
        }
        Ok(Distribution::new(self.description, encrypted, &self.shares, random))
    }

    /// The share of this number in clear, for a custodian who has it on paper: a way that is chosen by explicit decision alone.
    pub fn share(&self, index: u8) -> Option<&Share> {
        self.shares.iter().find(|share| share.index == index)
    }
}

impl fmt::Debug for ShareSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ShareSet")
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

/// The shares 1, 2, 3, … without their numbers.
pub(super) fn raw_shares(
    secret: &Secret,
    threshold: Threshold,
    random: &mut impl CryptoRng,
) -> Result<Vec<Zeroizing<Vec<u8>>>, ShareError> {
    let (need, of) = (usize::from(threshold.need()), usize::from(threshold.of()));
    let places = (1..=threshold.of()).map(|index| IdentifierGf256(Gf256(index)));
    let shares = Gf256::split_bytes_with_participant_ids_iter(need, of, secret.expose(), random, places)
        .map_err(|error| ShareError::Scheme(error.to_string()))?;
    Ok(shares
        .into_iter()
        .map(Zeroizing::new)
        // The first byte is the number.
        .map(|share| Zeroizing::new(share[1..].to_vec()))
        .collect())
}

/// Puts shares together.
pub(super) fn combine<'s>(shares: impl IntoIterator<Item = &'s Share>) -> Result<Zeroizing<Vec<u8>>, ShareError> {
    let numbered: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(
        shares
            .into_iter()
            .map(|share| {
                let mut bytes = Vec::with_capacity(1 + share.value.len());
                bytes.push(share.index);
                bytes.extend_from_slice(&share.value);
                bytes
            })
            .collect(),
    );
    Gf256::combine_bytes(numbered.as_slice())
        .map(Zeroizing::new)
        .map_err(|error| ShareError::Scheme(error.to_string()))
}

/// Looks that every group of as many custodians as are needed gets the secret back.
pub(super) fn check_groups(
    secret: &Secret,
    shares: &[Share],
    custodians: &[CustodianName],
    threshold: Threshold,
) -> Result<(), ShareError> {
    let need = usize::from(threshold.need());
    let mut chosen: Vec<usize> = (0..need).collect();
    loop {
        let together = combine(chosen.iter().map(|place| &shares[*place]));
        if !together.is_ok_and(|together| secret.is(&together)) {
            let names: Vec<_> = chosen.iter().map(|place| custodians[*place].as_str()).collect();
            return Err(ShareError::DoesNotCombine(names.join(", ")));
        }
        // The next group in lexicographic order.
        let Some(moving) = (0..need).rev().find(|at| chosen[*at] < shares.len() - need + at) else {
            return Ok(());
        };
        chosen[moving] += 1;
        for at in moving + 1..need {
            chosen[at] = chosen[at - 1] + 1;
        }
    }
}

//! Shares that come back, and the secret that they give.

use super::{Secret, SetDescription, SetId, Share, ShareError, set::combine};
use portcullis_provisioning::custodian::CustodianName;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Sets that were replaced. Their shares are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Voided(BTreeSet<SetId>);

impl Voided {
    /// Declares a set void.
    pub fn add(&mut self, set: SetId) {
        self.0.insert(set);
    }

    /// The sets, sorted.
    pub fn iter(&self) -> impl Iterator<Item = SetId> + '_ {
        self.0.iter().copied()
    }
}

/// Shares of one set on their way to its secret.
pub struct Collection {
    description: SetDescription,
    shares: BTreeMap<u8, Share>,
}

impl Collection {
    /// Nothing yet.
    ///
    /// # Errors
    ///
    /// [`ShareError::VoidSet`].
    pub fn new(description: SetDescription, voided: &Voided) -> Result<Self, ShareError> {
        if voided.0.contains(&description.set) {
            return Err(ShareError::VoidSet(description.set));
        }
        Ok(Self {
            description,
            shares: BTreeMap::new(),
        })
    }

    /// Takes the share that a custodian brought; returns how many more are needed.
    ///
    /// # Errors
    ///
    /// [`ShareError::UnknownCustodian`], [`ShareError::ForeignSet`], [`ShareError::ZeroIndex`], [`ShareError::IndexAbove`],
    /// [`ShareError::Tampered`], [`ShareError::Swapped`], [`ShareError::Duplicate`]. What was taken before stays.
    pub fn add(&mut self, brought: &CustodianName, share: Share) -> Result<u8, ShareError> {
        if !self.description.custodians.contains(brought) {
            return Err(ShareError::UnknownCustodian(brought.clone()));
        }
        let owner = self.description.check(&share)?;
        if owner != brought {
            return Err(ShareError::Swapped {
                brought: brought.clone(),
                owner: owner.clone(),
            });
        }
        if self.shares.contains_key(&share.index) {
            return Err(ShareError::Duplicate {
                index: share.index,
                custodian: brought.clone(),
            });
        }
        self.shares.insert(share.index, share);
        Ok(self.missing())
    }

    /// How many more are needed.
    pub fn missing(&self) -> u8 {
        // Invariant: there are at most as many shares as custodians.
        let have = u8::try_from(self.shares.len()).expect("at most 16 shares");
        self.description.threshold.need().saturating_sub(have)
    }

    /// Puts the secret together. All shares that came are used, and wiped.
    ///
    /// # Errors
    ///
    /// [`ShareError::TooFew`], [`ShareError::WrongSecret`].
    pub fn combine(self) -> Result<Secret, ShareError> {
        if self.missing() > 0 {
            return Err(ShareError::TooFew {
                need: self.description.threshold.need(),
                found: self.shares.len(),
            });
        }
        let secret = Secret::new(combine(self.shares.values())?)?;
        if self.description.is_secret(&secret) {
            Ok(secret)
        } else {
            Err(ShareError::WrongSecret)
        }
    }
}

impl fmt::Debug for Collection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} shares of set {}",
            self.shares.len(),
            self.description.set
        )
    }
}

//! How many custodians are needed, and who they are.

use crate::{
    Error,
    custodian::{Custodian, CustodianName},
    signing_key::KeyId,
};
use std::{collections::BTreeMap, fmt};

/// M of N: at least two, and never more than there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Threshold {
    need: u8,
    of: u8,
}

impl Threshold {
    /// `need` of `of`.
    ///
    /// # Errors
    ///
    /// [`Error::ThresholdBelowTwo`], [`Error::ThresholdAboveCustodians`], and [`Error::TooManyCustodians`] above
    /// [`MOST_CUSTODIANS`].
    pub fn new(need: u32, of: usize) -> Result<Self, Error> {
        let too_many = || Error::TooManyCustodians {
            found: of,
            most: MOST_CUSTODIANS,
        };
        if of > MOST_CUSTODIANS {
            return Err(too_many());
        }
        let of = u8::try_from(of).map_err(|_| too_many())?;
        if need < 2 {
            return Err(Error::ThresholdBelowTwo { need });
        }
        match u8::try_from(need) {
            Ok(need) if need <= of => Ok(Self { need, of }),
            _ => Err(Error::ThresholdAboveCustodians { need, of: of.into() }),
        }
    }

    /// How many are needed.
    pub fn need(self) -> u8 {
        self.need
    }

    /// How many there are.
    pub fn of(self) -> u8 {
        self.of
    }

    /// Whether all are needed, so that the loss of one is the loss of what they guard.
    pub fn needs_all(self) -> bool {
        self.need == self.of
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {}", self.need, self.of)
    }
}

/// The custodians of a cluster. No two have the same name, key or recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster(Vec<Custodian>);

impl Roster {
    /// Checks that no person could count as two.
    pub fn new(custodians: Vec<Custodian>) -> Result<Self, Error> {
        if custodians.len() > MOST_CUSTODIANS {
            return Err(Error::TooManyCustodians {
                found: custodians.len(),
                most: MOST_CUSTODIANS,
            });
        }
        for (index, one) in custodians.iter().enumerate() {
            for other in &custodians[..index] {
                let both = || (other.name.clone(), one.name.clone());
                if one.name.reads_like(&other.name) {
                    return Err(Error::DuplicateCustodian(one.name.clone()));
                }
                if one.signing_key == other.signing_key {
                    let (first, second) = both();
                    return Err(Error::DuplicateSigningKey(first, second));
                }
                if one.age_recipient == other.age_recipient {
                    let (first, second) = both();
                    return Err(Error::DuplicateRecipient(first, second));
                }
            }
        }
        Ok(Self(custodians))
    }

    /// All of them, in the roster's order.
    pub fn custodians(&self) -> &[Custodian] {
        &self.0
    }

    /// A threshold among them.
    pub fn threshold(&self, need: u32) -> Result<Threshold, Error> {
        Threshold::new(need, self.0.len())
    }

    /// The custodian of a name.
    pub fn named(&self, name: &CustodianName) -> Option<&Custodian> {
        self.0.iter().find(|one| one.name == *name)
    }

    /// The custodian whose key it is.
    pub fn holder(&self, key: KeyId) -> Option<&Custodian> {
        self.0.iter().find(|one| one.signing_key.id() == key)
    }
}

/// Who signed a document: custodians whose signatures hold, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signers(BTreeMap<KeyId, CustodianName>);

impl Signers {
    /// Adds one.
    ///
    /// # Errors
    ///
    /// [`Error::SignedTwice`].
    pub(crate) fn add(&mut self, key: KeyId, name: &CustodianName) -> Result<(), Error> {
        match self.0.insert(key, name.clone()) {
            None => Ok(()),
            Some(_) => Err(Error::SignedTwice(name.clone())),
        }
    }

    /// Their names, sorted.
    pub fn names(&self) -> Vec<&CustodianName> {
        let mut names: Vec<_> = self.0.values().collect();
        names.sort();
        names
    }

    /// Checks that enough of a roster's custodians are among them. `requester` asked for what is signed and never counts.
    ///
    /// # Errors
    ///
    /// [`Error::TooFewSignatures`], which names those that count.
    pub fn meet(
        &self,
        whose: &str,
        roster: &Roster,
        threshold: Threshold,
        requester: Option<&CustodianName>,
    ) -> Result<(), Error> {
        let counted: Vec<_> = roster
            .custodians()
            .iter()
            .filter(|one| self.0.contains_key(&one.signing_key.id()))
            .filter(|one| requester.is_none_or(|requester| !one.name.reads_like(requester)))
            .map(|one| one.name.as_str())
            .collect();
        if counted.len() >= usize::from(threshold.need()) {
            return Ok(());
        }
        Err(Error::TooFewSignatures {
            whose: whose.to_owned(),
            need: threshold.need(),
            found: counted.len(),
            names: if counted.is_empty() {
                "nobody".to_owned()
            } else {
                counted.join(", ")
            },
        })
    }
}

/// The most custodians that a roster takes.
pub const MOST_CUSTODIANS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_refused_by_name() {
        for need in [0, 1] {
            assert_eq!(Threshold::new(need, 5), Err(Error::ThresholdBelowTwo { need }));
        }
        for (need, of) in [(6, 5), (2, 1), (2, 0), (300, 5)] {
            let refused = Error::ThresholdAboveCustodians { need, of: of as u32 };
            assert_eq!(Threshold::new(need, of), Err(refused));
        }
        assert!(matches!(
            Threshold::new(2, 17),
            Err(Error::TooManyCustodians { found: 17, most: 16 })
        ));
        assert!(matches!(Threshold::new(2, 300), Err(Error::TooManyCustodians { .. })));
        let all = Threshold::new(5, 5).expect("a threshold");
        assert!(all.needs_all() && !Threshold::new(3, 5).expect("a threshold").needs_all());
        assert_eq!(all.to_string(), "5 of 5");
    }
}

//! A secret in shares: as many custodians as are needed have it, fewer have nothing.
//!
//! 1. [`ShareSet::split`] shares a [`Secret`] by Shamir's scheme over GF(256), and puts it together again from *every* group of
//!    custodians that should be able to, before any share leaves memory.
//! 2. [`ShareSet::encrypt`] encrypts each share to its custodian. From then on no share is in clear here; what is public about
//!    the set is its [`SetDescription`].
//! 3. Each custodian decrypts the share ([`open`]) and answers the challenge ([`Share::answer`]). Only when all have
//!    ([`Distribution::activate`]) may what the secret protects depend on the set.
//! 4. A [`Collection`] takes shares back and refuses, by name, what is not one of the set, and sets that were [`Voided`].
//!
//! `paper` is a share as text that is typed in again. What is secret is wiped when it is dropped; that it is not swapped out is for the
//! whole process to see to (`portcullis_hsm::worker::hardening`).

mod collection;
mod description;
mod distribution;
mod error;
mod paper;
mod set;
mod share;

pub use collection::{Collection, Voided};
pub use description::{SetDescription, SetId};
pub use distribution::{Challenge, Distribution, EncryptedShare, Proof, open};
pub use error::ShareError;
pub use paper::PaperError;
pub use set::{AllNeeded, Secret, ShareSet};
pub use share::Share;

#[cfg(test)]
mod tests;

//! Why something that custodians sign is refused.

use crate::{custodian::CustodianName, signing_key::KeyId};

/// A refusal. Says what was expected and what was found; names no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A document is not what its format says.
    #[error("the {what} is not valid: {reason}")]
    Malformed {
        /// Which document.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A name that no custodian, member or cluster can have.
    #[error(
        "{0:?} is no name: expected 1 to 64 letters, digits, spaces, dots, dashes and underscores, beginning and ending with a letter or digit"
    )]
    NotAName(String),
    /// Not a public key that custodians can have.
    #[error("not a signing key: {0}; expected SubjectPublicKeyInfo of Ed25519, or of P-256 with an uncompressed point")]
    NotASigningKey(String),
    /// Not a private key that custodians can have. Says nothing of the key.
    #[error("not a private key for signing: expected PKCS#8 of Ed25519 or P-256")]
    NotAPrivateKey,
    /// Not an age recipient.
    #[error("{0:?} is no age recipient: expected age1 and 58 more characters, as age-keygen prints it")]
    NotARecipient(String),
    /// One person alone would be enough.
    #[error("a threshold of {need} is below 2: one custodian alone would be enough")]
    ThresholdBelowTwo {
        /// How many would be needed.
        need: u32,
    },
    /// The threshold can never be met.
    #[error("a threshold of {need} is above the number of custodians ({of}): it could never be met")]
    ThresholdAboveCustodians {
        /// How many would be needed.
        need: u32,
        /// How many there are.
        of: u32,
    },
    /// More custodians than a roster takes.
    #[error("{found} custodians are too many: expected at most {most}")]
    TooManyCustodians {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// Two custodians of one name.
    #[error("two custodians have the name {0}")]
    DuplicateCustodian(CustodianName),
    /// Two custodians with one signing key: one person would count twice.
    #[error("{0} and {1} have the same signing key")]
    DuplicateSigningKey(CustodianName, CustodianName),
    /// Two custodians with one recipient: one person would get two shares.
    #[error("{0} and {1} have the same age recipient")]
    DuplicateRecipient(CustodianName, CustodianName),
    /// No custodian has the key that signed.
    #[error("a signature is by the key {0}, which no custodian has")]
    UnknownSigner(KeyId),
    /// One custodian signed more than once.
    #[error("{0} signed more than once")]
    SignedTwice(CustodianName),
    /// A signature is not by the key that it names, or not over this document.
    #[error("the signature of {0} does not hold: the document was changed after it, or it is of another document")]
    WrongSignature(CustodianName),
    /// Too few custodians signed.
    #[error("{found} of the custodians of {whose} signed ({names}), {need} are needed")]
    TooFewSignatures {
        /// Whose quorum it is.
        whose: String,
        /// How many are needed.
        need: u8,
        /// How many signed.
        found: usize,
        /// Who.
        names: String,
    },
    /// A chain without records.
    #[error("there is no provisioning record")]
    EmptyChain,
    /// The first record of a chain is not the first of its cluster.
    #[error("the chain begins with record {0}; expected record 1, and all that follow it")]
    DoesNotBegin(u64),
    /// A record does not follow the one before it.
    #[error("record {sequence} does not follow the record before it: {reason}")]
    DoesNotFollow {
        /// The record's number.
        sequence: u64,
        /// What does not fit.
        reason: String,
    },
    /// A document was asked about after its time.
    #[error("the {what} was valid until {until}; it is {now}")]
    Expired {
        /// Which document.
        what: &'static str,
        /// The end of its time.
        until: String,
        /// The time that was asked about.
        now: String,
    },
}

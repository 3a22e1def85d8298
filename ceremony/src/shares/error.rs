//! Why shares are refused.

use super::SetId;
use portcullis_provisioning::custodian::CustodianName;

/// A refusal. Names the set, the share and the custodian; never what is secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The threshold or the custodians are not such as a set can have.
    #[error(transparent)]
    Roster(#[from] portcullis_provisioning::Error),
    /// The loss of one share would be the loss of the secret, and nobody said that this is meant.
    #[error("all {0} shares would be needed: the loss of one would be the loss of the secret; say so if that is meant")]
    AllNeeded(u8),
    /// The secret is of a length that is not split.
    #[error("a secret of {0} bytes is not split: expected 16 to 64")]
    SecretLength(usize),
    /// A group of custodians did not get the secret back. No share was released.
    #[error("the shares of {0} do not give the secret back: no share was released")]
    DoesNotCombine(String),
    /// The scheme itself refused.
    #[error("the secret cannot be split or put together: {0}")]
    Scheme(String),
    /// Bytes that are no share.
    #[error("this is no share, or it was damaged")]
    NotAShare,
    /// A share with the number 0, which would choose the secret.
    #[error("a share with the number 0 is refused: whoever made it could choose the secret")]
    ZeroIndex,
    /// A share with a number that the set does not have.
    #[error("share {index} is refused: the set has the shares 1 to {of}")]
    IndexAbove {
        /// The share's number.
        index: u8,
        /// How many there are.
        of: u8,
    },
    /// A share of another set.
    #[error("the share is of set {found}, expected one of set {expected}")]
    ForeignSet {
        /// The set that is being put together.
        expected: SetId,
        /// The share's.
        found: SetId,
    },
    /// A share of a set that was declared void.
    #[error("set {0} is void: its shares were replaced")]
    VoidSet(SetId),
    /// A share came twice.
    #[error("share {index} of {custodian} is there already")]
    Duplicate {
        /// The share's number.
        index: u8,
        /// Whose it is.
        custodian: CustodianName,
    },
    /// A custodian brought somebody else's share.
    #[error("{brought} brought the share of {owner}: two were swapped")]
    Swapped {
        /// Who brought it.
        brought: CustodianName,
        /// Whose it is.
        owner: CustodianName,
    },
    /// A share that is not the one that was handed out.
    #[error("the share of {0} is not the one that was handed out: it was changed, or is damaged")]
    Tampered(CustodianName),
    /// Too few shares.
    #[error("{found} shares are there, {need} are needed")]
    TooFew {
        /// How many are needed.
        need: u8,
        /// How many there are.
        found: usize,
    },
    /// The shares agree with their commitments and still give another secret.
    #[error("the shares do not give the secret of the set")]
    WrongSecret,
    /// A name that no custodian of the set has.
    #[error("{0} is no custodian of the set")]
    UnknownCustodian(CustodianName),
    /// A share cannot be encrypted.
    #[error("the share of {custodian} cannot be encrypted: {reason}")]
    NotEncrypted {
        /// Whose it is.
        custodian: CustodianName,
        /// Why.
        reason: String,
    },
    /// A share cannot be decrypted with this identity.
    #[error("the share cannot be decrypted with this identity: {0}")]
    NotDecrypted(String),
    /// An answer to the challenge is wrong.
    #[error("the answer of {0} is wrong: it is of another share or another challenge")]
    WrongProof(CustodianName),
    /// Not everybody has shown to be able to decrypt.
    #[error("{0} have not shown that they can decrypt their shares: nothing is activated")]
    NotProved(String),
}

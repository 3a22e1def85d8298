//! What goes wrong at an HSM, grouped by what the caller can do about it.

use crate::{
    algorithm::{KeyType, Mechanism, Operation},
    key_token::TokenError,
    pkcs11::{CallError, LoadError, UserType},
    public_key::PublicKeyError,
    return_code::Class,
};

/// A failed HSM operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The module could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Several tokens match what was configured, or none of them is what it must be.
    #[error("{0}")]
    TokenSelection(String),
    /// The module shows no token that matches what was configured. It may come back: nothing was tried on it.
    #[error("{0}")]
    TokenAbsent(String),
    /// The token refused the PIN. It is never tried again without a person: tokens lock.
    #[error("the token refused the user PIN ({0}); it was tried once and will not be tried again")]
    PinRefused(CallError),
    /// The token refused a PIN that a person or a quorum gave. It may count the attempts and lock.
    #[error("the token refused the {} PIN ({source})", if *user == UserType::User { "user's" } else { "security officer's" })]
    LoginRefused {
        /// Whose PIN it was.
        user: UserType,
        /// What the token said.
        source: CallError,
    },
    /// A PKCS#11 call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A call failed in a keeper session that had just replaced a lost one: no repair is left.
    #[error(transparent)]
    Keeper(CallError),
    /// A public key could not be read.
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
    /// The token holds no domain of this epoch.
    #[error("the token holds no domain keys of epoch {0}")]
    NoDomain(u32),
    /// The token holds no domain of this epoch, and cannot hold one under which keys are wrapped.
    #[error(
        "the token holds no domain keys of epoch {0}, and it cannot hold those under which keys are wrapped: {1}; it can hold \
         a resident domain, for keys with protection RESIDENT"
    )]
    NoDomainPossible(u32, String),
    /// The token holds a domain already.
    #[error("the token already holds domain keys of epoch {0}; nothing was changed")]
    DomainExists(u32),
    /// What the caller asked for cannot be done with what is at hand, whoever does it.
    #[error("{0}")]
    Refused(String),
    /// A key token is malformed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A key token's or record's tag is wrong: it was changed, or made under another domain.
    #[error("{0} is not authentic: it was changed, swapped, or made under another domain")]
    NotAuthentic(&'static str),
    /// The member has only the digest of a key token and needs the token.
    #[error("the key is not loaded")]
    NotLoaded,
    /// The key may not do this.
    #[error("the key does not permit {0} with {1}")]
    NotPermitted(Operation, Mechanism),
    /// The token does not support this; in words that go before "is not supported".
    #[error("{0}")]
    Unsupported(String),
    /// The wrapped key cannot be kept outside this kind of token.
    #[error("wrapping keys of type {0}; such a key can be kept with protection RESIDENT")]
    NotWrappable(KeyType),
    /// The domain has a mac key alone: nothing can be wrapped under it.
    #[error(
        "keys with protection WRAPPED: the domain is a resident one; such a key can be kept with protection RESIDENT"
    )]
    NothingSeals,
    /// A resident key is not on this token.
    #[error("the token does not hold this resident key")]
    ResidentMissing,
    /// What was to be imported is not what it was declared to be, or cannot be unwrapped. Names no secret.
    #[error("the key was not imported: {0}")]
    ImportRefused(String),
    /// The key may not be exported, or not so.
    #[error("the key was not exported: {0}")]
    ExportRefused(String),
    /// An object that was destroyed is still there.
    #[error("the token still shows an object that it said it destroyed")]
    NotDestroyed,
    /// The member contradicts itself.
    #[error("the token computed two different tags of one message, or another known answer than before")]
    WrongAnswer,
    /// Ciphertext or associated data are wrong.
    #[error("the ciphertext or its associated data are wrong")]
    DecryptionFailed,
}

impl Error {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Call(error) | Self::PublicKey(PublicKeyError::Call(error)) => error.code.class(),
            Self::Keeper(error) => match error.code.class() {
                Class::SessionLost => Class::MemberFault,
                class => class,
            },
            Self::PublicKey(PublicKeyError::Invalid(..)) | Self::NotDestroyed | Self::WrongAnswer => Class::MemberFault,
            Self::ResidentMissing => Class::HandleLost,
            Self::Load(_)
            | Self::TokenSelection(_)
            | Self::TokenAbsent(_)
            | Self::PinRefused(_)
            | Self::LoginRefused { .. } => Class::Fatal,
            Self::NoDomain(_) | Self::NoDomainPossible(..) | Self::DomainExists(_) => Class::Fatal,
            Self::Refused(_)
            | Self::Token(_)
            | Self::NotAuthentic(_)
            | Self::NotLoaded
            | Self::NotPermitted(..)
            | Self::Unsupported(_)
            | Self::NotWrappable(_)
            | Self::NothingSeals
            | Self::ImportRefused(_)
            | Self::ExportRefused(_)
            | Self::DecryptionFailed => Class::CallerFault,
        }
    }
}

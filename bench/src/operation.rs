//! What is measured, and how it is asked for.

use clap::ValueEnum;
use portcullis_hsm::algorithm::{KeyType, Mechanism};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// RSASSA-PKCS1-v1_5 with SHA-256 and a modulus of 2048 bits, over a digest.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// The same with 3072 bits.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// The same with 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
    /// ECDSA on P-256 over a digest.
    #[serde(rename = "p256")]
    P256,
    /// Ed25519 over a message of 32 bytes.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// AES-256-GCM over 1 KiB, without associated data.
    #[serde(rename = "aes-gcm-1k")]
    Gcm1k,
    /// The same over 16 KiB.
    #[serde(rename = "aes-gcm-16k")]
    Gcm16k,
    /// HMAC-SHA-256 over 32 bytes.
    Hmac,
    /// A new P-256 key: generated, wrapped and stored.
    CreateKey,
    /// A P-256 signature by a key that no worker has loaded.
    ColdKey,
}

/// What an operation does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Signs with a mechanism; what is signed has 32 bytes.
    Sign(Mechanism),
    /// Encrypts so many bytes by AES-GCM.
    Encrypt(usize),
    /// Makes a code of 32 bytes.
    Mac,
    /// Makes a key.
    Create,
    /// Signs with a key that was not used before.
    Cold,
}

impl Operation {
    /// All of them, in the order of the tables.
    pub const ALL: &[Self] = &[
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::P256,
        Self::Ed25519,
        Self::Gcm1k,
        Self::Gcm16k,
        Self::Hmac,
        Self::CreateKey,
        Self::ColdKey,
    ];

    /// Its key's type.
    pub(crate) fn key_type(self) -> KeyType {
        match self {
            Self::Rsa2048 => KeyType::Rsa2048,
            Self::Rsa3072 => KeyType::Rsa3072,
            Self::Rsa4096 => KeyType::Rsa4096,
            Self::P256 | Self::CreateKey | Self::ColdKey => KeyType::EcP256,
            Self::Ed25519 => KeyType::Ed25519,
            Self::Gcm1k | Self::Gcm16k => KeyType::Aes256,
            Self::Hmac => KeyType::HmacSha256,
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => Kind::Sign(Mechanism::RsaPkcs1Sha256),
            Self::P256 => Kind::Sign(Mechanism::EcdsaSha256),
            Self::Ed25519 => Kind::Sign(Mechanism::Ed25519),
            Self::Gcm1k => Kind::Encrypt(1024),
            Self::Gcm16k => Kind::Encrypt(16 * 1024),
            Self::Hmac => Kind::Mac,
            Self::CreateKey => Kind::Create,
            Self::ColdKey => Kind::Cold,
        }
    }

    /// Whether the same can be done over and over with one key: then there is a direct way and an echo to compare it with.
    pub fn is_repeatable(self) -> bool {
        !matches!(self.kind(), Kind::Create | Kind::Cold)
    }

    /// Its name on the command line and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::P256 => "p256",
            Self::Ed25519 => "ed25519",
            Self::Gcm1k => "aes-gcm-1k",
            Self::Gcm16k => "aes-gcm-16k",
            Self::Hmac => "hmac",
            Self::CreateKey => "create-key",
            Self::ColdKey => "cold-key",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rsa2048 => "RSA-2048 sign",
            Self::Rsa3072 => "RSA-3072 sign",
            Self::Rsa4096 => "RSA-4096 sign",
            Self::P256 => "P-256 sign",
            Self::Ed25519 => "Ed25519 sign",
            Self::Gcm1k => "AES-256-GCM 1 KiB",
            Self::Gcm16k => "AES-256-GCM 16 KiB",
            Self::Hmac => "HMAC-SHA-256",
            Self::CreateKey => "create a P-256 key",
            Self::ColdKey => "P-256 sign, cold key",
        })
    }
}

/// How callers ask the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One call for each operation
    Unary,
    /// One call for 64 operations
    Batch,
    /// One stream for all callers of a connection
    Pipelined,
}

impl Mode {
    /// How many callers there are where so many operations are to be under way: fewer, where each of them brings many.
    pub(crate) fn callers(self, operations: usize) -> usize {
        match self {
            Self::Unary | Self::Pipelined => operations,
            Self::Batch => operations.div_ceil(CALLERS_OF_ONE_BATCH),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unary => "unary",
            Self::Batch => "batch of 64",
            Self::Pipelined => "pipelined",
        })
    }
}

/// The items of a batch.
pub(crate) const BATCH: usize = 64;

/// 64 callers are four with batches: 256 operations under way, which is enough for any queue to be full and stays below what a
/// gateway lets one principal have under way.
const CALLERS_OF_ONE_BATCH: usize = 16;

/// Over what a gateway is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A Unix socket.
    Unix,
    /// TLS 1.3 with client certificates.
    Mtls,
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unix => "Unix socket",
            Self::Mtls => "mTLS",
        })
    }
}

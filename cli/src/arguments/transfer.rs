//! Key material that comes and goes: `portcullis key import`, `key export`, `recipient` and `import-job`.

use super::{
    change::{ChangeArguments, UpdateArguments},
    key::PlaceArguments,
    value::period,
};
use crate::{
    input::Source,
    name::{ImportJob, InRing, KeyName, KeyTarget, Recipient, RingName},
    output::Destination,
    words,
};
use clap::{Args, Subcommand, ValueEnum};
use portcullis_client::v1::{ImportMethod, KeyType, Mechanism};
use std::time::Duration;

#[derive(Args)]
pub(crate) struct ImportArguments {
    /// RING/KEY
    pub(crate) key: KeyName,
    /// The key: a private key in PEM or DER (PKCS#8, PKCS#1, SEC 1) without a password, or the bytes of a secret key.
    /// It is wrapped here for an import job of the ring, which is made for it
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: Source,
    /// How the bytes of a secret key are written
    #[arg(long, value_enum, default_value = "raw")]
    pub(crate) encoding: SecretEncoding,
    /// Send the key in clear, over a protected connection; needs a permission of its own
    #[arg(long, conflicts_with_all = ["import_job", "unwrapping_key"])]
    pub(crate) clear: bool,
    /// The file is already wrapped for this import job: RING/JOB
    #[arg(long, value_name = "JOB", conflicts_with = "unwrapping_key")]
    pub(crate) import_job: Option<InRing<ImportJob>>,
    /// The file is already wrapped by AES-KWP under this key, which both sides hold: RING/KEY
    #[arg(long, value_name = "KEY")]
    pub(crate) unwrapping_key: Option<KeyTarget>,
    /// The public key of a wrapped elliptic-curve key, in PEM or DER
    #[arg(long, value_name = "FILE", conflicts_with = "clear")]
    pub(crate) public_key: Option<Source>,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

/// How the bytes of a secret key stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SecretEncoding {
    /// As they are
    Raw,
    /// In hexadecimal
    Hex,
    /// In base64
    Base64,
}

#[derive(Args)]
pub(crate) struct ExportArguments {
    /// RING/KEY, RING/KEY/VERSION or RING/@ALIAS
    pub(crate) key: KeyTarget,
    /// The HSM key to wrap it under: RING/KEY
    #[arg(
        long,
        value_name = "KEY",
        required_unless_present = "recipient",
        conflicts_with = "recipient"
    )]
    pub(crate) wrapping_key: Option<KeyTarget>,
    /// Who shall have it: RING/RECIPIENT
    #[arg(long, value_name = "RECIPIENT")]
    pub(crate) recipient: Option<InRing<Recipient>>,
    /// How it is wrapped [default: aes-kwp under a key, rsa-oaep-sha256 to a recipient]
    #[arg(long, value_parser = words::parser::<Mechanism>())]
    pub(crate) mechanism: Option<Mechanism>,
    /// Where to write the wrapped key [default: standard output; base64 if that is a terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<Destination>,
}

#[derive(Subcommand)]
pub(crate) enum RecipientCommand {
    /// Register somebody to whom exportable keys of a ring may be exported; compare the fingerprint first
    Create {
        /// RING/RECIPIENT
        recipient: InRing<Recipient>,
        /// The recipient's RSA public key, in PEM or DER
        #[arg(long, value_name = "FILE")]
        public_key: Source,
        /// Who it is, for people
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        description: String,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// List the recipients of a ring
    List {
        /// RING
        ring: RingName,
    },
    /// Show a recipient
    Show {
        /// RING/RECIPIENT
        recipient: InRing<Recipient>,
    },
    /// Take a recipient away; what was exported stays with them
    Delete {
        /// RING/RECIPIENT
        recipient: InRing<Recipient>,
        #[command(flatten)]
        update: UpdateArguments,
    },
}

#[derive(Subcommand)]
pub(crate) enum ImportJobCommand {
    /// Make an RSA key in an HSM, for which one key is wrapped elsewhere and then imported
    Create {
        /// RING
        ring: RingName,
        /// How the key will be wrapped [default: with SHA-256, or with SHA-1 where the HSMs have no other]
        #[arg(long, value_parser = words::parser::<ImportMethod>())]
        method: Option<ImportMethod>,
        /// The type of the RSA key [default: rsa-3072]
        #[arg(long = "type", value_name = "TYPE", value_parser = words::parser::<KeyType>())]
        key_type: Option<KeyType>,
        /// How long it is good, as in 12h [default: a day]
        #[arg(long, value_name = "TIME", value_parser = period)]
        lifetime: Option<Duration>,
        /// Where to write its public key, in PEM [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<Destination>,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Show an import job
    Show {
        /// RING/JOB
        job: InRing<ImportJob>,
    },
}

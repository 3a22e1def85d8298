//! `portcullis key`.

use super::{
    change::{CreationArguments, LabelArguments, UpdateArguments},
    transfer::{ExportArguments, ImportArguments},
    value::period,
};
use crate::{
    name::{KeyName, KeyTarget, RingName, VersionName},
    output::Destination,
    uses::Purpose,
    words,
};
use clap::{Args, Subcommand, ValueEnum};
use portcullis_client::v1::{KeyProtection, KeyType, Mechanism, PublicKeyFormat};
use std::{num::NonZeroU32, time::Duration};

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Generate a key inside an HSM
    Create(Box<CreateKeyArguments>),
    /// List the keys of a ring
    List {
        /// RING
        ring: RingName,
        /// Only these: state=ACTIVE, type=EC_P256, purpose=SIGN_VERIFY, labels.NAME=VALUE, joined by AND
        #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
        filter: String,
    },
    /// Show a key, or one of its versions
    Show {
        /// RING/KEY, RING/KEY/VERSION or RING/@ALIAS
        key: KeyTarget,
    },
    /// Change a key's labels, or how long a destruction waits
    Update(UpdateKeyArguments),
    /// List the versions of a key
    Versions {
        /// RING/KEY
        key: KeyName,
        /// Only these, as in state=ACTIVE
        #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
        filter: String,
    },
    /// Generate a new version and make it primary; older versions go on verifying and decrypting
    Rotate(RotateArguments),
    /// Choose the version that is used where only the key is named
    SetPrimary {
        /// RING/KEY
        key: KeyName,
        /// The number of an active version
        version: NonZeroU32,
        #[command(flatten)]
        update: UpdateArguments,
    },
    /// Change the state of a version
    State(StateArguments),
    /// Schedule the destruction of a version; `restore` calls it off until then
    Destroy(DestroyArguments),
    /// Call off the scheduled destruction of a version; it is disabled then, or compromised if it ever was
    Restore {
        /// RING/KEY/VERSION
        version: VersionName,
        #[command(flatten)]
        why: ReasonArguments,
    },
    /// Get the public half of a key
    Public(PublicArguments),
    /// Bring key material from outside into a key: into the version that waits for it, or a new one
    Import(Box<ImportArguments>),
    /// Take an exportable key out, wrapped under another HSM key or to a registered recipient
    Export(ExportArguments),
}

#[derive(Args)]
pub(crate) struct CreateKeyArguments {
    /// RING/KEY
    pub(crate) key: KeyName,
    /// What the key is
    #[arg(long = "type", value_name = "TYPE", value_parser = words::parser::<KeyType>())]
    pub(crate) key_type: KeyType,
    #[command(flatten)]
    pub(crate) uses: UseArguments,
    /// Whether every member can serve the key, or the one that holds it [default: wrapped]
    #[arg(long, value_parser = words::parser::<KeyProtection>())]
    pub(crate) protection: Option<KeyProtection>,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    /// Allow the key to be wrapped out under another HSM key
    #[arg(long)]
    pub(crate) exportable: bool,
    /// Generate nothing: version 1 waits for `key import`
    #[arg(long, conflicts_with = "pre_active")]
    pub(crate) import_only: bool,
    /// Do not use version 1 before `key state RING/KEY/1 activate`
    #[arg(long)]
    pub(crate) pre_active: bool,
    /// How long a scheduled destruction of a version waits, as in 30d [default: the gateway's]
    #[arg(long, value_name = "TIME", value_parser = period)]
    pub(crate) destroy_window: Option<Duration>,
    #[command(flatten)]
    pub(crate) creation: CreationArguments,
}

/// What a new key may be used for.
#[derive(Args)]
pub(crate) struct UseArguments {
    /// What the key is for [default: what its type is usually for]
    #[arg(long, value_enum)]
    pub(crate) purpose: Option<Purpose>,
    /// How the key may be used, and in no other way; may be repeated
    #[arg(long = "mechanism", value_name = "MECHANISM", value_parser = words::parser::<Mechanism>())]
    pub(crate) mechanisms: Vec<Mechanism>,
}

/// Where a resident version is made.
#[derive(Args)]
pub(crate) struct PlaceArguments {
    /// Accept that a resident key lives on one member and is unavailable while that member is
    #[arg(long)]
    pub(crate) allow_single_replica: bool,
    /// The member that shall hold a resident key [default: any that is ready]
    #[arg(long, value_name = "MEMBER", default_value = "", hide_default_value = true)]
    pub(crate) member: String,
}

#[derive(Args)]
pub(crate) struct UpdateKeyArguments {
    /// RING/KEY
    pub(crate) key: KeyName,
    #[command(flatten)]
    pub(crate) labels: LabelArguments,
    /// How long a scheduled destruction of a version waits, as in 30d
    #[arg(long, value_name = "TIME", value_parser = period)]
    pub(crate) destroy_window: Option<Duration>,
    #[command(flatten)]
    pub(crate) update: UpdateArguments,
}

#[derive(Args)]
pub(crate) struct RotateArguments {
    /// RING/KEY
    pub(crate) key: KeyName,
    /// Do not use the new version yet: publish its public key, then `key state` activates it and `key set-primary` uses it
    #[arg(long)]
    pub(crate) pre_active: bool,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) update: UpdateArguments,
}

#[derive(Args)]
pub(crate) struct StateArguments {
    /// RING/KEY/VERSION
    pub(crate) version: VersionName,
    /// What to do with it
    #[arg(value_enum, value_name = "VERB")]
    pub(crate) verb: StateVerb,
    #[command(flatten)]
    pub(crate) why: ReasonArguments,
}

/// What people do to the state of a version (SP 800-57 part 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateVerb {
    /// Take a pre-active version into use
    Activate,
    /// Suspend it; works while no HSM is reachable
    Disable,
    /// End its suspension
    Enable,
    /// End its protecting use; it goes on decrypting and verifying
    Deactivate,
    /// Say that others may know it; works while no HSM is reachable
    MarkCompromised,
    /// What `key restore` does.
    #[value(skip)]
    CancelDestruction,
}

#[derive(Args)]
pub(crate) struct DestroyArguments {
    /// RING/KEY/VERSION
    pub(crate) version: VersionName,
    /// How long to wait, as in 30d [default: the key's window]
    #[arg(long, value_name = "TIME", value_parser = period)]
    pub(crate) window: Option<Duration>,
    #[command(flatten)]
    pub(crate) why: ReasonArguments,
}

/// Why a version's state is changed.
#[derive(Args)]
pub(crate) struct ReasonArguments {
    /// Why; kept with the version and in the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) update: UpdateArguments,
}

#[derive(Args)]
pub(crate) struct PublicArguments {
    /// RING/KEY, RING/KEY/VERSION or RING/@ALIAS
    pub(crate) key: KeyTarget,
    /// How the public key is encoded
    #[arg(long, default_value = "pem", value_parser = words::parser::<PublicKeyFormat>())]
    pub(crate) format: PublicKeyFormat,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<Destination>,
}

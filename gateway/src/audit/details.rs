//! What a change did, in the words of its kind. With action and resource it tells the change from the log alone.

use serde::Serialize;
use std::collections::BTreeMap;

/// What a change was to do, in an intent, or did, in an outcome. Times are in RFC 3339, durations in seconds, digests are
/// SHA-256 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Details {
    /// A ring, as it is made or after its change.
    KeyRing {
        /// All its labels.
        labels: BTreeMap<String, String>,
        /// The least time until a destruction.
        #[serde(skip_serializing_if = "Option::is_none")]
        least_destroy_window: Option<u64>,
    },
    /// A key that is made.
    Key(Box<MadeKey>),
    /// A key after its change.
    KeyChange {
        /// All its labels.
        labels: BTreeMap<String, String>,
        /// The time until a destruction.
        destroy_window: u64,
    },
    /// A version that is added to a key.
    Rotation {
        /// Its number.
        version: u32,
        /// Its state.
        state: &'static str,
        /// The primary version then.
        #[serde(skip_serializing_if = "Option::is_none")]
        primary_version: Option<u32>,
    },
    /// Another primary version.
    Primary {
        /// The one from now on.
        primary_version: u32,
        /// The one before.
        before: u32,
    },
    /// A version's way through its life.
    Life {
        /// Its state before.
        before: &'static str,
        /// Its state after, once it is there.
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<&'static str>,
        /// When it is to be destroyed.
        #[serde(skip_serializing_if = "Option::is_none")]
        destroy_time: Option<String>,
        /// When it was marked as compromised.
        #[serde(skip_serializing_if = "Option::is_none")]
        compromise_time: Option<String>,
    },
    /// What is done to members.
    Members {
        /// `drain`, `resume` or `roll`.
        change: &'static str,
        /// Which, by name.
        members: Vec<String>,
    },
    /// What an alias stands for.
    Alias {
        /// From now on; nothing where it is deleted.
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        /// Until now; nothing where it is made.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<String>,
    },
    /// An import job.
    ImportJob {
        /// The method.
        method: &'static str,
        /// What its key is.
        wrapping_key_type: &'static str,
        /// When it ends.
        expires: String,
        /// The digest of its public key, once there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        public_key_sha256: Option<String>,
    },
    /// Key material that comes in.
    Import {
        /// The method.
        method: &'static str,
        /// The job whose key unwraps it.
        #[serde(skip_serializing_if = "Option::is_none")]
        import_job: Option<String>,
        /// The version that unwraps it.
        #[serde(skip_serializing_if = "Option::is_none")]
        unwrapping_key: Option<String>,
        /// The digest of what came, if it came wrapped.
        #[serde(skip_serializing_if = "Option::is_none")]
        wrapped_key_sha256: Option<String>,
        /// The digest of the public half, once it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        public_key_sha256: Option<String>,
    },
    /// Key material that leaves.
    Export {
        /// The recipient or the version that wraps it.
        recipient: String,
        /// The digest of a recipient's public key.
        #[serde(skip_serializing_if = "Option::is_none")]
        public_key_sha256: Option<String>,
        /// The identity of a wrapping key.
        #[serde(skip_serializing_if = "Option::is_none")]
        key_uid: Option<String>,
    },
    /// A recipient.
    Recipient {
        /// The digest of its public key.
        public_key_sha256: String,
        /// Who it is, for people.
        #[serde(skip_serializing_if = "String::is_empty")]
        description: String,
    },
    /// An object, as it is after the change or was before its deletion.
    Object {
        /// `certificate` or `data`.
        kind: &'static str,
        /// Its label, in hexadecimal.
        #[serde(skip_serializing_if = "String::is_empty")]
        label: String,
        /// Its id for PKCS#11, in hexadecimal.
        #[serde(skip_serializing_if = "String::is_empty")]
        object_id: String,
        /// The key or version to which it belongs.
        #[serde(skip_serializing_if = "String::is_empty")]
        key: String,
        /// The digest of the certificate, or of the value.
        content_sha256: String,
    },
    /// An ephemeral key.
    EphemeralKey {
        /// What it is.
        r#type: &'static str,
        /// What it may do.
        permitted_uses: Vec<String>,
        /// Whether it may be exported under another HSM key.
        exportable: bool,
        /// When its token ends.
        expires: String,
    },
    /// Whose ephemeral keys are revoked.
    Revocation {
        /// Their owner.
        owner: String,
        /// Those that were generated before.
        not_before: String,
    },
}

/// A key that is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MadeKey {
    /// Its identity, once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// What it is.
    pub r#type: &'static str,
    /// Why it exists.
    pub purpose: &'static str,
    /// What it may do.
    pub permitted_uses: Vec<String>,
    /// How it is kept.
    pub protection: &'static str,
    /// Whether it may be exported under another HSM key.
    pub exportable: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The time until a destruction, where the caller named one or the key is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroy_window: Option<u64>,
    /// The state of its first version.
    pub first_version: &'static str,
}

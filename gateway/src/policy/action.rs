//! What calls do, as policy and the audit log name it.

use std::fmt;

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $duty:ident;)*) => {
        /// What a call does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $($(#[$doc])* $variant,)*
        }

        impl Action {
            /// All actions.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in policy and in the audit log.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The duty that it belongs to.
            pub fn duty(self) -> Duty {
                match self { $(Self::$variant => Duty::$duty,)* }
            }
        }
    };
}

actions! {
    /// Create a key ring.
    CreateKeyRing = "key_ring.create", Administer;
    /// Read and list key rings.
    ReadKeyRing = "key_ring.read", Read;
    /// Change a key ring's labels.
    UpdateKeyRing = "key_ring.update", Administer;
    /// Create a key.
    CreateKey = "key.create", Administer;
    /// Read and list keys, their versions and their public halves.
    ReadKey = "key.read", Read;
    /// Change a key's labels and settings.
    UpdateKey = "key.update", Administer;
    /// Make a new version.
    RotateKey = "key.rotate", Administer;
    /// Choose the version that is used when none is named.
    SetPrimaryVersion = "key.set_primary", Administer;
    /// Take a version into use.
    ActivateVersion = "key_version.activate", Administer;
    /// Suspend a version.
    DisableVersion = "key_version.disable", Administer;
    /// End a version's suspension.
    EnableVersion = "key_version.enable", Administer;
    /// Let a version process old data only.
    DeactivateVersion = "key_version.deactivate", Administer;
    /// Note that a version is or may be known to others.
    MarkVersionCompromised = "key_version.mark_compromised", Administer;
    /// Schedule a version's destruction.
    ScheduleVersionDestruction = "key_version.schedule_destruction", Destroy;
    /// Call a scheduled destruction off.
    CancelVersionDestruction = "key_version.cancel_destruction", Destroy;
    /// Process old data with a version that is or may be known to others.
    UseCompromisedVersion = "key_version.use_compromised", BreakGlass;
    /// Create an alias.
    CreateAlias = "alias.create", Administer;
    /// Read and list aliases.
    ReadAlias = "alias.read", Read;
    /// Point an alias at another key.
    UpdateAlias = "alias.update", Administer;
    /// Delete an alias.
    DeleteAlias = "alias.delete", Administer;
    /// Import key material that came wrapped to an import job's key.
    ImportKey = "key.import", Import;
    /// Import key material that came in clear.
    ImportClearKey = "key.import_clear", Import;
    /// Export an exportable key under another key.
    ExportKey = "key.export", Export;
    /// Create an ephemeral key.
    CreateEphemeralKey = "ephemeral_key.create", Ephemeral;
    /// Renew an ephemeral key.
    RenewEphemeralKey = "ephemeral_key.renew", Ephemeral;
    /// Revoke the ephemeral keys of a principal in a ring.
    RevokeEphemeralKeys = "ephemeral_key.revoke", Administer;
    /// Create a certificate or data object.
    CreateObject = "object.create", Objects;
    /// Read and list objects.
    ReadObject = "object.read", Read;
    /// Change an object.
    UpdateObject = "object.update", Objects;
    /// Delete an object.
    DeleteObject = "object.delete", Objects;
    /// Make a signature.
    Sign = "sign", Use;
    /// Check a signature.
    Verify = "verify", Use;
    /// Encrypt.
    Encrypt = "encrypt", Use;
    /// Decrypt.
    Decrypt = "decrypt", Use;
    /// Take a ciphertext off a key, to put it under another without showing it.
    ReEncryptFrom = "reencrypt.from", Use;
    /// Put what was under another key under this one.
    ReEncryptTo = "reencrypt.to", Use;
    /// Make a data key and see it, or have it encrypted to a recipient of one's choice.
    GenerateDataKey = "data_key.generate", Use;
    /// Make a data key without seeing it.
    GenerateSealedDataKey = "data_key.generate_sealed", Use;
    /// Make a message authentication code.
    MacSign = "mac.sign", Use;
    /// Check a message authentication code.
    MacVerify = "mac.verify", Use;
    /// Decrypt what was encrypted to a public key.
    AsymmetricDecrypt = "asymmetric.decrypt", Use;
    /// Agree on a secret, and see it.
    Derive = "derive", Use;
    /// Get random bytes.
    Random = "random", Random;
    /// See the members.
    ReadCluster = "cluster.read", Read;
    /// Drain, resume and roll members.
    ManageCluster = "cluster.manage", Operate;
    /// Ask for the activation of a root key, and end it.
    RequestActivation = "activation.request", RequestActivation;
    /// Contribute to the activation of a root key.
    ApproveActivation = "activation.approve", ApproveActivation;
    /// See activations.
    ReadActivation = "activation.read", Read;
    /// Read the audit log.
    ReadAudit = "audit.read", Audit;
    /// A call that this gateway does not serve yet. Nobody can be allowed it.
    Unavailable = "unavailable", Internal;
}

impl Action {
    /// The action of this name, if a policy may name it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::grantable().find(|action| action.name() == name)
    }

    /// The actions that a policy may allow.
    pub fn grantable() -> impl Iterator<Item = Self> {
        Self::ALL
            .iter()
            .copied()
            .filter(|action| action.duty() != Duty::Internal)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The duties that actions belong to: what is kept apart is kept apart by these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Duty {
    /// Make keys and change them.
    Administer,
    /// See what there is, and no secret.
    Read,
    /// Use keys.
    Use,
    /// Use keys that others may know.
    BreakGlass,
    /// Destroy keys.
    Destroy,
    /// Bring key material in.
    Import,
    /// Take key material out.
    Export,
    /// Have short-lived keys of one's own.
    Ephemeral,
    /// Keep certificates and data objects.
    Objects,
    /// Get random bytes.
    Random,
    /// Run the HSM members.
    Operate,
    /// Ask for root keys to be activated.
    RequestActivation,
    /// Help to activate root keys.
    ApproveActivation,
    /// Read the audit log.
    Audit,
    /// What no policy can allow.
    Internal,
}

//! What calls do, as policy and the audit log name it.

use std::fmt;

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $duty:ident, [$($target:ident),*];)*) => {
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

            /// The kinds of resource that it is done to.
            pub fn targets(self) -> &'static [Target] {
                match self { $(Self::$variant => &[$(Target::$target),*],)* }
            }
        }
    };
}

actions! {
    /// Create a key ring.
    CreateKeyRing = "key_ring.create", Administer, [KeyRing];
    /// Read and list key rings.
    ReadKeyRing = "key_ring.read", Read, [KeyRing];
    /// Change a key ring's labels.
    UpdateKeyRing = "key_ring.update", Administer, [KeyRing];
    /// Create a key.
    CreateKey = "key.create", Administer, [Key];
    /// Read and list keys, their versions and their public halves.
    ReadKey = "key.read", Read, [KeyRing, Key];
    /// Change a key's labels and settings.
    UpdateKey = "key.update", Administer, [Key];
    /// Make a new version.
    RotateKey = "key.rotate", Administer, [Key];
    /// Choose the version that is used when none is named.
    SetPrimaryVersion = "key.set_primary", Administer, [Key];
    /// Take a version into use.
    ActivateVersion = "key_version.activate", Administer, [Key];
    /// Suspend a version.
    DisableVersion = "key_version.disable", Administer, [Key];
    /// End a version's suspension.
    EnableVersion = "key_version.enable", Administer, [Key];
    /// Let a version process old data only.
    DeactivateVersion = "key_version.deactivate", Administer, [Key];
    /// Note that a version is or may be known to others.
    MarkVersionCompromised = "key_version.mark_compromised", Administer, [Key];
    /// Schedule a version's destruction.
    ScheduleVersionDestruction = "key_version.schedule_destruction", Destroy, [Key];
    /// Call a scheduled destruction off.
    CancelVersionDestruction = "key_version.cancel_destruction", Destroy, [Key];
    /// Process old data with a version that is or may be known to others.
    UseCompromisedVersion = "key_version.use_compromised", BreakGlass, [Key];
    /// Create an alias.
    CreateAlias = "alias.create", Administer, [KeyRing, Key];
    /// Read and list aliases.
    ReadAlias = "alias.read", Read, [KeyRing, Key];
    /// Point an alias at another key.
    UpdateAlias = "alias.update", Administer, [KeyRing, Key];
    /// Delete an alias.
    DeleteAlias = "alias.delete", Administer, [KeyRing, Key];
    /// Import key material that came wrapped to an import job's key.
    ImportKey = "key.import", Import, [KeyRing, Key];
    /// Import key material that came in clear.
    ImportClearKey = "key.import_clear", Import, [Key];
    /// Export an exportable key under another key.
    ExportKey = "key.export", Export, [Key];
    /// Register a recipient of exported keys.
    CreateRecipient = "recipient.create", Administer, [KeyRing];
    /// Read and list recipients.
    ReadRecipient = "recipient.read", Read, [KeyRing];
    /// Remove a recipient.
    DeleteRecipient = "recipient.delete", Administer, [KeyRing];
    /// Create an ephemeral key.
    CreateEphemeralKey = "ephemeral_key.create", Ephemeral, [Key];
    /// Renew an ephemeral key.
    RenewEphemeralKey = "ephemeral_key.renew", Ephemeral, [Key];
    /// Revoke the ephemeral keys of a principal in a ring.
    RevokeEphemeralKeys = "ephemeral_key.revoke", Administer, [KeyRing];
    /// Create a certificate or data object.
    CreateObject = "object.create", Objects, [KeyRing];
    /// Read and list objects.
    ReadObject = "object.read", Read, [KeyRing];
    /// Change an object.
    UpdateObject = "object.update", Objects, [KeyRing];
    /// Delete an object.
    DeleteObject = "object.delete", Objects, [KeyRing];
    /// Make a signature.
    Sign = "sign", Use, [Key];
    /// Check a signature.
    Verify = "verify", Use, [Key];
    /// Encrypt.
    Encrypt = "encrypt", Use, [Key];
    /// Decrypt.
    Decrypt = "decrypt", Use, [Key];
    /// Take a ciphertext off a key, to put it under another without showing it.
    ReEncryptFrom = "reencrypt.from", Use, [Key];
    /// Put what was under another key under this one.
    ReEncryptTo = "reencrypt.to", Use, [Key];
    /// Make a data key and see it, or have it encrypted to a recipient of one's choice.
    GenerateDataKey = "data_key.generate", Use, [Key];
    /// Make a data key without seeing it.
    GenerateSealedDataKey = "data_key.generate_sealed", Use, [Key];
    /// Make a message authentication code.
    MacSign = "mac.sign", Use, [Key];
    /// Check a message authentication code.
    MacVerify = "mac.verify", Use, [Key];
    /// Decrypt what was encrypted to a public key.
    AsymmetricDecrypt = "asymmetric.decrypt", Use, [Key];
    /// Agree on a secret, and see it.
    Derive = "derive", Use, [Key];
    /// Get random bytes.
    Random = "random", Random, [Gateway];
    /// See the members.
    ReadCluster = "cluster.read", Observe, [Gateway];
    /// Drain, resume and roll members.
    ManageCluster = "cluster.manage", Operate, [Gateway];
    /// Ask for the activation of a root key, and end it.
    RequestActivation = "activation.request", RequestActivation, [Gateway, Key];
    /// Contribute to the activation of a root key.
    ApproveActivation = "activation.approve", ApproveActivation, [Gateway, Key];
    /// See activations.
    ReadActivation = "activation.read", Observe, [Gateway, Key];
    /// Read the audit log.
    ReadAudit = "audit.read", Audit, [Gateway];
    /// A call that this gateway does not serve yet. Nobody can be allowed it.
    Unavailable = "unavailable", Internal, [];
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

macro_rules! duties {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// The duties that actions belong to: what is kept apart is kept apart by these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Duty {
            $($(#[$doc])* $variant,)*
        }

        impl Duty {
            /// All duties.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name of the group of its actions in policies; a duty of one action has that action's name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

duties! {
    /// Make keys and change them.
    Administer = "administer";
    /// See what a ring holds, and no secret.
    Read = "read";
    /// Use keys.
    Use = "use";
    /// Use keys that others may know.
    BreakGlass = "break_glass";
    /// Destroy keys.
    Destroy = "destroy";
    /// Bring key material in.
    Import = "import";
    /// Take key material out.
    Export = "export";
    /// Have short-lived keys of one's own.
    Ephemeral = "ephemeral";
    /// Keep certificates and data objects.
    Objects = "objects";
    /// Get random bytes.
    Random = "random";
    /// See the members and activations.
    Observe = "observe";
    /// Run the HSM members.
    Operate = "operate";
    /// Ask for root keys to be activated.
    RequestActivation = "activation.request";
    /// Help to activate root keys.
    ApproveActivation = "activation.approve";
    /// Read the audit log.
    Audit = "audit.read";
    /// What no policy can allow.
    Internal = "unavailable";
}

impl fmt::Display for Duty {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The kinds of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The gateway itself.
    Gateway,
    /// A key ring.
    KeyRing,
    /// A key.
    Key,
}

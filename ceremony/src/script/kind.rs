//! The kinds of ceremonies.

use super::Action;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which ceremony a script is. The list is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// People gather, host and tokens are looked at and recorded, and nothing is changed.
    Inspection,
    /// Empty tokens get their PINs, and the custodians the shares of those that nobody knows.
    InitToken,
    /// A domain is born on its origin token, is backed up, and comes to its first members.
    DomainKeyGenerate,
    /// A member receives the domain.
    MemberJoin,
    /// The domain is backed up anew.
    Backup,
    /// The domain comes back from its backup.
    Restore,
    /// The way back is practised: on a scratch token, and destroyed again.
    RecoveryDrill,
    /// A root key is made on a token of its own.
    RootKeyGenerate,
    /// The keys of a domain epoch are destroyed.
    KeyDestroy,
    /// A member leaves the cluster: it goes out of the record first, then everything on its token is destroyed.
    DecommissionMember,
    /// Other custodians get the shares, and those of before are worthless.
    CustodianReplace,
    /// A root key signs, for a while and so many times.
    RootActivate,
}

impl Kind {
    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inspection => "inspection",
            Self::InitToken => "init-token",
            Self::DomainKeyGenerate => "domain-key-generate",
            Self::MemberJoin => "member-join",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::RecoveryDrill => "recovery-drill",
            Self::RootKeyGenerate => "root-key-generate",
            Self::KeyDestroy => "key-destroy",
            Self::DecommissionMember => "decommission-member",
            Self::CustodianReplace => "custodian-replace",
            Self::RootActivate => "root-activate",
        }
    }

    /// The steps that a script of this kind must have, in this order; others may stand between them.
    pub(crate) fn required(self) -> Vec<&'static str> {
        let own: &[&str] = match self {
            Self::Inspection => &[],
            Self::InitToken => &["token.init"],
            // Nothing rests on a domain of which there is one copy.
            Self::DomainKeyGenerate => &["domain.generate", "domain.back-up", "domain.join", "record"],
            Self::MemberJoin => &["domain.join", "record"],
            Self::Backup => &["domain.back-up"],
            Self::Restore => &["domain.restore"],
            Self::RecoveryDrill => &["domain.restore", "domain.destroy"],
            Self::RootKeyGenerate => &["root-key.generate"],
            Self::KeyDestroy => &["domain.destroy"],
            Self::DecommissionMember => &["record", "token.wipe"],
            Self::CustodianReplace => &["token.renew-pins", "domain.back-up", "record"],
            Self::RootActivate => &["root-key.activate"],
        };
        [BEGINNING, own, &["close"]].concat()
    }

    /// Whether a step may stand in a script of this kind. What is done with tokens belongs to the kinds that are there for it.
    pub(crate) fn permits(self, action: &Action) -> bool {
        let permitted: &[&str] = match self {
            Self::Inspection => &[],
            Self::InitToken => &["token.init"],
            Self::DomainKeyGenerate => &[
                "token.init",
                "domain.generate",
                "domain.back-up",
                "domain.join",
                "record",
            ],
            Self::MemberJoin => &["token.init", "domain.join", "record"],
            Self::Backup => &["domain.back-up"],
            Self::Restore => &["token.init", "domain.restore", "domain.join", "record"],
            Self::RecoveryDrill => &["token.init", "domain.restore", "domain.destroy"],
            Self::RootKeyGenerate => &["token.init", "root-key.generate"],
            Self::KeyDestroy => &["domain.destroy"],
            Self::DecommissionMember => &["record", "domain.destroy", "token.wipe"],
            Self::CustodianReplace => &["token.renew-pins", "domain.back-up", "record"],
            Self::RootActivate => &["root-key.activate"],
        };
        !action.needs_custodians() || permitted.contains(&action.name())
    }
}

/// What every ceremony begins with: who is here, by which script, on which host and at what time.
const BEGINNING: &[&str] = &["roll-call", "read-aloud", "attest-time", "attest-host"];

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

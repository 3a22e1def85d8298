//! The vocabulary of steps.

use super::deed::{self, Deed};
use crate::name::Name;
use serde::Deserialize;
use std::fmt;

/// What a step does. The list is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Everybody says that they are here, and signs.
    RollCall,
    /// Two people hold the clock against a reference that they brought.
    AttestTime {
        /// How far it may be off, in seconds.
        within: u16,
    },
    /// The program, the network interfaces, swap, core dumps and locked memory of this host are recorded.
    AttestHost {
        /// Whether every interface but loopback must be down.
        offline: bool,
    },
    /// What a token says of itself is recorded, and what it can do. Nothing on it is changed.
    AttestHsm {
        /// The token.
        on: Name,
    },
    /// One reads a hash aloud as words, another types it.
    ReadAloud {
        /// Of what.
        what: Spoken,
    },
    /// A stick, card or bag that is used is named by what is printed on it.
    MediaRegister {
        /// What it is for.
        what: String,
    },
    /// A picture is taken; its file is hashed and kept.
    Photo {
        /// Of what.
        what: String,
    },
    /// Something is put into a bag with a number.
    SealBag {
        /// What.
        what: String,
    },
    /// People do something, and say that it is done.
    Task {
        /// What.
        what: String,
    },
    /// Something is done with a token.
    Token {
        /// The token.
        on: Name,
        /// What.
        deed: Deed,
    },
    /// The provisioning record is made of what the ceremony did, and the custodians sign it.
    Record {
        /// What the cluster is called.
        cluster: String,
        /// How many custodians activate a root key.
        activation: u8,
        /// Members that are none any more.
        without: Vec<Name>,
    },
    /// Nothing is done; those named sign what has been recorded so far.
    SignOff,
    /// The last step: everyone who is present signs.
    Close,
}

/// What is read aloud.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spoken {
    /// The hash of the script.
    Script,
    /// The hash of the environment.
    Environment,
}

impl Action {
    /// Reads what a step does from its `do`, its `on` and its `with`.
    pub(super) fn parse(name: &str, on: Option<Name>, with: toml::Table) -> Result<Self, String> {
        if let Some(deed) = Deed::parse(name, &with) {
            let on = on.ok_or_else(|| format!("{name} needs `on`: the name of a token"))?;
            return deed.map(|deed| Self::Token { on, deed });
        }
        if on.is_some() && name != "attest-hsm" {
            return Err(format!(
                "{} is done on no token: it takes no `on`",
                name.escape_default()
            ));
        }
        Ok(match name {
            "attest-hsm" => {
                nothing(with)?;
                let on = on.ok_or("attest-hsm needs `on`: the name of a token")?;
                Self::AttestHsm { on }
            }
            "roll-call" => {
                nothing(with)?;
                Self::RollCall
            }
            "attest-time" => {
                let AttestTime { within_seconds } = fields(with)?;
                if !(1..=600).contains(&within_seconds) {
                    return Err(format!("within_seconds is {within_seconds}, expected 1 to 600"));
                }
                Self::AttestTime { within: within_seconds }
            }
            "attest-host" => {
                let AttestHost { network } = fields(with)?;
                Self::AttestHost {
                    offline: matches!(network, Network::Down),
                }
            }
            "read-aloud" => {
                let ReadAloud { what } = fields(with)?;
                Self::ReadAloud {
                    what: match what {
                        SpokenName::Script => Spoken::Script,
                        SpokenName::Environment => Spoken::Environment,
                    },
                }
            }
            "media-register" => Self::MediaRegister { what: what(with)? },
            "photo" => Self::Photo { what: what(with)? },
            "seal-bag" => Self::SealBag { what: what(with)? },
            "task" => Self::Task { what: what(with)? },
            "record" => {
                let Record {
                    cluster,
                    activation,
                    without,
                } = fields(with)?;
                if cluster.trim().is_empty() {
                    return Err("cluster is empty: expected what the cluster is called".to_owned());
                }
                Self::Record {
                    cluster,
                    activation,
                    without,
                }
            }
            "sign-off" => {
                nothing(with)?;
                Self::SignOff
            }
            "close" => {
                nothing(with)?;
                Self::Close
            }
            other => {
                return Err(format!(
                    "no step does \"{}\"; expected one of {}, {}",
                    other.escape_default(),
                    NAMES.join(", "),
                    deed::NAMES.join(", ")
                ));
            }
        })
    }

    /// Its name in scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RollCall => "roll-call",
            Self::AttestTime { .. } => "attest-time",
            Self::AttestHost { .. } => "attest-host",
            Self::AttestHsm { .. } => "attest-hsm",
            Self::ReadAloud { .. } => "read-aloud",
            Self::MediaRegister { .. } => "media-register",
            Self::Photo { .. } => "photo",
            Self::SealBag { .. } => "seal-bag",
            Self::Task { .. } => "task",
            Self::Token { deed, .. } => deed.name(),
            Self::Record { .. } => "record",
            Self::SignOff => "sign-off",
            Self::Close => "close",
        }
    }

    /// How many seats must act, at least; different people hold them.
    pub(super) fn actors(&self) -> usize {
        match self {
            Self::RollCall | Self::SignOff | Self::Close => 0,
            Self::AttestTime { .. } | Self::ReadAloud { .. } => 2,
            // Whoever handles the token or leads, and the custodians.
            Self::Token { .. } | Self::Record { .. } => 3,
            _ => 1,
        }
    }

    /// The tokens with which it is done.
    pub fn tokens(&self) -> Vec<&Name> {
        match self {
            Self::AttestHsm { on } => vec![on],
            Self::Token { on, deed } => [Some(on), deed.from()].into_iter().flatten().collect(),
            _ => Vec::new(),
        }
    }

    /// What is done with a token beside looking at it.
    pub fn deed(&self) -> Option<&Deed> {
        match self {
            Self::Token { deed, .. } => Some(deed),
            _ => None,
        }
    }

    /// Whether it needs the recipients of the custodians.
    pub(crate) fn needs_recipients(&self) -> bool {
        match self {
            Self::Token { deed, .. } => deed.hands_out_shares() || matches!(deed, Deed::JoinDomain { .. }),
            Self::Record { .. } => true,
            _ => false,
        }
    }

    /// Whether the custodians act in it as those who guard something: it needs a quorum of them.
    pub(super) fn needs_custodians(&self) -> bool {
        matches!(self, Self::Token { .. } | Self::Record { .. })
    }

    /// Whether people may decide to go on without it.
    pub fn can_be_passed_over(&self) -> bool {
        !matches!(
            self,
            Self::RollCall | Self::Close | Self::ReadAloud { .. } | Self::Token { .. } | Self::Record { .. }
        )
    }

    /// The texts in it that people wrote.
    pub(super) fn texts(&self) -> Option<&str> {
        match self {
            Self::MediaRegister { what } | Self::Photo { what } | Self::SealBag { what } | Self::Task { what } => {
                Some(what)
            }
            Self::Record { cluster, .. } => Some(cluster),
            Self::Token {
                deed: Deed::GenerateRootKey { label, .. },
                ..
            } => Some(label),
            _ => None,
        }
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Script => "the hash of the script",
            Self::Environment => "the hash of the environment",
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttestTime {
    within_seconds: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttestHost {
    network: Network,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Network {
    Down,
    AsItIs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadAloud {
    what: SpokenName,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SpokenName {
    Script,
    Environment,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    cluster: String,
    activation: u8,
    #[serde(default)]
    without: Vec<Name>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct What {
    what: String,
}

fn fields<T: serde::de::DeserializeOwned>(with: toml::Table) -> Result<T, String> {
    with.try_into().map_err(|error| error.message().to_owned())
}

fn nothing(with: toml::Table) -> Result<(), String> {
    fields::<Nothing>(with).map(|Nothing {}| ())
}

fn what(with: toml::Table) -> Result<String, String> {
    let What { what } = fields(with)?;
    if what.trim().is_empty() {
        return Err("what is empty: expected words that people can act on".to_owned());
    }
    Ok(what)
}

const NAMES: [&str; 12] = [
    "attest-hsm",
    "roll-call",
    "attest-time",
    "attest-host",
    "read-aloud",
    "media-register",
    "photo",
    "seal-bag",
    "task",
    "record",
    "sign-off",
    "close",
];

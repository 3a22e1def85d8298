//! The provisioning record on which a production gateway starts: it says which domain the members hold, which tokens they are, and
//! whose signatures that rests on.
//!
//! The file has all records of the cluster, from the first on. Which of them was the last in use is noted in the state directory:
//! from then on the gateway starts on that one or on one that follows it, and on nothing else. So a configuration cannot put
//! another domain, other custodians or an older record in its place; a new state directory believes the first file that it is shown.

use crate::config::{DomainSettings, Problem, Provisioning, Settings};
use portcullis_provisioning::{chain::Chain, chain::Link, record::ProvisioningRecord};
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why the gateway does not start on the record that its configuration names. Where the two say different things, that is a
/// problem of the configuration instead.
#[derive(Debug, thiserror::Error)]
pub enum ProvisioningError {
    /// The file cannot be used.
    #[error("{path}: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A running gateway was given a record and had none, or the other way round.
    #[error(
        "provisioning: the gateway was started {started}, and by the configuration it is now to run {new}: that needs a restart",
        started = on(*.production),
        new = on(!*.production)
    )]
    NeedsRestart {
        /// Whether it was started on a record.
        production: bool,
    },
    /// The domain of a running gateway was exchanged.
    #[error(
        "domain: the gateway was started for epoch {}, fingerprint {}, and the configuration and its provisioning record now say \
         epoch {}, fingerprint {}: that needs a restart",
        started.epoch, started.fingerprint, new.epoch, new.fingerprint
    )]
    AnotherDomain {
        /// What members hold that serve.
        started: DomainSettings,
        /// What they would have to hold.
        new: DomainSettings,
    },
    /// The settings were never held against the file.
    #[error(
        "{0}: its records were not read together with the configuration; expected settings that were loaded from their file"
    )]
    NotRead(PathBuf),
    /// The record in use is not among those of the file.
    #[error(
        "{path}: this gateway was in use with provisioning record {sequence} (digest {digest}), which is not in the file: it is \
         of another cluster, or older. The file must have that record and may have others after it"
    )]
    AnotherHistory {
        /// The file.
        path: PathBuf,
        /// The number of the record in use.
        sequence: u64,
        /// Its digest, hexadecimal.
        digest: String,
    },
    /// A production gateway was told that it is one for development.
    #[error(
        "the configuration says that this is a development gateway, and its state directory was in use with provisioning record \
         {sequence} (digest {digest}): name the file of that record, or another state directory"
    )]
    NotDevelopment {
        /// The number of the record in use.
        sequence: u64,
        /// Its digest, hexadecimal.
        digest: String,
    },
    /// The note in the state directory says nothing.
    #[error(
        "{0} is damaged: it notes which provisioning record was the last in use. Restore it from a backup, or, when you have made \
         sure that the configured record is the right one, remove it"
    )]
    DamagedNote(PathBuf),
    /// The note in the state directory cannot be read or written.
    #[error("{path}: {source}")]
    Note {
        /// The note.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads and checks the file of records.
pub fn read(path: &Path) -> Result<Chain, ProvisioningError> {
    let unusable = |reason: String| ProvisioningError::Unusable {
        path: path.to_owned(),
        reason,
    };
    let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    Chain::parse(&text).map_err(|error| unusable(error.to_string()))
}

/// Holds the settings against the record that they name, and has each member found by the serial number that the record says.
/// Returns everything that does not fit. The records stay with the settings: what was checked is what comes into use, whatever
/// happens to the file in between.
pub(crate) fn apply(settings: &mut Settings) -> Vec<Problem> {
    let Provisioning::Record(path) = &settings.provisioning else {
        return Vec::new();
    };
    let chain = match read(path) {
        Ok(chain) => Arc::new(chain),
        Err(error) => return vec![problem("provisioning.record", error.to_string())],
    };
    settings.records = Some(Arc::clone(&chain));
    let record = &chain.last().record;
    let mut problems = check_domain(settings, record);
    for member in &mut settings.members {
        let setting = |key: &str| format!("member {}: {key}", member.name);
        let Some(recorded) = record.member(&member.name) else {
            let names: Vec<_> = record.members.iter().map(|one| one.name.as_str()).collect();
            problems.push(problem(
                &setting("name"),
                format!(
                    "is not in provisioning record {}, whose members are {}",
                    record.sequence,
                    names.join(", ")
                ),
            ));
            continue;
        };
        let token = &mut member.token;
        for (key, configured, expected) in [
            ("token_label", &token.label, &recorded.token_label),
            (
                "token_serial_number",
                &token.serial_number,
                &recorded.token_serial_number,
            ),
        ] {
            if let Some(configured) = configured
                && configured != expected
            {
                problems.push(problem(
                    &setting(key),
                    format!(
                        "is \"{configured}\"; provisioning record {} says \"{expected}\"",
                        record.sequence
                    ),
                ));
            }
        }
        token.serial_number = Some(recorded.token_serial_number.clone());
    }
    problems
}

fn check_domain(settings: &Settings, record: &ProvisioningRecord) -> Vec<Problem> {
    let mut problems = Vec::new();
    let domain = settings.domain;
    if domain.epoch != record.domain.epoch {
        problems.push(problem(
            "domain.epoch",
            format!(
                "is {}; provisioning record {} says {}",
                domain.epoch, record.sequence, record.domain.epoch
            ),
        ));
    }
    if domain.fingerprint.as_bytes() != &record.domain.fingerprint {
        problems.push(problem(
            "domain.fingerprint",
            format!(
                "is {}; provisioning record {} says {}",
                domain.fingerprint,
                record.sequence,
                hex::encode(record.domain.fingerprint)
            ),
        ));
    }
    problems
}

fn problem(setting: &str, message: String) -> Problem {
    Problem {
        line: None,
        setting: setting.to_owned(),
        message,
    }
}

/// That the gateway may run on what its settings name, in this state directory.
#[derive(Debug)]
pub struct Acceptance {
    note: PathBuf,
    noted: Option<Noted>,
    // `None` for development.
    last: Option<(Noted, String)>,
}

impl Acceptance {
    /// Holds what the settings name against the record that was the last in use in this state directory: the one in which the
    /// gateway runs, whatever new settings say. Nothing is changed.
    pub fn check(settings: &Settings, state_directory: &Path) -> Result<Self, ProvisioningError> {
        let note = state_directory.join(NOTE);
        let noted = Noted::read(&note)?;
        let last = match (&settings.provisioning, &noted) {
            (Provisioning::Development, None) => None,
            (Provisioning::Development, Some(noted)) => {
                return Err(ProvisioningError::NotDevelopment {
                    sequence: noted.sequence,
                    digest: hex::encode(noted.digest),
                });
            }
            (Provisioning::Record(path), noted) => {
                let chain = settings.records.as_deref();
                let chain = chain.ok_or_else(|| ProvisioningError::NotRead(path.clone()))?;
                if let Some(noted) = noted
                    && chain.find(&noted.digest).is_none()
                {
                    return Err(ProvisioningError::AnotherHistory {
                        path: path.clone(),
                        sequence: noted.sequence,
                        digest: hex::encode(noted.digest),
                    });
                }
                let last = chain.last();
                Some((Noted::of(last), last.record.cluster.clone()))
            }
        };
        Ok(Self { note, noted, last })
    }

    /// The same for a gateway that runs, on the settings with which it was started. What a reload does not exchange, it does not
    /// take into use either.
    pub fn check_reload(started: &Settings, new: &Settings) -> Result<Self, ProvisioningError> {
        let production = |settings: &Settings| matches!(settings.provisioning, Provisioning::Record(_));
        if production(started) != production(new) {
            return Err(ProvisioningError::NeedsRestart {
                production: production(started),
            });
        }
        let acceptance = Self::check(new, &started.state_directory)?;
        if production(started) && started.domain != new.domain {
            return Err(ProvisioningError::AnotherDomain {
                started: started.domain,
                new: new.domain,
            });
        }
        Ok(acceptance)
    }

    /// Notes the record as the one in use, on disk.
    pub fn keep(&self) -> Result<(), ProvisioningError> {
        match &self.last {
            Some((last, _)) if self.noted.as_ref() != Some(last) => last.write(&self.note),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Acceptance {
    /// What the gateway runs on, in words.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.last {
            None => formatter.write_str("development"),
            Some((last, cluster)) => write!(
                formatter,
                "record {} of cluster {cluster}, digest {}",
                last.sequence,
                hex::encode(last.digest)
            ),
        }
    }
}

/// A record by its number and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Noted {
    sequence: u64,
    digest: [u8; 32],
}

impl Noted {
    fn of(link: &Link) -> Self {
        Self {
            sequence: link.record.sequence,
            digest: link.digest,
        }
    }

    fn read(path: &Path) -> Result<Option<Self>, ProvisioningError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
            Err(source) => {
                return Err(ProvisioningError::Note {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let noted = Self::parse(&text).ok_or_else(|| ProvisioningError::DamagedNote(path.to_owned()))?;
        Ok(Some(noted))
    }

    fn parse(text: &str) -> Option<Self> {
        let (sequence, digest) = text.strip_suffix('\n')?.split_once(' ')?;
        let noted = Self {
            sequence: sequence.parse().ok()?,
            digest: hex::decode(digest).ok()?.try_into().ok()?,
        };
        (noted.to_string() == text).then_some(noted)
    }

    fn write(&self, path: &Path) -> Result<(), ProvisioningError> {
        let new = path.with_extension("new");
        let written = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(self.to_string().as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            // The name, too, is on disk before the gateway serves.
            path.parent()
                .map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
        };
        written().map_err(|source| ProvisioningError::Note {
            path: path.to_owned(),
            source,
        })
    }
}

impl fmt::Display for Noted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} {}", self.sequence, hex::encode(self.digest))
    }
}

fn on(production: bool) -> &'static str {
    if production {
        "on a provisioning record"
    } else {
        "for development"
    }
}

/// The note's name in the state directory.
const NOTE: &str = "provisioning.accepted";

//! The configuration: one TOML file, read in a single pass into typed settings, with every problem reported at once.
//!
//! Nothing in the file is a secret: PINs and private keys are named by their files, which only their owner may read.
//! `docs/portcullis.toml` is the commented sample.

mod document;
mod reader;

pub use document::Problem;

use crate::policy::rules::Rule;
use document::{Problems, Section};
use portcullis_hsm::{domain::Fingerprint, token::TokenSelector};
use reader::read_settings;
use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::de::DeTable;

/// The gateway's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the database lives.
    pub state_directory: PathBuf,
    /// The Unix socket, if there is one.
    pub unix: Option<UnixListenerSettings>,
    /// The mTLS listener, if there is one.
    pub tls: Option<TlsListenerSettings>,
    /// The audit log.
    pub audit_file: PathBuf,
    /// How the process logs.
    pub log: LogSettings,
    /// The domain that members must hold.
    pub domain: DomainSettings,
    /// The HSM members.
    pub members: Vec<MemberSettings>,
    /// How the session manager behaves.
    pub cluster: ClusterSettings,
    /// What requests may ask for.
    pub limits: Limits,
    /// Who may do what.
    pub rules: Vec<Rule>,
}

/// The Unix socket.
#[derive(Debug, Clone)]
pub struct UnixListenerSettings {
    /// The socket's path.
    pub path: PathBuf,
    /// Its permissions: who may connect at all.
    pub mode: u32,
}

/// The mTLS listener.
#[derive(Debug, Clone)]
pub struct TlsListenerSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// The server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// The server's private key, PEM.
    pub private_key: PathBuf,
    /// The authorities whose client certificates are accepted, PEM.
    pub client_authorities: PathBuf,
}

/// The process's own log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A `tracing` filter, such as `info`.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// The domain of the cluster.
#[derive(Debug, Clone, Copy)]
pub struct DomainSettings {
    /// Its epoch.
    pub epoch: u32,
    /// What every member's domain keys must add up to.
    pub fingerprint: Fingerprint,
}

/// One HSM member.
#[derive(Debug, Clone)]
pub struct MemberSettings {
    /// Its name in this cluster.
    pub name: String,
    /// The vendor's PKCS#11 module.
    pub module: PathBuf,
    /// Which token of the module it is.
    pub token: TokenSelector,
    /// The file that holds the user PIN.
    pub pin_file: PathBuf,
    /// How many sessions its worker opens.
    pub sessions: u32,
    /// How many operations may be with it at once.
    pub queue: u32,
    /// How many keys it keeps loaded.
    pub loaded_keys: u32,
    /// How many ephemeral keys of one principal it keeps loaded.
    pub ephemeral_share: u32,
    /// Its share of the work, relative to the others.
    pub weight: u32,
    /// The worker's environment, for the vendor's library.
    pub environment: BTreeMap<String, String>,
}

/// How the session manager behaves.
#[derive(Debug, Clone, Copy)]
pub struct ClusterSettings {
    /// How long an operation may take when its caller sets no deadline.
    pub default_deadline: Duration,
    /// How long a worker may take to open its token and to show its domain.
    pub start_deadline: Duration,
    /// How often a ready member is probed.
    pub probe_interval: Duration,
    /// How long a probe may take before the worker is killed.
    pub probe_deadline: Duration,
    /// How long after its deadline an operation may be unanswered before the worker is killed.
    pub hang_after: Duration,
    /// The first pause before a dead worker is started again.
    pub restart_pause: Duration,
    /// The longest such pause.
    pub restart_pause_max: Duration,
}

/// What requests may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest message, plaintext, ciphertext or associated data, in bytes.
    pub payload: usize,
    /// How many key records are kept in memory.
    pub cached_keys: u32,
    /// How many connections may be open on each listener.
    pub connections: u32,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has problems.
    #[error("{}", Self::list(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All of them, in the file's order.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    fn list(path: &Path, problems: &[Problem]) -> String {
        let noun = if problems.len() == 1 { "problem" } else { "problems" };
        let mut text = format!("{} has {} {noun}:", path.display(), problems.len());
        for problem in problems {
            text.push_str(&format!("\n  {problem}"));
        }
        text
    }
}

impl Settings {
    /// Reads a file and checks it, together with the files that it names.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        // Made absolute, so that relative settings mean the same wherever the process is started.
        let absolute = std::path::absolute(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let base = absolute.parent().unwrap_or(Path::new("/"));
        let invalid = |problems| ConfigError::Invalid {
            path: path.to_owned(),
            problems,
        };
        let settings = Self::parse(&text, base).map_err(invalid)?;
        let problems = settings.check_files();
        if problems.is_empty() {
            Ok(settings)
        } else {
            Err(invalid(problems))
        }
    }

    /// The note of the audit log's end, which lies beside the database.
    pub fn audit_head(&self) -> PathBuf {
        self.state_directory.join("audit.head")
    }

    /// Reads a document whose relative paths start at `base`, without looking at the files that it names.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::new(text, base);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            problems.note(
                error.span().map(|span| span.start),
                "",
                format!("not valid TOML: {}", error.message()),
            );
        }
        if !problems.is_empty() {
            // What a broken line hides would be reported as missing.
            return Err(problems.into_found());
        }
        let settings = read_settings(Section::new("", None, table.get_ref()), &mut problems);
        match settings {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(problems.into_found()),
        }
    }

    /// What is wrong with the files that the settings name.
    fn check_files(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut check = |setting: String, path: &Path, secrecy: Secrecy| {
            if let Err(message) = check_file(path, secrecy) {
                problems.push(Problem {
                    line: None,
                    setting,
                    message,
                });
            }
        };
        if let Some(tls) = &self.tls {
            check("listen.tls.certificate".to_owned(), &tls.certificate, Secrecy::Public);
            check("listen.tls.private_key".to_owned(), &tls.private_key, Secrecy::Secret);
            check(
                "listen.tls.client_authorities".to_owned(),
                &tls.client_authorities,
                Secrecy::Public,
            );
        }
        for member in &self.members {
            check(
                format!("member {}: pin_file", member.name),
                &member.pin_file,
                Secrecy::Secret,
            );
        }
        problems
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    Public,
    Secret,
}

fn check_file(path: &Path, secrecy: Secrecy) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if !metadata.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if secrecy == Secrecy::Secret && mode & 0o077 != 0 {
        return Err(format!(
            "{} may be read by others (mode {mode:03o}); run: chmod 600 {0}",
            path.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

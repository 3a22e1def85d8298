//! The configuration: one TOML file, read in a single pass into typed settings, with every problem reported at once.
//!
//! Nothing in the file is a secret: PINs and private keys are named by their files, which only their owner may read.
//! `docs/portcullis.toml` is the commented sample.

mod document;
mod listeners;
mod members;
mod policy;
mod reader;
mod telemetry;

pub use document::Problem;
pub use telemetry::{OtlpSettings, OtlpTlsSettings, PrometheusAddress, TelemetrySettings};

use crate::{
    keys::change::Windows,
    pin::PinSource,
    policy::{Policy, PolicySettings},
    provisioning,
    quota::Quota,
};
use document::{Problems, Section};
use portcullis_hsm::{domain::Fingerprint, token::TokenSelector};
use portcullis_provisioning::chain::Chain;
use portcullis_session_manager::{MemberPlan, Settings as ManagerSettings};
use reader::read_settings;
use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
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
    /// Where traces and metrics go.
    pub telemetry: TelemetrySettings,
    /// What the gateway starts on.
    pub provisioning: Provisioning,
    /// The records of that file, as they were when the settings were checked against them.
    pub records: Option<Arc<Chain>>,
    /// The domain that members must hold.
    pub domain: DomainSettings,
    /// The HSM members.
    pub members: Vec<MemberSettings>,
    /// How the session manager behaves.
    pub cluster: ClusterSettings,
    /// What requests may ask for.
    pub limits: Limits,
    /// How changed files are noticed.
    pub reload: ReloadSettings,
    /// How the gateway stops.
    pub shutdown: ShutdownSettings,
    /// How keys are kept.
    pub keys: KeySettings,
    /// Who may do what.
    pub policy: PolicySettings,
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
    /// Authorities that alone may vouch for SPIFFE ids of a trust domain, PEM, by trust domain.
    pub trust_domains: BTreeMap<String, PathBuf>,
    /// Certificate revocation lists, PEM or DER.
    pub revocation_lists: Vec<PathBuf>,
    /// What they mean for certificates that they do not speak of.
    pub revocation_policy: RevocationPolicy,
}

/// What revocation lists mean for certificates that no list, or only one that is out of date, speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationPolicy {
    /// Where lists are configured, each certificate below the authority needs a current one of its issuer.
    Require,
    /// What the lists say counts, also out of date; certificates of other issuers are accepted.
    Prefer,
}

/// The process's own log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A `tracing` filter, such as `info`.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// What vouches for the domain and the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provisioning {
    /// A file with the cluster's provisioning records, signed by its custodians.
    Record(PathBuf),
    /// Nothing: this is a development gateway.
    Development,
}

/// The domain of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Where the user PIN comes from.
    pub pin: PinSource,
    /// How many sessions its worker opens for the use of keys.
    pub sessions: u32,
    /// How many uses of keys may be with it at once.
    pub queue: u32,
    /// How many sessions its worker opens for the generation of keys.
    pub generation_sessions: u32,
    /// How many generations of keys may be with it at once.
    pub generation_queue: u32,
    /// How many keys it keeps loaded.
    pub loaded_keys: u32,
    /// How many ephemeral keys of one principal it keeps loaded.
    pub ephemeral_share: u32,
    /// Its share of the work, relative to the others.
    pub weight: u32,
    /// How many workers it has.
    pub workers: u32,
    /// The worker's environment, for the vendor's library.
    pub environment: BTreeMap<String, String>,
    /// The only directories that the worker may write to; anywhere if there are none.
    pub write_only_in: Vec<PathBuf>,
}

impl MemberSettings {
    /// What the session manager is told of it.
    pub fn plan(&self) -> MemberPlan {
        MemberPlan {
            workers: self.workers,
            queue: self.queue,
            generation_queue: self.generation_queue,
            loaded_keys: self.loaded_keys,
            weight: self.weight,
        }
    }
}

/// How the session manager behaves.
#[derive(Debug, Clone, Copy)]
pub struct ClusterSettings {
    /// How long an operation may take when its caller sets no deadline.
    pub default_deadline: Duration,
    /// The rest, as the session manager knows it.
    pub manager: ManagerSettings,
}

/// How changed files are noticed.
#[derive(Debug, Clone, Copy)]
pub struct ReloadSettings {
    /// How often the files are looked at.
    pub interval: Duration,
}

/// How the gateway stops.
#[derive(Debug, Clone, Copy)]
pub struct ShutdownSettings {
    /// How long what is under way may take to end.
    pub drain: Duration,
}

/// What requests may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message, plaintext, ciphertext or associated data, in bytes.
    pub payload: usize,
    /// How many items a batch may have.
    pub batch_items: u32,
    /// How many bytes a batch may have, in all.
    pub batch_bytes: usize,
    /// How many operations of one stream may be under way.
    pub pipeline_operations: u32,
    /// What one principal may ask for.
    pub principal: Quota,
    /// How many key records are kept in memory, and answers of the policy.
    pub cached_keys: u32,
    /// How many connections may be open on each listener.
    pub connections: u32,
}

/// How keys are kept.
#[derive(Debug, Clone, Copy)]
pub struct KeySettings {
    /// How long destructions may wait.
    pub windows: Windows,
    /// How often the gateway looks for what is to be destroyed.
    pub destruction_interval: Duration,
    /// How long an import job is kept when its time is over.
    pub import_job_retention: Duration,
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
        let mut settings = Self::read(path)?;
        let mut problems = settings.check_files();
        problems.extend(provisioning::apply(&mut settings));
        if problems.is_empty() {
            Ok(settings)
        } else {
            Err(ConfigError::Invalid {
                path: path.to_owned(),
                problems,
            })
        }
    }

    /// Reads a file without looking at the files that it names.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
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
        Self::parse(&text, base).map_err(|problems| ConfigError::Invalid {
            path: path.to_owned(),
            problems,
        })
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

    /// The files that the settings name and whose change asks for a reload.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        if let Some(tls) = &self.tls {
            files.extend([&tls.certificate, &tls.private_key, &tls.client_authorities].map(PathBuf::clone));
            files.extend(tls.trust_domains.values().chain(&tls.revocation_lists).cloned());
        }
        files.extend(self.members.iter().filter_map(|member| member.pin.file()));
        files.extend(self.policy.files.iter().cloned());
        if let Provisioning::Record(path) = &self.provisioning {
            files.push(path.clone());
        }
        files
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
            let authorities = [("listen.tls.client_authorities".to_owned(), &tls.client_authorities)];
            let domains = tls.trust_domains.iter();
            let domains = domains.map(|(domain, path)| (format!("listen.tls.trust_domains.{domain}"), path));
            let lists = tls.revocation_lists.iter();
            let lists = lists.map(|path| ("listen.tls.revocation_lists".to_owned(), path));
            for (setting, path) in authorities.into_iter().chain(domains).chain(lists) {
                check(setting, path, Secrecy::Public);
            }
        }
        if let Some(tls) = self.telemetry.otlp.as_ref().and_then(|otlp| otlp.tls.as_ref()) {
            let setting = |key: &str| format!("telemetry.{key}");
            check(setting("otlp_authorities"), &tls.authorities, Secrecy::Public);
            if let Some((certificate, private_key)) = &tls.identity {
                check(setting("otlp_certificate"), certificate, Secrecy::Public);
                check(setting("otlp_private_key"), private_key, Secrecy::Secret);
            }
        }
        for member in &self.members {
            if let PinSource::File(path) = &member.pin {
                check(format!("member {}: pin_file", member.name), path, Secrecy::Secret);
            }
        }
        if let Err(error) = Policy::load(&self.policy) {
            problems.extend(error.problems.iter().map(|problem| Problem {
                line: None,
                setting: "policy".to_owned(),
                message: problem.to_string(),
            }));
        }
        problems
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    Public,
    Secret,
}

/// Says what is wrong with a file that holds a secret.
pub(crate) fn check_secret_file(path: &Path) -> Result<(), String> {
    check_file(path, Secrecy::Secret)
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

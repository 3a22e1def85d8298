//! Reload without a restart: on request, or because a file changed.
//!
//! Everything that is new is read and checked first. If anything is wrong, nothing changes. Then it is exchanged, each part as
//! a whole, while calls go on.

mod files;

use crate::{
    api::Gateway,
    audit::{Entry, Phase},
    cluster::pins::Revival,
    config::{ConfigError, Settings},
    listener::{Places, TlsControl, TlsState},
    policy::Policy,
    provisioning::Acceptance,
    service_manager::{Notice, ServiceManager},
};
use files::WatchedFiles;
use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::mpsc, task::block_in_place, time::sleep};
use tokio_util::sync::CancellationToken;

/// Where settings come from, again and again.
pub struct Configuration {
    path: PathBuf,
    adjust: Box<dyn Fn(&mut Settings) + Send + Sync>,
}

impl Configuration {
    /// A file, as it stands there.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            adjust: Box::new(|_| {}),
        }
    }

    /// With settings that the command line gives.
    #[must_use]
    pub fn adjusted(mut self, adjust: impl Fn(&mut Settings) + Send + Sync + 'static) -> Self {
        self.adjust = Box::new(adjust);
        self
    }

    /// Reads and checks it.
    pub fn load(&self) -> Result<Settings, ConfigError> {
        let mut settings = Settings::load(&self.path)?;
        (self.adjust)(&mut settings);
        Ok(settings)
    }

    /// The files that it is made of: itself and those that it names, as far as it can be read.
    fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::from([self.path.clone()]);
        let absolute = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        if let (Ok(text), Some(base)) = (fs::read_to_string(&self.path), absolute.parent())
            && let Ok(settings) = Settings::parse(&text, base)
        {
            files.extend(settings.files());
        }
        files
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Configuration")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Gives the process's log another filter; says why not.
pub type SetFilter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// How a running gateway learns of new settings.
pub struct Reloading {
    /// Where they come from.
    pub configuration: Configuration,
    /// Changes the process's log.
    pub set_filter: SetFilter,
    /// Gets a word when somebody asks for a reload.
    pub asked: mpsc::Receiver<()>,
}

impl fmt::Debug for Reloading {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Reloading")
            .field("configuration", &self.configuration)
            .finish_non_exhaustive()
    }
}

/// What a reload changes.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) manager: Arc<ServiceManager>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) tls: Option<Arc<TlsControl>>,
    pub(crate) places: [Arc<Places>; 2],
}

/// Reloads a running gateway.
pub(crate) struct Reloader {
    reloading: Reloading,
    live: Live,
    // As the gateway was started: what cannot be reloaded is compared with this.
    started: Settings,
    current: Settings,
}

/// Why a reload was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Asked,
    FileChanged,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::Asked => "SIGHUP",
            Self::FileChanged => "a file changed",
        }
    }
}

impl Reloader {
    pub(crate) fn new(reloading: Reloading, live: Live, settings: Settings) -> Self {
        Self {
            reloading,
            live,
            current: settings.clone(),
            started: settings,
        }
    }

    /// Reloads whenever somebody asks or a file changed, until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut files = WatchedFiles::new();
        block_in_place(|| files.look(&self.files()));
        let mut judged = SystemTime::now();
        loop {
            let cause = tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = self.reloading.asked.recv() => Some(Cause::Asked),
                () = sleep(self.current.reload.interval) => None,
            };
            self.judge_if_due(&mut judged);
            let changed = block_in_place(|| files.look(&self.files()));
            let cause = match cause {
                Some(cause) => cause,
                None if changed.is_empty() => continue,
                None => {
                    tracing::info!(files = %shown(&changed), "files have changed");
                    self.wait_until_settled(&mut files).await;
                    Cause::FileChanged
                }
            };
            self.live.manager.tell(Notice::Reloading);
            if cause == Cause::Asked {
                self.follow_rotation().await;
            }
            self.reload(cause).await;
            self.live.manager.tell(Notice::Ready);
            // What the reload read was looked at before, so a change in between is seen next time.
        }
    }

    /// The files to look at: those in use, and those that the configuration names now, which may not be usable yet.
    fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = self.reloading.configuration.files();
        files.extend(self.current.files());
        files
    }

    /// Several files are seldom changed at one moment: waits until a look finds nothing new.
    async fn wait_until_settled(&self, files: &mut WatchedFiles) {
        for _ in 0..MOST_LOOKS {
            sleep(SETTLED_AFTER.min(self.current.reload.interval)).await;
            if block_in_place(|| files.look(&self.files())).is_empty() {
                return;
            }
        }
    }

    /// A revocation list that went out of date ends what it no longer covers.
    fn judge_if_due(&self, judged: &mut SystemTime) {
        let now = SystemTime::now();
        if let Some(tls) = &self.live.tls
            && tls.next_change().is_some_and(|at| *judged < at && at <= now)
        {
            tracing::warn!("a revocation list is out of date: its authority's certificates are no longer accepted");
            block_in_place(|| tls.judge_again());
        }
        *judged = now;
    }

    /// Goes on in a new audit file, if the old one was rotated.
    async fn follow_rotation(&self) {
        let audit = Arc::clone(&self.live.gateway.audit);
        match tokio::task::spawn_blocking(move || audit.reopen()).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => tracing::info!("the audit file was not rotated"),
            Ok(Err(error)) => tracing::error!(%error, "the audit log cannot go on in a new file: work is refused"),
            Err(error) => tracing::error!(%error, "the audit log was not reopened"),
        }
    }

    async fn reload(&mut self, cause: Cause) {
        let read = block_in_place(|| self.read());
        let (settings, policy, tls, acceptance) = match read {
            Ok(read) => read,
            Err(reason) => {
                tracing::error!(cause = cause.name(), %reason, "nothing was reloaded: the new state is not valid");
                return self
                    .record(cause, Phase::Gateway, "CONFIGURATION_INVALID", None)
                    .await
                    .unwrap_or_default();
            }
        };
        for setting in needs_restart(&self.started, &settings) {
            tracing::warn!(setting, "a changed setting is not reloaded: it needs a restart");
        }
        // Before it is in force: the gateway does not change unseen.
        if let Err(reason) = self.record(cause, Phase::Intent, "ALLOWED", Some(&acceptance)).await {
            tracing::error!(cause = cause.name(), %reason, "nothing was reloaded: it cannot be recorded");
            return;
        }
        // Before members of the new record serve: an older one is refused from then on.
        if let Err(error) = block_in_place(|| acceptance.keep()) {
            tracing::error!(cause = cause.name(), %error, "nothing was reloaded: the provisioning record cannot be noted");
            return self
                .record(cause, Phase::Gateway, "FAILED", Some(&acceptance))
                .await
                .unwrap_or_default();
        }
        self.apply(settings, policy, tls);
        self.live
            .gateway
            .cluster
            .revive(match cause {
                Cause::Asked => Revival::Asked,
                Cause::FileChanged => Revival::NewPin,
            })
            .await;
        tracing::info!(cause = cause.name(), "reloaded");
        // Told to the log by itself, if it cannot be written.
        let _ = self.record(cause, Phase::Gateway, "OK", Some(&acceptance)).await;
    }

    fn read(&self) -> Result<(Settings, Policy, Option<TlsState>, Acceptance), String> {
        let settings = self.reloading.configuration.load().map_err(|error| error.to_string())?;
        let acceptance = Acceptance::check_reload(&self.started, &settings).map_err(|error| error.to_string())?;
        let policy = Policy::load_remembering(&settings.policy, settings.limits.cached_keys)
            .map_err(|error| error.to_string())?;
        let tls = match (&self.live.tls, &settings.tls) {
            (Some(_), Some(tls)) => Some(
                TlsState::read(tls)
                    .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?,
            ),
            _ => None,
        };
        Ok((settings, policy, tls, acceptance))
    }

    fn apply(&mut self, settings: Settings, policy: Policy, tls: Option<TlsState>) {
        let live = &self.live;
        live.policy.replace(policy);
        live.gateway.limits.store(Arc::new(settings.limits));
        live.gateway.cluster.configure(&settings.members, settings.cluster);
        for places in &live.places {
            places.set_limit(settings.limits.connections);
        }
        if let Err(reason) = (self.reloading.set_filter)(&settings.log.filter) {
            tracing::error!(%reason, "the log keeps its filter");
        }
        if let (Some(control), Some(state)) = (&live.tls, tls) {
            let ended = control.replace(state);
            if ended > 0 {
                tracing::warn!(
                    ended,
                    "connections were ended, because their certificates are no longer believed"
                );
            }
        }
        self.current = settings;
    }

    /// Says in the audit log what a reload does, and on what the gateway runs after it, where that is known.
    async fn record(
        &self,
        cause: Cause,
        phase: Phase,
        outcome: &str,
        acceptance: Option<&Acceptance>,
    ) -> Result<(), String> {
        let mut entry = Entry {
            phase,
            ..Entry::gateway("gateway.reload", outcome)
        };
        entry.context.insert("cause".to_owned(), cause.name().to_owned());
        if let Some(acceptance) = acceptance {
            entry.context.insert("provisioning".to_owned(), acceptance.to_string());
        }
        let written = self.live.gateway.audit.append_synced(&entry).await;
        written.map_err(|error| {
            tracing::error!(%error, "a reload is not in the audit log");
            error.to_string()
        })
    }
}

/// The settings that differ and that only a restart can change.
fn needs_restart(started: &Settings, new: &Settings) -> Vec<&'static str> {
    let same = |one: &dyn fmt::Debug, other: &dyn fmt::Debug| format!("{one:?}") == format!("{other:?}");
    let address = |settings: &Settings| settings.tls.as_ref().map(|tls| tls.address);
    [
        ("state_directory", same(&started.state_directory, &new.state_directory)),
        ("listen.unix", same(&started.unix, &new.unix)),
        ("listen.tls.address", same(&address(started), &address(new))),
        ("audit.file", same(&started.audit_file, &new.audit_file)),
        ("log.format", started.log.json == new.log.json),
        ("telemetry", same(&started.telemetry, &new.telemetry)),
        ("domain", same(&started.domain, &new.domain)),
        ("shutdown", same(&started.shutdown, &new.shutdown)),
        (
            "limits.cached_keys",
            started.limits.cached_keys == new.limits.cached_keys,
        ),
    ]
    .into_iter()
    .filter(|(_, is_same)| !is_same)
    .map(|(setting, _)| setting)
    .collect()
}

fn shown(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

const SETTLED_AFTER: Duration = Duration::from_millis(300);
const MOST_LOOKS: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_known_by_name() {
        let text = include_str!("../../docs/portcullis.toml");
        let parse = |text: &str| Settings::parse(text, Path::new("/etc/portcullis")).expect("a configuration");
        let started = parse(text);
        assert!(needs_restart(&started, &started).is_empty());
        let moved = text
            .replace("127.0.0.1:7443\"\ncert", "127.0.0.1:7444\"\ncert")
            .replace("# connections = 4096", "connections = 1")
            .replace("# cached_keys = 100000", "cached_keys = 1")
            .replace("# weight = 1", "weight = 2")
            .replace("server.pem", "other.pem");
        let found = needs_restart(&started, &parse(&moved));
        assert_eq!(found, ["listen.tls.address", "limits.cached_keys"]);
    }
}

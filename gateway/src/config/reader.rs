//! From a document to settings, table by table.

use super::{
    ClusterSettings, DomainSettings, KeySettings, Limits, LogSettings, Provisioning, ReloadSettings, Settings,
    ShutdownSettings,
    document::{Problems, Section},
    listeners::read_listeners,
    members::read_members,
    policy::read_policy,
    telemetry::read_telemetry,
};
use crate::keys::change::Windows;
use crate::quota::Quota;
use portcullis_hsm::{domain::Fingerprint, worker::protocol::MAX_PAYLOAD};
use portcullis_session_manager::Settings as ManagerSettings;
use std::time::Duration;

/// Reads the whole document; `None` only where a problem was noted.
pub(super) fn read_settings(mut root: Section<'_>, problems: &mut Problems<'_>) -> Option<Settings> {
    let state_directory = root.required_path("state_directory", problems);
    let (unix, tls) = read_listeners(&mut root, problems);
    let mut audit = root.section("audit", problems);
    let audit_file = audit.required_path("file", problems);
    audit.finish(problems);
    let log = read_log(&mut root, problems);
    let telemetry = read_telemetry(&mut root, problems);
    let provisioning = read_provisioning(&mut root, problems);
    let domain = read_domain(&mut root, problems);
    let members = read_members(&mut root, problems);
    let cluster = read_cluster(&mut root, problems);
    let limits = read_limits(&mut root, problems);
    let reload = read_reload(&mut root, problems);
    let shutdown = read_shutdown(&mut root, problems);
    let keys = read_keys(&mut root, problems);
    let policy = read_policy(&mut root, problems);
    root.finish(problems);
    Some(Settings {
        state_directory: state_directory?,
        unix,
        tls,
        audit_file: audit_file?,
        log,
        telemetry,
        provisioning: provisioning?,
        records: None,
        domain: domain?,
        members,
        cluster,
        limits,
        reload,
        shutdown,
        keys,
        policy,
    })
}

fn read_log(root: &mut Section<'_>, problems: &mut Problems<'_>) -> LogSettings {
    let mut log = root.section("log", problems);
    let filter = log.optional(
        "filter",
        problems,
        "a filter such as \"info\" or \"info,portcullis_hsm=debug\"",
        |value| {
            let text = value.as_str()?;
            tracing_subscriber::EnvFilter::try_new(text)
                .ok()
                .map(|_| text.to_owned())
        },
    );
    let json = log.optional("format", problems, "\"text\" or \"json\"", |value| {
        match value.as_str()? {
            "text" => Some(false),
            "json" => Some(true),
            _ => None,
        }
    });
    log.finish(problems);
    LogSettings {
        filter: filter.unwrap_or_else(|| "info".to_owned()),
        json: json.unwrap_or(false),
    }
}

fn read_provisioning(root: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Provisioning> {
    let mut section = root.section("provisioning", problems);
    let (at, setting) = (section.at(), section.setting("record"));
    let names_record = section.keys().iter().any(|key| key == "record");
    let record = section.path("record", problems);
    let development = section.truth("development", problems, false);
    section.finish(problems);
    match (names_record, development) {
        (true, false) => record.map(Provisioning::Record),
        (false, true) => Some(Provisioning::Development),
        (false, false) => {
            let message = "is missing; expected the file of the provisioning records that the custodians signed. A gateway that \
                           is for development alone says development = true instead";
            problems.note(at, setting, message);
            None
        }
        (true, true) => {
            let message = "is given together with development = true; expected one of them";
            problems.note(at, setting, message);
            None
        }
    }
}

fn read_domain(root: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<DomainSettings> {
    let mut domain = root.section("domain", problems);
    let epoch = domain.number("epoch", problems, 1..=u32::MAX, 1);
    let fingerprint = domain.required(
        "fingerprint",
        problems,
        "the domain's fingerprint: 64 hexadecimal digits",
        |value| Fingerprint::parse(value.as_str()?),
    );
    domain.finish(problems);
    Some(DomainSettings {
        epoch,
        fingerprint: fingerprint?,
    })
}

fn read_cluster(root: &mut Section<'_>, problems: &mut Problems<'_>) -> ClusterSettings {
    let mut cluster = root.section("cluster", problems);
    let expected = "a share between 0 and 1, such as 0.01";
    let verified_share = cluster.optional("verified_share", problems, expected, |value| {
        let text = match (value.as_float(), value.as_integer()) {
            (Some(float), _) => float.as_str(),
            (None, Some(whole)) => whole.as_str(),
            (None, None) => return None,
        };
        let share: f64 = text.parse().ok()?;
        (0.0..=1.0).contains(&share).then_some(share)
    });
    let settings = ManagerSettings {
        start_deadline: cluster.duration("start_deadline", problems, Duration::from_secs(30)),
        probe_interval: cluster.duration("probe_interval", problems, Duration::from_secs(5)),
        probe_deadline: cluster.duration("probe_deadline", problems, Duration::from_secs(5)),
        hang_after: cluster.duration("hang_after", problems, Duration::from_secs(5)),
        generation_hang_after: cluster.duration("generation_hang_after", problems, Duration::from_secs(180)),
        restart_pause: cluster.duration("restart_pause", problems, Duration::from_millis(100)),
        restart_pause_max: cluster.duration("restart_pause_max", problems, Duration::from_secs(30)),
        token_grace: cluster.duration("token_grace", problems, Duration::from_secs(60)),
        verified_share: verified_share.unwrap_or(VERIFIED_SHARE),
    };
    let default_deadline = cluster.duration("default_deadline", problems, Duration::from_secs(10));
    if settings.restart_pause > settings.restart_pause_max {
        problems.note(
            cluster.at(),
            cluster.setting("restart_pause"),
            format!("is longer than restart_pause_max ({:?})", settings.restart_pause_max),
        );
    }
    cluster.finish(problems);
    ClusterSettings {
        default_deadline,
        manager: settings,
    }
}

fn read_limits(root: &mut Section<'_>, problems: &mut Problems<'_>) -> Limits {
    let mut limits = root.section("limits", problems);
    let settings = Limits {
        payload: limits.size("payload", problems, MAX_PAYLOAD, 1 << 20),
        batch_items: limits.number("batch_items", problems, 1..=4096, 256),
        batch_bytes: limits.size("batch_bytes", problems, 2 * MAX_PAYLOAD, 2 << 20),
        pipeline_operations: limits.number("pipeline_operations", problems, 1..=65_536, 256),
        principal: Quota {
            rate: limits.number("principal_rate", problems, 1..=10_000_000, 20_000),
            concurrency: limits.number("principal_concurrency", problems, 1..=1_000_000, 1024),
            bytes: limits.size("bytes_under_way", problems, MAX_BYTES_UNDER_WAY, 256 << 20) as u64,
        },
        cached_keys: limits.number("cached_keys", problems, 1..=10_000_000, 100_000),
        connections: limits.number("connections", problems, 1..=1_000_000, 4096),
    };
    limits.finish(problems);
    settings
}

fn read_reload(root: &mut Section<'_>, problems: &mut Problems<'_>) -> ReloadSettings {
    let mut reload = root.section("reload", problems);
    let settings = ReloadSettings {
        interval: reload.duration("interval", problems, Duration::from_secs(5)),
    };
    reload.finish(problems);
    settings
}

fn read_shutdown(root: &mut Section<'_>, problems: &mut Problems<'_>) -> ShutdownSettings {
    let mut shutdown = root.section("shutdown", problems);
    let settings = ShutdownSettings {
        drain: shutdown.duration("drain", problems, Duration::from_secs(15)),
    };
    shutdown.finish(problems);
    settings
}

fn read_keys(root: &mut Section<'_>, problems: &mut Problems<'_>) -> KeySettings {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut keys = root.section("keys", problems);
    let windows = Windows {
        least: keys.duration("least_destroy_window", problems, DAY),
        usual: keys.duration("destroy_window", problems, 30 * DAY),
        most: keys.duration("most_destroy_window", problems, 365 * DAY),
    };
    for (name, window) in [
        ("least_destroy_window", windows.least),
        ("destroy_window", windows.usual),
        ("most_destroy_window", windows.most),
    ] {
        if window.subsec_nanos() != 0 {
            problems.note(keys.at(), keys.setting(name), "expected whole seconds");
        }
    }
    if !(windows.least..=windows.most).contains(&windows.usual) {
        let message = "is not between least_destroy_window and most_destroy_window";
        problems.note(keys.at(), keys.setting("destroy_window"), message);
    }
    let settings = KeySettings {
        windows,
        destruction_interval: keys.duration("destruction_interval", problems, Duration::from_secs(10)),
        import_job_retention: keys.duration("import_job_retention", problems, DAY),
    };
    keys.finish(problems);
    settings
}

/// One signature in a hundred is verified although its key has proved itself.
const VERIFIED_SHARE: f64 = 0.01;
/// More than any machine has for this.
const MAX_BYTES_UNDER_WAY: usize = 1 << 40;

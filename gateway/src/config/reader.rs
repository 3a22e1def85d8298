//! From a document to settings, table by table.

use super::{
    ClusterSettings, DomainSettings, Limits, LogSettings, MemberSettings, Settings, TlsListenerSettings,
    UnixListenerSettings,
    document::{Problems, Section},
};
use crate::{
    identity::PrincipalPattern,
    keys::name::is_id,
    policy::rules::{Rule, RuleAction},
};
use portcullis_hsm::{domain::Fingerprint, token::TokenSelector, worker::protocol::MAX_PAYLOAD};
use std::{collections::HashSet, time::Duration};

/// Reads the whole document; `None` only where a problem was noted.
pub(super) fn read_settings(mut root: Section<'_>, problems: &mut Problems<'_>) -> Option<Settings> {
    let state_directory = root.required_path("state_directory", problems);
    let (unix, tls) = read_listeners(&mut root, problems);
    let mut audit = root.section("audit", problems);
    let audit_file = audit.required_path("file", problems);
    audit.finish(problems);
    let log = read_log(&mut root, problems);
    let domain = read_domain(&mut root, problems);
    let members = read_members(&mut root, problems);
    let cluster = read_cluster(&mut root, problems);
    let limits = read_limits(&mut root, problems);
    let rules = read_rules(&mut root, problems);
    root.finish(problems);
    Some(Settings {
        state_directory: state_directory?,
        unix,
        tls,
        audit_file: audit_file?,
        log,
        domain: domain?,
        members,
        cluster,
        limits,
        rules,
    })
}

fn read_listeners(
    root: &mut Section<'_>,
    problems: &mut Problems<'_>,
) -> (Option<UnixListenerSettings>, Option<TlsListenerSettings>) {
    let mut listen = root.section("listen", problems);
    let mut unix = listen.section("unix", problems);
    let mut tls = listen.section("tls", problems);
    listen.finish(problems);
    if unix.at().is_none() && tls.at().is_none() {
        problems.note(
            None,
            "listen",
            "names neither a Unix socket [listen.unix] nor an mTLS address [listen.tls]",
        );
    }
    let unix_settings = unix.at().and_then(|_| {
        let path = unix.required_path("path", problems);
        let mode = unix.optional(
            "mode",
            problems,
            "permissions as octal text, such as \"0660\"",
            |value| {
                u32::from_str_radix(value.as_str()?, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o777)
            },
        );
        Some(UnixListenerSettings {
            path: path?,
            mode: mode.unwrap_or(0o600),
        })
    });
    unix.finish(problems);
    let tls_settings = tls.at().and_then(|_| {
        let address = tls.required_address("address", problems);
        let certificate = tls.required_path("certificate", problems);
        let private_key = tls.required_path("private_key", problems);
        let client_authorities = tls.required_path("client_authorities", problems);
        Some(TlsListenerSettings {
            address: address?,
            certificate: certificate?,
            private_key: private_key?,
            client_authorities: client_authorities?,
        })
    });
    tls.finish(problems);
    (unix_settings, tls_settings)
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

fn read_members(root: &mut Section<'_>, problems: &mut Problems<'_>) -> Vec<MemberSettings> {
    let mut members: Vec<MemberSettings> = Vec::new();
    let sections = root.sections("member", problems);
    if sections.is_empty() {
        problems.note(None, "member", "no [[member]] is configured; expected at least one");
    }
    let mut names = HashSet::new();
    for mut section in sections {
        let at = section.at();
        let name = section.required("name", problems, "a name of a-z, 0-9, - and _", |value| {
            let name = value.as_str()?;
            is_id(name).then(|| name.to_owned())
        });
        if let Some(name) = &name
            && !names.insert(name.clone())
        {
            problems.note(
                at,
                section.setting("name"),
                format!("\"{name}\" is used by another member"),
            );
        }
        let module = section.required_path("module", problems);
        let token = TokenSelector {
            label: section.text("token_label", problems),
            serial_number: section.text("token_serial_number", problems),
        };
        if token == TokenSelector::default() {
            problems.note(
                at,
                section.setting("token_label"),
                "neither token_label nor token_serial_number is given",
            );
        }
        let pin_file = section.required_path("pin_file", problems);
        let sessions = section.number("sessions", problems, 1..=256, 4);
        let queue = section.number("queue", problems, 1..=65_536, 2048);
        let loaded_keys = section.number("loaded_keys", problems, 1..=1_000_000, 10_000);
        let tenth = (loaded_keys / 10).max(1);
        let ephemeral_share = section.number("ephemeral_share", problems, 1..=1_000_000, tenth);
        let weight = section.number("weight", problems, 1..=100, 1);
        let environment = section.optional("environment", problems, "a table of texts", |value| {
            let entries = value.as_table()?.iter();
            entries
                .map(|(key, value)| Some((key.get_ref().to_string(), value.get_ref().as_str()?.to_owned())))
                .collect()
        });
        section.finish(problems);
        if let (Some(name), Some(module), Some(pin_file)) = (name, module, pin_file) {
            let environment = environment.unwrap_or_default();
            members.push(MemberSettings {
                name,
                module,
                token,
                pin_file,
                sessions,
                queue,
                loaded_keys,
                ephemeral_share,
                weight,
                environment,
            });
        }
    }
    members
}

fn read_cluster(root: &mut Section<'_>, problems: &mut Problems<'_>) -> ClusterSettings {
    let mut cluster = root.section("cluster", problems);
    let settings = ClusterSettings {
        default_deadline: cluster.duration("default_deadline", problems, Duration::from_secs(10)),
        start_deadline: cluster.duration("start_deadline", problems, Duration::from_secs(30)),
        probe_interval: cluster.duration("probe_interval", problems, Duration::from_secs(5)),
        probe_deadline: cluster.duration("probe_deadline", problems, Duration::from_secs(5)),
        hang_after: cluster.duration("hang_after", problems, Duration::from_secs(30)),
        restart_pause: cluster.duration("restart_pause", problems, Duration::from_millis(100)),
        restart_pause_max: cluster.duration("restart_pause_max", problems, Duration::from_secs(30)),
    };
    if settings.restart_pause > settings.restart_pause_max {
        problems.note(
            cluster.at(),
            cluster.setting("restart_pause"),
            format!("is longer than restart_pause_max ({:?})", settings.restart_pause_max),
        );
    }
    cluster.finish(problems);
    settings
}

fn read_limits(root: &mut Section<'_>, problems: &mut Problems<'_>) -> Limits {
    let mut limits = root.section("limits", problems);
    let settings = Limits {
        payload: limits.size("payload", problems, MAX_PAYLOAD, 1 << 20),
        cached_keys: limits.number("cached_keys", problems, 1..=10_000_000, 100_000),
        connections: limits.number("connections", problems, 1..=1_000_000, 4096),
    };
    limits.finish(problems);
    settings
}

fn read_rules(root: &mut Section<'_>, problems: &mut Problems<'_>) -> Vec<Rule> {
    let mut policy = root.section("policy", problems);
    let mut rules = Vec::new();
    let mut names = HashSet::new();
    for mut section in policy.sections("rule", problems) {
        let at = section.at();
        let name = section.required("name", problems, "text", |value| value.as_str().map(str::to_owned));
        if let Some(name) = &name
            && !names.insert(name.clone())
        {
            problems.note(
                at,
                section.setting("name"),
                format!("\"{name}\" is used by another rule"),
            );
        }
        let principals = read_each(&mut section, problems, "principals", PrincipalPattern::parse);
        let actions = read_each(&mut section, problems, "actions", RuleAction::parse);
        let rings = section.texts("rings", problems).unwrap_or_default();
        for ring in &rings {
            if ring != "*" && !is_id(ring) {
                problems.note(
                    at,
                    section.setting("rings"),
                    format!("\"{ring}\" is neither a ring's id nor \"*\""),
                );
            }
        }
        if rings.is_empty() && actions.iter().any(|action| action.needs_ring()) {
            let message = "is missing, so these actions are allowed nowhere; expected ids of rings, or \"*\"";
            problems.note(at, section.setting("rings"), message);
        }
        section.finish(problems);
        if let Some(name) = name {
            rules.push(Rule {
                name,
                principals,
                actions,
                rings,
            });
        }
    }
    policy.finish(problems);
    rules
}

/// Reads an array of texts that must not be empty, each by `parse`, which says what is wrong.
fn read_each<T>(
    section: &mut Section<'_>,
    problems: &mut Problems<'_>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let at = section.at();
    let setting = section.setting(key);
    let Some(texts) = section.texts(key, problems) else {
        return Vec::new();
    };
    let mut parsed = Vec::new();
    for text in texts {
        match parse(&text) {
            Ok(one) => parsed.push(one),
            Err(message) => problems.note(at, setting.clone(), message),
        }
    }
    parsed
}

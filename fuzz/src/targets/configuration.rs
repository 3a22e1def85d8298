//! What operators write: the configuration, policies, and the sources of PINs.

use crate::{Memory, Pure, Subject, Target, Verdict};
use portcullis_gateway::{
    config::Settings,
    identity::{AuthenticationMethod, Peer, Principal, SpiffeId},
    pin::PinSource,
    policy::{Action, Policy, PolicySettings, review::conflicts},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The configuration.
pub(super) const SETTINGS: Target = Target {
    name: "settings",
    prepare: || {
        Box::new(Pure {
            samples: || {
                vec![
                    include_bytes!("../../../docs/portcullis.toml").to_vec(),
                    SHORT.as_bytes().to_vec(),
                ]
            },
            judge: judge_settings,
            memory: Memory {
                // The vocabulary of policies is read with the first grants.
                fixed: 2 * 1024 * 1024,
                per_byte: 256,
            },
        })
    },
};

/// A file of policies.
pub(super) const POLICIES: Target = Target {
    name: "policies",
    prepare: || Box::new(Policies::new()),
};

/// A file with a PIN.
pub(super) const PINS: Target = Target {
    name: "pins",
    prepare: || Box::new(Pins::new()),
};

fn judge_settings(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused;
    };
    let read = Settings::parse(text, Path::new("/etc/portcullis"));
    match &read {
        Err(problems) => {
            assert!(!problems.is_empty(), "what is refused has a reason");
            let lines = 1 + text.matches('\n').count();
            for problem in problems {
                assert!(
                    problem.line.is_none_or(|line| (1..=lines).contains(&line)),
                    "{problem} in {lines} lines"
                );
                assert!(!problem.message.is_empty());
            }
        }
        Ok(settings) => check_settings(settings),
    }
    Verdict::of(&read)
}

/// What is accepted can be used: times can be waited for, paths are absolute, grants have a meaning.
fn check_settings(settings: &Settings) {
    let cluster = settings.cluster;
    let waits = [
        cluster.default_deadline,
        cluster.manager.start_deadline,
        cluster.manager.probe_interval,
        cluster.manager.probe_deadline,
        cluster.manager.hang_after,
        cluster.manager.restart_pause,
        cluster.manager.restart_pause_max,
        cluster.manager.token_grace,
        settings.reload.interval,
        settings.keys.destruction_interval,
        settings.keys.windows.least,
        settings.keys.windows.usual,
        settings.keys.windows.most,
    ];
    let commands = settings.members.iter().filter_map(|member| match &member.pin {
        PinSource::Command { timeout, .. } => Some(*timeout),
        _ => None,
    });
    for wait in waits.into_iter().chain(commands) {
        assert!(
            wait <= LONGEST && Instant::now().checked_add(wait).is_some(),
            "{wait:?} cannot be waited for"
        );
    }
    assert!(!settings.members.is_empty() && settings.state_directory.is_absolute());
    assert!(settings.files().iter().all(|file| file.is_absolute()));
    let grants = PolicySettings {
        files: Vec::new(),
        grants: settings.policy.grants.clone(),
    };
    let policy = Policy::load(&grants);
    assert!(policy.is_ok(), "grants that were read can be loaded: {policy:?}");
}

struct Policies {
    directory: TempDir,
}

impl Policies {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("policy.cedar")
    }
}

impl Subject for Policies {
    fn samples(&self) -> Vec<Vec<u8>> {
        // What operators are shown.
        let page = include_str!("../../../docs/policy.md");
        let shown = page
            .split("```cedar\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next());
        shown
            .chain([EXAMPLE])
            .map(|policy| policy.as_bytes().to_vec())
            .collect()
    }

    fn judge(&self, input: &[u8]) -> Verdict {
        fs::write(self.file(), input).expect("a file");
        let loaded = Policy::load(&PolicySettings {
            files: vec![self.file()],
            grants: Vec::new(),
        });
        match &loaded {
            Ok(policy) => {
                let id = SpiffeId::parse("spiffe://example.org/payments").expect("an id");
                let principal = Principal::of_workload(&id);
                let peer = Peer::new(
                    principal,
                    AuthenticationMethod::ClientCertificate,
                    "192.0.2.1:1".to_owned(),
                );
                policy.could_allow(&peer, Action::Sign);
                drop(conflicts(policy));
                assert!(policy.warnings().iter().all(|warning| !warning.to_string().is_empty()));
            }
            Err(error) => {
                let lines = 1 + input.iter().filter(|byte| **byte == b'\n').count();
                assert!(!error.problems.is_empty(), "what is refused has a reason");
                assert!(
                    error
                        .problems
                        .iter()
                        .all(|problem| problem.line.is_none_or(|line| (1..=lines).contains(&line)))
                );
            }
        }
        Verdict::of(&loaded)
    }

    fn memory(&self) -> Memory {
        Memory {
            fixed: 8 * 1024 * 1024,
            per_byte: 16 * 1024,
        }
    }
}

struct Pins {
    directory: TempDir,
    runtime: Runtime,
}

impl Pins {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
            runtime: Runtime::new().expect("a runtime"),
        }
    }
}

impl Subject for Pins {
    fn samples(&self) -> Vec<Vec<u8>> {
        ["1234", "5678\n", "a PIN with spaces\r\nand a second line\n"]
            .map(|text| text.as_bytes().to_vec())
            .to_vec()
    }

    fn judge(&self, input: &[u8]) -> Verdict {
        let file = self.directory.path().join("pin");
        fs::write(&file, input).expect("a file");
        let read = self.runtime.block_on(PinSource::File(file).read());
        match &read {
            Ok(pin) => {
                let pin = pin.expose();
                assert!(!pin.is_empty() && input.starts_with(pin) && !pin.iter().any(|byte| b"\r\n".contains(byte)));
            }
            Err(error) => {
                let first = input
                    .iter()
                    .position(|byte| !byte.is_ascii_graphic())
                    .unwrap_or(input.len());
                let shown = error.to_string();
                let secret = String::from_utf8_lossy(&input[..first]);
                assert!(secret.len() < 4 || !shown.contains(&*secret), "a PIN is in no error");
            }
        }
        Verdict::of(&read)
    }
}

/// A hundred years: beyond that, times have no meaning here.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// A configuration with most of what the commented sample leaves at its defaults.
const SHORT: &str = r#"
state_directory = "state"
audit = { file = "audit.jsonl" }
provisioning = { development = true }
domain = { epoch = 2, fingerprint = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
[listen.unix]
path = "gateway.sock"
mode = "0660"
[log]
filter = "info"
[cluster]
default_deadline = "10s"
probe_interval = "1s"
hang_after = "30s"
[limits]
payload = "64KiB"
batch_items = 16
principal_rate = 100
[keys]
least_destroy_window = "1h"
destroy_window = "2days"
[[member]]
name = "a"
module = "module.so"
token_serial_number = "0123456789abcdef"
pin_command = ["/usr/bin/pin", "a"]
pin_command_timeout = "5s"
sessions = 2
[[member]]
name = "b"
module = "module.so"
token_label = "b"
pin_credential = "pin-b"
write_only_in = ["b"]
[[policy.grant]]
name = "auditors"
role = "auditor"
principals = ["unix:uid=0", "spiffe://example.org/audit/*"]
[[policy.grant]]
name = "one key"
role = "signer"
principals = ["spiffe://example.org/payments"]
keys = ["payments/signing"]
"#;

const EXAMPLE: &str = r#"// Nobody from outside destroys anything.
@id("no destruction")
forbid (principal, action == Action::"key_version.schedule_destruction", resource)
unless { principal in Pattern::"unix:uid=*" };
permit (principal == Principal::"unix:uid=0", action, resource);
"#;

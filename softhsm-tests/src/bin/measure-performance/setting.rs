//! How much is measured, and on what.

use anyhow::{Context, Result};
use portcullis_softhsm_tests::{Gateway, MEMBERS, PORTCULLIS, TestCluster, workspace_binary};
use serde_json::Value;
use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// How much is measured.
pub(crate) struct Effort {
    /// Members of the cluster.
    pub(crate) members: usize,
    /// Workers of each.
    pub(crate) workers: usize,
    /// How long each run takes, as `portcullis bench` takes it.
    pub(crate) time: &'static str,
    /// The warm-up before it.
    pub(crate) warm_up: &'static str,
    /// How often each run is made.
    pub(crate) repeats: usize,
    /// With how many keys the store is measured, in growing order.
    pub(crate) keys: &'static [usize],
    /// Where the picture goes.
    pub(crate) picture: PathBuf,
    /// Whether this is for trying it out.
    pub(crate) is_quick: bool,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            members: 3,
            workers: 1,
            time: "400ms",
            warm_up: "100ms",
            repeats: 5,
            keys: &[1_000, 10_000, 100_000],
            picture: "performance.svg".into(),
            is_quick: false,
        }
    }
}

impl Effort {
    /// For trying it out: the figures mean little.
    pub(crate) fn quick(self) -> Self {
        Self {
            time: "200ms",
            warm_up: "50ms",
            repeats: 1,
            keys: &[100, 500],
            is_quick: true,
            ..self
        }
    }

    /// A cluster as an operator would configure it who expects one caller to ask for much.
    pub(crate) fn cluster(&self) -> TestCluster {
        let cluster = TestCluster::new();
        cluster.edit_config(|config| {
            let limits = [("principal_rate", 10_000_000), ("principal_concurrency", 65_536)];
            let limits = limits.map(|(name, limit)| (name.to_owned(), limit.into()));
            config.insert("limits".to_owned(), toml::Table::from_iter(limits).into());
            let Some(members) = config.get_mut("member").and_then(toml::Value::as_array_mut) else {
                return;
            };
            members.truncate(self.members.min(MEMBERS.len()));
            for member in members.iter_mut().filter_map(toml::Value::as_table_mut) {
                let workers = i64::try_from(self.workers).unwrap_or(1);
                member.insert("workers".to_owned(), workers.into());
            }
        });
        cluster
    }

    /// `portcullis bench` against a gateway, over its Unix socket, with this effort.
    pub(crate) fn bench(&self, cluster: &TestCluster, gateway: &Gateway, more: &str) -> Command {
        let mut command = Command::new(workspace_binary(PORTCULLIS));
        command
            .args(["--endpoint", &gateway.unix_endpoint().to_string()])
            .args(["--cert".into(), cluster.pki("developer.pem")])
            .args(["--key-file".into(), cluster.pki("developer.key")])
            .args(["--ca".into(), cluster.pki("ca.pem")])
            .args(["bench", "--time", self.time, "--warm-up", self.warm_up])
            .args(more.split_ascii_whitespace())
            .stdin(Stdio::null());
        command
    }
}

/// Drives a member of a cluster that no gateway uses.
pub(crate) fn directly(command: &mut Command, token: &TestCluster) {
    command
        .env("SOFTHSM2_CONF", token.softhsm_conf(MEMBERS[0]))
        .args(["--direct-token", "portcullis-a", "--direct-module"])
        .arg(token.module())
        .arg("--direct-pin-file")
        .arg(token.member_directory(MEMBERS[0]).join("user.pin"));
}

/// Waits until every member serves: before that a gateway is as fast as those that do.
pub(crate) async fn all_serve(effort: &Effort, gateway: &Gateway) {
    for member in MEMBERS.into_iter().take(effort.members) {
        let workers = u64::try_from(effort.workers).unwrap_or(1);
        gateway.wait_for_worker(member, workers).await;
    }
}

/// What a run of `portcullis --json bench` reports.
pub(crate) fn report(command: &mut Command) -> Result<Value> {
    let output = command.arg("--json").stderr(Stdio::inherit()).output();
    let output = output.context("portcullis bench cannot be run")?;
    anyhow::ensure!(output.status.success(), "portcullis bench ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("what portcullis bench printed")
}

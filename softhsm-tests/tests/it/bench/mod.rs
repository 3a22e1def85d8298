//! `portcullis bench` against a real gateway and a real token, each way for a moment: the figures mean nothing, but they agree.

mod clean;
mod direct;
mod everything;
mod figures;
mod open_loop;

use portcullis_softhsm_tests::{Gateway, Output, PORTCULLIS, TestCluster, run, workspace_binary};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A gateway, and a token of another cluster that can be driven directly.
struct Setting {
    // Ends before its files go.
    gateway: Gateway,
    cluster: TestCluster,
    token: TestCluster,
}

impl Setting {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// With something else in the gateway's configuration.
    fn with(prepare: impl FnOnce(&TestCluster)) -> Self {
        let cluster = TestCluster::new();
        prepare(&cluster);
        Self {
            gateway: Gateway::start(&cluster),
            cluster,
            token: TestCluster::new(),
        }
    }

    /// The command line over the Unix socket.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(workspace_binary(PORTCULLIS));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PORTCULLIS_") {
                command.env_remove(name);
            }
        }
        command
            .args(["--json", "--endpoint", &self.gateway.unix_endpoint().to_string()])
            .args(["--cert".into(), self.cluster.pki("developer.pem")])
            .args(["--key-file".into(), self.cluster.pki("developer.key")])
            .args(["--ca".into(), self.cluster.pki("ca.pem")])
            .arg("bench")
            .args(arguments.split_ascii_whitespace());
        command
    }

    /// The same, and over mTLS too.
    fn over_both(&self, arguments: &str) -> Command {
        let mut command = self.command(arguments);
        command.args(["--also", &self.gateway.tls_endpoint().to_string()]);
        command
    }

    /// Drives the token of the other cluster as well, through a module.
    fn directly(&self, mut command: Command, module: &Path) -> Command {
        command
            .env("SOFTHSM2_CONF", self.token.softhsm_conf(MEMBER))
            .args(["--direct-token", "portcullis-a", "--direct-module"])
            .arg(module)
            .arg("--direct-pin-file")
            .arg(self.pin_file());
        command
    }

    fn pin_file(&self) -> PathBuf {
        self.token.member_directory(MEMBER).join("user.pin")
    }

    /// How many objects the token has that is driven directly: each is a file.
    fn token_objects(&self) -> usize {
        let tokens = self.token.member_directory(MEMBER).join("tokens");
        let token = fs::read_dir(tokens).expect("the tokens").next();
        let token = token.expect("a token").expect("a token's directory").path();
        let files = fs::read_dir(token).expect("the token's files");
        let names = files.map(|file| file.expect("a file").file_name().into_string().expect("a name"));
        names.filter(|name| name.ends_with(".object")).count()
    }
}

/// The report of a measurement that succeeded.
#[track_caller]
fn measured(command: &mut Command) -> Value {
    let output = run(command).succeeded();
    document(&output)
}

#[track_caller]
fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

const MEMBER: &str = "a";

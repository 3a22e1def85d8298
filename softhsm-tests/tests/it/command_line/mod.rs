//! The command line against a real gateway.

mod contexts;
mod endings;
mod every;
mod imports;
mod outliving;
mod program;

use portcullis_softhsm_tests::{Gateway, Output, PORTCULLIS, TestCluster, run_with_input, workspace_binary};
use serde_json::Value;
use std::{path::Path, process::Command};

/// The command line as somebody uses it.
struct CommandLine<'d> {
    directory: &'d Path,
    global: Vec<String>,
    environment: Vec<(String, String)>,
}

impl<'d> CommandLine<'d> {
    /// With options that every command gets.
    fn with(directory: &'d Path, global: Vec<String>) -> Self {
        Self {
            directory,
            global,
            environment: Vec::new(),
        }
    }

    /// Over the gateway's socket.
    fn new(directory: &'d Path, gateway: &Gateway) -> Self {
        Self::with(directory, over_unix(gateway))
    }

    /// The same with a variable in its environment.
    fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// The command, ready to run. What is set where the tests run does not reach it.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(workspace_binary(PORTCULLIS));
        command
            .args(&self.global)
            .args(arguments.split_whitespace())
            .current_dir(self.directory);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PORTCULLIS_") {
                command.env_remove(name);
            }
        }
        // Where nobody has a configuration.
        command.env("XDG_CONFIG_HOME", self.directory).env_remove("NO_COLOR");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    #[track_caller]
    fn try_run(&self, arguments: &str) -> Output {
        run_with_input(&mut self.command(arguments), &[])
    }

    /// Runs what must succeed.
    #[track_caller]
    fn run(&self, arguments: &str) -> Output {
        self.try_run(arguments).succeeded()
    }

    /// Runs what must succeed, and reads its answer.
    #[track_caller]
    fn ask(&self, arguments: &str) -> Value {
        let output = self.run(&format!("--json {arguments}"));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output}"))
    }

    /// Runs what must fail with an exit code, and returns what it said.
    #[track_caller]
    fn fails_with(&self, code: i32, arguments: &str) -> String {
        let output = self.try_run(arguments);
        assert_eq!(output.status.code(), Some(code), "{output}");
        output.stderr
    }
}

/// The options for a gateway's socket.
fn over_unix(gateway: &Gateway) -> Vec<String> {
    vec!["--endpoint".to_owned(), gateway.unix_endpoint().to_string()]
}

/// The options for a gateway's mTLS listener, as the developer.
fn over_tls(cluster: &TestCluster, gateway: &Gateway) -> Vec<String> {
    let mut options = vec!["--endpoint".to_owned(), gateway.tls_endpoint().to_string()];
    for (option, file) in [
        ("--cert", "developer.pem"),
        ("--key-file", "developer.key"),
        ("--ca", "ca.pem"),
    ] {
        options.extend([option.to_owned(), cluster.pki(file).to_string_lossy().into_owned()]);
    }
    options
}

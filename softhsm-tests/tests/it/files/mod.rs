//! The command line's work on files: encrypted, decrypted and re-encrypted, with real processes.

mod duties;
mod killed;
mod reencrypt;
mod whole;

use portcullis_client::{Client, v1::RotateKeyRequest};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, Output, PORTCULLIS, TestCluster, create_key, create_ring, run, run_with_input,
    temporary_directory, workspace_binary,
};
use serde_json::Value;
use std::{fs, path::PathBuf, process::Command};
use tempfile::TempDir;

const KEY: &str = "keyRings/demo/keys/files";

/// A gateway with a key for files, and a directory to work in.
struct Desk {
    cluster: TestCluster,
    gateway: Gateway,
    client: Client,
    directory: TempDir,
}

impl Desk {
    async fn new() -> Self {
        Self::on(TestCluster::new()).await
    }

    async fn on(cluster: TestCluster) -> Self {
        let gateway = Gateway::start(&cluster);
        let client = gateway.unix_client().await;
        create_ring(&client, "demo").await;
        create_key(&client, "demo", "files", KeySpec::AES_256).await;
        Self {
            cluster,
            gateway,
            client,
            directory: temporary_directory(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The names in a directory.
    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).expect("the directory");
        let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("a name");
        let mut names: Vec<_> = entries.map(|entry| name(entry.expect("an entry"))).collect();
        names.sort();
        names
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(workspace_binary(PORTCULLIS));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PORTCULLIS_") {
                command.env_remove(name);
            }
        }
        command
            .env("PORTCULLIS_ENDPOINT", self.gateway.unix_endpoint().to_string())
            .args(line.split(' '))
            .current_dir(self.directory.path());
        command
    }

    #[track_caller]
    fn try_run(&self, line: &str) -> Output {
        tokio::task::block_in_place(|| run(&mut self.command(line)))
    }

    #[track_caller]
    fn run(&self, line: &str) -> Output {
        self.try_run(line).succeeded()
    }

    #[track_caller]
    fn run_with_input(&self, line: &str, input: &[u8]) -> Output {
        tokio::task::block_in_place(|| run_with_input(&mut self.command(line), input))
    }

    /// Runs what must succeed, and reads its document.
    #[track_caller]
    fn ask(&self, line: &str) -> Value {
        let output = self.run(&format!("--json {line}"));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output}"))
    }

    /// Runs what must fail with an exit code; what it said.
    #[track_caller]
    fn fails_with(&self, code: i32, line: &str) -> String {
        let output = self.try_run(line);
        assert_eq!(output.status.code(), Some(code), "{output}");
        output.stderr
    }

    async fn rotate(&self) {
        let request = RotateKeyRequest {
            name: KEY.to_owned(),
            ..Default::default()
        };
        self.client.rotate_key(request).await.expect("a new version");
    }
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

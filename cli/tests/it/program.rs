//! Running the program.

use crate::gateway::Gateway;
use serde_json::Value;
use std::{path::PathBuf, process::Stdio};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, process::Command};

/// The program with a gateway to talk to and a directory to work in.
pub(crate) struct Program {
    directory: TempDir,
    _gateway: Gateway,
}

/// How a run of the program ended.
pub(crate) struct Run {
    pub(crate) exit: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Program {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let gateway = Gateway::start(&directory.path().join("api.sock"));
        Self {
            directory,
            _gateway: gateway,
        }
    }

    /// A path in the working directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the program with the words of `line`.
    pub(crate) async fn run(&self, line: &str) -> Run {
        self.run_with_input(line, b"").await
    }

    pub(crate) async fn run_with_input(&self, line: &str, input: &[u8]) -> Run {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(line.split(' '))
            .current_dir(&self.directory)
            .env_clear()
            .env("PORTCULLIS_ENDPOINT", "unix:api.sock")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("its standard input");
        stdin.write_all(input).await.expect("the input is taken");
        drop(stdin);
        let output = child.wait_with_output().await.expect("the program ends");
        let err = String::from_utf8(output.stderr).expect("text on standard error");
        Run {
            exit: output.status.code(),
            out: output.stdout,
            err,
        }
    }
}

impl Run {
    /// The standard output of a run that succeeded.
    pub(crate) fn text(&self) -> &str {
        assert_eq!(self.exit, Some(0), "{}", self.err);
        std::str::from_utf8(&self.out).expect("text on standard output")
    }

    /// The JSON on the standard output of a run that succeeded.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.text()).expect("JSON on standard output")
    }

    /// The first line of the standard error of a run that failed.
    pub(crate) fn error(&self) -> &str {
        assert_ne!(self.exit, Some(0));
        self.err.lines().next().unwrap_or_default()
    }
}

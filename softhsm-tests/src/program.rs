//! Programs: where they are, how they end, and waiting for what can be observed.

use std::{
    env,
    ffi::OsStr,
    fmt,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long something may take that is quick on an idle machine.
pub const SHORT: Duration = Duration::from_secs(30);

/// How long something may take that is slow: starts, restarts, many keys.
pub const LONG: Duration = Duration::from_secs(120);

/// The name of the command line's binary.
pub const PORTCULLIS: &str = "portcullis";

/// A binary of this workspace: it lies beside the directory of the running test.
///
/// # Panics
///
/// When it is not built.
pub fn workspace_binary(name: &str) -> PathBuf {
    let test = env::current_exe().expect("the test's own path");
    // target/debug/deps/it-<hash> for tests, target/debug/<name> for programs.
    let found = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "{name} is not built beside {}; run: cargo build --workspace",
            test.display()
        )
    })
}

/// A program on the search path.
///
/// # Panics
///
/// When it is missing, with the name of the Debian package that has it.
pub fn find_tool(name: &str, package: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut directories = env::split_paths(&path).chain(extra);
    directories
        .find_map(|directory| Some(directory.join(name)).filter(|candidate| candidate.is_file()))
        .unwrap_or_else(|| panic!("this test needs the program {name}; run: apt-get install {package}"))
}

/// What a program left behind.
pub struct Output {
    /// The command line.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// The same, if the program succeeded.
    ///
    /// # Panics
    ///
    /// When it did not, with all that it wrote.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            status,
            stderr,
            ..
        } = self;
        write!(
            formatter,
            "{command}: {status}\nstdout: {}\nstderr: {stderr}",
            self.text()
        )
    }
}

/// Runs a program to its end.
///
/// # Panics
///
/// When it cannot be started or does not end in time.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_with_input(command, &[])
}

/// Runs a program to its end with something on its standard input.
///
/// # Panics
///
/// When it cannot be started or does not end in time.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    let shown = format!("{command:?}");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let input = input.to_vec();
    // A program that ends early does not read all of it.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = read_all(child.stdout.take().expect("standard output is a pipe"));
    let stderr = read_all(child.stderr.take().expect("standard error is a pipe"));
    let started = Instant::now();
    let status = loop {
        match child.try_wait().expect("the program's status") {
            Some(status) => break status,
            None if started.elapsed() > LONG => {
                drop(child.kill());
                drop(child.wait());
                panic!("{shown} did not end within {LONG:?}");
            }
            None => thread::sleep(PAUSE),
        }
    };
    writer.join().expect("the writer does not panic");
    Output {
        command: shown,
        status,
        stdout: stdout.join().expect("the reader does not panic"),
        stderr: String::from_utf8_lossy(&stderr.join().expect("the reader does not panic")).into_owned(),
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before a failure is worth showing.
        drop(from.read_to_end(&mut bytes));
        bytes
    })
}

/// Runs OpenSSL in a directory and returns what it did, whether it succeeded or not.
#[track_caller]
pub fn openssl<S: AsRef<OsStr>>(directory: &Path, arguments: impl IntoIterator<Item = S>) -> Output {
    run(Command::new(find_tool("openssl", "openssl"))
        .args(arguments)
        .current_dir(directory))
}

/// A directory that is removed when it is dropped. Its path is short enough for sockets.
pub fn temporary_directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("portcullis-test-")
        .tempdir()
        .expect("a temporary directory")
}

/// Asks again and again until there is an answer.
///
/// # Panics
///
/// After `limit` without one.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "after {limit:?} still not: {what}");
        thread::sleep(PAUSE);
    }
}

/// Between two looks at a condition.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

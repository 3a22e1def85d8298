//! Where a member's user PIN comes from, and how it is read.
//!
//! A PIN is on its way through this process for moments: from its source to the socket of a worker. It is wiped on the way,
//! and no error names it.

pub mod change;

use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process_group};
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    env, fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    time::timeout,
};
use zeroize::Zeroizing;

/// Where a PIN comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinSource {
    /// A file that its owner alone may read.
    File(PathBuf),
    /// A file of this name in the directory that systemd names by `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// What a program prints.
    Command {
        /// The program, by its absolute path, and its arguments.
        words: Vec<String>,
        /// How long it may take.
        timeout: Duration,
    },
}

/// A PIN.
#[derive(Clone)]
pub struct Pin(Zeroizing<Vec<u8>>);

/// Why there is no PIN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// It needs a person.
    #[error("{0}")]
    Lasting(String),
    /// Another try may help.
    #[error("{0}")]
    Passing(String),
}

impl PinSource {
    /// Reads the PIN: the first line of what the source holds.
    pub async fn read(&self) -> Result<Pin, PinError> {
        match self {
            Self::Command { words, timeout } => run(words, *timeout).await,
            Self::File(_) | Self::Credential(_) => {
                let path = self.file().ok_or_else(|| PinError::Lasting(self.no_directory()))?;
                read_file(&path).map_err(|reason| PinError::Lasting(format!("{self}: {reason}")))
            }
        }
    }

    /// The file that holds it, if it is in one.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Credential(name) => env::var_os(CREDENTIALS).map(|directory| Path::new(&directory).join(name)),
            Self::Command { .. } => None,
        }
    }

    fn no_directory(&self) -> String {
        format!(
            "{self}: the environment names no {CREDENTIALS}; start portcullisd as a systemd service with \
             LoadCredential= or LoadCredentialEncrypted=, or use pin_file"
        )
    }
}

impl fmt::Display for PinSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "its PIN file {}", path.display()),
            Self::Credential(name) => write!(formatter, "its PIN credential {name}"),
            Self::Command { words, .. } => {
                write!(
                    formatter,
                    "its PIN command {}",
                    words.first().map_or("", String::as_str)
                )
            }
        }
    }
}

impl Pin {
    /// The first line of some bytes; `None` if it is empty.
    fn first_line(mut bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let end = end.unwrap_or(bytes.len());
        bytes.truncate(end);
        (!bytes.is_empty()).then_some(Self(bytes))
    }

    /// The PIN itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Zeroizing<Vec<u8>>> for Pin {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pin(…)")
    }
}

/// Reads the PIN in a file: its first line.
pub fn read_file(path: &Path) -> Result<Pin, String> {
    let mut file = fs::File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    // Sized before: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(vec![0; LONGEST]);
    let length = fill(&mut file, &mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    bytes.truncate(length);
    Pin::first_line(bytes).ok_or_else(|| "is empty: write the PIN into its first line".to_owned())
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Runs a program for the PIN that it prints. It gets no input and next to no environment, and what it says to standard error
/// is not kept: that could be the PIN.
async fn run(words: &[String], limit: Duration) -> Result<Pin, PinError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(PinError::Lasting("its PIN command is empty".to_owned()));
    };
    let failed = |reason: String| PinError::Passing(format!("its PIN command {program} {reason}"));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| PinError::Lasting(format!("its PIN command {program} cannot be started: {error}")))?;
    let mut group = Group::of(&child);
    let stdout = child.stdout.take();
    let mut bytes = Zeroizing::new(vec![0; LONGEST]);
    let done = timeout(limit, async {
        let mut length = 0;
        if let Some(mut stdout) = stdout {
            while length < bytes.len() {
                match stdout.read(&mut bytes[length..]).await? {
                    0 => break,
                    more => length += more,
                }
            }
        }
        Ok::<_, io::Error>((length, child.wait().await?))
    });
    let (length, status) = match done.await {
        Err(_) => return Err(failed(format!("did not end within {limit:?} and was killed"))),
        Ok(Err(error)) => return Err(failed(format!("cannot be read: {error}"))),
        Ok(Ok(done)) => done,
    };
    group.has_ended();
    if !status.success() {
        return Err(failed(format!("failed ({status}); run it by hand to see why")));
    }
    bytes.truncate(length);
    Pin::first_line(bytes).ok_or_else(|| failed("printed no PIN; expected it in the first line".to_owned()))
}

/// The processes of a command. They are killed when this is dropped before their leader was waited for.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    /// The leader is gone and its number may be another's by now.
    fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The PINs that a token refused: tokens lock after a few wrong ones, so none is tried twice.
///
/// Salted digests stand for them, which say nothing without this process's memory.
pub struct RefusedPins {
    salt: [u8; 32],
    refused: HashSet<PinDigest>,
}

/// Stands for a PIN where it is only to be told from others.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PinDigest([u8; 32]);

impl RefusedPins {
    /// None yet.
    pub fn new() -> Self {
        let mut salt = [0; 32];
        rand::rng().fill(&mut salt);
        Self {
            salt,
            refused: HashSet::new(),
        }
    }

    /// What stands for a PIN.
    pub fn digest(&self, pin: &Pin) -> PinDigest {
        PinDigest(
            Sha256::new_with_prefix(self.salt)
                .chain_update(pin.expose())
                .finalize()
                .into(),
        )
    }

    /// Notes that the token refused it.
    pub fn refuse(&mut self, pin: PinDigest) {
        self.refused.insert(pin);
    }

    /// Whether the token refused it.
    pub fn is_refused(&self, pin: PinDigest) -> bool {
        self.refused.contains(&pin)
    }
}

impl Default for RefusedPins {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RefusedPins {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RefusedPins").finish_non_exhaustive()
    }
}

impl fmt::Debug for PinDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PinDigest(…)")
    }
}

/// PINs are shorter; what is longer is not read.
const LONGEST: usize = 4096;
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str, timeout: Duration) -> PinSource {
        PinSource::Command {
            words: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            timeout,
        }
    }

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_first_line_of_a_command_counts() {
        let pin = shell("printf '1234\\r\\nrest\\n'; echo noise >&2", SOON).read().await;
        assert_eq!(pin.expect("a PIN").expose(), b"1234");
        // Nothing of this process's environment reaches it, and it waits for no input.
        let pin = shell("cat; test -z \"$HOME$CARGO$USER\" && echo none", SOON)
            .read()
            .await;
        assert_eq!(pin.expect("a PIN").expose(), b"none");
    }

    #[tokio::test]
    async fn a_command_that_fails_says_so_without_its_output() {
        for (script, expected) in [
            ("echo 1234; exit 3", "failed (exit status: 3)"),
            ("true", "printed no PIN"),
            ("echo; echo 1234", "printed no PIN"),
        ] {
            let error = shell(script, SOON).read().await.expect_err("no PIN").to_string();
            assert!(error.contains(expected) && !error.contains("1234"), "{error}");
        }
        let absent = PinSource::Command {
            words: vec!["/nowhere/pin".to_owned()],
            timeout: SOON,
        };
        assert!(matches!(absent.read().await, Err(PinError::Lasting(_))));
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed_with_all_that_it_started() {
        let directory = tempfile::tempdir().expect("a directory");
        let child = directory.path().join("child");
        let script = format!("sleep 600 & echo $! > {}; wait", child.display());
        let started = Instant::now();
        let error = shell(&script, Duration::from_millis(500))
            .read()
            .await
            .expect_err("no PIN");
        assert!(error.to_string().contains("was killed"), "{error}");
        assert!(started.elapsed() < SOON);
        let pid = fs::read_to_string(child).expect("the child's number");
        let stat = Path::new("/proc").join(pid.trim()).join("stat");
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(started.elapsed() < SOON, "the command's child lives on");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn endless_output_is_not_read_to_its_end() {
        let error = shell("yes", SOON).read().await;
        // It is told by a closed pipe that nobody listens, or killed: in either case it ends without success.
        assert!(matches!(error, Err(PinError::Passing(_))), "{error:?}");
    }

    #[tokio::test]
    async fn a_credential_without_a_directory_says_what_to_do() {
        let error = PinSource::Credential("hsm-a".to_owned())
            .read()
            .await
            .expect_err("no PIN");
        assert!(error.to_string().contains("LoadCredential="), "{error}");
    }

    #[test]
    fn a_refused_pin_is_known_again() {
        let pin = |text: &str| Pin::from(Zeroizing::new(text.as_bytes().to_vec()));
        let mut pins = RefusedPins::new();
        pins.refuse(pins.digest(&pin("1234")));
        assert!(pins.is_refused(pins.digest(&pin("1234"))));
        assert!(!pins.is_refused(pins.digest(&pin("12345"))));
        assert!(!format!("{pins:?} {:?}", pin("1234")).contains("1234"));
    }
}

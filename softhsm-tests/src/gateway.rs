//! A running `portcullisd serve`.

use crate::{
    cluster::TestCluster,
    process::Held,
    program::{LONG, PAUSE, SHORT, find_tool, wait_until, workspace_binary},
    wire::Wire,
    worker,
};
use portcullis_client::{
    Client, Credentials, Endpoint,
    v1::{ListMembersRequest, ListMembersResponse, Member, MemberState},
};
use rustix::process::Signal;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Instant,
};

/// How a gateway is started.
pub struct Launch<'c> {
    cluster: &'c TestCluster,
    mount: Option<Mount>,
    under: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    program: PathBuf,
}

/// What a gateway finds where a directory was.
enum Mount {
    SmallDisk(PathBuf, String),
    ReadOnly(PathBuf),
}

impl<'c> Launch<'c> {
    /// As an operator would.
    pub fn new(cluster: &'c TestCluster) -> Self {
        Self {
            cluster,
            mount: None,
            under: Vec::new(),
            environment: Vec::new(),
            program: workspace_binary("portcullisd"),
        }
    }

    /// In a mount namespace of its own, where a directory is a file system of a few bytes in memory. It goes with the
    /// process; from outside it is `/proc/{pid}/root/{directory}`.
    #[must_use]
    pub fn with_small_disk_at(mut self, directory: &Path, size: &str) -> Self {
        self.mount = Some(Mount::SmallDisk(directory.to_owned(), size.to_owned()));
        self
    }

    /// In a mount namespace of its own, where nothing can be written to a directory.
    #[must_use]
    pub fn with_read_only(mut self, directory: &Path) -> Self {
        self.mount = Some(Mount::ReadOnly(directory.to_owned()));
        self
    }

    /// By a program that becomes the gateway: its path and arguments.
    #[must_use]
    pub fn under<A: Into<OsString>>(mut self, program: PathBuf, arguments: impl IntoIterator<Item = A>) -> Self {
        self.under.push(program.into());
        self.under.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn with_environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// From a copy of the program.
    #[must_use]
    pub fn from_copy(mut self, program: &Path) -> Self {
        self.program = program.to_owned();
        self
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    ///
    /// When it ends or is not ready in time, with what it wrote to standard error.
    #[track_caller]
    pub fn start(self) -> Gateway {
        let mut gateway = Gateway::spawn(self.command(), self.cluster);
        gateway.wait_for_ready_line();
        gateway
    }

    /// Starts it and does not wait for its ready line.
    #[track_caller]
    pub fn begin(self) -> Gateway {
        Gateway::spawn(self.command(), self.cluster)
    }

    /// Starts what must not become ready, and waits for its end.
    #[track_caller]
    pub fn start_in_vain(self) -> Ended {
        let gateway = Gateway::spawn(self.command(), self.cluster);
        gateway.wait_for_end(LONG)
    }

    fn command(&self) -> Command {
        let portcullisd = &self.program;
        let in_namespace = |script: &str, size: &str, directory: &Path| {
            let mut command = Command::new(find_tool("unshare", "util-linux"));
            if !rustix::process::getuid().is_root() {
                command.arg("--map-root-user");
            }
            let script = format!(r#"{script} && shift 2 && exec "$@""#);
            command.args(["--mount", "sh", "-euc", &script, "sh", size]);
            command.arg(directory).arg(portcullisd);
            command
        };
        let mut command = match &self.mount {
            None => match self.under.as_slice() {
                [] => Command::new(portcullisd),
                [first, more @ ..] => {
                    let mut command = Command::new(first);
                    command.args(more).arg(portcullisd);
                    command
                }
            },
            Some(Mount::SmallDisk(directory, size)) => {
                in_namespace(r#"mount -t tmpfs -o "size=$1" tmpfs "$2""#, size, directory)
            }
            Some(Mount::ReadOnly(directory)) => in_namespace(
                r#"mount --bind "$2" "$2" && mount -o remount,bind,ro "$2""#,
                "",
                directory,
            ),
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("serve").arg("--config").arg(self.cluster.config_file());
        command
    }
}

/// A running gateway. It is killed and reaped when it is dropped; if the test failed, its log is shown.
pub struct Gateway {
    child: Option<Child>,
    pid: u32,
    developer: Credentials,
    unix: Option<PathBuf>,
    tls: Option<SocketAddr>,
    lines: mpsc::Receiver<String>,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// A gateway that has ended.
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote to standard output after the ready line.
    pub stdout: Vec<String>,
    /// What it wrote to standard error.
    pub log: String,
}

impl Gateway {
    /// Starts a gateway on a cluster and waits until it serves.
    #[track_caller]
    pub fn start(cluster: &TestCluster) -> Self {
        Launch::new(cluster).start()
    }

    fn spawn(mut command: Command, cluster: &TestCluster) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let (sender, lines) = mpsc::channel();
        let log = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let readers = vec![
            thread::spawn(move || forward_lines(stdout, |line| drop(sender.send(line)))),
            thread::spawn({
                let log = Arc::clone(&log);
                move || {
                    forward_lines(stderr, |line| {
                        let mut log = log.lock().unwrap_or_else(|lock| lock.into_inner());
                        log.push_str(&line);
                        log.push('\n');
                    });
                }
            }),
        ];
        Self {
            pid: child.id(),
            child: Some(child),
            developer: cluster.developer(),
            unix: None,
            tls: None,
            lines,
            log,
            readers,
        }
    }

    #[track_caller]
    fn wait_for_ready_line(&mut self) {
        let line = match self.lines.recv_timeout(LONG) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("portcullisd was not ready after {LONG:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("portcullisd ended before it was ready"),
        };
        let rest = line
            .strip_prefix("ready")
            .unwrap_or_else(|| panic!("not a ready line: {line:?}"));
        for field in rest.split_ascii_whitespace() {
            match field.split_once('=') {
                Some(("unix", path)) => self.unix = Some(path.into()),
                Some(("tls", address)) => self.tls = Some(address.parse().expect("an address in the ready line")),
                _ => panic!("not a ready line: {line:?}"),
            }
        }
    }

    /// The gateway's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(|lock| lock.into_inner()).clone()
    }

    /// Whether the ready line names a Unix socket, and an mTLS address.
    pub fn listens(&self) -> (bool, bool) {
        (self.unix.is_some(), self.tls.is_some())
    }

    /// The path of its socket.
    pub fn unix(&self) -> &Path {
        self.unix.as_deref().expect("the ready line names a Unix socket")
    }

    /// The address of its mTLS listener.
    pub fn tls(&self) -> SocketAddr {
        self.tls.expect("the ready line names an mTLS address")
    }

    /// The socket as an endpoint.
    pub fn unix_endpoint(&self) -> Endpoint {
        Endpoint::unix(self.unix())
    }

    /// The mTLS listener as an endpoint.
    pub fn tls_endpoint(&self) -> Endpoint {
        format!("https://{}", self.tls()).parse().expect("an endpoint")
    }

    /// A client over the Unix socket.
    pub async fn unix_client(&self) -> Client {
        Client::connect(self.unix_endpoint(), None)
            .await
            .unwrap_or_else(|error| panic!("over the socket: {error}"))
    }

    /// The developer's client over mTLS.
    pub async fn tls_client(&self) -> Client {
        self.tls_client_as(&self.developer)
            .await
            .unwrap_or_else(|error| panic!("over mTLS: {error}"))
    }

    /// Somebody's client over mTLS.
    pub async fn tls_client_as(&self, credentials: &Credentials) -> Result<Client, portcullis_client::Error> {
        Client::connect(self.tls_endpoint(), Some(credentials.clone())).await
    }

    /// A client over each transport, with the transport's name.
    pub async fn clients(&self) -> [(&'static str, Client); 2] {
        [("unix", self.unix_client().await), ("tls", self.tls_client().await)]
    }

    /// gRPC without messages, over the Unix socket.
    pub async fn wire(&self) -> Wire {
        Wire::connect(self.unix()).await
    }

    /// What the gateway says of its members.
    pub async fn cluster_status(&self) -> ListMembersResponse {
        let client = self.tls_client().await;
        client
            .cluster()
            .list_members(ListMembersRequest {})
            .await
            .expect("ListMembers")
            .into_inner()
    }

    /// What the gateway says of one member.
    pub async fn member(&self, member: &str) -> Member {
        let name = format!("members/{member}");
        let status = self.cluster_status().await;
        status
            .members
            .into_iter()
            .find(|one| one.name == name)
            .unwrap_or_else(|| panic!("no {name}"))
    }

    /// Waits until a member is in a state.
    pub async fn wait_for_member(&self, member: &str, state: MemberState) -> Member {
        self.wait_for(member, state.as_str_name(), |found| found.state() == state)
            .await
    }

    /// Waits until a member is ready with its second, third, … worker. Right after a worker's death the gateway may not know
    /// of it yet.
    pub async fn wait_for_worker(&self, member: &str, starts: u64) -> Member {
        let what = format!("READY with worker {starts}");
        let ready = |found: &Member| found.state() == MemberState::Ready && found.worker_starts >= starts;
        self.wait_for(member, &what, ready).await
    }

    /// Waits until a member is as it should be.
    pub async fn wait_for(&self, member: &str, what: &str, is_so: impl Fn(&Member) -> bool) -> Member {
        let started = Instant::now();
        loop {
            let found = self.member(member).await;
            if is_so(&found) {
                return found;
            }
            let (now, starts, reason) = (found.state().as_str_name(), found.worker_starts, found.reason);
            assert!(
                started.elapsed() < LONG,
                "member {member} is {now} with worker {starts} ({reason}), not {what}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The worker processes by member.
    pub fn workers(&self) -> BTreeMap<String, u32> {
        worker::workers_of(self.pid)
    }

    /// Sends the gateway SIGHUP.
    pub fn hang_up(&self) {
        worker::signal(self.pid, Signal::HUP);
    }

    /// Kills (-9) a member's worker; returns its process id when it is gone.
    #[track_caller]
    pub fn kill_worker(&self, member: &str) -> u32 {
        let pid = wait_until(&format!("a worker of member {member}"), SHORT, || {
            self.workers().get(member).copied()
        });
        worker::kill_worker(self.pid, pid);
        wait_until(&format!("the end of worker {pid}"), SHORT, || {
            (!worker::is_running(pid)).then_some(pid)
        })
    }

    /// Stops (SIGSTOP) a member's worker, as a hanging vendor library would; returns its process id.
    #[track_caller]
    pub fn freeze_worker(&self, member: &str) -> u32 {
        let pid = wait_until(&format!("a worker of member {member}"), SHORT, || {
            self.workers().get(member).copied()
        });
        worker::freeze_worker(self.pid, pid);
        pid
    }

    /// Lets a frozen worker go on (SIGCONT).
    #[track_caller]
    pub fn thaw_worker(&self, member: &str) {
        let pid = *self
            .workers()
            .get(member)
            .unwrap_or_else(|| panic!("no worker of member {member}"));
        worker::thaw_worker(self.pid, pid);
    }

    /// Asks the gateway to end and waits for it.
    #[track_caller]
    pub fn stop(self) -> Ended {
        worker::signal(self.pid, Signal::TERM);
        let ended = self.wait_for_end(LONG);
        assert!(
            ended.status.success(),
            "portcullisd ended with {}:\n{}",
            ended.status,
            ended.log
        );
        ended
    }

    /// Kills (-9) the gateway. Its workers must follow by themselves.
    #[track_caller]
    pub fn kill9(self) -> Ended {
        let workers = self.workers();
        worker::signal(self.pid, Signal::KILL);
        let ended = self.wait_for_end(SHORT);
        for (member, pid) in workers {
            wait_until(
                &format!("the end of the orphaned worker {pid} of member {member}"),
                SHORT,
                || (!worker::is_running(pid)).then_some(()),
            );
        }
        ended
    }

    #[track_caller]
    fn wait_for_end(mut self, limit: std::time::Duration) -> Ended {
        let child = self.child.as_mut().expect("the process was not reaped yet");
        let status = wait_until("the end of portcullisd", limit, || {
            child.try_wait().expect("its status")
        });
        self.child = None;
        // The workers hold the other ends of the pipes too, but no longer than the gateway.
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        Ended {
            status,
            stdout: self.lines.try_iter().collect(),
            log: self.log(),
        }
    }

    /// A file inside the process's own mount namespace.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix("/").expect("an absolute path");
        Path::new("/proc")
            .join(self.pid.to_string())
            .join("root")
            .join(relative)
    }

    /// What the process holds.
    pub fn held(&self) -> Held {
        Held::by(self.pid).expect("a process that runs")
    }
}

impl Drop for Gateway {
    #[expect(
        clippy::print_stderr,
        reason = "the log of a gateway belongs to the message of the test that failed"
    )]
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A frozen worker would not see that the gateway is gone.
            worker::thaw_all(self.pid);
            drop(child.kill());
            drop(child.wait());
        }
        if thread::panicking() {
            eprintln!("--- the log of portcullisd {}\n{}---", self.pid, self.log());
        }
    }
}

fn forward_lines(from: impl Read, mut to: impl FnMut(String)) {
    for line in BufReader::new(from).split(b'\n') {
        let Ok(line) = line else { return };
        to(String::from_utf8_lossy(&line).into_owned());
    }
}

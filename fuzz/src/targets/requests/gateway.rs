//! A whole gateway in this process, with one member.

use portcullis_client::{Client, Endpoint};
use portcullis_gateway::{
    audit::ChainVerifier,
    dev::{self, DevOptions},
    reload::{Configuration, Reloading},
    server,
};
use portcullis_hsm::worker;
use portcullis_softhsm_tests::Wire;
use std::{
    env, fs,
    io::BufReader,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// A gateway that serves. It is stopped when this is dropped.
pub(super) struct Serving {
    runtime: Runtime,
    directory: TempDir,
    socket: PathBuf,
    wire: Wire,
    stop: CancellationToken,
    served: Option<JoinHandle<()>>,
    // A gateway without it would believe that nobody can ask for a reload any more.
    _ask: mpsc::Sender<()>,
}

impl Serving {
    /// Makes a cluster and serves it.
    pub(super) fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        let stop = CancellationToken::new();
        let (ask, asked) = mpsc::channel(1);
        let (announce, ready) = oneshot::channel();
        let (socket, served) = runtime.block_on(async {
            let options = DevOptions {
                state: directory.path().join("state"),
                listen: (Ipv4Addr::LOCALHOST, 0).into(),
                module: None,
                environment: Vec::new(),
            };
            let config = dev::prepare(&options, |_| {}).await.expect("a development cluster");
            let configuration = Configuration::new(&config).adjusted(|settings| {
                // More members would only repeat what this one says.
                settings.members.truncate(1);
                settings.tls = None;
            });
            let settings = configuration.load().expect("its configuration");
            let reloading = Reloading {
                configuration,
                set_filter: Box::new(|_| Ok(())),
                asked,
            };
            let stop = stop.clone();
            let served = tokio::spawn(async move {
                let served = server::serve(settings, reloading, stop, |ready| drop(announce.send(ready)));
                served.await.expect("a gateway that serves");
            });
            let ready = timeout(PATIENCE, ready)
                .await
                .expect("ready in time")
                .expect("a gateway that serves");
            (ready.unix.expect("a socket"), served)
        });
        let wire = runtime.block_on(Wire::connect(&socket));
        Self {
            runtime,
            directory,
            socket,
            wire,
            stop,
            served: Some(served),
            _ask: ask,
        }
    }

    /// Waits for something that the gateway does.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// A client.
    pub(super) async fn client(&self) -> Client {
        Client::connect(Endpoint::unix(&self.socket), None)
            .await
            .expect("a connection")
    }

    /// A connection on which any bytes can be sent.
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    fn audit_file(&self) -> PathBuf {
        self.directory.path().join("state/audit.jsonl")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self
            .served
            .take()
            .map(|served| self.runtime.block_on(async { timeout(PATIENCE, served).await }));
        if !thread::panicking() {
            ended
                .expect("it was started")
                .expect("stopped in time")
                .expect("a gateway does not panic");
            check_audit(&self.audit_file());
        }
    }
}

/// Whatever was asked for, the audit log is whole.
fn check_audit(file: &Path) {
    let mut chain = ChainVerifier::new(None);
    let log = BufReader::new(fs::File::open(file).expect("the audit log"));
    assert_eq!(chain.read(log).expect("a whole chain"), 0, "bytes after the last line");
    assert!(chain.finish().expect("a whole chain").lines > 0);
}

/// Becomes a worker, if the gateway in a process like this one started it as that.
pub fn become_worker_if_asked() {
    if env::args().nth(1).as_deref() == Some("hsm-worker") {
        let socket = worker::socket_from_stdin().expect("a socket as standard input");
        let ended = worker::run(socket, None);
        process::exit(i32::from(ended.is_err()));
    }
}

const PATIENCE: Duration = Duration::from_secs(120);

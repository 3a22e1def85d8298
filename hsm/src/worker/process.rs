//! The worker process from its first frame to its end.

use super::{
    control::{Control, Started},
    frame_buffer::FrameBuffer,
    hardening,
    protocol::{Empty, FailureKind, ReplyBody, Request, RequestBody},
    reply::{Replies, Timing, failure},
    session_thread::{self, Job},
};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rustix::process::{Signal, getpid, kill_process};
use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    panic,
    sync::{Arc, Mutex, OnceLock},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Standard input is not the socket that a gateway hands to its worker.
#[derive(Debug, thiserror::Error)]
#[error("a worker is started by portcullisd, which hands it a socket as standard input: {0}")]
pub struct SocketError(#[from] io::Error);

/// Takes the socket that the gateway passed as standard input, and puts `/dev/null` in its place, so that no vendor library
/// reads from it.
pub fn socket_from_stdin() -> Result<UnixStream, SocketError> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Fails on anything that is not a Unix socket.
    socket.peer_addr()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?).map_err(io::Error::from)?;
    Ok(socket)
}

/// Serves requests until the gateway says stop; ends the process at once when the gateway is gone.
///
/// `unconfined` says why the process may write where it should not. A panic in any thread ends the process: the gateway sees the socket close, moves the work and starts another worker.
pub fn run(socket: UnixStream, unconfined: Option<String>) -> io::Result<()> {
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        default_hook(info);
        die();
    }));
    // Before anything secret arrives.
    let mut unprotected = hardening::harden();
    unprotected.extend(unconfined);
    let replies = Replies::new(socket.try_clone()?);
    let queue: Arc<OnceLock<Queue>> = Arc::default();
    let member = Arc::default();
    let mut control_threads = Vec::new();
    let mut control_thread = |name: &str| -> io::Result<Sender<Job>> {
        let (sender, requests) = bounded(CONTROL_QUEUE);
        let control = Control::new(&member, &unprotected);
        let (queue, replies) = (Arc::clone(&queue), replies.clone());
        control_threads.push(spawn(name, move || {
            serve_control(control, &requests, &queue, &replies)
        })?);
        Ok(sender)
    };
    let control = control_thread("control")?;
    let changes = control_thread("changes")?;
    let (mut socket, mut buffer) = (socket, FrameBuffer::new());
    loop {
        let request = match buffer.read::<Request>(&mut socket) {
            Ok(Some(request)) => request,
            Ok(None) | Err(_) => die(),
        };
        let id = request.id;
        match request.body {
            None => {
                let empty = failure(FailureKind::Refused, "the request is empty");
                replies.send_at_once(id, ReplyBody::Failure(empty));
            }
            Some(RequestBody::Stop(_)) => {
                drop((control, changes));
                control_threads.into_iter().for_each(join);
                if let Some(queue) = queue.get() {
                    queue.finish();
                }
                replies.send_at_once(id, ReplyBody::Done(Empty {}));
                return Ok(());
            }
            Some(body) => {
                let came = Instant::now();
                let start_by = (request.time_left_us > 0).then(|| came + Duration::from_micros(request.time_left_us));
                let job = Job {
                    id,
                    came,
                    start_by,
                    body,
                };
                let refused = if is_queued(&job.body) {
                    match queue.get() {
                        None => Some(failure(FailureKind::Refused, "the worker has not opened its token")),
                        Some(queue) => queue.add(job),
                    }
                } else {
                    let thread = if is_change(&job.body) { &changes } else { &control };
                    let busy = || failure(FailureKind::Busy, "too many changes of token objects wait");
                    thread.try_send(job).err().map(|_| busy())
                };
                if let Some(failure) = refused {
                    replies.send_at_once(id, ReplyBody::Failure(failure));
                }
            }
        }
    }
}

/// The session threads and the queue that they serve.
#[derive(Debug)]
struct Queue {
    // Taken when the process stops, which closes the queue.
    sender: Mutex<Option<Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Queue {
    fn start(started: Started, replies: &Replies) -> io::Result<Self> {
        let (sender, receiver) = bounded::<Job>(started.queue.max(1));
        let mut threads = Vec::new();
        for number in 0..started.sessions {
            let (member, receiver, replies) = (Arc::clone(&started.member), receiver.clone(), replies.clone());
            let name = format!("session-{number}");
            threads.push(spawn(&name, move || {
                session_thread::work(&member, &receiver, &replies)
            })?);
        }
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            threads: Mutex::new(threads),
        })
    }

    /// Adds a job; says why if it cannot.
    fn add(&self, job: Job) -> Option<super::protocol::Failure> {
        let sender = self.sender.lock().unwrap_or_else(|lock| lock.into_inner());
        match sender.as_ref()?.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(_)) => Some(failure(FailureKind::Busy, "the worker's queue is full")),
            Err(TrySendError::Disconnected(_)) => Some(failure(FailureKind::MemberFault, "no session thread is left")),
        }
    }

    /// Closes the queue and waits until all accepted work is answered.
    fn finish(&self) {
        self.sender.lock().unwrap_or_else(|lock| lock.into_inner()).take();
        for thread in self.threads.lock().unwrap_or_else(|lock| lock.into_inner()).drain(..) {
            join(thread);
        }
    }
}

fn serve_control(mut control: Control, requests: &Receiver<Job>, queue: &OnceLock<Queue>, replies: &Replies) {
    for Job {
        id,
        came,
        start_by,
        body,
    } in requests
    {
        let timing = Timing::begin(came);
        let result = match body {
            _ if start_by.is_some_and(|start_by| timing.began() >= start_by) => Err(session_thread::too_late()),
            RequestBody::Open(mut request) => control.open(&mut request).and_then(|(started, reply)| {
                let started = Queue::start(started, replies)
                    .map_err(|error| failure(FailureKind::Fatal, format!("cannot start session threads: {error}")))?;
                // Opening is refused a second time, so the queue is not set yet.
                let _ = queue.set(started);
                Ok(reply)
            }),
            mut body => control.answer(&mut body),
        };
        replies.send(id, timing, result);
    }
}

/// Whether a request changes token objects, or may take long.
fn is_change(body: &RequestBody) -> bool {
    matches!(
        body,
        RequestBody::GenerateResident(_)
            | RequestBody::DestroyResident(_)
            | RequestBody::ImportResident(_)
            | RequestBody::CreateOrigin(_)
            | RequestBody::Clone(_)
            | RequestBody::DestroyOrigin(_)
            | RequestBody::TryForbidden(_)
    )
}

fn is_queued(body: &RequestBody) -> bool {
    matches!(
        body,
        RequestBody::Sign(_)
            | RequestBody::Encrypt(_)
            | RequestBody::Decrypt(_)
            | RequestBody::VerifyMac(_)
            | RequestBody::EncryptBare(_)
            | RequestBody::DecryptBare(_)
            | RequestBody::DecryptAsymmetric(_)
            | RequestBody::Agree(_)
            | RequestBody::GenerateDataKey(_)
            | RequestBody::ReEncrypt(_)
            | RequestBody::GenerateWrapped(_)
            | RequestBody::Random(_)
            | RequestBody::CheckRecords(_)
            | RequestBody::AuthenticateRows(_)
            | RequestBody::ImportWrapped(_)
            | RequestBody::Export(_)
            | RequestBody::GenerateEphemeral(_)
            | RequestBody::RenewEphemeral(_)
    )
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

fn join(thread: JoinHandle<()>) {
    // A panicking thread has ended the process.
    let _ = thread.join();
}

/// Ends the process without running the vendor library's exit handlers, which crash in some.
fn die() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}

const CONTROL_QUEUE: usize = 64;

//! The worker process from its first frame to its end.

use super::{
    control::{Control, Started},
    frame_buffer::FrameBuffer,
    hardening,
    lane::{CHANGES_QUEUE, Lane},
    protocol::{Empty, Failure, FailureKind, ReplyBody, Request, RequestBody},
    queue::Queue,
    reply::{Replies, Timing, failure},
    session_thread::{self, Job},
};
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::process::{Signal, getpid, kill_process};
use std::{
    fs::File,
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    panic,
    sync::{Arc, OnceLock},
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
    let queues: Arc<OnceLock<Queues>> = Arc::default();
    let member = Arc::default();
    let mut control_threads = Vec::new();
    let mut control_thread = |name: &str| -> io::Result<Sender<Job>> {
        let (sender, requests) = bounded(CHANGES_QUEUE);
        let control = Control::new(&member, &unprotected);
        let (queues, replies) = (Arc::clone(&queues), replies.clone());
        control_threads.push(spawn(name, move || {
            serve_control(control, &requests, &queues, &replies)
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
                if let Some(queues) = queues.get() {
                    queues.finish();
                }
                replies.send_at_once(id, ReplyBody::Done(Empty {}));
                return Ok(());
            }
            Some(RequestBody::Cancel(other)) => {
                if let Some(queues) = queues.get() {
                    queues.cancel(other);
                }
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
                let lane = Lane::of(&job.body);
                let refused = match (lane, queues.get()) {
                    (Lane::Uses | Lane::Generations, None) => {
                        Some(failure(FailureKind::Refused, "the worker has not opened its token"))
                    }
                    (Lane::Uses, Some(queues)) => queues.uses.add(job),
                    (Lane::Generations, Some(queues)) => queues.generations.add(job),
                    (Lane::Control, _) => refused_by(&control, job),
                    (Lane::Changes, _) => refused_by(&changes, job),
                };
                if let Some(failure) = refused {
                    replies.send_at_once(id, ReplyBody::Failure(failure));
                }
            }
        }
    }
}

/// The lanes that exist once the token is open.
#[derive(Debug)]
struct Queues {
    uses: Queue,
    generations: Queue,
}

impl Queues {
    fn start(started: Started, replies: &Replies) -> io::Result<Self> {
        let member = &started.member;
        let generations = started.generation_sessions;
        Ok(Self {
            uses: Queue::start("session", started.sessions, started.queue, member, replies)?,
            generations: Queue::start("generation", generations, started.generation_queue, member, replies)?,
        })
    }

    fn cancel(&self, id: u64) {
        self.uses.cancel(id);
        self.generations.cancel(id);
    }

    fn finish(&self) {
        self.uses.finish();
        self.generations.finish();
    }
}

/// Gives a job to a thread with a short queue; says why if it cannot.
fn refused_by(thread: &Sender<Job>, job: Job) -> Option<Failure> {
    let busy = || failure(FailureKind::Busy, "too many changes of token objects wait");
    thread.try_send(job).err().map(|_| busy())
}

fn serve_control(mut control: Control, requests: &Receiver<Job>, queues: &OnceLock<Queues>, replies: &Replies) {
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
                let started = Queues::start(started, replies)
                    .map_err(|error| failure(FailureKind::Fatal, format!("cannot start session threads: {error}")))?;
                // Opening is refused a second time, so they are not set yet.
                let _ = queues.set(started);
                Ok(reply)
            }),
            mut body => control.answer(&mut body),
        };
        replies.send(id, timing, result);
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

fn join(thread: JoinHandle<()>) {
    // A panicking thread has ended the process.
    let _ = thread.join();
}

/// Ends the process, and says why.
pub(super) fn end_process(why: &str) -> ! {
    // If nobody reads it, nobody can be told.
    let _ = writeln!(io::stderr(), "{why}");
    die()
}

/// Ends the process without running the vendor library's exit handlers, which crash in some.
fn die() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}

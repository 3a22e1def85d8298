//! A worker process and the socket to it.

use super::outgoing::{Closed, Outgoing, Turn};
use portcullis_hsm::worker::{
    frame_buffer::FrameBuffer,
    protocol::{MAX_FRAME, Reply, ReplyBody, Request, RequestBody, encode_frame},
};
use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fmt, io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::{UnixStream, unix::OwnedReadHalf},
    process::{Child, ChildStderr, Command},
    sync::{Notify, oneshot},
};

/// Why a request has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nothing that was asked of the worker will be answered.
    #[error("the worker process is gone")]
    Gone,
    /// The request was not sent: the worker would end over it.
    #[error("a request of {0} bytes does not fit a frame")]
    TooLong(usize),
}

/// A worker's answer, with how long it took.
pub struct Answer {
    /// What came of the request.
    pub body: ReplyBody,
    /// How long the request waited in the worker for a thread.
    pub waited: Duration,
    /// How long the worker worked on it.
    pub worked: Duration,
}

/// A request that the worker has and has not answered.
pub struct UnderWay {
    /// By which it is cancelled.
    pub id: u64,
    /// Brings the answer.
    pub answer: oneshot::Receiver<Answer>,
}

/// A running worker. It is killed when the last share of it is dropped.
pub struct Worker {
    outgoing: Arc<Outgoing>,
    pending: Arc<Mutex<Pending>>,
    next_id: AtomicU64,
    kill: Arc<Notify>,
}

/// Who waits for which reply; `None` once the worker is gone.
struct Pending(Option<HashMap<u64, oneshot::Sender<Answer>>>);

impl Worker {
    /// Starts this program again as a worker, with one end of a socket pair as its standard input and the given
    /// environment as its only one. If `write_only_in` names directories, it may write nowhere else. `on_gone` is called once, with the reason, when the process has ended.
    pub fn spawn(
        member: &str,
        environment: &BTreeMap<String, String>,
        write_only_in: &[PathBuf],
        on_gone: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = UnixStream::from_std(ours)?;
        // Not the path of the program: that may have been replaced by another version, which speaks another protocol.
        let mut child = Command::new(Path::new("/proc/self/exe"))
            .arg0("portcullisd")
            // The name is for people who look at a list of processes.
            .args(["hsm-worker", member])
            .args(
                write_only_in
                    .iter()
                    .flat_map(|directory| [OsStr::new("--write-only-in"), directory.as_os_str()]),
            )
            .env_clear()
            .envs(environment)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (reader, writer) = ours.into_split();
        let outgoing = Arc::new(Outgoing::new(writer));
        let pending = Arc::new(Mutex::new(Pending(Some(HashMap::new()))));
        let kill = Arc::new(Notify::new());
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(repeat_log(member.to_owned(), stderr));
        }
        tokio::spawn({
            let outgoing = Arc::clone(&outgoing);
            async move { outgoing.write_queued().await }
        });
        tokio::spawn({
            let (pending, kill) = (Arc::clone(&pending), Arc::clone(&kill));
            async move {
                tokio::select! {
                    () = receive_replies(reader, &pending) => {}
                    () = kill.notified() => {}
                }
                // Dropping the senders tells every waiting caller at once.
                lock(&pending).0 = None;
                on_gone(reap(child).await);
            }
        });
        Ok(Arc::new(Self {
            outgoing,
            pending,
            next_id: AtomicU64::new(1),
            kill,
        }))
    }

    /// Asks the worker and waits for its reply.
    pub async fn request(&self, body: RequestBody, time_left: Option<Duration>) -> Result<ReplyBody, RequestError> {
        let answer = self.send(body, time_left)?.answer.await;
        answer.map(|answer| answer.body).map_err(|_| RequestError::Gone)
    }

    /// Sends a request. The reply comes by the channel, which closes without one when the worker is gone. The request is under
    /// way until then, also when nobody waits for it any more.
    pub fn send(&self, body: RequestBody, time_left: Option<Duration>) -> Result<UnderWay, RequestError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let time_left_us = time_left.map_or(0, |left| u64::try_from(left.as_micros()).unwrap_or(u64::MAX).max(1));
        let is_probe = matches!(body, RequestBody::Probe(_));
        let frame = encode_frame(&Request {
            id,
            time_left_us,
            body: Some(body),
        });
        if frame.len() > 4 + MAX_FRAME {
            return Err(RequestError::TooLong(frame.len()));
        }
        let (sender, receiver) = oneshot::channel();
        let is_idle = match &mut lock(&self.pending).0 {
            Some(waiting) => {
                let is_idle = waiting.is_empty();
                waiting.insert(id, sender);
                is_idle
            }
            None => return Err(RequestError::Gone),
        };
        let turn = match (is_idle, is_probe) {
            (true, _) => Turn::AtOnce,
            (false, true) => Turn::Urgent,
            // In order: a cancellation comes after what it cancels, a stop after what is to be finished.
            (false, false) => Turn::InOrder,
        };
        self.outgoing.send(frame, turn).map_err(|Closed| RequestError::Gone)?;
        Ok(UnderWay { id, answer: receiver })
    }

    /// Tells the worker that nobody waits for a request: it is not begun, if it was not yet, and answered in its turn.
    pub fn cancel(&self, id: u64) {
        let cancel = Request {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            time_left_us: 0,
            body: Some(RequestBody::Cancel(id)),
        };
        // A worker that is gone begins nothing.
        let _ = self.outgoing.send(encode_frame(&cancel), Turn::InOrder);
    }

    /// Kills the process.
    pub fn kill(&self) {
        self.kill.notify_one();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.outgoing.close();
        self.kill();
    }
}

/// Reads replies until the socket closes or carries something that is no reply.
async fn receive_replies(mut reader: OwnedReadHalf, pending: &Mutex<Pending>) {
    let mut buffer = FrameBuffer::new();
    while let Ok(1..) = reader.read(buffer.room()).await.inspect(|count| buffer.came(*count)) {
        loop {
            let reply = match buffer.take() {
                Ok(Some(reply)) => reply,
                Ok(None) => break,
                Err(_) => return,
            };
            let Reply {
                id,
                body: Some(body),
                waited_us,
                worked_us,
            } = reply
            else {
                return;
            };
            let waiting = lock(pending).0.as_mut().and_then(|waiting| waiting.remove(&id));
            if let Some(sender) = waiting {
                let _ = sender.send(Answer {
                    body,
                    waited: Duration::from_micros(waited_us),
                    worked: Duration::from_micros(worked_us),
                });
            }
        }
    }
}

/// Ends a process, if it has not ended itself, and says how it ended.
async fn reap(mut child: Child) -> String {
    // A worker that was told to stop exits by itself; one that lost its socket is ending.
    if let Ok(Ok(status)) = tokio::time::timeout(EXIT_GRACE, child.wait()).await {
        return format!("its worker ended: {status}");
    }
    let _ = child.start_kill();
    match child.wait().await {
        Ok(status) => format!("its worker was ended: {status}"),
        Err(error) => format!("its worker cannot be waited for: {error}"),
    }
}

/// What a vendor's library prints becomes log lines.
async fn repeat_log(member: String, stderr: ChildStderr) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    // A line without end is cut into pieces; what is no text is shown as well as it can be.
    while let Ok(1..) = (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
        tracing::warn!(member, "worker: {}", String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

fn lock(pending: &Mutex<Pending>) -> std::sync::MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(|lock| lock.into_inner())
}

const LONGEST_LINE: u64 = 4096;
const EXIT_GRACE: Duration = Duration::from_millis(20);

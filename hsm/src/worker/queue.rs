//! A lane with a queue: session threads, and the jobs that wait for them.

use super::{
    protocol::{Failure, FailureKind},
    reply::{Replies, failure},
    session_thread::{self, Job},
};
use crate::{member::Member, pkcs11::Session};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
};

/// The session threads of a lane and the queue that they serve.
#[derive(Debug)]
pub(super) struct Queue {
    // Taken when the process stops, which closes the queue.
    sender: Mutex<Option<Sender<Job>>>,
    waiting: Arc<Waiting>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The jobs that were not begun and not cancelled.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<HashSet<u64>>);

impl Queue {
    /// Starts a thread for each session, named after the lane, for at most so many jobs that wait.
    pub(super) fn start(
        lane: &str,
        sessions: Vec<Session>,
        capacity: usize,
        member: &Arc<Member>,
        replies: &Replies,
    ) -> io::Result<Self> {
        let (sender, receiver) = bounded::<Job>(capacity.max(1));
        let waiting = Arc::new(Waiting::default());
        let start = |(number, session)| {
            let name = format!("{lane}-{number}");
            spawn_thread(&name, session, member, &receiver, &waiting, replies)
        };
        let threads = sessions.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            waiting,
            threads: Mutex::new(threads),
        })
    }

    /// Adds a job; says why if it cannot.
    pub(super) fn add(&self, job: Job) -> Option<Failure> {
        let sender = lock(&self.sender);
        let id = job.id;
        self.waiting.add(id);
        let refused = match sender.as_ref()?.try_send(job) {
            Ok(()) => return None,
            Err(TrySendError::Full(_)) => failure(FailureKind::Busy, "the worker's queue is full"),
            Err(TrySendError::Disconnected(_)) => failure(FailureKind::MemberFault, "no session thread is left"),
        };
        self.waiting.take(id);
        Some(refused)
    }

    /// Sees to it that a job is not begun, if it still waits. It is answered in its turn.
    pub(super) fn cancel(&self, id: u64) {
        self.waiting.take(id);
    }

    /// Closes the queue and waits until all accepted work is answered.
    pub(super) fn finish(&self) {
        lock(&self.sender).take();
        for thread in lock(&self.threads).drain(..) {
            // A panicking thread has ended the process.
            let _ = thread.join();
        }
    }
}

impl Waiting {
    fn add(&self, id: u64) {
        lock(&self.0).insert(id);
    }

    /// Takes a job out: to begin it, or so that it is not begun. False if somebody else was faster.
    pub(super) fn take(&self, id: u64) -> bool {
        lock(&self.0).remove(&id)
    }
}

fn spawn_thread(
    name: &str,
    session: Session,
    member: &Arc<Member>,
    receiver: &Receiver<Job>,
    waiting: &Arc<Waiting>,
    replies: &Replies,
) -> io::Result<JoinHandle<()>> {
    let (member, receiver, waiting, replies) = (
        Arc::clone(member),
        receiver.clone(),
        Arc::clone(waiting),
        replies.clone(),
    );
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || session_thread::work(&member, session, &receiver, &waiting, &replies))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

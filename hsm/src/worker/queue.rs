//! A lane with a queue: session threads, and the jobs that wait for them.

use super::{
    protocol::{Failure, FailureKind},
    reply::{Replies, failure},
    session_thread::{self, Job},
};
use crate::{member::Member, pkcs11::Session};
use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle, Thread},
};

/// The session threads of a lane and the queue that they serve.
#[derive(Debug)]
pub(super) struct Queue {
    jobs: Arc<Jobs>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The jobs that were not begun. Each is begun in the order in which it came, by the thread that rested last: what that works with is
/// still in the caches of its processor.
pub(super) struct Jobs {
    capacity: usize,
    state: Mutex<State>,
}

/// A job whose turn has come.
pub(super) struct Turn {
    pub(super) job: Job,
    /// Its caller went away: it is answered, and not begun.
    pub(super) is_cancelled: bool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Turn>,
    // Threads with nothing to do; the one that rested last comes last.
    resting: Vec<Thread>,
    is_closed: bool,
}

impl Queue {
    /// Starts a thread for each session, named after the lane, for at most so many jobs that wait.
    pub(super) fn start(
        lane: &str,
        sessions: Vec<Session>,
        capacity: usize,
        member: &Arc<Member>,
        replies: &Replies,
    ) -> io::Result<Self> {
        let jobs = Arc::new(Jobs::new(capacity));
        let start = |(number, session)| {
            let (member, jobs, replies) = (Arc::clone(member), Arc::clone(&jobs), replies.clone());
            thread::Builder::new()
                .name(format!("{lane}-{number}"))
                .spawn(move || session_thread::work(&member, session, &jobs, &replies))
        };
        let threads = sessions.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
        Ok(Self {
            jobs,
            threads: Mutex::new(threads),
        })
    }

    /// Adds a job; says why if it cannot.
    pub(super) fn add(&self, job: Job) -> Option<Failure> {
        self.jobs.add(job)
    }

    /// Sees to it that a job is not begun, if it still waits. It is answered in its turn.
    pub(super) fn cancel(&self, id: u64) {
        self.jobs.cancel(id);
    }

    /// Closes the queue and waits until all accepted work is answered.
    pub(super) fn finish(&self) {
        self.jobs.close();
        for thread in lock(&self.threads).drain(..) {
            // A panicking thread has ended the process.
            let _ = thread.join();
        }
    }
}

impl Jobs {
    /// No job, of at most so many.
    fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            state: Mutex::new(State::default()),
        }
    }

    fn add(&self, job: Job) -> Option<Failure> {
        let mut state = lock(&self.state);
        if state.is_closed {
            return Some(failure(FailureKind::Refused, "the worker is ending"));
        }
        if state.waiting.len() >= self.capacity {
            return Some(failure(FailureKind::Busy, "the worker's queue is full"));
        }
        state.waiting.push_back(Turn {
            job,
            is_cancelled: false,
        });
        let rested = state.resting.pop();
        drop(state);
        if let Some(thread) = rested {
            thread.unpark();
        }
        None
    }

    fn cancel(&self, id: u64) {
        let mut state = lock(&self.state);
        if let Some(turn) = state.waiting.iter_mut().find(|turn| turn.job.id == id) {
            turn.is_cancelled = true;
        }
    }

    fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        for thread in state.resting.drain(..) {
            thread.unpark();
        }
    }

    /// The next job, if one waits.
    pub(super) fn next_waiting(&self) -> Option<Turn> {
        lock(&self.state).waiting.pop_front()
    }

    /// The next job, once there is one; `None` when the queue is closed and empty.
    pub(super) fn next(&self) -> Option<Turn> {
        let own = thread::current();
        loop {
            let mut state = lock(&self.state);
            if let Some(turn) = state.waiting.pop_front() {
                return Some(turn);
            }
            if state.is_closed {
                return None;
            }
            // Threads also wake without having been called.
            state.resting.retain(|thread| thread.id() != own.id());
            state.resting.push(own.clone());
            drop(state);
            thread::park();
        }
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Jobs").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

#[cfg(test)]
mod tests {
    use super::{
        super::protocol::{Random, RequestBody},
        *,
    };
    use std::time::Instant;

    fn job(id: u64) -> Job {
        Job {
            id,
            came: Instant::now(),
            start_by: None,
            body: RequestBody::Random(Random { length: 1 }),
        }
    }

    #[test]
    fn jobs_come_out_in_their_order_and_no_more_go_in_than_there_is_room_for() {
        let jobs = Jobs::new(2);
        assert!(jobs.add(job(1)).is_none());
        assert!(jobs.add(job(2)).is_none());
        assert_eq!(jobs.add(job(3)).map(|failure| failure.kind()), Some(FailureKind::Busy));
        jobs.cancel(2);
        jobs.cancel(7);
        let turns: Vec<_> = std::iter::from_fn(|| jobs.next_waiting())
            .map(|turn| (turn.job.id, turn.is_cancelled))
            .collect();
        assert_eq!(turns, [(1, false), (2, true)]);
    }

    #[test]
    fn each_job_is_done_once_and_threads_end_when_the_queue_is_closed_and_empty() {
        let jobs = Jobs::new(10_000);
        let done = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(turn) = jobs.next() {
                        lock(&done).push(turn.job.id);
                    }
                });
            }
            for id in 0..10_000 {
                assert!(jobs.add(job(id)).is_none());
            }
            jobs.close();
            assert!(jobs.add(job(10_000)).is_some());
        });
        let mut done = lock(&done).clone();
        done.sort_unstable();
        assert_eq!(done, (0..10_000).collect::<Vec<_>>());
    }
}

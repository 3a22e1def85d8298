//! A few connections, lent to one call at a time.

use super::{
    connection::{Connection, Failure},
    endpoint::Endpoint,
};
use crate::{
    abi::host,
    config::{Config, CredentialFiles, MOST_CONNECTIONS},
    error::{Error, Result},
    log::{Level, LogSettings},
};
use cryptoki_sys::CKR_DEVICE_ERROR;
use portcullis_proto::v1::{pipeline_request::Request as Asked, pipeline_response::Response as Answer};
use std::{
    os::fd::RawFd,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The connections of this process. None is opened before a call needs one.
pub(crate) struct Pool {
    endpoint: Endpoint,
    credentials: Option<CredentialFiles>,
    timeout: Duration,
    connect_timeout: Duration,
    most: usize,
    log: LogSettings,
    state: Mutex<State>,
    returned: Condvar,
    /// The open sockets, for a forked child, which may take no lock to learn of them.
    descriptors: [AtomicI32; MOST_CONNECTIONS],
}

#[derive(Default)]
struct State {
    /// The one that was used last is used first.
    idle: Vec<Connection>,
    open: usize,
}

impl Pool {
    /// With no connection.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            endpoint: config.endpoint.clone(),
            credentials: config.credentials.clone(),
            timeout: config.timeout,
            connect_timeout: config.connect_timeout,
            most: config.connections,
            log: config.log.clone(),
            state: Mutex::default(),
            returned: Condvar::new(),
            descriptors: [const { AtomicI32::new(NONE) }; MOST_CONNECTIONS],
        }
    }

    /// Performs an operation on the stream of a connection. Any use of a key may be made again.
    pub(crate) fn perform(&self, asked: Asked) -> Result<Answer> {
        self.with(|connection, deadline| connection.perform(asked.clone(), deadline))
    }

    /// Closes what the parent of this forked process has open. The parent's copies stay open, and are told nothing.
    pub(crate) fn close_inherited(&self) {
        for descriptor in &self.descriptors {
            let descriptor = descriptor.swap(NONE, Ordering::Relaxed);
            if descriptor != NONE {
                host::close_inherited(descriptor);
            }
        }
    }

    /// Lends a connection to something that may be done again, until it was done, was refused, or the time is over.
    pub(super) fn with<T>(
        &self,
        mut work: impl FnMut(&mut Connection, Instant) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let deadline = Instant::now() + self.timeout;
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match self.attempt(deadline, &mut work) {
                Ok(result) => return Ok(result),
                Err(failure) => failure,
            };
            let wait = match &failure {
                Failure::Broken(detail) => {
                    self.log.write(Level::Warn, detail);
                    Some(pause)
                }
                Failure::Answered(answered) => answered.retry_delay.map(|delay| delay.max(pause)),
                Failure::Late | Failure::Misconfigured(_) => None,
            };
            match wait.filter(|wait| Instant::now() + *wait < deadline) {
                Some(wait) => thread::sleep(wait),
                None => return Err(failure.into()),
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    fn attempt<T>(
        &self,
        deadline: Instant,
        work: &mut impl FnMut(&mut Connection, Instant) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        let lent = self.take(deadline)?;
        // The connection is given back, or dropped, in here too: both may write.
        host::without_sigpipe(|| {
            let mut lent = lent;
            if lent.connection.is_none() {
                let left = deadline.saturating_duration_since(Instant::now());
                let limit = self.connect_timeout.min(left);
                let opened = Connection::open(&self.endpoint, self.credentials.as_ref(), limit)?;
                self.note(NONE, opened.descriptor());
                lent.connection = Some(opened);
            }
            let Some(connection) = &mut lent.connection else {
                return Err(Failure::Broken("there is no connection".into()));
            };
            let result = work(connection, deadline);
            // A late answer would come to whoever uses the stream next.
            lent.is_good = matches!(result, Ok(_) | Err(Failure::Answered(_)));
            result
        })
    }

    /// An idle connection, or a place for a new one.
    fn take(&self, deadline: Instant) -> std::result::Result<Lent<'_>, Failure> {
        let mut state = self.state();
        loop {
            let connection = state.idle.pop();
            if connection.is_none() && state.open < self.most {
                state.open += 1;
            } else if connection.is_none() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Failure::Late);
                }
                let waited = self.returned.wait_timeout(state, left);
                state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
                continue;
            }
            return Ok(Lent {
                pool: self,
                connection,
                is_good: false,
            });
        }
    }

    fn note(&self, before: RawFd, now: RawFd) {
        let exchanged = |one: &&AtomicI32| {
            one.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        // There are as many places as there can be connections.
        let _ = self.descriptors.iter().find(exchanged);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let idle = std::mem::take(&mut self.state().idle);
        host::without_sigpipe(|| drop(idle));
    }
}

/// A connection while one call has it.
struct Lent<'p> {
    pool: &'p Pool,
    connection: Option<Connection>,
    is_good: bool,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take();
        if !self.is_good
            && let Some(connection) = &connection
        {
            self.pool.note(connection.descriptor(), NONE);
        }
        let mut state = self.pool.state();
        match connection {
            Some(connection) if self.is_good => state.idle.push(connection),
            broken => {
                state.open -= 1;
                drop(state);
                drop(broken);
            }
        }
        self.pool.returned.notify_one();
    }
}

/// The answer to one operation was none to it.
pub(super) fn unexpected() -> Error {
    Error::new(
        CKR_DEVICE_ERROR,
        "the gateway answered something else than what it was asked",
    )
}

const NONE: RawFd = -1;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

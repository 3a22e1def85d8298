//! A stream of operations, answered as they finish.
//!
//! One task reads a stream and gives each operation a task of its own. It reads no further while as many operations, or as many
//! bytes of them, are under way as a stream may have; answers that the caller does not take count as under way. When the caller
//! goes away, everything that it had under way is dropped.

use super::{
    super::{
        ApiError, Gateway, Reason, bare_status,
        call::Refused,
        caller::{Caller, LONGEST, peer_of, request_id},
        deadline::time_allowed,
        ending::stopping,
    },
    CryptoRequest, perform,
};
use crate::{identity::Peer, policy::Action, telemetry};
use portcullis_proto::v1::{self, pipeline_request::Request as Asked, pipeline_response::Response as Answer};
use prost::Message;
use std::{
    collections::HashSet,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};
use uuid::Uuid;

/// Answers a stream.
pub(super) fn answer(
    gateway: &Arc<Gateway>,
    request: Request<Streaming<v1::PipelineRequest>>,
) -> Result<ReceiverStream<Result<v1::PipelineResponse, Status>>, Status> {
    let (answers, stream) = mpsc::channel(ANSWERS);
    let pipeline = Pipeline {
        gateway: Arc::clone(gateway),
        peer: peer_of(&request)?,
        id: request_id(&request),
        deadline: time_allowed(request.metadata()).map(|allowed| Instant::now() + allowed),
        slots: Arc::new(Semaphore::new(gateway.limits().pipeline_operations as usize)),
        bytes: Arc::new(Semaphore::new(BYTES as usize)),
        ids: Arc::default(),
        answers,
        failed: CancellationToken::new(),
    };
    tokio::spawn(telemetry::follow(pipeline.run(request.into_inner())));
    Ok(ReceiverStream::new(stream))
}

/// A stream under way.
struct Pipeline {
    gateway: Arc<Gateway>,
    peer: Arc<Peer>,
    // What its audit entries have in common.
    id: Uuid,
    // The stream's own, where the caller set one.
    deadline: Option<Instant>,
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    // Of operations that are not answered.
    ids: Arc<Mutex<HashSet<u64>>>,
    answers: mpsc::Sender<Result<v1::PipelineResponse, Status>>,
    // An operation panicked.
    failed: CancellationToken,
}

/// An operation that was read, with its place in the stream.
struct Accepted {
    request: v1::PipelineRequest,
    place: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Pipeline {
    async fn run(self, mut requests: Streaming<v1::PipelineRequest>) {
        let mut work = JoinSet::new();
        let mut waiting = None;
        // Made once, not for each operation.
        let (gone, told, failed) = (self.answers.closed(), self.told_to_end(), self.failed.cancelled());
        let (mut gone, mut told, mut failed) = (pin!(gone), pin!(told), pin!(failed));
        let end = loop {
            // Nobody is woken for each operation that is done: they are forgotten when the next one comes.
            while work.try_join_next().is_some() {}
            tokio::select! {
                biased;
                // Dropping the work cancels it.
                () = &mut gone => return,
                error = &mut told => break Some(self.status(error)),
                () = &mut failed => {
                    let error = ApiError::new(Reason::Internal, "the gateway failed while it did an operation");
                    break Some(self.status(error));
                }
                next = self.next(&mut requests, &mut waiting) => match next {
                    Ok(Some(accepted)) => drop(work.spawn(telemetry::follow(self.operation(accepted)))),
                    Ok(None) => break None,
                    Err(status) => break Some(self.unreadable(&status)),
                },
            }
        };
        // What was read is answered, however the stream ends.
        loop {
            tokio::select! {
                () = &mut gone => return,
                done = work.join_next() => if done.is_none() { break },
            }
        }
        if let Some(status) = end {
            let _ = self.answers.send(Err(status)).await;
        }
    }

    /// The next operation, once there is room for it. What was read and has no room stands in `waiting`, so that nothing is lost
    /// when this is dropped.
    async fn next(
        &self,
        requests: &mut Streaming<v1::PipelineRequest>,
        waiting: &mut Option<v1::PipelineRequest>,
    ) -> Result<Option<Accepted>, Status> {
        // Fails only when the semaphore is closed, which it never is.
        let gone = |_| Status::internal("the stream has ended");
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(gone)?;
        if waiting.is_none() {
            *waiting = requests.message().await?;
        }
        let Some(request) = waiting.as_ref() else {
            return Ok(None);
        };
        let length = u32::try_from(request.encoded_len()).unwrap_or(BYTES).min(BYTES);
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(length).await.map_err(gone)?;
        Ok(waiting.take().map(|request| Accepted {
            request,
            place: (slot, bytes),
        }))
    }

    /// Ends when the stream must, with why.
    async fn told_to_end(&self) -> ApiError {
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.gateway.stopping.cancelled() => {}
            () = self.peer.until_ended() => if let Some(reason) = self.peer.ended() {
                return reason.into();
            },
            () = deadline => {
                return ApiError::new(Reason::DeadlineExceeded, "the stream's deadline has passed");
            }
        }
        stopping()
    }

    /// Does an operation, in a task that owns what it needs. On the heap from the start: it is large, and is handed on several times.
    fn operation(&self, Accepted { request, place }: Accepted) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let v1::PipelineRequest { id, timeout, request } = request;
        let deadline = timeout
            .map(|timeout| {
                let found = format!("{} s and {} ns", timeout.seconds, timeout.nanos);
                let wrong = |_| {
                    ApiError::field(
                        "timeout",
                        format!("expected a duration that is not negative, found {found}"),
                    )
                };
                Duration::try_from(timeout).map_err(wrong)
            })
            .transpose()
            .map(|allowed| self.deadline(allowed));
        let is_new = self.ids().insert(id);
        let (gateway, peer, stream) = (Arc::clone(&self.gateway), Arc::clone(&self.peer), self.id);
        let (ids, answers) = (Arc::clone(&self.ids), self.answers.clone());
        let longest = self.deadline(None);
        let failure = TellsOfPanic(self.failed.clone());
        Box::pin(async move {
            let _failure = failure;
            let caller = |deadline| Caller {
                peer,
                deadline,
                request: stream,
                batch: Some(stream),
            };
            let prepared = if is_new {
                deadline
            } else {
                Err(ApiError::field(
                    "id",
                    format!(
                        "{id} is in use by an operation of this stream: expected one that is new, or whose answer has come"
                    ),
                ))
            };
            let response = match (prepared, request) {
                (Ok(deadline), Some(asked)) => perform_one(&gateway, caller(deadline), asked).await,
                (Ok(deadline), None) => {
                    let error = ApiError::field("request", "expected an operation, found none that this gateway knows");
                    unbegun(&gateway, &caller(deadline), NO_ACTION, error)
                }
                (Err(error), asked) => {
                    let action = asked.as_ref().map_or(NO_ACTION, |asked| action_of(asked).name());
                    unbegun(&gateway, &caller(longest), action, error)
                }
            };
            if is_new {
                // Before the answer leaves: whoever has it may use the id again.
                lock(&ids).remove(&id);
            }
            let response = v1::PipelineResponse {
                id,
                response: Some(response),
            };
            // Fails only when the caller has gone.
            let _ = answers.send(Ok(response)).await;
            drop(place);
        })
    }

    /// When an operation must be done that may take so long.
    fn deadline(&self, allowed: Option<Duration>) -> Instant {
        let allowed = allowed.unwrap_or_else(|| self.gateway.cluster.default_deadline());
        let deadline = Instant::now() + allowed.min(LONGEST);
        self.deadline.map_or(deadline, |stream| stream.min(deadline))
    }

    /// The end of a stream that brought something else than a message. That is the caller's doing, and stands in the audit log
    /// like an operation that is refused; a transport that failed does not.
    fn unreadable(&self, status: &Status) -> Status {
        let error = bare_status::meaning(status);
        if !matches!(error.reason(), Reason::RequestMalformed | Reason::RequestTooLarge) {
            return self.status(error);
        }
        let caller = Caller {
            peer: Arc::clone(&self.peer),
            deadline: self.deadline(None),
            request: self.id,
            batch: None,
        };
        caller.refuse(&self.gateway, NO_ACTION, error).into_status()
    }

    fn ids(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        lock(&self.ids)
    }

    fn status(&self, error: ApiError) -> Status {
        Refused::new(error, self.id).into_status()
    }
}

/// Lets the stream end when the task that has this panics.
struct TellsOfPanic(CancellationToken);

impl Drop for TellsOfPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

/// Performs what was asked, of whichever kind it is.
async fn perform_one(gateway: &Arc<Gateway>, caller: Caller, asked: Asked) -> Answer {
    match asked {
        Asked::Sign(request) => one(gateway, caller, request, Answer::Sign).await,
        Asked::Verify(request) => one(gateway, caller, request, Answer::Verify).await,
        Asked::Encrypt(request) => one(gateway, caller, request, Answer::Encrypt).await,
        Asked::Decrypt(request) => one(gateway, caller, request, Answer::Decrypt).await,
        Asked::ReEncrypt(request) => one(gateway, caller, request, Answer::ReEncrypt).await,
        Asked::GenerateDataKey(request) => one(gateway, caller, request, Answer::GenerateDataKey).await,
        Asked::MacSign(request) => one(gateway, caller, request, Answer::MacSign).await,
        Asked::MacVerify(request) => one(gateway, caller, request, Answer::MacVerify).await,
        Asked::AsymmetricDecrypt(request) => one(gateway, caller, request, Answer::AsymmetricDecrypt).await,
        Asked::DeriveSharedSecret(request) => one(gateway, caller, request, Answer::DeriveSharedSecret).await,
        Asked::GenerateRandom(request) => one(gateway, caller, request, Answer::GenerateRandom).await,
    }
}

async fn one<R: CryptoRequest>(
    gateway: &Arc<Gateway>,
    caller: Caller,
    request: R,
    answer: impl FnOnce(R::Response) -> Answer,
) -> Answer {
    match perform(gateway, caller, request).await {
        Ok(response) => answer(response),
        Err(refused) => Answer::Error(refused.into_operation_error()),
    }
}

/// The answer to what was never begun.
fn unbegun(gateway: &Gateway, caller: &Caller, action: &'static str, error: ApiError) -> Answer {
    let refused = caller.refuse(gateway, action, error);
    // The stream's own status says nothing of it.
    gateway.telemetry.metrics().refused(refused.reason());
    Answer::Error(refused.into_operation_error())
}

/// What an operation would have asked the policy for.
fn action_of(asked: &Asked) -> Action {
    match asked {
        Asked::Sign(request) => request.action(),
        Asked::Verify(request) => request.action(),
        Asked::Encrypt(request) => request.action(),
        Asked::Decrypt(request) => request.action(),
        Asked::ReEncrypt(request) => request.action(),
        Asked::GenerateDataKey(request) => request.action(),
        Asked::MacSign(request) => request.action(),
        Asked::MacVerify(request) => request.action(),
        Asked::AsymmetricDecrypt(request) => request.action(),
        Asked::DeriveSharedSecret(request) => request.action(),
        Asked::GenerateRandom(request) => request.action(),
    }
}

fn lock(ids: &Mutex<HashSet<u64>>) -> std::sync::MutexGuard<'_, HashSet<u64>> {
    ids.lock().unwrap_or_else(|lock| lock.into_inner())
}

/// What the audit log calls something that came in a stream and is no operation.
const NO_ACTION: &str = "pipeline";
/// Answers that wait for the transport.
const ANSWERS: usize = 32;
/// The bytes of requests that a stream may have under way: a few of the longest.
const BYTES: u32 = 16 << 20;

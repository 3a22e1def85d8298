//! The stream that all uses of keys share.
//!
//! Whoever uses a key takes a place, leaves word where the answer is to go, and puts the request on the stream; one task reads
//! the answers and hands them out. A place is free again when the gateway has answered, also where nobody waits any more,
//! because until then the gateway is busy with it. So there is never more on a stream than the gateway reads, and a place
//! always means a place there.
//!
//! A stream is opened by the first operation that needs one. When it ends, what had no answer is told so; the next operation
//! opens another. When the connection is replaced, the old stream takes nothing more and ends when all is answered.

use crate::{
    client::{MAX_ANSWER_BYTES, PIPELINED_OPERATIONS},
    error::Error,
    transport::Transport,
    v1::{
        PipelineRequest, PipelineResponse, crypto_service_client::CryptoServiceClient,
        pipeline_request::Request as Asked, pipeline_response::Response as Answer,
    },
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// A stream of operations, opened when it is needed.
pub(crate) struct Pipeline {
    transport: Mutex<Transport>,
    stream: Mutex<Option<Stream>>,
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// What answers there does not serve streams.
    absent: AtomicBool,
}

/// Why an operation has no answer.
pub(crate) enum Unanswered {
    /// The stream ended, and the operation may be tried again as the error says.
    Ended(Error),
    /// The stream says nothing about this operation: it must be asked for by a call of its own.
    Alone,
}

impl Pipeline {
    pub(crate) fn over(transport: Transport) -> Self {
        Self {
            transport: Mutex::new(transport),
            stream: Mutex::default(),
            places: Arc::new(Semaphore::new(PIPELINED_OPERATIONS)),
            bytes: Arc::new(Semaphore::new(BYTES as usize)),
            absent: AtomicBool::new(false),
        }
    }

    /// Whether an operation of so many bytes belongs on the stream. Large ones would keep small ones waiting behind them.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        bytes <= LARGEST && !self.absent.load(Ordering::Relaxed)
    }

    /// Waits for a place, and then for the answer. Dropped, it gives up what it had not yet put on the stream.
    pub(crate) async fn perform(&self, request: Asked, bytes: usize, deadline: Instant) -> Result<Answer, Unanswered> {
        // They fail only when they are closed, which they never are.
        let closed = |_| Unanswered::Alone;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(closed)?;
        let bytes = u32::try_from(bytes).unwrap_or(BYTES).clamp(1, BYTES);
        let bytes = Arc::clone(&self.bytes)
            .acquire_many_owned(bytes)
            .await
            .map_err(closed)?;
        let answer = self.put(request, deadline, (place, bytes));
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(self.unanswered(status)),
            Err(_) => Err(self.unanswered(Status::unavailable(ENDED))),
        }
    }

    /// Puts an operation on the present stream, or on a new one.
    fn put(&self, request: Asked, deadline: Instant, place: Place) -> oneshot::Receiver<Outcome> {
        let (reply, answer) = oneshot::channel();
        let replaced = lock(&self.transport).follow();
        let mut stream = lock(&self.stream);
        if replaced {
            // Its half of the old stream ends with this; whoever waits for an answer gets it.
            *stream = None;
        }
        let message = (request, deadline);
        let waiting = Waiting { reply, place };
        if let Some((message, waiting)) = match stream.as_ref() {
            Some(stream) => stream.send(message, waiting),
            None => Some((message, waiting)),
        } {
            let new = Stream::open(lock(&self.transport).clone());
            // A new stream takes at least one operation, unless there is no runtime any more; then the reply is dropped.
            drop(new.send(message, waiting));
            *stream = Some(new);
        }
        answer
    }

    fn unanswered(&self, status: Status) -> Unanswered {
        if status.code() == Code::Unimplemented {
            self.absent.store(true, Ordering::Relaxed);
        }
        match Error::from(status) {
            error @ (Error::Unavailable(_) | Error::Connection(_)) => Unanswered::Ended(error),
            // A message that the gateway does not take ends the stream of all; a call of its own tells whose it was.
            _ => Unanswered::Alone,
        }
    }
}

type Outcome = Result<Answer, Status>;
type Place = (OwnedSemaphorePermit, OwnedSemaphorePermit);
type Message = (Asked, Instant);

/// Who waits for an answer. Nobody may wait any more, but the place is taken until it comes.
struct Waiting {
    reply: oneshot::Sender<Outcome>,
    place: Place,
}

/// An open stream. When it is dropped, its sending half ends.
struct Stream {
    requests: mpsc::Sender<PipelineRequest>,
    table: Arc<Mutex<Table>>,
}

impl Stream {
    fn open(transport: Transport) -> Self {
        // There are as many places, so this is never full.
        let (requests, messages) = mpsc::channel(PIPELINED_OPERATIONS);
        let table = Arc::new(Mutex::new(Table::default()));
        let service = CryptoServiceClient::new(transport).max_decoding_message_size(MAX_ANSWER_BYTES);
        tokio::spawn(run(service, messages, Arc::clone(&table)));
        Self { requests, table }
    }

    /// Nothing where it was put on the stream; both where the stream has ended.
    fn send(&self, (request, deadline): Message, waiting: Waiting) -> Option<(Message, Waiting)> {
        let mut table = lock(&self.table);
        let Some(id) = table.free() else {
            return Some(((request, deadline), waiting));
        };
        let message = PipelineRequest {
            id,
            timeout: time_for_the_gateway(deadline).try_into().ok(),
            request: Some(request),
        };
        match self.requests.try_send(message) {
            Ok(()) => {
                table.put(id, waiting);
                None
            }
            Err(mpsc::error::TrySendError::Closed(message) | mpsc::error::TrySendError::Full(message)) => {
                message.request.map(|request| ((request, deadline), waiting))
            }
        }
    }
}

/// What the gateway may take of the time until a deadline: the answer has to come back.
fn time_for_the_gateway(deadline: Instant) -> Duration {
    let left = deadline.saturating_duration_since(Instant::now());
    left - (left / 16).min(WAY_BACK)
}

/// Opens the stream and hands out answers until it ends.
async fn run(
    mut service: CryptoServiceClient<Transport>,
    requests: mpsc::Receiver<PipelineRequest>,
    table: Arc<Mutex<Table>>,
) {
    let ended = match service.pipeline(ReceiverStream::new(requests)).await {
        Ok(answers) => hand_out(answers.into_inner(), &table).await,
        Err(status) => status,
    };
    let waiting = lock(&table).end();
    for waiting in waiting {
        drop(waiting.reply.send(Err(ended.clone())));
    }
}

/// The status with which the stream ended.
async fn hand_out(mut answers: Streaming<PipelineResponse>, table: &Mutex<Table>) -> Status {
    loop {
        match answers.message().await {
            Ok(Some(PipelineResponse {
                id,
                response: Some(answer),
            })) => {
                let waiting = lock(table).take(id);
                if let Some(waiting) = waiting {
                    drop(waiting.reply.send(Ok(answer)));
                    drop(waiting.place);
                }
            }
            // An answer of a kind that is not known here.
            Ok(Some(PipelineResponse { id, response: None })) => {
                let waiting = lock(table).take(id);
                if let Some(waiting) = waiting {
                    let status = Status::internal("the gateway answered something that this client does not know");
                    drop(waiting.reply.send(Err(status)));
                }
            }
            Ok(None) => return Status::unavailable(ENDED),
            Err(status) => return status,
        }
    }
}

/// Who waits for which answer. An id is a slot, and a number that makes it another one each time.
#[derive(Default)]
struct Table {
    slots: Vec<(u64, Option<Waiting>)>,
    empty: Vec<usize>,
    uses: u64,
    ended: bool,
}

impl Table {
    /// An id that nobody waits for; none when the stream has ended.
    fn free(&mut self) -> Option<u64> {
        if self.ended {
            return None;
        }
        let slot = self.empty.last().copied().unwrap_or(self.slots.len());
        self.uses += 1;
        Some(self.uses << SLOT_BITS | slot as u64)
    }

    /// Takes the slot of an id that was just given out.
    fn put(&mut self, id: u64, waiting: Waiting) {
        match self.empty.pop() {
            Some(slot) => self.slots[slot] = (id, Some(waiting)),
            None => self.slots.push((id, Some(waiting))),
        }
    }

    /// Whoever waits for this answer; none where the gateway made it up.
    fn take(&mut self, id: u64) -> Option<Waiting> {
        let slot = usize::try_from(id & SLOT_MASK).ok()?;
        let (expected, waiting) = self.slots.get_mut(slot)?;
        if *expected != id {
            return None;
        }
        let waiting = waiting.take()?;
        self.empty.push(slot);
        Some(waiting)
    }

    /// Takes nothing more; all who wait.
    fn end(&mut self) -> Vec<Waiting> {
        self.ended = true;
        self.slots.drain(..).filter_map(|(_, waiting)| waiting).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

const SLOT_BITS: u32 = 16;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// The bytes of requests on a stream.
const BYTES: u32 = 8 << 20;

/// The largest request on a stream: 128 KiB.
const LARGEST: usize = 128 << 10;

const WAY_BACK: Duration = Duration::from_millis(100);

const ENDED: &str = "the stream to the gateway ended";

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(places: &Arc<Semaphore>) -> (Waiting, oneshot::Receiver<Outcome>) {
        let (reply, answer) = oneshot::channel();
        let permit = || Arc::clone(places).try_acquire_owned().expect("a place");
        let place = (permit(), permit());
        (Waiting { reply, place }, answer)
    }

    #[test]
    fn an_answer_goes_to_whoever_asked_and_to_nobody_twice() {
        let places = Arc::new(Semaphore::new(8));
        let mut table = Table::default();
        let (one, mut first) = waiting(&places);
        let id = table.free().expect("an id");
        table.put(id, one);
        let (two, mut second) = waiting(&places);
        let other = table.free().expect("an id");
        table.put(other, two);
        assert_ne!(id, other);
        drop(table.take(other).expect("who asked").reply.send(Err(Status::ok("two"))));
        assert!(second.try_recv().is_ok() && first.try_recv().is_err());
        assert!(table.take(other).is_none());
        assert_eq!(places.available_permits(), 6);
        // The slot is used again, under another id.
        let (three, _third) = waiting(&places);
        let again = table.free().expect("an id");
        table.put(again, three);
        assert_eq!(again & SLOT_MASK, other & SLOT_MASK);
        assert!(table.take(other).is_none() && table.take(u64::MAX).is_none());
        assert_eq!(table.end().len(), 2);
        assert!(table.free().is_none());
        assert_eq!(places.available_permits(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn the_gateway_gets_less_time_than_there_is() {
        let given = |millis| time_for_the_gateway(Instant::now() + Duration::from_millis(millis)).as_millis();
        assert_eq!((given(16), given(1600), given(30_000), given(0)), (15, 1500, 29_900, 0));
    }
}

//! A stream of operations that callers share.

use super::caller::told;
use crate::error::Error;
use portcullis_client::{
    Client,
    v1::{PipelineRequest, PipelineResponse, pipeline_request, pipeline_response},
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// An open stream; it ends when nobody holds it any more.
pub(crate) struct Stream {
    requests: mpsc::Sender<PipelineRequest>,
    waiting: Arc<Mutex<Waiting>>,
    next: AtomicU64,
}

struct Waiting {
    callers: HashMap<u64, oneshot::Sender<Result<(), String>>>,
    // Why there will be no more answers.
    ended: Option<String>,
}

impl Stream {
    pub(super) async fn open(client: &Client) -> Result<Arc<Self>, Error> {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let answers = client
            .crypto()
            .pipeline(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        let waiting = Arc::new(Mutex::new(Waiting {
            callers: HashMap::new(),
            ended: None,
        }));
        tokio::spawn(hand_out(answers, Arc::clone(&waiting)));
        Ok(Arc::new(Self {
            requests,
            waiting,
            next: AtomicU64::new(1),
        }))
    }

    /// Has one operation done.
    pub(super) async fn perform(&self, request: pipeline_request::Request) -> Result<(), String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if let Some(reason) = &waiting.ended {
                return Err(reason.clone());
            }
            waiting.callers.insert(id, sender);
        }
        let request = PipelineRequest {
            id,
            timeout: None,
            request: Some(request),
        };
        // Where the stream is over, the answer says why.
        let _ = self.requests.send(request).await;
        answer.await.unwrap_or_else(|_| Err(ENDED.to_owned()))
    }
}

async fn hand_out(mut answers: Streaming<PipelineResponse>, waiting: Arc<Mutex<Waiting>>) {
    let reason = loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                let caller = lock(&waiting).callers.remove(&answer.id);
                if let Some(caller) = caller {
                    let _ = caller.send(match answer.response {
                        Some(pipeline_response::Response::Error(error)) => Err(error.reason),
                        Some(_) => Ok(()),
                        None => Err("no response in the answer".to_owned()),
                    });
                }
            }
            Ok(None) => break ENDED.to_owned(),
            Err(status) => break told(status),
        }
    };
    let mut waiting = lock(&waiting);
    for (_, caller) in waiting.callers.drain() {
        let _ = caller.send(Err(reason.clone()));
    }
    waiting.ended = Some(reason);
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests that wait for the connection.
const QUEUE: usize = 1024;
const ENDED: &str = "the stream has ended";

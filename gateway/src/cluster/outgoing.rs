//! The way to a worker: frames that are written to its socket.
//!
//! A frame for a worker that has nothing to do is written at once by whoever sends it. What comes while there is more to do is
//! queued, and written together by a task.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard},
};
use tokio::{net::unix::OwnedWriteHalf, sync::Notify};
use zeroize::Zeroizing;

/// A request as it is written.
pub(super) type Frame = Zeroizing<Vec<u8>>;

/// What a frame waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing: the worker has nothing to do.
    AtOnce,
    /// Only others like it: probes, which must not wait behind megabytes of other work.
    Urgent,
    /// All that came before it.
    InOrder,
}

/// A socket that is written to.
#[derive(Debug)]
pub(super) struct Outgoing {
    socket: OwnedWriteHalf,
    queue: Mutex<Queue>,
    more: Notify,
}

/// Nothing can be sent any more.
#[derive(Debug)]
pub(super) struct Closed;

#[derive(Debug, Default)]
struct Queue {
    // What is being written, and how much of it is.
    begun: Option<(Frame, usize)>,
    urgent: VecDeque<Frame>,
    in_order: VecDeque<Frame>,
    closed: bool,
}

impl Outgoing {
    /// Nothing is written before somebody runs [`Outgoing::write_queued`].
    pub(super) fn new(socket: OwnedWriteHalf) -> Self {
        Self {
            socket,
            queue: Mutex::default(),
            more: Notify::new(),
        }
    }

    /// Sends a frame. It is written whole or not at all, unless the socket closes.
    pub(super) fn send(&self, frame: Frame, turn: Turn) -> Result<(), Closed> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Closed);
        }
        match turn {
            Turn::Urgent => queue.urgent.push_back(frame),
            Turn::AtOnce if queue.is_empty() => {
                queue.begun = Some((frame, 0));
                match queue.write_begun(&self.socket) {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(_) => {
                        queue.closed = true;
                        return Err(Closed);
                    }
                }
            }
            Turn::AtOnce | Turn::InOrder => queue.in_order.push_back(frame),
        }
        drop(queue);
        self.more.notify_one();
        Ok(())
    }

    /// Takes no more frames; what is queued is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_one();
    }

    /// Writes what is queued until the socket closes, or until everything is written after [`Outgoing::close`].
    pub(super) async fn write_queued(&self) {
        loop {
            let written = {
                let mut queue = self.lock();
                if !queue.begin() {
                    if queue.closed {
                        return;
                    }
                    None
                } else {
                    Some(queue.write_begun(&self.socket))
                }
            };
            let result = match written {
                None => {
                    self.more.notified().await;
                    Ok(())
                }
                Some(Ok(true)) => Ok(()),
                Some(Ok(false)) => self.socket.writable().await,
                Some(Err(error)) => Err(error),
            };
            if result.is_err() {
                self.lock().closed = true;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.begun.is_none() && self.urgent.is_empty() && self.in_order.is_empty()
    }

    /// Takes what is to be written next, urgent frames first, and small ones together. False if there is nothing.
    fn begin(&mut self) -> bool {
        if self.begun.is_some() {
            return true;
        }
        let mut next = || self.urgent.pop_front().or_else(|| self.in_order.pop_front());
        let Some(first) = next() else { return false };
        let mut frames = vec![first];
        let mut length = frames[0].len();
        while length < WRITTEN_TOGETHER
            && let Some(frame) = next()
        {
            length += frame.len();
            frames.push(frame);
        }
        let joined = match frames.len() {
            1 => frames.swap_remove(0),
            _ => {
                // Of its whole length from the start: what grows leaves copies behind that nobody wipes.
                let mut joined = Zeroizing::new(Vec::with_capacity(length));
                for frame in &frames {
                    joined.extend_from_slice(frame);
                }
                joined
            }
        };
        self.begun = Some((joined, 0));
        true
    }

    /// Writes as much as the socket takes of what was begun. True if that was all of it.
    fn write_begun(&mut self, socket: &OwnedWriteHalf) -> io::Result<bool> {
        while let Some((frame, written)) = &mut self.begun {
            match socket.try_write(&frame[*written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if *written >= frame.len() {
                self.begun = None;
            }
        }
        Ok(true)
    }
}

/// Frames that wait are written together until they have so many bytes.
const WRITTEN_TOGETHER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, time::Duration};
    use tokio::{io::AsyncReadExt, net::UnixStream, time::timeout};

    fn frame(byte: u8, length: usize) -> Frame {
        Zeroizing::new(vec![byte; length])
    }

    async fn pair() -> (Arc<Outgoing>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let (_, writer) = ours.into_split();
        writer.writable().await.expect("a socket that can be written");
        (Arc::new(Outgoing::new(writer)), theirs)
    }

    async fn read(socket: &mut UnixStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read = timeout(Duration::from_secs(30), socket.read_exact(&mut bytes)).await;
        read.expect("bytes in time").expect("as many bytes");
        bytes
    }

    #[tokio::test]
    async fn a_frame_for_an_idle_worker_is_written_by_its_sender() {
        let (outgoing, mut theirs) = pair().await;
        // Nobody writes what is queued.
        outgoing.send(frame(1, 10), Turn::AtOnce).expect("an open socket");
        assert_eq!(read(&mut theirs, 10).await, [1; 10]);
    }

    #[tokio::test]
    async fn urgent_frames_pass_those_that_wait_and_no_frame_is_torn_apart() {
        let (outgoing, mut theirs) = pair().await;
        let long = 4 << 20;
        // More than the socket takes: its rest stays begun.
        outgoing.send(frame(1, long), Turn::AtOnce).expect("an open socket");
        outgoing.send(frame(2, 10), Turn::AtOnce).expect("an open socket");
        outgoing.send(frame(3, 10), Turn::InOrder).expect("an open socket");
        outgoing.send(frame(4, 10), Turn::Urgent).expect("an open socket");
        let writer = tokio::spawn({
            let outgoing = Arc::clone(&outgoing);
            async move { outgoing.write_queued().await }
        });
        let bytes = read(&mut theirs, long + 30).await;
        assert!(bytes[..long].iter().all(|byte| *byte == 1));
        assert_eq!(bytes[long..], [[4; 10], [2; 10], [3; 10]].concat());
        outgoing.send(frame(5, 10), Turn::InOrder).expect("an open socket");
        outgoing.close();
        assert!(outgoing.send(frame(6, 10), Turn::AtOnce).is_err());
        assert_eq!(read(&mut theirs, 10).await, [5; 10]);
        timeout(Duration::from_secs(30), writer)
            .await
            .expect("the writer ends")
            .expect("and well");
    }

    #[tokio::test]
    async fn a_socket_that_closes_ends_the_writing() {
        let (outgoing, theirs) = pair().await;
        drop(theirs);
        assert!(outgoing.send(frame(1, 10), Turn::AtOnce).is_err());
        assert!(outgoing.send(frame(1, 10), Turn::InOrder).is_err());
        timeout(Duration::from_secs(30), outgoing.write_queued())
            .await
            .expect("the writer ends");
    }
}

//! How many connections a listener may have open.

use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// The places of one listener. Their number may change while connections are open: no connection is closed for that.
#[derive(Debug)]
pub struct Places {
    counts: Mutex<Counts>,
    freed: Notify,
}

#[derive(Debug)]
struct Counts {
    taken: usize,
    limit: usize,
}

/// A place. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Places {
    /// So many.
    pub fn new(limit: u32) -> Self {
        Self {
            counts: Mutex::new(Counts {
                taken: 0,
                limit: limit as usize,
            }),
            freed: Notify::new(),
        }
    }

    /// So many from now on.
    pub fn set_limit(&self, limit: u32) {
        self.lock().limit = limit as usize;
        self.freed.notify_one();
    }

    /// Takes a place if there is one.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Place> {
        let mut counts = self.lock();
        if counts.taken >= counts.limit {
            return None;
        }
        counts.taken += 1;
        drop(counts);
        Some(Place(Arc::clone(self)))
    }

    /// Waits for a place. One task at a time waits here.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.try_take() {
                return place;
            }
            self.freed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().taken -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_number_of_places_changes_while_they_are_taken() {
        let places = Arc::new(Places::new(2));
        let (first, second) = (places.take().await, places.take().await);
        assert!(places.try_take().is_none());
        places.set_limit(3);
        let third = places.take().await;
        places.set_limit(1);
        drop(first);
        drop(second);
        assert!(places.try_take().is_none());
        drop(third);
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            let last = places.try_take().expect("a place");
            async move {
                let next = tokio::spawn(async move { places.take().await });
                tokio::task::yield_now().await;
                drop(last);
                next.await
            }
        });
        waiting.await.expect("a task").expect("a place");
    }
}

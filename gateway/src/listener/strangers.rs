//! TCP connections that have not shown who they are. They have few places, and a flood of them must not keep callers out.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio_util::sync::CancellationToken;

/// The connections whose handshake is not done, oldest first.
///
/// When all places are taken, one is freed for whoever comes: the oldest of those who have not said a word, else the oldest.
/// A caller speaks at once and is done in milliseconds; a flood has to begin all places anew in that time to push it out.
#[derive(Debug)]
pub(super) struct Strangers {
    places: usize,
    places_of_an_address: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    address: IpAddr,
    has_spoken: bool,
    dropped: CancellationToken,
}

/// A place. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    strangers: Arc<Strangers>,
    number: u64,
    dropped: CancellationToken,
}

impl Strangers {
    pub(super) fn new(places: usize, places_of_an_address: usize) -> Self {
        Self {
            places,
            places_of_an_address,
            inside: Mutex::default(),
        }
    }

    /// Gives a place to a newcomer; also says whose place it was, if somebody lost it.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> (Stranger, Option<IpAddr>) {
        let mut inside = self.lock();
        let of_address = inside.waiting.values().filter(|one| one.address == address).count();
        let loser = if of_address >= self.places_of_an_address {
            inside.oldest(|one| one.address == address)
        } else if inside.waiting.len() >= self.places {
            inside.oldest(|_| true)
        } else {
            None
        };
        let loser = loser.and_then(|number| inside.waiting.remove(&number));
        let lost = loser.map(|loser| {
            loser.dropped.cancel();
            loser.address
        });
        let number = inside.next;
        inside.next += 1;
        let dropped = CancellationToken::new();
        let waiting = Waiting {
            address,
            has_spoken: false,
            dropped: dropped.clone(),
        };
        inside.waiting.insert(number, waiting);
        drop(inside);
        let stranger = Stranger {
            strangers: Arc::clone(self),
            number,
            dropped,
        };
        (stranger, lost)
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl Inside {
    /// The oldest silent one of those that are meant, else the oldest.
    fn oldest(&self, meant: impl Fn(&Waiting) -> bool) -> Option<u64> {
        let mut meant = self.waiting.iter().filter(|(_, one)| meant(one)).peekable();
        let first = meant.peek().map(|(number, _)| **number);
        meant
            .find(|(_, one)| !one.has_spoken)
            .map(|(number, _)| *number)
            .or(first)
    }
}

impl Stranger {
    /// Notes that its first bytes are here.
    pub(super) fn has_spoken(&self) {
        if let Some(waiting) = self.strangers.lock().waiting.get_mut(&self.number) {
            waiting.has_spoken = true;
        }
    }

    /// Is cancelled when the place went to somebody else.
    pub(super) fn dropped(&self) -> CancellationToken {
        self.dropped.clone()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    #[test]
    fn the_oldest_silent_one_makes_room() {
        let strangers = Arc::new(Strangers::new(3, 3));
        let (first, _) = strangers.admit(address(1));
        let (second, _) = strangers.admit(address(2));
        let (third, lost) = strangers.admit(address(3));
        assert_eq!(lost, None);
        first.has_spoken();
        let (fourth, lost) = strangers.admit(address(4));
        assert_eq!(lost, Some(address(2)));
        assert!(second.dropped().is_cancelled() && !first.dropped().is_cancelled());
        // Where all have spoken, the oldest goes.
        third.has_spoken();
        fourth.has_spoken();
        let (_fifth, lost) = strangers.admit(address(5));
        assert_eq!(lost, Some(address(1)));
        drop(third);
        assert_eq!(strangers.admit(address(6)).1, None);
    }

    #[test]
    fn an_address_that_takes_too_many_places_loses_its_own() {
        let strangers = Arc::new(Strangers::new(10, 2));
        let (caller, _) = strangers.admit(address(1));
        let flood: Vec<_> = (0..5).map(|_| strangers.admit(address(2))).collect();
        assert!(flood.iter().skip(2).all(|(_, lost)| *lost == Some(address(2))));
        assert!(!caller.dropped().is_cancelled());
    }

    #[test]
    fn places_are_given_back() {
        let strangers = Arc::new(Strangers::new(2, 2));
        for _ in 0..10 {
            assert_eq!(strangers.admit(address(1)).1, None);
        }
        assert!(strangers.lock().waiting.is_empty());
    }
}

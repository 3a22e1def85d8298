//! TCP connections that have not shown who they are. They have few places, and a flood of them must not keep callers out.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio_util::sync::CancellationToken;

/// The connections whose handshake is not done, oldest first.
///
/// When all places are taken, one is freed for whoever comes: the oldest of those who have not said a word, else the oldest.
/// A caller speaks at once and is done in milliseconds; a flood has to begin all places anew in that time to push it out.
/// Words that wait in the kernel count, because a flood keeps the processors busy too.
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

struct Waiting {
    address: IpAddr,
    // Whether words wait in the kernel; `None` once some were seen.
    speaks: Option<Box<dyn Fn() -> bool + Send>>,
    dropped: CancellationToken,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Waiting")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
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

    /// Gives a place to a newcomer, of whom `speaks` tells whether its first bytes are here; also says whose place it was, if
    /// somebody lost it.
    pub(super) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        speaks: impl Fn() -> bool + Send + 'static,
    ) -> (Stranger, Option<IpAddr>) {
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
            speaks: Some(Box::new(speaks)),
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
    fn oldest(&mut self, meant: impl Fn(&Waiting) -> bool) -> Option<u64> {
        let mut first = None;
        for (number, one) in self.waiting.iter_mut().filter(|(_, one)| meant(one)) {
            if !one.has_spoken() {
                return Some(*number);
            }
            first = first.or(Some(*number));
        }
        first
    }
}

impl Waiting {
    fn has_spoken(&mut self) -> bool {
        if self.speaks.as_ref().is_some_and(|speaks| speaks()) {
            self.speaks = None;
        }
        self.speaks.is_none()
    }
}

impl Stranger {
    /// Notes that its first bytes are here.
    pub(super) fn has_spoken(&self) {
        if let Some(waiting) = self.strangers.lock().waiting.get_mut(&self.number) {
            waiting.speaks = None;
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

    fn admit(strangers: &Arc<Strangers>, last: u8) -> (Stranger, Option<IpAddr>) {
        strangers.admit(address(last), || false)
    }

    #[test]
    fn the_oldest_silent_one_makes_room() {
        let strangers = Arc::new(Strangers::new(3, 3));
        let (first, _) = admit(&strangers, 1);
        let (second, _) = admit(&strangers, 2);
        let (third, lost) = admit(&strangers, 3);
        assert_eq!(lost, None);
        first.has_spoken();
        let (fourth, lost) = admit(&strangers, 4);
        assert_eq!(lost, Some(address(2)));
        assert!(second.dropped().is_cancelled() && !first.dropped().is_cancelled());
        // Where all have spoken, the oldest goes.
        third.has_spoken();
        fourth.has_spoken();
        let (_fifth, lost) = admit(&strangers, 5);
        assert_eq!(lost, Some(address(1)));
        drop(third);
        assert_eq!(admit(&strangers, 6).1, None);
    }

    #[test]
    fn words_that_nobody_has_read_yet_count() {
        let strangers = Arc::new(Strangers::new(2, 2));
        let (speaker, _) = strangers.admit(address(1), || true);
        let (silent, _) = admit(&strangers, 2);
        assert_eq!(admit(&strangers, 3).1, Some(address(2)));
        assert!(silent.dropped().is_cancelled() && !speaker.dropped().is_cancelled());
    }

    #[test]
    fn an_address_that_takes_too_many_places_loses_its_own() {
        let strangers = Arc::new(Strangers::new(10, 2));
        let (caller, _) = admit(&strangers, 1);
        let flood: Vec<_> = (0..5).map(|_| admit(&strangers, 2)).collect();
        assert!(flood.iter().skip(2).all(|(_, lost)| *lost == Some(address(2))));
        assert!(!caller.dropped().is_cancelled());
    }

    #[test]
    fn places_are_given_back() {
        let strangers = Arc::new(Strangers::new(2, 2));
        for _ in 0..10 {
            assert_eq!(admit(&strangers, 1).1, None);
        }
        assert!(strangers.lock().waiting.is_empty());
    }
}

//! What one principal may ask for: so many operations a second, so many at once, and so many bytes of them. Everybody else's share
//! stays theirs, and the gateway's memory is enough for all.
//!
//! A token bucket for each principal, filled at the rate and as deep as one second of it. The limits come with each
//! question, so that a reload holds from the next one on.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What one principal may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Operations a second; each item of a batch and each operation of a stream is one.
    pub rate: u32,
    /// Operations at once.
    pub concurrency: u32,
    /// Bytes of the requests that are under way, of all principals; one may have half of them.
    pub bytes: u64,
}

/// Why an operation is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaExceeded {
    /// Too many of late.
    Rate {
        /// When another one may be begun.
        retry_after: Duration,
    },
    /// Too many under way.
    Concurrency,
    /// What is under way is too large, with what is asked for.
    Bytes,
}

/// The accounts of all principals that asked for something lately.
#[derive(Debug, Default)]
pub struct Quotas {
    accounts: Mutex<HashMap<Box<str>, Arc<Account>>>,
    // Of all accounts.
    bytes: Arc<AtomicU64>,
}

/// One operation under way, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    account: Arc<Account>,
    bytes: u64,
    all_bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Account {
    under_way: AtomicU32,
    bytes: AtomicU64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Quotas {
    /// Lets an operation of a principal begin, if it has one left and there is room for its request of so many bytes.
    pub fn admit(&self, principal: &str, bytes: usize, quota: Quota, now: Instant) -> Result<Place, QuotaExceeded> {
        let bytes = bytes as u64;
        // Taken before it is known whether it may be: it is given back by dropping it.
        let place = Place {
            account: self.account(principal, quota, now),
            bytes,
            all_bytes: Arc::clone(&self.bytes),
        };
        let Account {
            under_way,
            bytes: own,
            bucket,
        } = &*place.account;
        let count = under_way.fetch_add(1, Ordering::Relaxed);
        let own = own.fetch_add(bytes, Ordering::Relaxed);
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if count >= quota.concurrency {
            return Err(QuotaExceeded::Concurrency);
        }
        // What is alone is not too large: the bounds on one message have been held.
        let own_is_too_much = own > 0 && own.saturating_add(bytes) > quota.bytes / 2;
        if own_is_too_much || all > 0 && all.saturating_add(bytes) > quota.bytes {
            return Err(QuotaExceeded::Bytes);
        }
        lock(bucket).take(quota.rate, now)?;
        Ok(place)
    }

    fn account(&self, principal: &str, quota: Quota, now: Instant) -> Arc<Account> {
        let mut accounts = lock(&self.accounts);
        if let Some(account) = accounts.get(principal) {
            return Arc::clone(account);
        }
        if accounts.len() >= MANY {
            accounts.retain(|_, account| !account.is_idle(now));
        }
        let account = Arc::new(Account {
            under_way: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
            bucket: Mutex::new(Bucket {
                tokens: quota.rate.into(),
                filled: now,
            }),
        });
        accounts.insert(principal.into(), Arc::clone(&account));
        account
    }
}

impl Place {
    /// Counts what came with the operation and was not known before it began: as much as so many operations. It is never refused, and has
    /// to be made up for before the next operation begins.
    pub fn charge(&self, operations: f64, quota: Quota) {
        let mut bucket = lock(&self.account.bucket);
        let deepest = -LONGEST_DEBT * f64::from(quota.rate);
        bucket.tokens = (bucket.tokens - operations).max(deepest);
    }
}

impl Account {
    /// Whether a new account would say the same: nothing under way, and the bucket full by now.
    fn is_idle(&self, now: Instant) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
            && now.saturating_duration_since(lock(&self.bucket).filled).as_secs_f64() > 1.0 + LONGEST_DEBT
    }
}

impl Bucket {
    fn take(&mut self, rate: u32, now: Instant) -> Result<(), QuotaExceeded> {
        let rate = f64::from(rate);
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * rate).min(rate);
        self.filled = now;
        if self.tokens < 1.0 {
            return Err(QuotaExceeded::Rate {
                retry_after: Duration::from_secs_f64((1.0 - self.tokens) / rate),
            });
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.account.under_way.fetch_sub(1, Ordering::Relaxed);
        self.account.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.all_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

/// No debt takes longer to make up for, in seconds.
const LONGEST_DEBT: f64 = 10.0;
/// So many accounts are kept before idle ones are let go.
const MANY: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota {
        rate: 10,
        concurrency: 3,
        bytes: 1000,
    };

    #[test]
    fn a_second_of_operations_may_come_at_once_and_then_the_rate_holds() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let ask = |after: u64| {
            quotas
                .admit("a", 0, QUOTA, start + Duration::from_millis(after))
                .map(drop)
        };
        for _ in 0..10 {
            assert_eq!(ask(0), Ok(()));
        }
        let refused = ask(0);
        assert!(
            matches!(refused, Err(QuotaExceeded::Rate { retry_after }) if retry_after <= Duration::from_millis(100)),
            "{refused:?}"
        );
        assert_eq!(ask(101), Ok(()));
        assert!(ask(102).is_err());
        // However long nothing was asked for, no more than a second of it is saved.
        let later = (0..20).filter(|_| ask(60_000).is_ok()).count();
        assert_eq!(later, 10);
    }

    #[test]
    fn operations_under_way_are_counted_for_each_principal_and_given_back() {
        let (quotas, now) = (Quotas::default(), Instant::now());
        let held: Vec<_> = (0..3).map(|_| quotas.admit("a", 0, QUOTA, now)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(
            quotas.admit("a", 0, QUOTA, now).map(drop),
            Err(QuotaExceeded::Concurrency)
        );
        assert_eq!(quotas.admit("b", 0, QUOTA, now).map(drop), Ok(()));
        drop(held);
        assert_eq!(quotas.admit("a", 0, QUOTA, now).map(drop), Ok(()));
    }

    #[test]
    fn the_bytes_under_way_have_a_bound_of_which_nobody_has_more_than_half() {
        let (quotas, now) = (Quotas::default(), Instant::now());
        let ask = |who: &str, bytes| quotas.admit(who, bytes, QUOTA, now);
        let first = ask("a", 300).expect("room");
        assert_eq!(ask("a", 201).map(drop), Err(QuotaExceeded::Bytes));
        let second = ask("a", 200).expect("the rest of its half");
        let other = ask("b", 499).expect("the other half");
        assert_eq!(ask("c", 2).map(drop), Err(QuotaExceeded::Bytes));
        let last = ask("c", 1).expect("the last byte");
        drop((first, second, other, last));
        // What is alone is done however large it is.
        let alone = ask("a", 5000).expect("nothing else is under way");
        assert_eq!(ask("b", 1).map(drop), Err(QuotaExceeded::Bytes));
        drop(alone);
        assert_eq!(quotas.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_an_operation_costs_beyond_itself_is_made_up_for_and_nobody_else_pays() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let ask = |who: &str, after: u64| quotas.admit(who, 0, QUOTA, start + Duration::from_millis(after));
        // 10 are there, one is the operation, 29 come with it: 2 seconds are missing.
        ask("a", 0).expect("the first").charge(29.0, QUOTA);
        assert!(ask("a", 1900).is_err() && ask("b", 0).is_ok());
        assert!(ask("a", 2200).is_ok());
        // No debt is longer than ten seconds.
        ask("b", 0).expect("another").charge(1e9, QUOTA);
        assert!(ask("b", 9_900).is_err() && ask("b", 10_200).is_ok());
    }

    #[test]
    fn accounts_of_those_who_left_are_let_go() {
        let (quotas, now) = (Quotas::default(), Instant::now());
        for number in 0..MANY {
            let _ = quotas.admit(&number.to_string(), 0, QUOTA, now);
        }
        let _ = quotas.admit("another", 0, QUOTA, now + Duration::from_secs(12));
        assert_eq!(lock(&quotas.accounts).len(), 1);
    }
}

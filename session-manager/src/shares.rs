//! How much of the cluster's room one principal may take.

use crate::Principal;
use portcullis_hsm::worker::lane::Lane;
use std::collections::HashMap;

/// Who has how much under way, by lane.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_lane: HashMap<Lane, Holders>,
}

#[derive(Debug, Default)]
struct Holders {
    total: u32,
    by_principal: HashMap<Principal, u32>,
}

impl Shares {
    /// Whether a principal may have one more piece of work in a lane with so many places.
    ///
    /// While less than half is taken everybody may. Above that, each of those who have work and one more that may come has an
    /// equal share: so there is always room for a newcomer, and nobody who is within its share is refused for another's sake.
    pub(super) fn allow(&self, lane: Lane, principal: Principal, places: u32) -> bool {
        let Some(holders) = self.by_lane.get(&lane) else {
            return true;
        };
        let own = holders.by_principal.get(&principal).copied().unwrap_or(0);
        if principal == Principal::GATEWAY || own == 0 || holders.total < places / 2 {
            return true;
        }
        let share = places / (holders.by_principal.len() as u32 + 1);
        own < share.max(1)
    }

    pub(super) fn add(&mut self, lane: Lane, principal: Principal) {
        let holders = self.by_lane.entry(lane).or_default();
        holders.total += 1;
        *holders.by_principal.entry(principal).or_default() += 1;
    }

    pub(super) fn remove(&mut self, lane: Lane, principal: Principal) {
        let Some(holders) = self.by_lane.get_mut(&lane) else {
            return;
        };
        if let Some(own) = holders.by_principal.get_mut(&principal) {
            holders.total -= 1;
            *own -= 1;
            if *own == 0 {
                holders.by_principal.remove(&principal);
            }
        }
    }

    /// How much all have under way.
    pub(super) fn total(&self) -> u32 {
        self.by_lane.values().map(|holders| holders.total).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: u32 = 60;

    /// Takes as much as a principal gets.
    fn fill(shares: &mut Shares, principal: Principal) -> u32 {
        let mut taken = 0;
        while taken < 2 * PLACES && shares.allow(Lane::Uses, principal, PLACES) {
            shares.add(Lane::Uses, principal);
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_principal_alone_leaves_half_and_the_next_gets_its_share() {
        let mut shares = Shares::default();
        assert_eq!(fill(&mut shares, Principal(1)), PLACES / 2);
        assert_eq!(fill(&mut shares, Principal(2)), PLACES / 3);
        assert!(shares.allow(Lane::Uses, Principal(3), PLACES), "a newcomer finds room");
        assert!(!shares.allow(Lane::Uses, Principal(1), PLACES));
        assert!(shares.allow(Lane::Generations, Principal(1), PLACES), "another lane");
    }

    #[test]
    fn what_is_given_back_counts_no_more() {
        let mut shares = Shares::default();
        for _ in 0..fill(&mut shares, Principal(1)) {
            shares.remove(Lane::Uses, Principal(1));
        }
        assert_eq!((shares.total(), fill(&mut shares, Principal(1))), (0, PLACES / 2));
        shares.remove(Lane::Uses, Principal(9));
        assert_eq!(shares.total(), PLACES / 2);
    }
}

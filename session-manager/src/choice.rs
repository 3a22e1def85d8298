//! Where an operation runs.

use crate::{
    Core,
    attempts::Attempts,
    breaker::BreakerState,
    lanes::{Piece, Tempo, Ticket},
    lifecycle::SERVING,
    message::{Grant, Kind, MemberIndex, MemberState, Needs, Refusal, WorkerState},
};
use portcullis_hsm::{
    algorithm::{Family, KeyType},
    worker::lane::Lane,
};
use rand::RngExt;
use smallvec::SmallVec;
use std::time::{Duration, Instant};

/// Some of the members. A choice is made for each operation: as many as clusters have take no memory of their own.
type Places = SmallVec<[usize; FEW]>;

/// A worker that could be given an operation.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    member: usize,
    worker: usize,
    load: f64,
    is_idle: bool,
}

impl Core {
    /// Chooses a worker for an operation: of two members, the one with less to do for its weight and speed. The first of them is
    /// one at random, or, for the use of a key where some have nothing to do, mostly the one of these that worked last: what it works with is still
    /// in the caches of its processor, and a signature takes half as long.
    ///
    /// Members that were tried are chosen again only when no other is left. A member whose breaker is half open gets one operation
    /// at a time; one whose breaker is open gets what no other could do.
    pub fn admit(
        &mut self,
        now: Instant,
        needs: &Needs,
        lane: Lane,
        attempts: &mut Attempts,
    ) -> Result<Grant, Refusal> {
        let chosen = self.pick(now, needs, lane, attempts)?;
        Ok(self.grant(now, chosen, needs, lane, attempts))
    }

    /// A member that could be given an operation now; it is given none.
    pub fn suggest(&mut self, now: Instant, needs: &Needs, lane: Lane) -> Result<MemberIndex, Refusal> {
        let attempts = Attempts::new((now + LONGEST).into());
        let chosen = self.pick(now, needs, lane, &attempts)?;
        Ok(MemberIndex(chosen.member))
    }

    fn pick(&mut self, now: Instant, needs: &Needs, lane: Lane, attempts: &Attempts) -> Result<Candidate, Refusal> {
        let errand = attempts.errand;
        if now >= errand.deadline {
            return Err(Refusal::DeadlinePassed);
        }
        let ready = self.ready_for(needs);
        if ready.is_empty() {
            return Err(Refusal::NoneReady {
                retry_after: self.next_return(now),
            });
        }
        let able: Places = ready
            .iter()
            .copied()
            .filter(|at| self.members[*at].can(needs))
            .collect();
        if able.is_empty() {
            return Err(Refusal::Unsupported {
                missing: self.missing(&ready, needs),
                members: ready.into_iter().map(MemberIndex).collect(),
            });
        }
        let trusted = |at: &usize| {
            let breaker = &self.members[*at].breaker;
            match breaker.state() {
                BreakerState::Closed => true,
                BreakerState::HalfOpen => !breaker.is_on_trial(),
                BreakerState::Open => false,
            }
        };
        let trusted: Places = able.iter().copied().filter(trusted).collect();
        let usable = if trusted.is_empty() { able } else { trusted };
        let places = usable.iter().map(|at| self.members[*at].places(lane)).sum();
        // What was admitted before and moves on has waited already, and is not refused for what may come.
        let moves_on = attempts.tried().next().is_some();
        let left = if moves_on {
            Duration::MAX
        } else {
            errand.deadline.saturating_duration_since(now) * DOUBT
        };
        let free: SmallVec<[Candidate; FEW]> = usable
            .iter()
            .filter_map(|at| self.candidate(now, *at, needs, lane, left))
            .collect();
        let retry_after = || clamp(self.shortest_wait(&usable, lane) / 2, FULL_RETRY);
        if free.is_empty() {
            return Err(Refusal::Full {
                retry_after: retry_after(),
            });
        }
        if !moves_on && !self.shares.allow(lane, errand.principal, places) {
            return Err(Refusal::ShareTaken {
                retry_after: retry_after(),
            });
        }
        Ok(self.choose(&free, lane, attempts))
    }

    /// The members that are ready, of those that an operation may run on.
    fn ready_for(&self, needs: &Needs) -> Places {
        let meant = |at: usize| needs.only.as_ref().is_none_or(|only| only.contains(&MemberIndex(at)));
        let serves = |at: &usize| {
            let member = &self.members[*at];
            member.state == MemberState::Ready && member.workers.iter().any(|worker| worker.state == WorkerState::Ready)
        };
        if self.stopping {
            return Places::new();
        }
        (0..self.members.len()).filter(|at| meant(*at)).filter(serves).collect()
    }

    /// What none of these members can of what is needed; all of it, where each can be done somewhere.
    fn missing(&self, members: &[usize], needs: &Needs) -> Needs {
        let somewhere = |part: &Needs| members.iter().any(|at| self.members[*at].can(part));
        let uses = needs.uses.iter().filter(|one| {
            let part = Needs {
                uses: vec![**one],
                ..Needs::default()
            };
            !somewhere(&part)
        });
        let generates = needs.generates.filter(|key_type| {
            let part = Needs {
                generates: Some(*key_type),
                ..Needs::default()
            };
            !somewhere(&part)
        });
        let missing = Needs {
            uses: uses.copied().collect(),
            generates,
            only: needs.only.clone(),
        };
        if missing.uses.is_empty() && missing.generates.is_none() {
            needs.clone()
        } else {
            missing
        }
    }

    fn candidate(&self, now: Instant, at: usize, needs: &Needs, lane: Lane, left: Duration) -> Option<Candidate> {
        let member = &self.members[at];
        let (worker, load) = member.best_worker(now, needs, lane, left)?;
        Some(Candidate {
            member: at,
            worker,
            load: member.weigh(now, load),
            is_idle: member.workers[worker].lanes.len(lane) == 0,
        })
    }

    fn choose(&mut self, free: &[Candidate], lane: Lane, attempts: &Attempts) -> Candidate {
        // An operation that has failed somewhere is not tried on a member that is on trial.
        let first = attempts.tried().next().is_none();
        let on_trial = |one: &&Candidate| first && self.members[one.member].breaker.state() == BreakerState::HalfOpen;
        if let Some(candidate) = free.iter().find(on_trial) {
            return *candidate;
        }
        let fresh: SmallVec<[Candidate; FEW]> = free
            .iter()
            .copied()
            .filter(|one| !attempts.has_tried(MemberIndex(one.member)))
            .collect();
        let candidates: &[Candidate] = if fresh.is_empty() { free } else { &fresh };
        // Resident keys are to be spread, however few are made at a time.
        let may_stay = |one: &Candidate| one.is_idle && lane == Lane::Uses;
        let idle = candidates.iter().enumerate().filter(|(_, one)| may_stay(one));
        let warm = idle
            .max_by_key(|(_, one)| self.members[one.member].last_given)
            .map(|(at, _)| at);
        let one = warm.filter(|_| self.random.random::<f64>() >= STRAY_SHARE);
        let at_random = one.is_none();
        let one = one.unwrap_or_else(|| self.random.random_range(0..candidates.len()));
        if candidates.len() == 1 {
            return candidates[one];
        }
        let other = (one + self.random.random_range(1..candidates.len())) % candidates.len();
        let (one, other) = (candidates[one], candidates[other]);
        let worth = if at_random { 1.0 } else { WORTH_LEAVING };
        if other.load * worth < one.load { other } else { one }
    }

    fn grant(&mut self, now: Instant, chosen: Candidate, needs: &Needs, lane: Lane, attempts: &mut Attempts) -> Grant {
        let principal = attempts.errand.principal;
        attempts.note(MemberIndex(chosen.member));
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let member = &mut self.members[chosen.member];
        member.last_given = ticket;
        member.breaker.begin_trial(ticket);
        let worker = &mut member.workers[chosen.worker];
        let tempo = tempo(needs, lane);
        let piece = Piece {
            ticket,
            principal,
            tempo,
        };
        worker.lanes.add(now, lane, piece);
        self.shares.add(lane, principal);
        Grant {
            member: MemberIndex(chosen.member),
            epoch: worker.epoch,
            lane,
            ticket,
            principal,
            kind: kind(needs, lane),
            tempo,
        }
    }

    /// Notes that an operation was sent to its worker once more, with the key that it lacked: it waits behind what came meanwhile.
    pub fn requeue(&mut self, now: Instant, grant: Grant) {
        if let Some(worker) = self.worker_in(grant.member, grant.epoch, &SERVING) {
            worker.lanes.remove(now, grant.lane, grant.ticket);
            let piece = Piece {
                ticket: grant.ticket,
                principal: grant.principal,
                tempo: grant.tempo,
            };
            worker.lanes.add(now, grant.lane, piece);
        }
    }

    fn shortest_wait(&self, members: &[usize], lane: Lane) -> Duration {
        let workers = members.iter().flat_map(|at| &self.members[*at].workers);
        workers
            .filter(|worker| worker.state == WorkerState::Ready)
            .map(|worker| worker.lanes.expected_wait(lane))
            .min()
            .unwrap_or_default()
    }

    /// When a member may be there again.
    fn next_return(&self, now: Instant) -> Duration {
        let workers = self.members.iter().flat_map(|member| &member.workers);
        let back = |worker: &crate::worker::Worker| match worker.state {
            WorkerState::Down => worker.act_at.map(|at| at.saturating_duration_since(now) + USUAL_START),
            WorkerState::Starting | WorkerState::Probing | WorkerState::Ready | WorkerState::Retiring => {
                Some(USUAL_START)
            }
            WorkerState::Stopped => None,
        };
        clamp(workers.filter_map(back).min().unwrap_or(NO_RETURN), USUAL_START)
    }
}

/// How long an operation takes where nothing is wrong: RSA needs primes, which have to be found; other keys are numbers that are drawn.
fn tempo(needs: &Needs, lane: Lane) -> Tempo {
    let searches = |key_type: KeyType| matches!(key_type.family(), Family::Rsa(_));
    match lane {
        Lane::Uses => Tempo::Quick,
        Lane::Generations if !needs.generates.is_none_or(searches) => Tempo::Quick,
        Lane::Generations | Lane::Changes | Lane::Control => Tempo::Slow,
    }
}

/// What an operation's time is compared with.
fn kind(needs: &Needs, lane: Lane) -> Kind {
    let what = match (needs.generates, needs.uses.first()) {
        (Some(key_type), _) => u32::from(key_type.number()),
        (None, Some((operation, mechanism))) => u32::from(operation.number()) << 16 | u32::from(mechanism.number()),
        (None, None) => 0,
    };
    Kind((lane as u32) << 28 | what)
}

fn clamp(wait: Duration, at_least: Duration) -> Duration {
    wait.clamp(at_least, LONGEST)
}

/// What goes to a member at random although another is warm, so that none is cold, and none ill unnoticed, when it is needed.
const STRAY_SHARE: f64 = 1.0 / 16.0;
/// A warm member is left for one that is so many times less loaded, and not for what differs from one operation to the next.
const WORTH_LEAVING: f64 = 1.5;
/// Waits are known roughly: only what would wait so many times longer than it may is refused for that.
const DOUBT: u32 = 2;
const FULL_RETRY: Duration = Duration::from_millis(100);
const USUAL_START: Duration = Duration::from_millis(500);
/// Where no member comes back by itself: a person may bring one back at any time.
const NO_RETURN: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(30);
const FEW: usize = 8;

//! What the shell does for each caller: it takes an operation from attempt to attempt.

use crate::{
    process::{Job, Phase},
    schedule::{Call, End, What},
    watch::life,
    world::{Answer, Answered, Caller, Happening, World},
};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation},
    worker::lane::Lane,
};
use portcullis_session_manager::{Attempts, Errand, Grant, Needs, Next, Outcome, Principal, Tempo};
use std::time::Duration;

impl World {
    /// Somebody asks for something.
    pub(crate) fn ask_for(&mut self, call: Call) {
        let number = self.callers.len();
        let deadline = self.now + Duration::from_millis(call.patience.into());
        let errand = Errand {
            principal: Principal(call.principal.into()),
            deadline,
        };
        let (home, object) = match call.what {
            What::Destroy if self.resident.is_empty() => return,
            What::Destroy => {
                let (home, object) = self.resident[usize::from(call.key) % self.resident.len()];
                (Some(home), object)
            }
            _ => (None, number),
        };
        self.callers.push(Caller {
            call,
            deadline,
            attempts: Attempts::new(errand),
            at: None,
            answered: None,
            deaths: 0,
            hangs: 0,
            doubtful_hangs: 0,
            home,
            object,
        });
        self.happens(deadline - self.now, Happening::Deadline(number));
        if call.what == What::CreateResident && !self.find_home(number, errand) {
            return;
        }
        self.ask(number);
    }

    /// A key that stays in a token is made in one that is chosen before the first attempt.
    fn find_home(&mut self, number: usize, errand: Errand) -> bool {
        let needs = self.needs(number);
        let mut attempts = Attempts::new(errand);
        match self.admit(number, &needs, Lane::Changes, &mut attempts) {
            Some(grant) => {
                self.callers[number].home = Some(grant.member);
                self.watch.settled(self.now, &grant);
                let (actions, next) = self.core.conclude(self.now, grant, Outcome::Abandoned, &mut attempts);
                self.perform(actions, false);
                self.check(next == Next::GiveUp, || {
                    format!("what was abandoned is to go on: {next:?}")
                });
                self.after("choose");
                true
            }
            None => false,
        }
    }

    /// Asks to be admitted, and sends the request to the worker that the core names.
    fn ask(&mut self, number: usize) {
        let needs = self.needs(number);
        let lane = lane(self.callers[number].call.what);
        let mut attempts = self.callers[number].attempts.clone();
        let attempt = attempts.tried().count();
        let grant = self.admit(number, &needs, lane, &mut attempts);
        let caller = &mut self.callers[number];
        caller.attempts = attempts;
        let Some(grant) = grant else { return };
        caller.at = Some(grant.ticket);
        let job = Job {
            call: number,
            attempt,
            grant,
            deadline: caller.deadline,
        };
        match self
            .process(grant.member, grant.epoch)
            .filter(|process| process.phase == Phase::Serving)
        {
            Some(process) => {
                process.push(job);
                self.begin_work(grant.member, grant.epoch, lane);
            }
            // It died, and the core does not know yet.
            None => self.happens(Duration::ZERO, Happening::Arrives(number, grant, Answer::Gone)),
        }
    }

    fn admit(&mut self, number: usize, needs: &Needs, lane: Lane, attempts: &mut Attempts) -> Option<Grant> {
        let before = attempts.clone();
        let admitted = self.core.admit(self.now, needs, lane, attempts);
        let principal = self.callers[number].call.principal;
        match admitted {
            Ok(grant) => {
                self.check_grant(number, &grant, needs, &before);
                let threads = self
                    .process(grant.member, grant.epoch)
                    .map_or(1, |process| process.threads());
                let is_slow = match self.callers[number].call.what {
                    What::Use | What::RareUse => false,
                    What::Create => number.is_multiple_of(2),
                    What::CreateResident | What::Destroy => true,
                };
                assert_eq!(grant.tempo == Tempo::Slow, is_slow, "the patience with {grant:?}");
                self.watch.granted(self.now, &grant, threads, &self.status);
                self.after("admit");
                Some(grant)
            }
            Err(refusal) => {
                self.check_refusal(&refusal, needs, lane, principal, &before, self.callers[number].deadline);
                self.callers[number].answered.get_or_insert(Answered::Refused);
                None
            }
        }
    }

    /// An answer comes to the shell, or the news that there will be none.
    pub(crate) fn arrive(&mut self, number: usize, grant: Grant, answer: Answer) {
        let caller = &self.callers[number];
        if caller.answered.is_some() || caller.at != Some(grant.ticket) {
            let outcome = if answer == Answer::Gone {
                Outcome::Gone
            } else {
                Outcome::Abandoned
            };
            self.watch.forget_hang(&grant);
            self.note_outcome(&grant, &outcome);
            self.watch.settled(self.now, &grant);
            let actions = self.core.abandon(self.now, grant, outcome);
            self.perform(actions, false);
            return self.after("abandon");
        }
        let outcome = self.outcome(number, &grant, answer);
        let caller = &mut self.callers[number];
        if outcome == Outcome::Gone {
            caller.deaths += 1;
            match self.watch.forget_hang(&grant) {
                Some(true) => caller.hangs += 1,
                Some(false) => caller.doubtful_hangs += 1,
                None => {}
            }
        }
        caller.at = None;
        let mut attempts = caller.attempts.clone();
        self.note_outcome(&grant, &outcome);
        self.watch.settled(self.now, &grant);
        let ready = self.core.ready();
        let (actions, next) = self.core.conclude(self.now, grant, outcome.clone(), &mut attempts);
        self.perform(actions, false);
        self.callers[number].attempts = attempts;
        self.check_next(number, &grant, &outcome, next, ready);
        self.after("conclude");
        match next {
            Next::Release => self.release(number),
            Next::GiveUp => self.callers[number].answered = Some(Answered::GivenUp),
            Next::Again => self.ask(number),
        }
    }

    /// What an answer means; signatures are looked at first where the core wants that.
    fn outcome(&mut self, number: usize, grant: &Grant, answer: Answer) -> Outcome {
        let Caller { call, .. } = self.callers[number];
        match answer {
            Answer::Served { loaded, lie } if matches!(call.what, What::Use | What::RareUse) => {
                let wanted = self.core.wants_check(*grant, &[call.key; 32], loaded);
                let Some(process) = self.process(grant.member, grant.epoch) else {
                    return Outcome::Gone;
                };
                if loaded {
                    process.proven.retain(|key| *key != call.key);
                }
                let proven = process.proven.contains(&call.key);
                self.check(wanted || proven, || {
                    format!("{} need not prove itself for key {}", life(grant), call.key)
                });
                match (wanted, lie) {
                    (true, true) => Outcome::Lied("its signature was wrong".to_owned()),
                    (true, false) => {
                        if let Some(process) = self.process(grant.member, grant.epoch) {
                            process.proven.push(call.key);
                        }
                        self.core.note_proof(*grant, &[call.key; 32]);
                        Outcome::Served
                    }
                    _ => Outcome::Served,
                }
            }
            Answer::Served { .. } | Answer::Refused => Outcome::Served,
            Answer::Fault => Outcome::Fault,
            Answer::Busy => Outcome::Busy,
            Answer::Unsupported => Outcome::Unsupported,
            Answer::Lasting => Outcome::Lasting("no login".to_owned()),
            Answer::Dropped => Outcome::Abandoned,
            Answer::Gone => Outcome::Gone,
        }
    }

    fn release(&mut self, number: usize) {
        let Caller { call, home, object, .. } = self.callers[number];
        self.check(self.callers[number].answered.is_none(), || {
            format!("call {number} is answered twice")
        });
        self.callers[number].answered = Some(Answered::Released);
        if let (What::CreateResident, Some(home)) = (call.what, home) {
            let many = self
                .members
                .iter()
                .flat_map(|member| &member.objects)
                .filter(|one| **one == object)
                .count();
            let refused = call.ends.contains(&End::Refused);
            self.check(many == 1 || many == 0 && refused, || {
                format!("call {number} made {many} objects")
            });
            self.resident.push((home, object));
        }
    }

    /// One of those who wait goes away.
    pub(crate) fn leave(&mut self, which: u8) {
        let waiting = self.callers.iter_mut().filter(|caller| caller.answered.is_none());
        let mut waiting: Vec<_> = waiting.collect();
        if !waiting.is_empty() {
            let which = usize::from(which) % waiting.len();
            waiting[which].answered = Some(Answered::Left);
        }
    }

    pub(crate) fn needs(&self, number: usize) -> Needs {
        let caller = &self.callers[number];
        let only = caller.home.map(|home| vec![home]);
        let (uses, generates) = match caller.call.what {
            What::Use => (vec![(Operation::Sign, Mechanism::EcdsaSha256)], None),
            What::RareUse => (vec![(Operation::Sign, Mechanism::Ed25519)], None),
            // Some keys are drawn, others have to be searched for.
            What::Create if number.is_multiple_of(2) => (Vec::new(), Some(KeyType::Rsa2048)),
            What::Create | What::CreateResident => (Vec::new(), Some(KeyType::EcP256)),
            What::Destroy => (Vec::new(), None),
        };
        Needs { uses, generates, only }
    }
}

fn lane(what: What) -> Lane {
    match what {
        What::Use | What::RareUse => Lane::Uses,
        What::Create => Lane::Generations,
        What::CreateResident | What::Destroy => Lane::Changes,
    }
}

//! What the shell does: it carries the core's actions out, tells it what happened, and takes each caller's operation from attempt to
//! attempt.

use crate::{
    invariants::life,
    process::{Job, Phase, Process},
    schedule::{Call, End, Health, Start, What},
    world::{Answer, Answered, Caller, Happening, World, domain},
};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation},
    domain::Fingerprint,
    record::Tag,
    worker::lane::Lane,
};
use portcullis_session_manager::{
    Abilities, Action, Attempts, Epoch, Errand, Event, Grant, LaneThreads, MemberIndex, Needs, Next, Outcome,
    Principal, Trouble,
};
use std::{collections::HashSet, time::Duration};

impl World {
    pub(crate) fn handle(&mut self, event: Event) {
        self.before(&event);
        let tick = event == Event::Tick;
        let actions = self.core.handle(self.now, event);
        self.perform(actions, tick);
        self.after(Ok("handle"));
    }

    fn perform(&mut self, actions: Vec<Action>, tick: bool) {
        for action in actions {
            self.check_action(&action, tick);
            match action {
                Action::Start(member, epoch) => self.start(member, epoch),
                Action::FindDomain(member, epoch) => {
                    if self.members[member.0].start != Start::DomainHangs {
                        self.happens(SHORT, Happening::ShowsDomain(member, epoch));
                    }
                }
                Action::Probe(member, epoch) => {
                    if self.members[member.0].health != Health::Mute {
                        let after = self.moment();
                        self.happens(after, Happening::AnswersProbe(member, epoch));
                    }
                }
                Action::End(member, epoch) => {
                    if let Some(process) = self.process(member, epoch).filter(|process| process.lives()) {
                        process.phase = Phase::Ending;
                        self.happens(SHORT, Happening::IsGone(member, epoch));
                    }
                }
                Action::Kill(member, epoch) => self.die(member, epoch),
                Action::LookForNewPin(member) => {
                    if self.members[member.0].start == Start::Well {
                        self.happens(LOAD, Happening::NewPin(member));
                    }
                }
                Action::Tell(_) | Action::TellWorker(_) | Action::TellBreaker(..) | Action::TellRoll(_) => {}
            }
        }
    }

    fn start(&mut self, index: MemberIndex, epoch: Epoch) {
        let member = &mut self.members[index.0];
        member.begun += 1;
        let (threads, rich) = (member.plan.threads, member.plan.rich);
        self.processes.push(Process::new(index, epoch, self.now, threads, rich));
        self.happens(LOAD, Happening::Loaded(index, epoch));
    }

    pub(crate) fn happen(&mut self, what: Happening) {
        match what {
            Happening::Loaded(member, epoch) => self.loaded(member, epoch),
            Happening::ShowsDomain(member, epoch) => self.show_domain(member, epoch),
            Happening::AnswersProbe(member, epoch) => self.answer_probe(member, epoch),
            Happening::Finishes(member, epoch, lane, ticket, end) => {
                let process = self.process(member, epoch).filter(|process| process.lives());
                if let Some(job) = process.and_then(|process| process.finish(lane, ticket)) {
                    self.finish(job, end);
                    self.begin_work(member, epoch, lane);
                }
            }
            Happening::Arrives(caller, grant, answer) => self.arrive(caller, grant, answer),
            Happening::IsGone(member, epoch) => {
                self.end(member, epoch);
                self.handle(Event::Gone(member, epoch, "it ended".to_owned()));
            }
            Happening::Deadline(caller) => {
                self.callers[caller].answered.get_or_insert(Answered::TooLate);
            }
            Happening::NewPin(member) => self.handle(Event::Revived(member)),
            Happening::StopsWaiting => {
                let living = self.processes.iter().filter(|process| process.lives());
                let living: Vec<_> = living.map(|process| (process.member, process.epoch)).collect();
                living.into_iter().for_each(|(member, epoch)| self.die(member, epoch));
            }
        }
    }

    /// A process that was told to end has ended.
    fn end(&mut self, member: MemberIndex, epoch: Epoch) {
        let now = self.now;
        if let Some(process) = self.process(member, epoch) {
            process.phase = Phase::Dead;
            process.died.get_or_insert(now);
        }
    }

    fn is_starting(&mut self, member: MemberIndex, epoch: Epoch) -> bool {
        self.process(member, epoch)
            .is_some_and(|process| process.phase == Phase::Starting)
    }

    fn loaded(&mut self, index: MemberIndex, epoch: Epoch) {
        if !self.is_starting(index, epoch) {
            return;
        }
        match self.members[index.0].start {
            Start::Hangs => {}
            Start::Dies => self.die(index, epoch),
            Start::FailsPassing => self.fail_start(index, epoch, Trouble::Passing("busy".to_owned())),
            Start::FailsLasting => self.fail_start(index, epoch, Trouble::Lasting("wrong PIN".to_owned())),
            _ => {
                let Some(process) = self.process(index, epoch) else {
                    return;
                };
                let event = Event::Opened(index, epoch, abilities(process.rich, process.threads() as u32));
                self.handle(event);
            }
        }
    }

    fn show_domain(&mut self, index: MemberIndex, epoch: Epoch) {
        if !self.is_starting(index, epoch) {
            return;
        }
        let (fingerprint, answer) = match self.members[index.0].start {
            Start::DomainHangs => return,
            Start::DomainFails => return self.fail_start(index, epoch, Trouble::Passing("no session".to_owned())),
            Start::OtherDomain => (Fingerprint::from_bytes([2; 32]), ANSWER),
            Start::OtherAnswer => (domain(), OTHER_ANSWER),
            _ => (domain(), ANSWER),
        };
        if let Some(process) = self.process(index, epoch) {
            process.phase = Phase::Serving;
        }
        self.handle(Event::DomainFound(index, epoch, fingerprint, answer));
    }

    fn fail_start(&mut self, index: MemberIndex, epoch: Epoch, trouble: Trouble) {
        if let Some(process) = self.process(index, epoch) {
            process.phase = Phase::Failed;
        }
        self.handle(Event::StartFailed(index, epoch, trouble));
    }

    fn answer_probe(&mut self, index: MemberIndex, epoch: Epoch) {
        let health = self.members[index.0].health;
        let Some(process) = self.process(index, epoch).filter(|process| process.lives()) else {
            return;
        };
        process.probed = None;
        let event = match health {
            Health::ProbesLie => Event::Probed(index, epoch, OTHER_ANSWER),
            Health::ProbesFail => Event::ProbeFailed(index, epoch, Trouble::Passing("no session".to_owned())),
            Health::ProbesFailForGood => Event::ProbeFailed(index, epoch, Trouble::Lasting("no token".to_owned())),
            _ => Event::Probed(index, epoch, ANSWER),
        };
        self.handle(event);
    }

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
                self.after(Ok("choose"));
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
                self.watch.granted(self.now, &grant, threads, &self.status);
                self.after(Ok("admit"));
                Some(grant)
            }
            Err(refusal) => {
                self.check_refusal(&refusal, needs, lane, principal, &before, self.callers[number].deadline);
                self.callers[number].answered.get_or_insert(Answered::Refused);
                None
            }
        }
    }

    /// The threads of a lane take what waits.
    fn begin_work(&mut self, member: MemberIndex, epoch: Epoch, lane: Lane) {
        loop {
            let now = self.now;
            let Some(job) = self.process(member, epoch).and_then(|process| process.begin_next(lane)) else {
                return;
            };
            let waits =
                self.callers[job.call].at == Some(job.grant.ticket) && self.callers[job.call].answered.is_none();
            if !waits || now >= job.deadline {
                if let Some(process) = self.process(member, epoch) {
                    process.finish(lane, job.grant.ticket);
                }
                self.reply(&job, Answer::Dropped);
                continue;
            }
            let (health, call) = (self.members[member.0].health, self.callers[job.call].call);
            let end = match health {
                Health::Faulty => End::FailsBefore,
                Health::Flaps if job.grant.ticket.0 % 2 == 0 => End::FailsBefore,
                Health::Hangs => End::Hangs,
                _ => call.ends[job.attempt.min(3)],
            };
            let takes = match (end, call.what) {
                (End::Stalls, _) => STALL,
                (_, What::Use | What::RareUse) => USE,
                (_, What::Create) => GENERATION,
                (_, What::CreateResident | What::Destroy) => CHANGE,
            };
            let slow = if let Health::Slow(times) = health { times } else { 1 };
            if end != End::Hangs {
                let takes = takes * u32::from(slow) + self.moment();
                self.happens(takes, Happening::Finishes(member, epoch, lane, job.grant.ticket, end));
            }
        }
    }

    /// A thread has come to the end of what it was at.
    fn finish(&mut self, job: Job, end: End) {
        let (member, epoch) = (job.grant.member, job.grant.epoch);
        let Caller { call, object, .. } = self.callers[job.call];
        if matches!(
            end,
            End::Done | End::Stalls | End::FailsAfter | End::DiesAfter | End::Lies
        ) {
            let objects = &mut self.members[member.0].objects;
            match call.what {
                // It looks first whether an earlier attempt made it.
                What::CreateResident if !objects.contains(&object) => objects.push(object),
                What::Destroy => objects.retain(|one| *one != object),
                _ => {}
            }
        }
        let mut loaded = false;
        if let Some(process) = self.process(member, epoch)
            && matches!(call.what, What::Use | What::RareUse)
            && !process.loaded.contains(&call.key)
        {
            loaded = true;
            process.loaded.push(call.key);
        }
        let answer = match end {
            End::Done | End::Stalls => Answer::Served { loaded, lie: false },
            End::Lies => Answer::Served {
                loaded,
                lie: matches!(call.what, What::Use | What::RareUse),
            },
            End::Refused => Answer::Refused,
            End::FailsBefore | End::FailsAfter => Answer::Fault,
            End::Busy => Answer::Busy,
            End::Unsupported => Answer::Unsupported,
            End::Lasting => Answer::Lasting,
            End::DiesBefore | End::DiesAfter | End::Hangs => Answer::Gone,
        };
        if answer == Answer::Gone {
            self.die(member, epoch);
        }
        self.reply(&job, answer);
    }

    fn reply(&mut self, job: &Job, answer: Answer) {
        let after = self.moment();
        self.happens(after, Happening::Arrives(job.call, job.grant, answer));
    }

    /// An answer comes to the shell, or the news that there will be none.
    fn arrive(&mut self, number: usize, grant: Grant, answer: Answer) {
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
            return self.after(Ok("abandon"));
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
        self.after(Ok("conclude"));
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

fn abilities(rich: bool, threads: u32) -> Abilities {
    let mut uses = HashSet::from([(Operation::Sign, Mechanism::EcdsaSha256)]);
    if rich {
        uses.insert((Operation::Sign, Mechanism::Ed25519));
    }
    Abilities {
        uses,
        generates: HashSet::from([KeyType::EcP256]),
        threads: LaneThreads {
            uses: threads,
            generations: 1,
        },
    }
}

const ANSWER: Tag = [7; 32];
const OTHER_ANSWER: Tag = [8; 32];
const LOAD: Duration = Duration::from_millis(50);
const SHORT: Duration = Duration::from_millis(10);
const USE: Duration = Duration::from_millis(1);
const GENERATION: Duration = Duration::from_millis(80);
const CHANGE: Duration = Duration::from_millis(15);
const STALL: Duration = Duration::from_millis(1_500);

//! What the shell does with the core's actions, and what the workers make of that.

use crate::{
    process::{Job, Phase, Process},
    schedule::{End, Health, Start, What},
    world::{Answer, Answered, Caller, Happening, World, domain},
};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation},
    domain::Fingerprint,
    record::Tag,
    worker::lane::Lane,
};
use portcullis_session_manager::{Abilities, Action, Epoch, Event, LaneThreads, MemberIndex, Trouble};
use std::{collections::HashSet, time::Duration};

impl World {
    pub(crate) fn handle(&mut self, event: Event) {
        self.before(&event);
        let tick = event == Event::Tick;
        let actions = self.core.handle(self.now, event);
        self.perform(actions, tick);
        self.after("handle");
    }

    pub(crate) fn perform(&mut self, actions: Vec<Action>, tick: bool) {
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
            Start::Absent => self.fail_start(index, epoch, Trouble::Absent("no token".to_owned())),
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

    /// The threads of a lane take what waits.
    pub(crate) fn begin_work(&mut self, member: MemberIndex, epoch: Epoch, lane: Lane) {
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
}

fn abilities(rich: bool, threads: u32) -> Abilities {
    let mut uses = HashSet::from([(Operation::Sign, Mechanism::EcdsaSha256)]);
    if rich {
        uses.insert((Operation::Sign, Mechanism::Ed25519));
    }
    Abilities {
        uses,
        generates: HashSet::from([KeyType::EcP256, KeyType::Rsa2048]),
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

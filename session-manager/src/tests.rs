use super::*;
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation},
    worker::lane::Lane,
};
use std::collections::HashSet;

const SETTINGS: Settings = Settings {
    start_deadline: Duration::from_secs(30),
    probe_interval: Duration::from_secs(5),
    probe_deadline: Duration::from_secs(2),
    hang_after: Duration::from_secs(30),
    generation_hang_after: Duration::from_secs(120),
    restart_pause: Duration::from_millis(100),
    restart_pause_max: Duration::from_secs(30),
    token_grace: Duration::from_secs(60),
    verified_share: 0.0,
};
const ANSWER: Tag = [7; 32];

fn domain() -> Fingerprint {
    Fingerprint::from_bytes([1; 32])
}

fn core(members: usize, queue: u32) -> (Core, Instant) {
    let now = Instant::now();
    let plan = plan(queue, 1);
    (Core::new(&vec![plan; members], SETTINGS, domain(), 42, now), now)
}

fn plan(queue: u32, workers: u32) -> MemberPlan {
    MemberPlan {
        workers,
        queue,
        generation_queue: queue,
        loaded_keys: 100,
        weight: 1,
    }
}

fn abilities() -> Abilities {
    Abilities {
        uses: HashSet::from([(Operation::Sign, Mechanism::EcdsaSha256)]),
        generates: HashSet::from([KeyType::EcP256]),
        threads: LaneThreads {
            uses: 2,
            generations: 1,
        },
    }
}

/// Starts all members and brings them to the state that a worker with this fingerprint comes to.
fn start_all(core: &mut Core, now: Instant, fingerprint: Fingerprint) -> Vec<Action> {
    let mut all = Vec::new();
    for action in core.handle(now, Event::Tick) {
        if let Action::Start(member, epoch) = action {
            all.extend(core.handle(now, Event::Opened(member, epoch, abilities())));
            all.extend(core.handle(now, Event::DomainFound(member, epoch, fingerprint, ANSWER)));
        }
    }
    all
}

/// An operation of the gateway itself with a lot of time.
fn attempts(now: Instant) -> Attempts {
    Attempts::new((now + Duration::from_secs(3600)).into())
}

/// How the only attempt of an operation ended.
fn conclude(core: &mut Core, now: Instant, grant: Grant, outcome: Outcome) -> Vec<Action> {
    core.conclude(now, grant, outcome, &mut attempts(now)).0
}

fn admit(core: &mut Core, now: Instant) -> Result<Grant, Refusal> {
    core.admit(now, &Needs::default(), Lane::Uses, &mut attempts(now))
}

#[test]
fn a_member_serves_only_after_its_domain_was_checked() {
    let (mut core, now) = core(1, 10);
    assert!(matches!(admit(&mut core, now), Err(Refusal::NoneReady { .. })));
    let actions = core.handle(now, Event::Tick);
    assert!(actions.contains(&Action::Start(MemberIndex(0), Epoch(1))));
    let actions = core.handle(now, Event::Opened(MemberIndex(0), Epoch(1), abilities()));
    assert!(actions.contains(&Action::FindDomain(MemberIndex(0), Epoch(1))));
    assert!(!core.is_settled());
    assert!(matches!(admit(&mut core, now), Err(Refusal::NoneReady { .. })));
    core.handle(now, Event::DomainFound(MemberIndex(0), Epoch(1), domain(), ANSWER));
    assert!(core.is_settled());
    let grant = admit(&mut core, now).expect("a grant");
    assert_eq!((grant.member, grant.epoch), (MemberIndex(0), Epoch(1)));
}

#[test]
fn another_domain_fences_for_good() {
    let (mut core, now) = core(1, 10);
    let actions = start_all(&mut core, now, Fingerprint::from_bytes([2; 32]));
    assert!(actions.contains(&Action::Kill(MemberIndex(0), Epoch(1))));
    assert_eq!(core.status(now)[0].state, MemberState::Fenced);
    assert!(core.handle(now + Duration::from_secs(3600), Event::Tick).is_empty());
}

#[test]
fn a_wrong_pin_stops_and_is_never_tried_again() {
    let (mut core, now) = core(2, 10);
    core.handle(now, Event::Tick);
    let trouble = Trouble::Lasting("wrong PIN".to_owned());
    core.handle(now, Event::StartFailed(MemberIndex(0), Epoch(1), trouble));
    let later = core.handle(now + Duration::from_secs(3600), Event::Tick);
    assert!(
        !later
            .iter()
            .any(|action| matches!(action, Action::Start(MemberIndex(0), _))),
        "{later:?}"
    );
    assert_eq!(core.status(now)[0].starts, 1);
}

#[test]
fn only_a_stopped_member_is_revived() {
    let (mut core, now) = core(2, 10);
    core.handle(now, Event::Tick);
    let trouble = Trouble::Lasting("wrong PIN".to_owned());
    core.handle(now, Event::StartFailed(MemberIndex(0), Epoch(1), trouble));
    assert!(core.handle(now, Event::Revived(MemberIndex(1))).is_empty());
    let actions = core.handle(now, Event::Revived(MemberIndex(0)));
    assert!(actions.contains(&Action::Start(MemberIndex(0), Epoch(2))));
    assert!(core.is_starting(MemberIndex(0), Epoch(2)) && !core.is_starting(MemberIndex(0), Epoch(1)));
    core.handle(now, Event::Opened(MemberIndex(0), Epoch(2), abilities()));
    core.handle(
        now,
        Event::DomainFound(MemberIndex(0), Epoch(2), Fingerprint::from_bytes([2; 32]), ANSWER),
    );
    assert_eq!(core.status(now)[0].state, MemberState::Fenced);
    assert!(core.handle(now, Event::Revived(MemberIndex(0))).is_empty());
}

#[test]
fn a_dead_worker_is_started_again_after_growing_pauses() {
    let (mut core, mut now) = core(1, 10);
    let mut pauses = Vec::new();
    for life in 1..=12 {
        core.handle(now, Event::Tick);
        core.handle(now, Event::Gone(MemberIndex(0), Epoch(life), "killed".to_owned()));
        let at = core.next_wakeup().expect("a restart");
        pauses.push(at - now);
        assert!(core.handle(now, Event::Tick).is_empty());
        now = at;
    }
    assert!(pauses[0] <= Duration::from_millis(125));
    assert!(pauses[3] > pauses[0]);
    assert!(
        pauses
            .iter()
            .all(|pause| *pause <= SETTINGS.restart_pause_max.mul_f64(1.25))
    );
}

#[test]
fn what_a_dead_worker_had_does_not_count_for_the_next() {
    let (mut core, now) = core(1, 2);
    start_all(&mut core, now, domain());
    let old = admit(&mut core, now).expect("a grant");
    core.handle(now, Event::Gone(MemberIndex(0), Epoch(1), "killed".to_owned()));
    let now = core.next_wakeup().expect("a restart");
    start_all(&mut core, now, domain());
    assert_eq!(core.status(now)[0].outstanding, 0);
    conclude(&mut core, now, old, Outcome::Gone);
    assert_eq!(core.status(now)[0].outstanding, 0);
    let new = admit(&mut core, now).expect("a grant");
    assert_eq!(new.epoch, Epoch(2));
}

#[test]
fn a_full_member_refuses_at_once_and_an_unable_one_is_told_apart() {
    let (mut core, now) = core(1, 1);
    start_all(&mut core, now, domain());
    let needs = Needs {
        uses: vec![(Operation::Sign, Mechanism::Ed25519)],
        ..Needs::default()
    };
    assert!(matches!(
        core.admit(now, &needs, Lane::Uses, &mut attempts(now)),
        Err(Refusal::Unsupported { .. })
    ));
    let grant = admit(&mut core, now).expect("a grant");
    assert!(matches!(admit(&mut core, now), Err(Refusal::Full { .. })));
    conclude(&mut core, now, grant, Outcome::Served);
    assert!(admit(&mut core, now).is_ok());
}

#[test]
fn a_retry_goes_to_another_member() {
    let (mut core, now) = core(2, 10);
    start_all(&mut core, now, domain());
    for _ in 0..50 {
        let mut attempts = attempts(now);
        let first = core
            .admit(now, &Needs::default(), Lane::Uses, &mut attempts)
            .expect("a grant");
        let second = core
            .admit(now, &Needs::default(), Lane::Uses, &mut attempts)
            .expect("a grant");
        assert_ne!(first.member, second.member);
        conclude(&mut core, now, first, Outcome::Busy);
        conclude(&mut core, now, second, Outcome::Served);
    }
}

#[test]
fn an_unanswered_probe_ends_the_worker_and_a_wrong_answer_fences() {
    let (mut core, now) = core(2, 10);
    start_all(&mut core, now, domain());
    let now = now + SETTINGS.probe_interval;
    assert_eq!(core.handle(now, Event::Tick).len(), 2);
    core.handle(now, Event::Probed(MemberIndex(0), Epoch(1), [8; 32]));
    assert_eq!(core.status(now)[0].state, MemberState::Fenced);
    let actions = core.handle(now + SETTINGS.probe_deadline, Event::Tick);
    assert!(actions.contains(&Action::Kill(MemberIndex(1), Epoch(1))));
    assert_eq!(core.status(now)[1].state, MemberState::Down);
}

#[test]
fn faults_that_nobody_can_place_restart_the_worker_once_they_are_many_and_not_often() {
    let (mut core, now) = core(1, 100);
    start_all(&mut core, now, domain());
    for _ in 0..3 * DOUBTFUL_FAULTS {
        for outcome in [Outcome::Fault, Outcome::Served] {
            let grant = admit(&mut core, now).expect("a grant");
            conclude(&mut core, now, grant, outcome);
        }
    }
    assert_eq!(core.status(now)[0].state, MemberState::Ready);
    for _ in 0..DOUBTFUL_FAULTS {
        let grant = admit(&mut core, now).expect("a grant");
        conclude(&mut core, now, grant, Outcome::Fault);
    }
    assert_eq!(core.status(now)[0].state, MemberState::Down);
    let now = core.next_wakeup().expect("a restart");
    start_all(&mut core, now, domain());
    for _ in 0..3 * DOUBTFUL_FAULTS {
        let grant = admit(&mut core, now).expect("a grant");
        conclude(&mut core, now, grant, Outcome::Fault);
    }
    assert_eq!(
        core.status(now)[0].state,
        MemberState::Ready,
        "so soon it is more likely the calls"
    );
}

/// Lets an operation fail on a member, and another do it.
fn fail_over(core: &mut Core, now: Instant, failing: MemberIndex) -> Vec<Action> {
    let mut attempts = attempts(now);
    let mut actions = Vec::new();
    loop {
        let grant = core
            .admit(now, &Needs::default(), Lane::Uses, &mut attempts)
            .expect("a grant");
        let outcome = if grant.member == failing {
            Outcome::Fault
        } else {
            Outcome::Served
        };
        let (more, next) = core.conclude(now, grant, outcome, &mut attempts);
        actions.extend(more);
        match next {
            Next::Release => return actions,
            Next::Again => {}
            Next::GiveUp => panic!("nobody served"),
        }
    }
}

#[test]
fn a_member_that_fails_where_another_serves_is_given_no_more_until_it_has_shown_that_it_works() {
    let (mut core, mut now) = core(2, 100);
    start_all(&mut core, now, domain());
    let failing = MemberIndex(0);
    while core.status(now)[0].breaker == BreakerState::Closed {
        let actions = fail_over(&mut core, now, failing);
        if actions.contains(&Action::Probe(failing, Epoch(1))) {
            core.handle(now, Event::Probed(failing, Epoch(1), ANSWER));
        }
    }
    for _ in 0..50 {
        let grant = admit(&mut core, now).expect("a grant");
        assert_ne!(grant.member, failing);
        conclude(&mut core, now, grant, Outcome::Served);
    }
    // When its time has come it is probed, and then gets one operation at a time.
    now += Duration::from_secs(2);
    let actions = core.handle(now, Event::Tick);
    assert!(actions.contains(&Action::Probe(failing, Epoch(1))), "{actions:?}");
    core.handle(now, Event::Probed(failing, Epoch(1), ANSWER));
    assert_eq!(core.status(now)[0].breaker, BreakerState::HalfOpen);
    let trial = admit(&mut core, now).expect("a grant");
    assert_eq!(trial.member, failing);
    assert_ne!(admit(&mut core, now).expect("a grant").member, failing);
    conclude(&mut core, now, trial, Outcome::Served);
    for _ in 0..2 {
        let trial = admit(&mut core, now).expect("a grant");
        assert_eq!(trial.member, failing);
        conclude(&mut core, now, trial, Outcome::Served);
    }
    assert_eq!(core.status(now)[0].breaker, BreakerState::Closed);
}

#[test]
fn a_call_that_fails_wherever_it_runs_opens_no_breaker_and_has_the_members_probed() {
    let (mut core, now) = core(3, 100);
    start_all(&mut core, now, domain());
    let mut probed = 0;
    for _ in 0..9 {
        let mut attempts = attempts(now);
        while let Ok(grant) = core.admit(now, &Needs::default(), Lane::Uses, &mut attempts) {
            let (actions, next) = core.conclude(now, grant, Outcome::Fault, &mut attempts);
            probed += actions
                .iter()
                .filter(|action| matches!(action, Action::Probe(..)))
                .count();
            if next == Next::GiveUp {
                break;
            }
        }
    }
    assert!(
        core.status(now)
            .iter()
            .all(|member| member.breaker == BreakerState::Closed)
    );
    assert_eq!(probed, 3);
}

#[test]
fn a_call_that_kills_whoever_does_it_does_not_kill_every_member() {
    let (mut core, now) = core(5, 100);
    start_all(&mut core, now, domain());
    let mut attempts = attempts(now);
    let mut deaths = 0;
    while let Ok(grant) = core.admit(now, &Needs::default(), Lane::Uses, &mut attempts) {
        deaths += 1;
        if core.conclude(now, grant, Outcome::Gone, &mut attempts).1 == Next::GiveUp {
            break;
        }
    }
    assert_eq!((deaths, core.ready()), (3, 2));
}

#[test]
fn a_member_that_lies_is_fenced_and_what_else_it_said_is_not_released() {
    let (mut core, now) = core(2, 100);
    start_all(&mut core, now, domain());
    let grants: Vec<_> = (0..20).map(|_| admit(&mut core, now).expect("a grant")).collect();
    let liar = grants[0].member;
    let reason = "its signature was wrong".to_owned();
    let (actions, next) = core.conclude(now, grants[0], Outcome::Lied(reason.clone()), &mut attempts(now));
    assert_eq!(next, Next::Again);
    assert!(actions.contains(&Action::Kill(liar, Epoch(1))));
    let status = &core.status(now)[liar.0];
    assert_eq!((status.state, &status.reason), (MemberState::Fenced, &reason));
    for grant in &grants[1..] {
        let next = core.conclude(now, *grant, Outcome::Served, &mut attempts(now)).1;
        assert_eq!(next == Next::Release, grant.member != liar);
    }
    assert_ne!(admit(&mut core, now).expect("a grant").member, liar);
    core.handle(now, Event::Revived(liar));
    assert_eq!(
        core.status(now)[liar.0].state,
        MemberState::Fenced,
        "a reload is not enough"
    );
    let actions = core.handle(now, Event::Resume(liar));
    assert!(actions.contains(&Action::Start(liar, Epoch(2))));
}

#[test]
fn a_signature_is_checked_until_the_key_has_signed_right_in_this_life() {
    let (mut core, now) = core(1, 100);
    start_all(&mut core, now, domain());
    let grant = admit(&mut core, now).expect("a grant");
    let key = [1; 32];
    assert!(core.wants_check(grant, &key, true) && core.wants_check(grant, &key, false));
    core.note_proof(grant, &key);
    assert!(!core.wants_check(grant, &key, false));
    assert!(core.wants_check(grant, &[2; 32], false), "another key");
    assert!(core.wants_check(grant, &key, true), "loaded anew");
    conclude(&mut core, now, grant, Outcome::Gone);
    let now = core.next_wakeup().expect("a restart");
    start_all(&mut core, now, domain());
    let grant = admit(&mut core, now).expect("a grant");
    assert!(core.wants_check(grant, &key, false), "another life");
}

#[test]
fn a_share_of_the_signatures_is_checked_for_ever() {
    let now = Instant::now();
    let settings = Settings {
        verified_share: 0.25,
        ..SETTINGS
    };
    let mut core = Core::new(&[plan(100, 1)], settings, domain(), 42, now);
    start_all(&mut core, now, domain());
    let grant = admit(&mut core, now).expect("a grant");
    core.note_proof(grant, &[1; 32]);
    let checked = (0..1000).filter(|_| core.wants_check(grant, &[1; 32], false)).count();
    assert!((200..300).contains(&checked), "{checked}");
}

#[test]
fn a_drained_member_finishes_what_it_has_and_serves_again_when_it_is_resumed() {
    let (mut core, now) = core(2, 100);
    start_all(&mut core, now, domain());
    let grants: Vec<_> = (0..10).map(|_| admit(&mut core, now).expect("a grant")).collect();
    let drained = MemberIndex(0);
    core.handle(now, Event::Drain(drained));
    assert_eq!(core.status(now)[0].state, MemberState::Draining);
    let (its, others): (Vec<Grant>, Vec<Grant>) = grants.into_iter().partition(|grant| grant.member == drained);
    let (last, its) = its.split_last().expect("it had work");
    for grant in its.iter().chain(&others) {
        let (actions, next) = core.conclude(now, *grant, Outcome::Served, &mut attempts(now));
        assert_eq!((actions, next), (Vec::new(), Next::Release));
    }
    let other = admit(&mut core, now).expect("a grant");
    assert_eq!(other.member, MemberIndex(1));
    conclude(&mut core, now, other, Outcome::Served);
    let (actions, next) = core.conclude(now, *last, Outcome::Served, &mut attempts(now));
    assert_eq!(next, Next::Release);
    assert!(actions.contains(&Action::End(drained, Epoch(1))), "{actions:?}");
    assert_eq!(core.status(now)[0].state, MemberState::Drained);
    assert!(
        core.handle(now, Event::Gone(drained, Epoch(1), "ended".to_owned()))
            .is_empty()
    );
    assert!(core.handle(now + Duration::from_secs(1), Event::Tick).is_empty());
    let actions = core.handle(now, Event::Resume(drained));
    assert!(actions.contains(&Action::Start(drained, Epoch(2))), "{actions:?}");
}

#[test]
fn a_member_is_not_killed_while_it_logs_in_because_it_is_to_be_drained() {
    let (mut core, now) = core(1, 100);
    core.handle(now, Event::Tick);
    assert_eq!(
        core.handle(now, Event::Drain(MemberIndex(0))).len(),
        1,
        "told, and nothing done"
    );
    core.handle(now, Event::Opened(MemberIndex(0), Epoch(1), abilities()));
    let actions = core.handle(now, Event::DomainFound(MemberIndex(0), Epoch(1), domain(), ANSWER));
    assert!(actions.contains(&Action::End(MemberIndex(0), Epoch(1))), "{actions:?}");
    assert_eq!(core.status(now)[0].state, MemberState::Drained);
}

/// Brings whatever starts into service.
fn serve(core: &mut Core, now: Instant, mut actions: Vec<Action>) -> Vec<Action> {
    let mut all = Vec::new();
    while !actions.is_empty() {
        let mut more = Vec::new();
        for action in &actions {
            more.extend(match action {
                Action::Start(member, epoch) => core.handle(now, Event::Opened(*member, *epoch, abilities())),
                Action::FindDomain(member, epoch) => {
                    core.handle(now, Event::DomainFound(*member, *epoch, domain(), ANSWER))
                }
                _ => Vec::new(),
            });
        }
        all.append(&mut actions);
        actions = more;
    }
    all
}

#[test]
fn the_workers_of_a_member_start_one_after_another_and_share_its_work() {
    let now = Instant::now();
    let mut core = Core::new(&[plan(100, 3)], SETTINGS, domain(), 42, now);
    let actions = core.handle(now, Event::Tick);
    let starts = |actions: &[Action]| actions.iter().filter(|one| matches!(one, Action::Start(..))).count();
    assert_eq!(starts(&actions), 1);
    let actions = serve(&mut core, now, actions);
    assert_eq!((starts(&actions), core.status(now)[0].workers.len()), (3, 3));
    let grants: Vec<_> = (0..9).map(|_| admit(&mut core, now).expect("a grant")).collect();
    for epoch in 1..=3 {
        assert_eq!(grants.iter().filter(|grant| grant.epoch == Epoch(epoch)).count(), 3);
    }
    let changes: Vec<_> = (0..5)
        .map(|_| {
            core.admit(now, &Needs::default(), Lane::Changes, &mut attempts(now))
                .expect("a grant")
        })
        .collect();
    assert!(
        changes.iter().all(|grant| grant.epoch == changes[0].epoch),
        "token objects have one writer"
    );
    // One that dies takes nothing with it but its own.
    let actions = core.handle(now, Event::Gone(MemberIndex(0), Epoch(2), "killed".to_owned()));
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Tell(_))),
        "{actions:?}"
    );
    let status = core.status(now);
    assert_eq!((status[0].state, status[0].outstanding), (MemberState::Ready, 11));
}

#[test]
fn each_worker_is_replaced_by_one_that_serves_already() {
    let now = Instant::now();
    let mut core = Core::new(&[plan(100, 2), plan(100, 1)], SETTINGS, domain(), 42, now);
    let actions = core.handle(now, Event::Tick);
    serve(&mut core, now, actions);
    let before: Vec<_> = (0..20).map(|_| admit(&mut core, now).expect("a grant")).collect();
    let mut actions = core.handle(now, Event::Roll(vec![MemberIndex(0), MemberIndex(1)]));
    let mut ended = Vec::new();
    for grant in before {
        ended.extend(serve(&mut core, now, actions));
        let meanwhile = admit(&mut core, now).expect("somebody serves all the time");
        ended.extend(conclude(&mut core, now, meanwhile, Outcome::Served));
        let (more, next) = core.conclude(now, grant, Outcome::Served, &mut attempts(now));
        assert_eq!(next, Next::Release);
        actions = more;
    }
    ended.extend(serve(&mut core, now, actions));
    // What was admitted meanwhile is with the new ones; what was with the old ones is answered.
    let old = [
        (MemberIndex(0), Epoch(1)),
        (MemberIndex(0), Epoch(2)),
        (MemberIndex(1), Epoch(1)),
    ];
    for (member, epoch) in old {
        for worker in &core.status(now)[member.0].workers {
            assert!(
                worker.epoch != epoch || worker.state == WorkerState::Retiring,
                "{worker:?}"
            );
        }
    }
    assert!(!ended.iter().any(|action| matches!(action, Action::Kill(..))));
}

#[test]
fn a_replacement_that_cannot_start_ends_the_roll_and_the_old_worker_serves_on() {
    let (mut core, now) = core(2, 100);
    start_all(&mut core, now, domain());
    core.handle(now, Event::Roll(vec![MemberIndex(0), MemberIndex(1)]));
    let trouble = Trouble::Lasting("the PIN is wrong".to_owned());
    let actions = core.handle(now, Event::StartFailed(MemberIndex(0), Epoch(2), trouble));
    assert!(
        actions.contains(&Action::TellRoll(Err("the PIN is wrong".to_owned()))),
        "{actions:?}"
    );
    assert_eq!((core.ready(), core.roll_status().left), (2, 0));
    assert_eq!(core.status(now)[0].workers.len(), 1);
    assert!(core.roll_status().failure.is_some());
}

#[test]
fn members_come_change_and_go() {
    let (mut core, now) = core(1, 100);
    start_all(&mut core, now, domain());
    let added = core.handle(now, Event::Configured(MemberIndex(1), plan(7, 1)));
    assert!(added.contains(&Action::Start(MemberIndex(1), Epoch(1))), "{added:?}");
    serve(&mut core, now, added);
    assert_eq!(core.ready(), 2);
    let grants: Vec<_> = (0..8).map(|_| admit(&mut core, now).expect("a grant")).collect();
    let actions = core.handle(now, Event::Removed(MemberIndex(0)));
    assert!(!actions.iter().any(|action| matches!(action, Action::Kill(..))));
    for grant in grants {
        assert_eq!(
            core.conclude(now, grant, Outcome::Served, &mut attempts(now)).1,
            Next::Release
        );
    }
    let status = core.status(now);
    assert_eq!((status[0].state, status[0].workers.len()), (MemberState::Removed, 0));
    let changed = core.handle(now, Event::Configured(MemberIndex(1), plan(9, 2)));
    serve(&mut core, now, changed);
    assert_eq!((core.status(now)[1].workers.len(), core.ready()), (2, 1));
}

#[test]
fn a_use_that_takes_long_has_its_worker_probed_and_gets_it_no_more_work() {
    let (mut core, now) = core(2, 100);
    start_all(&mut core, now, domain());
    let slow = admit(&mut core, now).expect("a grant");
    let now = now + Duration::from_secs(1);
    assert!(core.next_wakeup().is_some_and(|at| at <= now));
    let actions = core.handle(now, Event::Tick);
    assert_eq!(actions, [Action::Probe(slow.member, slow.epoch)]);
    core.handle(now, Event::Probed(slow.member, slow.epoch, ANSWER));
    assert!(core.next_wakeup().is_some_and(|at| at > now), "probed once for it");
    for _ in 0..30 {
        assert_ne!(admit(&mut core, now).expect("a grant").member, slow.member);
    }
}

#[test]
fn work_that_cannot_begin_in_time_is_refused_at_once() {
    let (mut core, mut now) = core(1, 1000);
    start_all(&mut core, now, domain());
    for _ in 0..40 {
        let grant = admit(&mut core, now).expect("a grant");
        now += Duration::from_millis(100);
        conclude(&mut core, now, grant, Outcome::Served);
    }
    for _ in 0..100 {
        admit(&mut core, now).expect("a grant");
    }
    // 100 uses of 100 ms on 2 threads wait for 5 s.
    let mut hurried = Attempts::new((now + Duration::from_secs(1)).into());
    let refused = core.admit(now, &Needs::default(), Lane::Uses, &mut hurried);
    let Err(Refusal::Full { retry_after }) = refused else {
        panic!("it is not refused: {refused:?}")
    };
    assert!(retry_after >= Duration::from_secs(2), "{retry_after:?}");
    let mut late = Attempts::new(now.into());
    assert_eq!(
        core.admit(now, &Needs::default(), Lane::Uses, &mut late),
        Err(Refusal::DeadlinePassed)
    );
}

#[test]
fn no_principal_takes_all_there_is() {
    let (mut core, now) = core(1, 40);
    start_all(&mut core, now, domain());
    let errand = |number| Errand {
        principal: Principal(number),
        deadline: now + Duration::from_secs(60),
    };
    let mut taken = Vec::new();
    while let Ok(grant) = core.admit(now, &Needs::default(), Lane::Uses, &mut Attempts::new(errand(1))) {
        taken.push(grant);
    }
    assert_eq!(taken.len(), 20);
    let greedy = core.admit(now, &Needs::default(), Lane::Uses, &mut Attempts::new(errand(1)));
    assert!(matches!(greedy, Err(Refusal::ShareTaken { .. })));
    assert!(
        core.admit(now, &Needs::default(), Lane::Uses, &mut Attempts::new(errand(2)))
            .is_ok()
    );
    // What a dead worker had is nobody's any more.
    conclude(&mut core, now, taken[0], Outcome::Gone);
    assert_eq!(core.shares.total(), 0);
}

#[test]
fn where_none_is_ready_the_delay_says_when_one_may_be() {
    let (mut core, now) = core(1, 10);
    start_all(&mut core, now, domain());
    core.handle(now, Event::Gone(MemberIndex(0), Epoch(1), "killed".to_owned()));
    let Err(Refusal::NoneReady { retry_after }) = admit(&mut core, now) else {
        panic!("one is ready")
    };
    assert!(retry_after < Duration::from_secs(1), "{retry_after:?}");
    let now = core.next_wakeup().expect("a restart");
    core.handle(now, Event::Tick);
    core.handle(
        now,
        Event::StartFailed(MemberIndex(0), Epoch(2), Trouble::Lasting("no token".to_owned())),
    );
    let Err(Refusal::NoneReady { retry_after }) = admit(&mut core, now) else {
        panic!("one is ready")
    };
    assert_eq!(retry_after, Duration::from_secs(5), "it does not come back by itself");
}

#[test]
fn a_stopped_cluster_admits_and_starts_nothing() {
    let (mut core, now) = core(1, 10);
    start_all(&mut core, now, domain());
    core.stop();
    assert!(matches!(admit(&mut core, now), Err(Refusal::NoneReady { .. })));
    assert!(
        core.handle(now, Event::Gone(MemberIndex(0), Epoch(1), "stopped".to_owned()))
            .is_empty()
    );
    assert_eq!(core.next_wakeup(), None);
}

#[test]
fn a_hung_operation_ends_the_worker_and_the_cause_stays_to_be_read() {
    let (mut core, now) = core(1, 10);
    start_all(&mut core, now, domain());
    admit(&mut core, now).expect("a grant");
    core.members[0].workers[0].act_at = None;
    let now = now + SETTINGS.hang_after * ALONE;
    let actions = core.handle(now, Event::Tick);
    assert!(actions.contains(&Action::Kill(MemberIndex(0), Epoch(1))));
    core.handle(
        now,
        Event::Gone(
            MemberIndex(0),
            Epoch(1),
            "its worker was ended: signal: 9 (SIGKILL)".to_owned(),
        ),
    );
    assert!(
        core.status(now)[0].reason.starts_with("an operation was not answered"),
        "{}",
        core.status(now)[0].reason
    );
}

#[test]
fn the_only_member_that_serves_has_longer_before_it_is_taken_to_hang() {
    let (mut core, now) = core(2, 10);
    start_all(&mut core, now, domain());
    for _ in 0..4 {
        admit(&mut core, now).expect("a grant");
    }
    for worker in core.members.iter_mut().flat_map(|member| &mut member.workers) {
        worker.act_at = None;
        worker.suspected = worker.lanes.oldest_use().map(|begun| begun.piece.ticket);
    }
    let now = now + SETTINGS.hang_after;
    let kills = |actions: &[Action]| actions.iter().filter(|one| matches!(one, Action::Kill(..))).count();
    let actions = core.handle(now, Event::Tick);
    assert_eq!((kills(&actions), core.ready()), (1, 1));
    let actions = core.handle(now + SETTINGS.hang_after * 2, Event::Tick);
    assert_eq!(kills(&actions), 1);
}

#[test]
fn what_was_sent_again_with_its_key_has_not_begun_while_others_are_before_it() {
    let (mut core, now) = core(1, 10);
    start_all(&mut core, now, domain());
    let first = admit(&mut core, now).expect("a grant");
    for _ in 0..2 {
        admit(&mut core, now).expect("a grant");
    }
    core.requeue(now, first);
    assert_eq!(core.status(now)[0].outstanding, 3);
    let begun = core.members[0].workers[0].lanes.oldest_use().expect("work");
    assert_ne!(begun.piece.ticket, first.ticket);
    conclude(&mut core, now, first, Outcome::Served);
    assert_eq!((core.status(now)[0].outstanding, core.shares.total()), (2, 2));
}

#[test]
fn work_that_waits_in_a_long_queue_is_no_hang() {
    let (mut core, mut now) = core(1, 100);
    start_all(&mut core, now, domain());
    let grants: Vec<_> = (0..20).map(|_| admit(&mut core, now).expect("a grant")).collect();
    // Each takes nearly as long as it may: the last is answered many times `hang_after` after it came.
    for pair in grants.chunks(2) {
        now += SETTINGS.hang_after - Duration::from_millis(1);
        for grant in pair {
            conclude(&mut core, now, *grant, Outcome::Served);
        }
        core.members[0].workers[0].act_at = None;
        assert_eq!(core.handle(now, Event::Tick), []);
    }
    assert_eq!(
        (core.status(now)[0].state, core.status(now)[0].outstanding),
        (MemberState::Ready, 0)
    );
}

#[test]
fn generations_have_their_own_room_and_their_own_patience() {
    let (mut core, now) = core(1, 2);
    start_all(&mut core, now, domain());
    let generate = |core: &mut Core| core.admit(now, &Needs::default(), Lane::Generations, &mut attempts(now));
    assert!(generate(&mut core).is_ok() && generate(&mut core).is_ok());
    assert!(matches!(generate(&mut core), Err(Refusal::Full { .. })));
    core.members[0].workers[0].act_at = None;
    assert_eq!(core.next_wakeup(), Some(now + SETTINGS.generation_hang_after * ALONE));
    let using = admit(&mut core, now).expect("room for a use");
    assert_eq!(
        core.next_wakeup(),
        Some(now + Duration::from_secs(1)),
        "when it is suspected"
    );
    conclude(&mut core, now, using, Outcome::Served);
    assert_eq!(core.handle(now + SETTINGS.hang_after * ALONE, Event::Tick), []);
    let actions = core.handle(now + SETTINGS.generation_hang_after * ALONE, Event::Tick);
    assert!(actions.contains(&Action::Kill(MemberIndex(0), Epoch(1))));
}

#[test]
fn a_missed_probe_ends_the_worker_and_the_cause_stays_to_be_read() {
    let (mut core, now) = core(1, 10);
    start_all(&mut core, now, domain());
    let now = now + SETTINGS.probe_interval;
    core.handle(now, Event::Tick);
    let now = now + SETTINGS.probe_deadline;
    let actions = core.handle(now, Event::Tick);
    assert!(actions.contains(&Action::Kill(MemberIndex(0), Epoch(1))));
    let ended = "its worker was ended: signal: 9 (SIGKILL)";
    core.handle(now, Event::Gone(MemberIndex(0), Epoch(1), ended.to_owned()));
    let reason = &core.status(now)[0].reason;
    assert!(reason.starts_with("it did not answer a probe"), "{reason}");
    // Nor is it lost while the next worker starts.
    let now = core.next_wakeup().expect("a restart");
    core.handle(now, Event::Tick);
    let reason = &core.status(now)[0].reason;
    assert!(reason.starts_with("it did not answer a probe"), "{reason}");
}

#[test]
fn what_a_life_said_before_its_member_was_fenced_is_not_released_after_a_resumption() {
    let (mut core, now) = core(1, 10);
    start_all(&mut core, now, domain());
    let grants: Vec<_> = (0..3).map(|_| admit(&mut core, now).expect("a grant")).collect();
    let lie = || Outcome::Lied("its signature was wrong".to_owned());
    conclude(&mut core, now, grants[0], lie());
    let actions = core.handle(now, Event::Resume(MemberIndex(0)));
    assert!(
        actions.contains(&Action::Start(MemberIndex(0), Epoch(2))),
        "{actions:?}"
    );
    let next = core.conclude(now, grants[1], Outcome::Served, &mut attempts(now)).1;
    assert_eq!(next, Next::Again);
    // Nor does another lie of that life say anything of the next.
    assert_eq!(conclude(&mut core, now, grants[2], lie()), []);
    assert_eq!(core.status(now)[0].state, MemberState::Starting);
}

#[test]
fn a_login_that_was_refused_is_not_tried_by_the_other_workers_of_the_member() {
    let now = Instant::now();
    let mut core = Core::new(&[plan(100, 3)], SETTINGS, domain(), 42, now);
    core.handle(now, Event::Tick);
    let trouble = Trouble::Lasting("wrong PIN".to_owned());
    core.handle(now, Event::StartFailed(MemberIndex(0), Epoch(1), trouble.clone()));
    core.handle(now + Duration::from_secs(60), Event::Tick);
    let status = &core.status(now)[0];
    assert_eq!((status.state, status.starts), (MemberState::Stopped, 1));
    assert_eq!(status.reason, "wrong PIN");
    // A person brings all three back, one after another.
    let actions = core.handle(now, Event::Revived(MemberIndex(0)));
    serve(&mut core, now, actions);
    let of_state = |core: &Core, state| {
        let status = core.status(now);
        status[0].workers.iter().filter(|worker| worker.state == state).count()
    };
    assert_eq!(of_state(&core, WorkerState::Ready), 3);
    // Those that serve go on serving; one that dies meanwhile stays away.
    core.handle(now, Event::ProbeFailed(MemberIndex(0), Epoch(2), trouble));
    core.handle(now, Event::Gone(MemberIndex(0), Epoch(3), "killed".to_owned()));
    core.handle(now + Duration::from_secs(4), Event::Tick);
    assert_eq!((core.ready(), of_state(&core, WorkerState::Stopped)), (1, 2));
}

#[test]
fn with_fewer_workers_those_stay_that_serve() {
    let now = Instant::now();
    let mut core = Core::new(&[plan(100, 2)], SETTINGS, domain(), 42, now);
    let actions = core.handle(now, Event::Tick);
    serve(&mut core, now, actions);
    core.handle(now, Event::Gone(MemberIndex(0), Epoch(1), "killed".to_owned()));
    core.handle(now, Event::Configured(MemberIndex(0), plan(100, 1)));
    assert_eq!(admit(&mut core, now).expect("a grant").epoch, Epoch(2));
}

#[test]
fn a_successor_that_dies_while_it_waits_keeps_nobody_awake() {
    let (mut core, now) = core(1, 100);
    start_all(&mut core, now, domain());
    let needs = Needs::default();
    core.admit(now, &needs, Lane::Changes, &mut attempts(now))
        .expect("a grant");
    let actions = core.handle(now, Event::Roll(vec![MemberIndex(0)]));
    serve(&mut core, now, actions);
    let now = now + RELIEF_IS_NEAR;
    core.handle(now, Event::Gone(MemberIndex(0), Epoch(2), "killed".to_owned()));
    // It is not to be started again before the moment at which it would have relieved the other.
    let place = &mut core.members[0].workers[1];
    place.act_at = Some(now + Duration::from_secs(60));
    let now = now + Duration::from_secs(1);
    core.handle(now, Event::Tick);
    assert!(
        core.next_wakeup().is_some_and(|at| at > now),
        "{:?}",
        core.next_wakeup()
    );
}

#[test]
fn what_hung_at_a_worker_that_was_being_replaced_counts_as_hung() {
    let (mut core, now) = core(2, 100);
    start_all(&mut core, now, domain());
    let mut both = [attempts(now), attempts(now)];
    let here = Needs {
        only: Some(vec![MemberIndex(0)]),
        ..Needs::default()
    };
    let grants = both
        .each_mut()
        .map(|attempts| core.admit(now, &here, Lane::Uses, attempts).expect("a grant"));
    let actions = core.handle(now, Event::Roll(vec![MemberIndex(0)]));
    serve(&mut core, now, actions);
    let actions = core.handle(now + SETTINGS.hang_after, Event::Tick);
    assert!(actions.contains(&Action::Kill(MemberIndex(0), Epoch(1))), "{actions:?}");
    for (grant, attempts) in grants.into_iter().zip(&mut both) {
        let next = core.conclude(now, grant, Outcome::Gone, attempts).1;
        assert_eq!(next, Next::Again);
        assert_eq!(attempts.hangs(), 1);
    }
    assert_eq!(core.hung.len(), 0);
}

/// So long a worker has stood ready that is to take another's place.
const RELIEF_IS_NEAR: Duration = Duration::from_millis(4_500);

/// Ends the only worker of the member and has its next ones find no token, until the member is stopped or `until` is over.
fn look_in_vain(core: &mut Core, mut now: Instant, until: Instant) -> Instant {
    let life = core.status(now)[0].starts;
    core.handle(now, Event::Gone(MemberIndex(0), Epoch(life), "killed".to_owned()));
    while core.status(now)[0].state != MemberState::Stopped {
        now = core.next_wakeup().expect("another look");
        if now > until {
            break;
        }
        for action in core.handle(now, Event::Tick) {
            if let Action::Start(member, epoch) = action {
                core.handle(now, Event::StartFailed(member, epoch, absent()));
            }
        }
    }
    now
}

fn absent() -> Trouble {
    Trouble::Absent("no token matches".to_owned())
}

#[test]
fn a_token_that_was_never_there_stops_its_member_at_once() {
    let (mut core, now) = core(1, 10);
    core.handle(now, Event::Tick);
    core.handle(now, Event::StartFailed(MemberIndex(0), Epoch(1), absent()));
    assert_eq!(core.status(now)[0].state, MemberState::Stopped);
    assert_eq!(core.next_wakeup(), None);
}

#[test]
fn a_token_that_was_there_is_looked_for_again_and_serves_when_it_comes_back() {
    let (mut core, now) = core(1, 10);
    start_all(&mut core, now, domain());
    let later = look_in_vain(&mut core, now, now + SETTINGS.token_grace / 2);
    let status = &core.status(later)[0];
    assert_eq!(status.state, MemberState::Down);
    assert!(status.starts > 5, "it was looked for {} times", status.starts);
    start_all(&mut core, later, domain());
    assert_eq!(core.status(later)[0].state, MemberState::Ready);
    // It has all of its time again.
    let lost = look_in_vain(&mut core, later, later + SETTINGS.token_grace * 2);
    assert!(lost >= later + SETTINGS.token_grace, "{:?}", lost - later);
}

#[test]
fn a_token_that_does_not_come_back_stops_its_member_and_says_what_to_do() {
    let (mut core, now) = core(1, 10);
    start_all(&mut core, now, domain());
    let lost = look_in_vain(&mut core, now, now + Duration::from_secs(3600));
    let after = lost - now;
    let status = &core.status(lost)[0];
    assert_eq!(status.state, MemberState::Stopped);
    assert!(
        after >= SETTINGS.token_grace && after < SETTINGS.token_grace + Duration::from_secs(10),
        "{after:?}"
    );
    assert!(status.reason.contains("restore the token"), "{}", status.reason);
    assert_eq!(core.next_wakeup(), None);
    // A person says that it is there again.
    let actions = core.handle(lost, Event::Resume(MemberIndex(0)));
    assert!(
        actions.iter().any(|action| matches!(action, Action::Start(..))),
        "{actions:?}"
    );
}

#[test]
fn a_member_that_is_configured_otherwise_is_not_known_to_have_a_token() {
    let (mut core, now) = core(1, 10);
    start_all(&mut core, now, domain());
    let actions = core.handle(now, Event::Configured(MemberIndex(0), plan(10, 1)));
    assert!(
        actions.contains(&Action::Start(MemberIndex(0), Epoch(2))),
        "{actions:?}"
    );
    core.handle(now, Event::StartFailed(MemberIndex(0), Epoch(2), absent()));
    assert_eq!(core.roll_status().failure.as_deref(), Some("no token matches"));
    assert_eq!(
        core.status(now)[0].state,
        MemberState::Ready,
        "the old worker serves on"
    );
}

#[test]
fn a_core_that_stops_has_nothing_to_wake_for() {
    let (mut core, now) = core(2, 10);
    start_all(&mut core, now, domain());
    let _grant = admit(&mut core, now).expect("a grant");
    assert!(core.next_wakeup().is_some());
    core.stop();
    assert_eq!(core.next_wakeup(), None);
}

#[test]
fn what_failed_before_a_trial_does_not_end_it() {
    let (mut core, now) = core(2, 100);
    start_all(&mut core, now, domain());
    let (failing, other) = (MemberIndex(0), MemberIndex(1));
    let (first, mut old) = loop {
        let mut attempts = attempts(now);
        let grant = core
            .admit(now, &Needs::default(), Lane::Uses, &mut attempts)
            .expect("a grant");
        if grant.member == failing {
            break (grant, attempts);
        }
        conclude(&mut core, now, grant, Outcome::Served);
    };
    core.conclude(now, first, Outcome::Fault, &mut old);
    let second = core
        .admit(now, &Needs::default(), Lane::Uses, &mut old)
        .expect("a grant");
    assert_eq!(second.member, other);
    while core.status(now)[0].breaker != BreakerState::Open {
        fail_over(&mut core, now, failing);
    }
    let later = now + Duration::from_millis(1100);
    core.handle(later, Event::Tick);
    core.handle(later, Event::Probed(failing, Epoch(1), ANSWER));
    assert_eq!(core.status(now)[0].breaker, BreakerState::HalfOpen);
    let (actions, _) = core.conclude(later, second, Outcome::Served, &mut old);
    assert!(!actions.contains(&Action::Kill(failing, Epoch(1))), "{actions:?}");
    assert_eq!(core.status(now)[0].breaker, BreakerState::HalfOpen);
}

#[test]
fn work_that_was_done_too_late_shows_how_slow_a_member_is() {
    let (mut core, mut now) = core(3, 100);
    start_all(&mut core, now, domain());
    let slow = MemberIndex(0);
    let mut late: Option<(Instant, Grant)> = None;
    let mut on_the_slow_one = 0;
    for round in 0..200 {
        if let Some((at, grant)) = late.take() {
            // Its caller has gone, and the worker has done it all the same.
            core.abandon(at, grant, Outcome::Served);
        }
        let mut attempts = Attempts::new((now + Duration::from_secs(1)).into());
        let grant = core
            .admit(now, &Needs::default(), Lane::Uses, &mut attempts)
            .expect("a grant");
        if grant.member == slow {
            on_the_slow_one += u32::from(round >= 50);
            late = Some((now + Duration::from_millis(1200), grant));
        } else {
            core.conclude(now + Duration::from_millis(1), grant, Outcome::Served, &mut attempts);
        }
        now += Duration::from_millis(1500);
        for member in 0..3 {
            core.handle(now, Event::Probed(MemberIndex(member), Epoch(1), ANSWER));
        }
    }
    assert!(on_the_slow_one < 8, "{on_the_slow_one} of 150 went to the slow member");
}

/// Lets so many operations follow each other, each as long as its member takes, and returns who did them.
fn one_after_another(
    core: &mut Core,
    now: &mut Instant,
    count: usize,
    takes: impl Fn(MemberIndex) -> u64,
) -> Vec<usize> {
    let mut done = Vec::new();
    for _ in 0..count {
        let grant = admit(core, *now).expect("a grant");
        *now += Duration::from_micros(takes(grant.member));
        conclude(core, *now, grant, Outcome::Served);
        done.push(grant.member.0);
    }
    done
}

#[test]
fn what_comes_one_after_another_stays_with_the_member_that_is_warm_and_the_others_are_not_forgotten() {
    let (mut core, mut now) = core(3, 10);
    start_all(&mut core, now, domain());
    let done = one_after_another(&mut core, &mut now, 3000, |_| 100);
    let moves = done.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((30..300).contains(&moves), "{moves} moves");
    assert_eq!(HashSet::<_>::from_iter(done).len(), 3);
    let first = admit(&mut core, now).expect("a grant");
    let second = admit(&mut core, now).expect("a grant");
    assert_ne!(
        first.member, second.member,
        "who has something to do is not given more while others have nothing"
    );
}

#[test]
fn what_makes_resident_keys_is_spread_over_the_members() {
    let (mut core, now) = core(3, 10);
    start_all(&mut core, now, domain());
    let mut chosen = [0; 3];
    for _ in 0..300 {
        let member = core.suggest(now, &Needs::default(), Lane::Changes).expect("a member");
        chosen[member.0] += 1;
        let grant = admit(&mut core, now).expect("a grant");
        conclude(&mut core, now, grant, Outcome::Served);
    }
    assert!(chosen.iter().all(|count| *count > 50), "{chosen:?}");
}

#[test]
fn a_member_that_is_slow_does_not_keep_work_for_being_warm() {
    let (mut core, mut now) = core(3, 10);
    start_all(&mut core, now, domain());
    let takes = |member: MemberIndex| if member == MemberIndex(0) { 9000 } else { 1000 };
    one_after_another(&mut core, &mut now, 200, takes);
    let done = one_after_another(&mut core, &mut now, 500, takes);
    let slow = done.iter().filter(|member| **member == 0).count();
    assert!(slow < 50, "{slow} of 500 went to the slow one");
}

use super::*;
use portcullis_hsm::algorithm::{KeyType, Mechanism, Operation};
use proptest::prelude::*;
use std::collections::HashSet;

const SETTINGS: ClusterSettings = ClusterSettings {
    default_deadline: Duration::from_secs(10),
    start_deadline: Duration::from_secs(30),
    probe_interval: Duration::from_secs(5),
    probe_deadline: Duration::from_secs(2),
    hang_after: Duration::from_secs(30),
    generation_hang_after: Duration::from_secs(120),
    restart_pause: Duration::from_millis(100),
    restart_pause_max: Duration::from_secs(30),
};
const ANSWER: Tag = [7; 32];

fn domain() -> Fingerprint {
    Fingerprint::from_bytes([1; 32])
}

fn core(members: usize, queue: u32) -> (Core, Instant) {
    let now = Instant::now();
    (
        Core::new(
            &vec![
                MemberPlan {
                    queue,
                    generation_queue: queue,
                    weight: 1
                };
                members
            ],
            SETTINGS,
            domain(),
            42,
            now,
        ),
        now,
    )
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

fn admit(core: &mut Core, now: Instant) -> Result<Grant, Refusal> {
    core.admit(now, &Needs::default(), Lane::Uses, &mut Attempts::default())
}

#[test]
fn a_member_serves_only_after_its_domain_was_checked() {
    let (mut core, now) = core(1, 10);
    assert!(matches!(admit(&mut core, now), Err(Refusal::NoneReady { .. })));
    assert_eq!(
        core.handle(now, Event::Tick).last(),
        Some(&Action::Start(MemberIndex(0), Epoch(1)))
    );
    let actions = core.handle(now, Event::Opened(MemberIndex(0), Epoch(1), abilities()));
    assert_eq!(actions.last(), Some(&Action::FindDomain(MemberIndex(0), Epoch(1))));
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
    assert_eq!(core.status()[0].state, MemberState::Fenced);
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
    assert_eq!(core.status()[0].starts, 1);
}

#[test]
fn only_a_stopped_member_is_revived() {
    let (mut core, now) = core(2, 10);
    core.handle(now, Event::Tick);
    let trouble = Trouble::Lasting("wrong PIN".to_owned());
    core.handle(now, Event::StartFailed(MemberIndex(0), Epoch(1), trouble));
    assert!(core.handle(now, Event::Revived(MemberIndex(1))).is_empty());
    let actions = core.handle(now, Event::Revived(MemberIndex(0)));
    assert_eq!(actions.last(), Some(&Action::Start(MemberIndex(0), Epoch(2))));
    assert!(core.is_starting(MemberIndex(0), Epoch(2)) && !core.is_starting(MemberIndex(0), Epoch(1)));
    core.handle(now, Event::Opened(MemberIndex(0), Epoch(2), abilities()));
    core.handle(
        now,
        Event::DomainFound(MemberIndex(0), Epoch(2), Fingerprint::from_bytes([2; 32]), ANSWER),
    );
    assert_eq!(core.status()[0].state, MemberState::Fenced);
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
    assert_eq!(core.status()[0].outstanding, 0);
    core.conclude(now, old, Outcome::Gone);
    assert_eq!(core.status()[0].outstanding, 0);
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
        core.admit(now, &needs, Lane::Uses, &mut Attempts::default()),
        Err(Refusal::Unsupported { .. })
    ));
    let grant = admit(&mut core, now).expect("a grant");
    assert!(matches!(admit(&mut core, now), Err(Refusal::Full { .. })));
    core.conclude(now, grant, Outcome::Served);
    assert!(admit(&mut core, now).is_ok());
}

#[test]
fn a_retry_goes_to_another_member() {
    let (mut core, now) = core(2, 10);
    start_all(&mut core, now, domain());
    for _ in 0..50 {
        let mut attempts = Attempts::default();
        let first = core
            .admit(now, &Needs::default(), Lane::Uses, &mut attempts)
            .expect("a grant");
        let second = core
            .admit(now, &Needs::default(), Lane::Uses, &mut attempts)
            .expect("a grant");
        assert_ne!(first.member, second.member);
        core.conclude(now, first, Outcome::Busy);
        core.conclude(now, second, Outcome::Served);
    }
}

#[test]
fn an_unanswered_probe_ends_the_worker_and_a_wrong_answer_fences() {
    let (mut core, now) = core(2, 10);
    start_all(&mut core, now, domain());
    let now = now + SETTINGS.probe_interval;
    assert_eq!(core.handle(now, Event::Tick).len(), 2);
    core.handle(now, Event::Probed(MemberIndex(0), Epoch(1), [8; 32]));
    assert_eq!(core.status()[0].state, MemberState::Fenced);
    let actions = core.handle(now + SETTINGS.probe_deadline, Event::Tick);
    assert!(actions.contains(&Action::Kill(MemberIndex(1), Epoch(1))));
    assert_eq!(core.status()[1].state, MemberState::Down);
}

#[test]
fn faults_in_a_row_restart_the_worker_and_a_success_between_them_does_not() {
    let (mut core, now) = core(1, 100);
    start_all(&mut core, now, domain());
    for _ in 0..3 * FAULTS_TO_RESTART {
        for outcome in [Outcome::Fault, Outcome::Served] {
            let grant = admit(&mut core, now).expect("a grant");
            assert!(core.conclude(now, grant, outcome).is_empty());
        }
    }
    for _ in 0..FAULTS_TO_RESTART {
        let grant = admit(&mut core, now).expect("a grant");
        core.conclude(now, grant, Outcome::Fault);
    }
    assert_eq!(core.status()[0].state, MemberState::Down);
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
    let now = now + SETTINGS.hang_after;
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
        core.status()[0].reason.starts_with("an operation was not answered"),
        "{}",
        core.status()[0].reason
    );
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
            core.conclude(now, *grant, Outcome::Served);
        }
        core.members[0].act_at = None;
        assert_eq!(core.handle(now, Event::Tick), []);
    }
    assert_eq!(
        (core.status()[0].state, core.status()[0].outstanding),
        (MemberState::Ready, 0)
    );
}

#[test]
fn generations_have_their_own_room_and_their_own_patience() {
    let (mut core, now) = core(1, 2);
    start_all(&mut core, now, domain());
    let generate = |core: &mut Core| core.admit(now, &Needs::default(), Lane::Generations, &mut Attempts::default());
    assert!(generate(&mut core).is_ok() && generate(&mut core).is_ok());
    assert!(matches!(generate(&mut core), Err(Refusal::Full { .. })));
    core.members[0].act_at = None;
    assert_eq!(core.next_wakeup(), Some(now + SETTINGS.generation_hang_after));
    let using = admit(&mut core, now).expect("room for a use");
    assert_eq!(core.next_wakeup(), Some(now + SETTINGS.hang_after));
    core.conclude(now, using, Outcome::Served);
    assert_eq!(core.handle(now + SETTINGS.hang_after, Event::Tick), []);
    let actions = core.handle(now + SETTINGS.generation_hang_after, Event::Tick);
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
    let reason = &core.status()[0].reason;
    assert!(reason.starts_with("it did not answer a probe"), "{reason}");
    // Nor is it lost while the next worker starts.
    let now = core.next_wakeup().expect("a restart");
    core.handle(now, Event::Tick);
    let reason = &core.status()[0].reason;
    assert!(reason.starts_with("it did not answer a probe"), "{reason}");
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Open(usize, bool),
    Gone(usize),
    Admit,
    Conclude(usize, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u64..8000).prop_map(Step::Wait),
        (0usize..3, proptest::bool::weighted(0.9)).prop_map(|(member, right)| Step::Open(member, right)),
        (0usize..3).prop_map(Step::Gone),
        Just(Step::Admit),
        (0usize..16, 0u8..5).prop_map(|(at, outcome)| Step::Conclude(at, outcome)),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    /// Whatever happens in whatever order: grants only on ready members of the current epoch, never beyond the queue.
    #[test]
    fn no_grant_is_wrong(steps in steps()) {
        let (mut core, mut now) = core(3, 4);
        let mut grants: Vec<Grant> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(millis) => {
                    now += Duration::from_millis(millis);
                    core.handle(now, Event::Tick);
                }
                Step::Open(member, right) => {
                    let epoch = core.members[member].epoch;
                    let fingerprint = if right { domain() } else { Fingerprint::from_bytes([9; 32]) };
                    core.handle(now, Event::Opened(MemberIndex(member), epoch, abilities()));
                    core.handle(now, Event::DomainFound(MemberIndex(member), epoch, fingerprint, ANSWER));
                }
                Step::Gone(member) => {
                    let epoch = core.members[member].epoch;
                    core.handle(now, Event::Gone(MemberIndex(member), epoch, "gone".to_owned()));
                }
                Step::Admit => match admit(&mut core, now) {
                    Ok(grant) => {
                        let member = &core.members[grant.member.0];
                        prop_assert_eq!(member.state, MemberState::Ready);
                        prop_assert_eq!(member.epoch, grant.epoch);
                        prop_assert_eq!(member.fingerprint, Some(domain()));
                        grants.push(grant);
                    }
                    Err(Refusal::NoneReady { .. }) => prop_assert_eq!(core.ready(), 0),
                    Err(_) => {}
                },
                Step::Conclude(at, outcome) => if !grants.is_empty() {
                    let grant = grants.swap_remove(at % grants.len());
                    let outcome = match outcome {
                        0 => Outcome::Fault,
                        1 => Outcome::Gone,
                        2 => Outcome::Lasting("broken".to_owned()),
                        _ => Outcome::Served,
                    };
                    core.conclude(now, grant, outcome);
                },
            }
            for (index, member) in core.members.iter().enumerate() {
                let live = grants.iter().filter(|grant| grant.member.0 == index && grant.epoch == member.epoch).count();
                prop_assert!(member.lanes.total() <= member.plan.queue);
                prop_assert_eq!(member.lanes.total() as usize, live);
            }
        }
    }
}

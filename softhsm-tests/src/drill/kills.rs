//! Processes that die or stand still: workers, and the gateway itself.

use super::{
    load::Patience,
    report::Report,
    scenario::{Scenario, Size, as_it_comes},
    stage::{MEMBER, Stage},
};
use crate::{cluster::MEMBERS, worker};
use portcullis_client::v1::{Member, MemberState, WorkerState};
use rand::seq::IteratorRandom;
use rustix::process::{Pid, Resource, Rlimit};
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

pub(super) const SCENARIOS: [Scenario; 8] = [
    Scenario {
        name: "killed",
        what: "a worker is killed (-9)",
        patience: Patience::None,
        faulty: false,
        prepare: as_it_comes,
        play: |stage| Box::pin(killed(stage)),
    },
    Scenario {
        name: "stopped",
        what: "a worker is stopped (SIGSTOP) for good",
        patience: Patience::None,
        faulty: false,
        prepare: |cluster, _| cluster.set_in_cluster("hang_after", "1s"),
        play: |stage| Box::pin(stopped(stage)),
    },
    Scenario {
        name: "continued",
        what: "a worker is stopped, and continued after 300 calls",
        patience: Patience::None,
        faulty: false,
        prepare: |cluster, _| cluster.set_in_cluster("hang_after", "1s"),
        play: |stage| Box::pin(continued(stage)),
    },
    Scenario {
        name: "descriptors",
        what: "a worker gets no file descriptors any more",
        patience: Patience::None,
        faulty: false,
        prepare: |cluster, _| cluster.set_in_cluster("probe_interval", "500ms"),
        play: |stage| Box::pin(without_descriptors(stage)),
    },
    Scenario {
        name: "two-workers",
        what: "one of a member's two workers is killed",
        patience: Patience::None,
        faulty: false,
        prepare: |cluster, _| {
            for member in MEMBERS {
                cluster.edit_member(member, |settings| drop(settings.insert("workers".to_owned(), 2.into())));
            }
        },
        play: |stage| Box::pin(one_of_two_killed(stage)),
    },
    Scenario {
        name: "all-down",
        what: "all workers are killed; callers come back when they are told to",
        patience: Patience::Retry,
        faulty: false,
        prepare: |cluster, _| {
            cluster.set_in_cluster("restart_pause", "2s");
        },
        play: |stage| Box::pin(all_killed(stage)),
    },
    Scenario {
        name: "gateway-stopped",
        what: "the gateway is stopped (SIGTERM) and started again; callers come back",
        patience: Patience::Retry,
        faulty: false,
        prepare: as_it_comes,
        play: |stage| Box::pin(gateway_restarted(stage, Ending::Asked)),
    },
    Scenario {
        name: "gateway-killed",
        what: "the gateway is killed (-9) and started again; callers come back",
        patience: Patience::Retry,
        faulty: false,
        prepare: as_it_comes,
        play: |stage| Box::pin(gateway_restarted(stage, Ending::Killed)),
    },
];

async fn killed(stage: &mut Stage) {
    let before = stage.member().await.worker_starts;
    stage.fault();
    block_in_place(|| stage.gateway().kill_worker(MEMBER));
    stage.serves_again(before + 1).await;
    stage.mended();
}

async fn stopped(stage: &mut Stage) {
    let before = stage.member().await.worker_starts;
    stage.fault();
    let frozen = block_in_place(|| stage.gateway().freeze_worker(MEMBER));
    stage.serves_again(before + 1).await;
    stage.mended();
    let gone = || !worker::is_running(frozen);
    stage.load.until("the end of the stopped worker", gone).await;
}

/// Whether the worker is continued in time or replaced, nobody may notice.
async fn continued(stage: &mut Stage) {
    stage.fault();
    let frozen = block_in_place(|| stage.gateway().freeze_worker(MEMBER));
    stage.load.more(300).await;
    worker::signal(frozen, rustix::process::Signal::CONT);
    stage.member_is(MemberState::Ready).await;
    stage.mended();
}

async fn without_descriptors(stage: &mut Stage) {
    let before = stage.member().await.worker_starts;
    let pid = stage.gateway().workers()[MEMBER];
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    let none = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    stage.fault();
    rustix::process::prlimit(Some(pid), Resource::Nofile, none).expect("the limit of a process of ours");
    stage.serves_again(before + 1).await;
    stage.mended();
}

async fn one_of_two_killed(stage: &mut Stage) {
    let both = |member: &Member| {
        let ready = |worker: &portcullis_client::v1::Worker| worker.state() == WorkerState::Ready;
        member.workers.len() == 2 && member.workers.iter().all(ready)
    };
    let before = stage.member_where("READY with two workers", both).await;
    stage.fault();
    block_in_place(|| stage.gateway().kill_worker(MEMBER));
    let again = |member: &Member| both(member) && member.worker_starts > before.worker_starts;
    stage.member_where("READY with two workers again", again).await;
    stage.mended();
    let log = stage.gateway().log();
    assert!(
        !log.contains("a member is down"),
        "the member was down while one of its workers served"
    );
}

async fn all_killed(stage: &mut Stage) {
    stage.all_serve().await;
    stage.fault();
    block_in_place(|| MEMBERS.map(|member| stage.gateway().kill_worker(member)));
    stage.load.until("a refusal", || stage.load.refusals() > 0).await;
    stage.all_serve().await;
    stage.mended();
    // One line for each change of a state, and none for each call.
    let log = stage.gateway().log();
    let down = log.lines().filter(|line| line.contains("a member is down")).count();
    assert_eq!(down, MEMBERS.len(), "lines of members that are down:\n{log}");
    let of_calls = log.lines().filter(|line| line.contains("an operation failed")).count();
    assert_eq!(of_calls, 0, "lines of failed calls:\n{log}");
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Asked,
    Killed,
}

async fn gateway_restarted(stage: &mut Stage, ending: Ending) {
    stage.fault();
    let gateway = stage.take_gateway();
    block_in_place(|| match ending {
        Ending::Asked => drop(gateway.stop()),
        Ending::Killed => drop(gateway.kill9()),
    });
    stage.start_gateway();
    // The first try over the old connection fails.
    stage.all_serve().await;
    stage.mended();
}

impl Stage {
    /// Plays random kills for a time; `look` is called with the gateway's process after each.
    pub async fn soak(size: Size, time: Duration, mut look: impl FnMut(u32, usize)) -> (Report, usize) {
        let few_cached = Scenario {
            // What is made meanwhile is not kept: memory that grows is a leak.
            prepare: |cluster, _| {
                cluster.edit_config(|config| {
                    let limits: toml::Table = toml::from_str("cached_keys = 1000").expect("a table");
                    config.insert("limits".to_owned(), limits.into());
                });
            },
            ..*Scenario::named("killed")
        };
        let stage = Self::set(&few_cached, size).await;
        stage.load.more(size.calls).await;
        let (started, mut kills) = (Instant::now(), 0);
        let mut last_killed = MEMBERS.map(|member| (member, started));
        while started.elapsed() < time {
            stage
                .load
                .more(rand::random_range(size.calls / 2..size.calls * 3 / 2))
                .await;
            stage.all_serve().await;
            // A worker that dies young is started after a pause that grows: that is another thing than a leak.
            let old = last_killed.iter_mut().filter(|(_, at)| at.elapsed() > OLD);
            let Some((member, at)) = old.choose(&mut rand::rng()) else {
                continue;
            };
            block_in_place(|| stage.gateway().kill_worker(member));
            *at = Instant::now();
            kills += 1;
            look(stage.gateway().pid(), kills);
        }
        stage.all_serve().await;
        (stage.close().await, kills)
    }
}

/// Longer than a worker has to serve so that its death is not one of several.
const OLD: Duration = Duration::from_secs(12);

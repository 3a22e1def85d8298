//! A cluster, a gateway on it, and the load.

use super::{
    load::{Load, Patience},
    report::Report,
    scenario::{Scenario, Size},
};
use crate::{
    cluster::TestCluster,
    faulty::FaultyModule,
    gateway::{Gateway, Launch},
    program::{LONG, PAUSE},
};
use portcullis_client::{
    Client,
    v1::{ListMembersRequest, Member, MemberState, ResumeMemberRequest},
};
use std::time::{Duration, Instant};

/// Where a scenario is played.
pub struct Stage {
    // The gateway ends before its files go.
    gateway: Option<Gateway>,
    pub(super) faulty: Option<FaultyModule>,
    pub(super) size: Size,
    pub(super) load: Load,
    /// Whoever looks after the cluster: over the socket, which is at the same path after a restart.
    pub(super) operator: Client,
    window: Option<(Duration, Option<Duration>)>,
    pub(super) cluster: TestCluster,
}

impl Stage {
    /// Plays a scenario from its beginning to its end, and says what came of the calls.
    ///
    /// # Panics
    ///
    /// When a member does not come to the state that it should be in.
    pub async fn play(scenario: &Scenario, size: Size) -> Report {
        let mut stage = Self::set(scenario, size).await;
        stage.load.more(size.calls).await;
        (scenario.play)(&mut stage).await;
        stage.load.more(size.calls).await;
        stage.close().await
    }

    /// Ends the load and says what came of it.
    pub(super) async fn close(self) -> Report {
        let Self {
            gateway, load, window, ..
        } = self;
        let mut report = load.finish().await;
        report.window = window.map(|(from, to)| (from, to.unwrap_or(report.lasted)));
        drop(gateway);
        report
    }

    pub(super) async fn set(scenario: &Scenario, size: Size) -> Self {
        let cluster = TestCluster::new();
        let faulty = scenario.faulty.then(|| FaultyModule::install(&cluster, MEMBER));
        (scenario.prepare)(&cluster, faulty.as_ref());
        let gateway = Gateway::start(&cluster);
        let clients = match scenario.patience {
            Patience::None => gateway.clients().await.map(|(_, client)| client).to_vec(),
            // Another gateway has another port.
            Patience::Retry => vec![gateway.unix_client().await],
        };
        let clients: Vec<Client> = clients
            .into_iter()
            .map(|client| match size.deadline {
                Some(deadline) => client.with_deadline(deadline),
                None => client,
            })
            .collect();
        Self {
            operator: gateway.unix_client().await.with_deadline(LONG),
            load: Load::start(&clients, size.callers, scenario.patience).await,
            gateway: Some(gateway),
            faulty,
            size,
            window: None,
            cluster,
        }
    }

    pub(super) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("a gateway runs")
    }

    pub(super) fn take_gateway(&mut self) -> Gateway {
        self.gateway.take().expect("a gateway runs")
    }

    pub(super) fn start_gateway(&mut self) {
        let gateway = tokio::task::block_in_place(|| Launch::new(&self.cluster).start());
        self.gateway = Some(gateway);
    }

    pub(super) fn faulty(&self) -> &FaultyModule {
        self.faulty.as_ref().expect("the scenario has a faulty module")
    }

    /// Something is wrong from now on.
    pub(super) fn fault(&mut self) {
        self.window = Some((self.load.began().elapsed(), None));
    }

    /// All is well again.
    pub(super) fn mended(&mut self) {
        if let Some((_, end)) = &mut self.window {
            *end = Some(self.load.began().elapsed());
        }
    }

    /// What the gateway says of its members, or why it says nothing.
    pub(super) async fn members(&self) -> Result<Vec<Member>, portcullis_client::Status> {
        let answer = self.operator.cluster().list_members(ListMembersRequest {}).await?;
        Ok(answer.into_inner().members)
    }

    /// What the gateway says of the member that scenarios are about.
    pub(super) async fn member(&self) -> Member {
        self.member_where("known", |_| true).await
    }

    /// Waits until that member is in a state.
    pub(super) async fn member_is(&self, state: MemberState) -> Member {
        self.member_where(state.as_str_name(), |member| member.state() == state)
            .await
    }

    /// Waits until that member serves with its second, third, … worker.
    pub(super) async fn serves_again(&self, starts: u64) -> Member {
        let what = format!("READY with worker {starts}");
        self.member_where(&what, |member| {
            member.state() == MemberState::Ready && member.worker_starts >= starts
        })
        .await
    }

    pub(super) async fn member_where(&self, what: &str, is_so: impl Fn(&Member) -> bool) -> Member {
        let name = format!("members/{MEMBER}");
        let found = self
            .members_where(&format!("{MEMBER} is {what}"), |members| {
                members.iter().any(|member| member.name == name && is_so(member))
            })
            .await;
        found
            .into_iter()
            .find(|member| member.name == name)
            .expect("the member that was just there")
    }

    /// Waits until the members are as they should be.
    pub(super) async fn members_where(&self, what: &str, are_so: impl Fn(&[Member]) -> bool) -> Vec<Member> {
        let started = Instant::now();
        loop {
            let found = self.members().await;
            if let Ok(members) = &found
                && are_so(members)
            {
                return found.unwrap_or_default();
            }
            assert!(
                started.elapsed() < LONG,
                "after {LONG:?} still not: {what}; {}",
                describe(&found)
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes the member into service again, as a person would.
    pub(super) async fn resume(&self) {
        let request = ResumeMemberRequest {
            name: format!("members/{MEMBER}"),
        };
        let resumed = self.operator.cluster().resume_member(request).await;
        let resumed = resumed.expect("the member can be resumed").into_inner();
        assert_eq!(resumed.state(), MemberState::Ready, "{}", resumed.reason);
    }

    /// Waits until every member serves.
    pub(super) async fn all_serve(&self) -> Vec<Member> {
        self.members_where("all members are READY", |members| {
            members.iter().all(|member| member.state() == MemberState::Ready)
        })
        .await
    }
}

fn describe(found: &Result<Vec<Member>, portcullis_client::Status>) -> String {
    match found {
        Ok(members) => {
            let each = members.iter().map(|member| {
                let state = member.state().as_str_name();
                format!(
                    "{} {state} after {} starts: {}",
                    member.name, member.worker_starts, member.reason
                )
            });
            each.collect::<Vec<_>>().join("; ")
        }
        Err(status) => status.to_string(),
    }
}

/// The member that scenarios are about.
pub(super) const MEMBER: &str = "b";

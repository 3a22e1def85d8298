//! What people do to members that are well.

use super::{
    load::Patience,
    scenario::{Scenario, as_it_comes},
    stage::{MEMBER, Stage},
};
use portcullis_client::v1::{DrainMemberRequest, Member, MemberState, RollMembersRequest};

pub(super) const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "drain",
        what: "a member is drained, and resumed",
        patience: Patience::None,
        faulty: false,
        prepare: as_it_comes,
        play: |stage| Box::pin(drained(stage)),
    },
    Scenario {
        name: "roll",
        what: "all workers are replaced (roll)",
        patience: Patience::None,
        faulty: false,
        prepare: as_it_comes,
        play: |stage| Box::pin(rolled(stage)),
    },
    Scenario {
        name: "reload",
        what: "a member is changed, removed and added by reloads",
        patience: Patience::None,
        faulty: false,
        prepare: as_it_comes,
        play: |stage| Box::pin(reloaded(stage)),
    },
];

async fn drained(stage: &mut Stage) {
    stage.fault();
    let request = DrainMemberRequest {
        name: format!("members/{MEMBER}"),
        ..Default::default()
    };
    let drained = stage.operator.cluster().drain_member(request).await;
    let drained = drained.expect("the member can be drained").into_inner();
    assert_eq!((drained.state(), drained.outstanding), (MemberState::Drained, 0));
    assert!(!stage.gateway().workers().contains_key(MEMBER), "it still has a worker");
    stage.load.more(stage.size.calls).await;
    stage.resume().await;
    stage.mended();
}

async fn rolled(stage: &mut Stage) {
    let before = stage.all_serve().await;
    stage.fault();
    let answer = stage
        .operator
        .cluster()
        .roll_members(RollMembersRequest::default())
        .await;
    let after = answer.expect("workers can be replaced").into_inner().members;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after.state(), MemberState::Ready, "{}: {}", after.name, after.reason);
        assert_eq!(after.worker_starts, before.worker_starts + 1, "{}", after.name);
    }
    stage.mended();
}

async fn reloaded(stage: &mut Stage) {
    let name = format!("members/{MEMBER}");
    let is_it = |member: &Member| member.name == name;
    let before = stage.member().await.worker_starts;
    stage.fault();
    stage.cluster.edit_member(MEMBER, |settings| {
        drop(settings.insert("sessions".to_owned(), 3.into()))
    });
    stage.gateway().hang_up();
    stage.serves_again(before + 1).await;

    let mut removed = None;
    stage.cluster.edit_config(|config| {
        let members = config["member"].as_array_mut().expect("[[member]]");
        let at = members
            .iter()
            .position(|member| member["name"].as_str() == Some(MEMBER));
        removed = at.map(|at| members.remove(at));
    });
    stage.gateway().hang_up();
    stage
        .members_where("no such member", |members| !members.iter().any(is_it))
        .await;
    stage.load.more(stage.size.calls).await;

    stage.cluster.edit_config(|config| {
        let members = config["member"].as_array_mut().expect("[[member]]");
        members.extend(removed);
    });
    stage.gateway().hang_up();
    stage.member_is(MemberState::Ready).await;
    stage.mended();
}

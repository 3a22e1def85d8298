//! Modules that fail, hang, are slow, or lie.

use super::{
    load::Patience,
    scenario::{Scenario, as_it_comes},
    stage::Stage,
};
use portcullis_client::v1::{Member, MemberState};
use portcullis_faulty_module::{Function, Place, Rule};
use std::time::Duration;

pub(super) const SCENARIOS: [Scenario; 9] = [
    Scenario {
        name: "busy",
        what: "a module says CKR_DEVICE_MEMORY to all work but signatures",
        patience: Patience::None,
        faulty: true,
        prepare: as_it_comes,
        play: |stage| Box::pin(busy(stage)),
    },
    Scenario {
        name: "losses",
        what: "a module loses its login, its sessions and its handles, and says so in every way",
        patience: Patience::None,
        faulty: true,
        prepare: as_it_comes,
        play: |stage| Box::pin(losses(stage)),
    },
    Scenario {
        name: "failing",
        what: "a module says CKR_DEVICE_ERROR to all work",
        patience: Patience::None,
        faulty: true,
        prepare: as_it_comes,
        play: |stage| Box::pin(failing(stage)),
    },
    Scenario {
        name: "fatal",
        what: "a module says CKR_PIN_LOCKED; a person resumes the member",
        patience: Patience::None,
        faulty: true,
        prepare: as_it_comes,
        play: |stage| Box::pin(fatal(stage)),
    },
    Scenario {
        name: "hang",
        what: "one call of a module does not come back",
        patience: Patience::None,
        faulty: true,
        prepare: |cluster, _| cluster.set_in_cluster("hang_after", "1s"),
        play: |stage| Box::pin(hanging_at(stage, Function::C_Sign)),
    },
    Scenario {
        name: "generation-hang",
        what: "the generation of a key pair does not come back",
        patience: Patience::None,
        faulty: true,
        prepare: |cluster, _| cluster.set_in_cluster("hang_after", "1s"),
        play: |stage| Box::pin(hanging_at(stage, Function::C_GenerateKeyPair)),
    },
    Scenario {
        name: "slow",
        what: "each use of a key takes a module 20 ms longer",
        patience: Patience::None,
        faulty: true,
        prepare: as_it_comes,
        play: |stage| Box::pin(slow(stage)),
    },
    Scenario {
        name: "lies",
        what: "a module's signatures are wrong from its first on",
        patience: Patience::None,
        faulty: true,
        prepare: |_, faulty| {
            faulty.expect("a faulty module").place(lie());
        },
        play: |stage| Box::pin(lying(stage)),
    },
    Scenario {
        name: "later-lies",
        what: "a module's signatures become wrong, where all are verified",
        patience: Patience::None,
        faulty: true,
        prepare: |cluster, _| {
            cluster.edit_config(|config| {
                let section = config.entry("cluster").or_insert_with(|| toml::Table::new().into());
                let section = section.as_table_mut().expect("[cluster]");
                section.insert("verified_share".to_owned(), 1.0.into());
            });
        },
        play: |stage| Box::pin(lying_later(stage)),
    },
];

async fn busy(stage: &mut Stage) {
    let before = stage.member().await.worker_starts;
    stage.fault();
    let busy = CALLS
        .into_iter()
        .filter(|one| !matches!(one, Function::C_SignInit | Function::C_Sign));
    let rule = stage.faulty().place(Rule::fail_before(busy, 0x31));
    stage
        .load
        .until("100 refusals", || stage.faulty().strikes(rule) >= 100)
        .await;
    stage.faulty().clear();
    let after = stage.member_is(MemberState::Ready).await;
    assert_eq!(after.worker_starts, before, "{}", after.reason);
    stage.mended();
}

/// Each is repaired in the worker; only where the domain's keys are among what is lost, a new worker may be needed.
async fn losses(stage: &mut Stage) {
    stage.fault();
    let rules = [
        Rule::lose_login([]),
        Rule::lose_sessions([Function::C_Sign]),
        Rule::lose_sessions_and_login([Function::C_Encrypt]),
        Rule::lose_handles([Function::C_SignInit]),
        Rule::fail_before([Function::C_SignInit], 0x60).first(1),
        Rule::fail_before([Function::C_Encrypt], 0x90).first(1),
        Rule::fail_before([Function::C_UnwrapKey], 0xb3).first(1),
        Rule::fail_before([Function::C_WrapKey], 0x101).first(1),
    ];
    for rule in rules {
        let what = format!("{rule:?}");
        let placed = stage.faulty().place(rule);
        stage.load.until(&what, || stage.faulty().strikes(placed) > 0).await;
        stage.load.more(stage.size.callers).await;
    }
    stage.faulty().clear();
    stage.member_is(MemberState::Ready).await;
    stage.mended();
}

async fn failing(stage: &mut Stage) {
    let before = stage.member().await.worker_starts;
    stage.fault();
    stage.faulty().place(Rule::fail_before(CALLS, 0x30));
    let given_up = |member: &Member| member.worker_starts > before;
    stage.member_where("started again", given_up).await;
    stage.faulty().clear();
    stage.serves_again(before + 1).await;
    stage.mended();
}

async fn fatal(stage: &mut Stage) {
    stage.fault();
    let rule = Rule::fail_before([Function::C_Sign], 0xa4).first(1);
    stage.faulty().place(rule);
    let stopped = stage.member_is(MemberState::Stopped).await;
    assert!(stopped.reason.contains("CKR_PIN_LOCKED"), "{}", stopped.reason);
    stage.load.more(stage.size.calls).await;
    stage.faulty().clear();
    stage.resume().await;
    stage.mended();
}

async fn hanging_at(stage: &mut Stage, function: Function) {
    let before = stage.member().await.worker_starts;
    stage.fault();
    let rule = stage.faulty().place(Rule::hang([function]).first(1));
    stage.load.until("a hang", || stage.faulty().strikes(rule) > 0).await;
    stage.serves_again(before + 1).await;
    stage.mended();
}

/// A slow member is given less to do. Each of its calls takes so long that the measure is not the machine's load.
async fn slow(stage: &mut Stage) {
    let uses = [Function::C_Sign, Function::C_Encrypt, Function::C_Decrypt];
    stage.fault();
    let rule = stage.faulty().place(Rule::delay(uses, Duration::from_millis(20)));
    stage
        .load
        .until("a slow call", || stage.faulty().strikes(rule) > 0)
        .await;
    // What it has been given until it was known to be slow does not count.
    stage.load.more(stage.size.calls).await;
    let (slow, all) = (stage.faulty().strikes(rule), stage.load.done());
    stage.load.more(stage.size.calls * 2).await;
    let (slow, all) = (stage.faulty().strikes(rule) - slow, stage.load.done() - all);
    assert!(
        slow * 4 < all as u64,
        "the slow member did {slow} of {all} calls: as many as another"
    );
    stage.faulty().clear();
    stage.member_is(MemberState::Ready).await;
    stage.mended();
}

async fn lying(stage: &mut Stage) {
    stage.fault();
    caught(stage).await;
}

async fn lying_later(stage: &mut Stage) {
    stage.fault();
    stage.faulty().place(lie());
    caught(stage).await;
}

async fn caught(stage: &mut Stage) {
    let fenced = stage.member_is(MemberState::Fenced).await;
    for words in ["signature", "not released", "before you resume it"] {
        assert!(fenced.reason.contains(words), "{}", fenced.reason);
    }
    stage.load.more(stage.size.calls).await;
    let still = stage.member().await;
    assert_eq!(still.state(), MemberState::Fenced, "{}", still.reason);
    stage.faulty().clear();
    stage.resume().await;
    stage.mended();
}

/// Wrong ECDSA signatures; codes by the same function stay right, or probes would tell.
fn lie() -> Rule {
    Rule::flip_bit([Function::C_Sign], Place::Last).with_mechanism(CKM_ECDSA)
}

const CKM_ECDSA: u64 = 0x1041;
/// The calls of which all work consists.
const CALLS: [Function; 7] = [
    Function::C_SignInit,
    Function::C_Sign,
    Function::C_Encrypt,
    Function::C_Decrypt,
    Function::C_UnwrapKey,
    Function::C_GenerateKeyPair,
    Function::C_WrapKey,
];

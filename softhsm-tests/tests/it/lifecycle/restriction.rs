//! Taking something away from a version while no HSM member serves.

use super::{Verb, apply, version, wait_for_state};
use portcullis_client::{
    Code,
    v1::{KeyVersionState, MemberState},
};
use portcullis_softhsm_tests::{Database, Gateway, KeySpec, LONG, TestCluster, create_key, create_ring, refusal, sign};

const MEMBERS: [&str; 3] = ["a", "b", "c"];

/// Takes every member out of service, for a person to look at.
fn take_tokens_away(cluster: &TestCluster) {
    for member in MEMBERS {
        cluster.edit_member(member, |member| {
            member.insert("token_label".to_owned(), "another token".into());
        });
    }
}

fn give_tokens_back(cluster: &TestCluster) {
    for member in MEMBERS {
        cluster.edit_member(member, |table| {
            table.insert("token_label".to_owned(), format!("portcullis-{member}").into());
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_disabled_and_marked_as_compromised_without_any_hsm() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for id in ["disabled", "compromised", "both", "active", "scheduled"] {
        create_key(&client, "ring", id, KeySpec::EC_P256).await;
    }
    let scheduled = "keyRings/ring/keys/scheduled/versions/1";
    apply(&client, scheduled, Verb::ScheduleDestruction)
        .await
        .expect("scheduled");
    drop(client);
    gateway.stop();
    take_tokens_away(&cluster);
    // No member serves, and nothing of these keys was ever read by this process.
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let name = |id: &str| format!("keyRings/ring/keys/{id}/versions/1");
    let disabled = apply(&client, &name("disabled"), Verb::Disable)
        .await
        .expect("disabled");
    assert_eq!(disabled.state(), KeyVersionState::Disabled);
    let marked = apply(&client, &name("compromised"), Verb::MarkCompromised)
        .await
        .expect("marked");
    assert_eq!(marked.state(), KeyVersionState::Compromised);
    assert!(marked.compromise_time.is_some());
    // A leak that is found while a version waits for its destruction.
    for _ in 0..2 {
        let marked = apply(&client, scheduled, Verb::MarkCompromised).await.expect("marked");
        assert_eq!(marked.state(), KeyVersionState::DestroyScheduled);
        assert!(marked.compromise_time.is_some() && marked.destroy_time.is_some());
    }
    apply(&client, &name("both"), Verb::Disable).await.expect("disabled");
    apply(&client, &name("both"), Verb::MarkCompromised)
        .await
        .expect("marked");
    // What gives something needs an HSM.
    let refused = refusal(apply(&client, &name("disabled"), Verb::Enable).await);
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::Unavailable, "HSM_UNAVAILABLE")
    );
    // What does not apply is refused as ever.
    let refused = refusal(apply(&client, &name("compromised"), Verb::Disable).await);
    assert_eq!(refused.reason, "KEY_STATE_FORBIDS_OPERATION");
    drop(client);
    gateway.stop();
    give_tokens_back(&cluster);
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    for (id, state) in [
        ("disabled", KeyVersionState::Disabled),
        ("compromised", KeyVersionState::Compromised),
        ("both", KeyVersionState::Compromised),
    ] {
        let found = version(&client, &name(id)).await;
        assert_eq!(found.state(), state, "{id}");
        assert_eq!(found.state_reason, "a test wants it", "{id}");
        assert_eq!(
            refusal(sign(&client, &name(id), b"message").await).reason,
            "KEY_STATE_FORBIDS_OPERATION"
        );
    }
    assert!(sign(&client, &name("active"), b"message").await.is_ok());
    // The gateway makes them part of authenticated rows; then nothing without a tag is left.
    wait_for_no_restrictions(&cluster).await;
    let marked = version(&client, scheduled).await;
    assert_eq!(marked.state(), KeyVersionState::DestroyScheduled);
    assert!(marked.compromise_time.is_some() && marked.destroy_time.is_some());
    let cancelled = apply(&client, scheduled, Verb::CancelDestruction)
        .await
        .expect("cancelled");
    assert_eq!(cancelled.state(), KeyVersionState::Compromised);
    apply(&client, &name("disabled"), Verb::Enable).await.expect("enabled");
    assert!(sign(&client, &name("disabled"), b"message").await.is_ok());
}

async fn wait_for_no_restrictions(cluster: &TestCluster) {
    tokio::task::block_in_place(|| {
        portcullis_softhsm_tests::wait_until("no restriction", portcullis_softhsm_tests::LONG, || {
            (Database::of(cluster).count("restrictions") == 0).then_some(())
        })
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_in_use_is_disabled_when_all_members_die() {
    let cluster = TestCluster::new();
    // Long enough that members stay down for the test.
    cluster.set_in_cluster("restart_pause", "20s");
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    sign(&client, &key.name, b"message").await.expect("a signature");
    for member in MEMBERS {
        gateway.kill_worker(member);
        gateway.wait_for_member(member, MemberState::Down).await;
    }
    let name = format!("{}/versions/1", key.name);
    let disabled = apply(&client, &name, Verb::Disable).await.expect("disabled");
    assert_eq!(disabled.state(), KeyVersionState::Disabled);
    let refused = refusal(sign(&client, &key.name, b"message").await);
    assert_eq!(refused.reason, "KEY_STATE_FORBIDS_OPERATION");
    for member in MEMBERS {
        gateway.wait_for_member(member, MemberState::Ready).await;
    }
    wait_for_no_restrictions(&cluster).await;
    wait_for_state(&client, &name, KeyVersionState::Disabled).await;
    assert_eq!(
        refusal(sign(&client, &key.name, b"message").await).reason,
        "KEY_STATE_FORBIDS_OPERATION"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_disabled_while_no_member_has_the_time_for_it() {
    let cluster = TestCluster::new();
    // Members that do not answer are to stay in service.
    cluster.set_in_cluster("probe_interval", "10m");
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let used = create_key(&client, "ring", "used", KeySpec::EC_P256).await;
    create_key(&client, "ring", "unread", KeySpec::EC_P256).await;
    drop(client);
    gateway.stop();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    sign(&client, &used.name, b"message").await.expect("a signature");
    for member in MEMBERS {
        gateway.freeze_worker(member);
    }
    // It waits at a frozen member while its key is disabled.
    let waiting = {
        let (client, name) = (client.clone().with_deadline(LONG), used.name.clone());
        tokio::spawn(async move { sign(&client, &name, b"message").await })
    };
    while gateway
        .cluster_status()
        .await
        .members
        .iter()
        .all(|member| member.outstanding == 0)
    {
        tokio::task::yield_now().await;
    }
    for id in ["used", "unread"] {
        let name = format!("keyRings/ring/keys/{id}/versions/1");
        let disabled = apply(&client, &name, Verb::Disable).await.expect("disabled");
        assert_eq!(disabled.state(), KeyVersionState::Disabled);
    }
    let refused = refusal(sign(&client, &used.name, b"message").await);
    assert_eq!(refused.reason, "KEY_STATE_FORBIDS_OPERATION");
    for member in MEMBERS {
        gateway.thaw_worker(member);
    }
    let late = refusal(waiting.await.expect("no panic"));
    assert_eq!(late.reason, "KEY_STATE_FORBIDS_OPERATION");
    assert!(late.message.contains("before the result was there"), "{}", late.message);
    wait_for_no_restrictions(&cluster).await;
    for id in ["used", "unread"] {
        let name = format!("keyRings/ring/keys/{id}/versions/1");
        assert_eq!(version(&client, &name).await.state(), KeyVersionState::Disabled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restriction_that_somebody_put_into_the_database_gives_nothing() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    let name = format!("{}/versions/1", key.name);
    apply(&client, &name, Verb::MarkCompromised).await.expect("marked");
    drop(client);
    gateway.stop();
    // DISABLED could be enabled again; ACTIVE would be worse.
    for state in [3, 2] {
        Database::of(&cluster).execute(
            "INSERT OR REPLACE INTO restrictions (key_uid, number, state, reason, time)
             SELECT key_uid, number, ?1, '', 0 FROM key_versions",
            [state],
        );
        let gateway = Gateway::start(&cluster);
        let client = gateway.unix_client().await;
        let signed = sign(&client, &key.name, b"message").await;
        let reason = refusal(signed).reason;
        assert!(
            ["KEY_STATE_FORBIDS_OPERATION", "RECORD_NOT_AUTHENTIC"].contains(&reason.as_str()),
            "{reason}"
        );
        gateway.stop();
    }
}

//! PINs from files, credentials and commands.

use portcullis_client::v1::MemberState;
use portcullis_softhsm_tests::{Adversary, AuditLog, Gateway, LONG, Launch, SHORT, TestCluster, wait_until};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

fn set_source(cluster: &TestCluster, member: &str, source: &str, value: impl Into<toml::Value>) {
    cluster.edit_member(member, |table| {
        table.remove("pin_file");
        table.insert(source.to_owned(), value.into());
    });
}

/// Writes a member's PIN where nobody but the owner reads it.
fn write_pin(path: &Path, pin: &str) {
    let new = path.with_extension("new");
    fs::write(&new, format!("{pin}\n")).expect("a PIN file");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("its permissions");
    fs::rename(new, path).expect("the PIN file in its place");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_take_their_pins_from_a_credential_and_from_a_command() {
    let cluster = TestCluster::new();
    let credentials = cluster.path().join("credentials");
    fs::create_dir(&credentials).expect("a directory");
    write_pin(&credentials.join("pin-a"), &cluster.user_pin("a"));
    set_source(&cluster, "a", "pin_credential", "pin-a");
    let file = cluster.member_directory("b").join("user.pin");
    set_source(
        &cluster,
        "b",
        "pin_command",
        vec!["/bin/cat", file.to_str().expect("UTF-8")],
    );
    let gateway = Launch::new(&cluster)
        .with_environment("CREDENTIALS_DIRECTORY", &credentials)
        .start();
    for member in ["a", "b", "c"] {
        gateway.wait_for_member(member, MemberState::Ready).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_or_hangs_holds_up_its_member_and_shows_no_pin() {
    let cluster = TestCluster::new();
    let pin = cluster.user_pin("b");
    let script = format!("echo {pin}; echo {pin} >&2; exit 7");
    set_source(&cluster, "b", "pin_command", vec!["/bin/sh", "-c", &script]);
    set_source(&cluster, "c", "pin_command", vec!["/bin/sleep", "600"]);
    cluster.edit_member("c", |table| {
        drop(table.insert("pin_command_timeout".to_owned(), "300ms".into()))
    });
    let gateway = Gateway::start(&cluster);
    let b = gateway.wait_for_member("b", MemberState::Down).await;
    assert!(b.reason.contains("exit status: 7"), "{}", b.reason);
    let c = gateway.wait_for_member("c", MemberState::Down).await;
    assert!(c.reason.contains("was killed"), "{}", c.reason);
    gateway.wait_for_member("a", MemberState::Ready).await;
    let ended = tokio::task::block_in_place(|| gateway.stop());
    assert!(!ended.log.contains(&pin), "the log shows the PIN");
    assert!(!b.reason.contains(&pin), "the reason shows the PIN");
    assert!(!format!("{:?}", AuditLog::read(&cluster.audit_file()).entries).contains(&pin));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_member_comes_back_with_a_new_pin_and_no_pin_is_tried_twice() {
    let cluster = TestCluster::new();
    cluster.reload_often();
    cluster.set_in_cluster("restart_pause", "1ms");
    let right = cluster.user_pin("b");
    let file = cluster.member_directory("b").join("user.pin");
    write_pin(&file, "00000000-wrong");
    let gateway = Gateway::start(&cluster);
    let stopped = gateway.wait_for_member("b", MemberState::Stopped).await;
    assert!(stopped.reason.contains("reload"), "{}", stopped.reason);

    // The same PIN again, asked for by a person: it is not tried.
    gateway.hang_up();
    tokio::task::block_in_place(|| {
        wait_until("the refusal to try it again", SHORT, || {
            gateway
                .log()
                .contains("its token refused this PIN before")
                .then_some(())
        });
    });
    assert_eq!(gateway.member("b").await.worker_starts, 1);

    // Another wrong one is tried once.
    write_pin(&file, "00000000-other");
    let again = wait_for_starts(&gateway, "b", 2).await;
    assert_eq!(again, 2);
    gateway.wait_for_member("b", MemberState::Stopped).await;

    // The right one serves, without a restart and without a signal.
    write_pin(&file, &right);
    gateway.wait_for_worker("b", 3).await;
    assert_eq!(gateway.member("b").await.worker_starts, 3);
    assert!(
        Adversary::at(&cluster, "b").can_log_in(),
        "the right PIN is refused now"
    );
}

async fn wait_for_starts(gateway: &Gateway, member: &str, starts: u64) -> u64 {
    let started = std::time::Instant::now();
    loop {
        let found = gateway.member(member).await;
        if found.worker_starts >= starts && found.state() == MemberState::Stopped {
            return found.worker_starts;
        }
        assert!(started.elapsed() < LONG, "member {member} was not started again");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

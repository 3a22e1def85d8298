//! `portcullisd member change-pin`.

use portcullis_client::v1::MemberState;
use portcullis_softhsm_tests::{Gateway, Output, TestCluster, run, workspace_binary};
use std::{fs, path::Path, process::Command};

fn change_pin(cluster: &TestCluster, member: &str, new: &Path) -> Output {
    run(Command::new(workspace_binary("portcullisd"))
        .args(["member", "change-pin", "--member", member, "--config"])
        .arg(cluster.config_file())
        .arg("--new-pin-file")
        .arg(new))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_changed_under_a_running_gateway() {
    let cluster = TestCluster::new();
    cluster.set_in_cluster("restart_pause", "1ms");
    let gateway = Gateway::start(&cluster);
    gateway.wait_for_member("b", MemberState::Ready).await;
    let new = cluster.place("new.pin", "a-new-pin-for-b\n");
    let output = tokio::task::block_in_place(|| change_pin(&cluster, "b", &new));
    assert!(output.status.success(), "{output}");
    for words in ["member b", "portcullis-b", "user.pin", "reload"] {
        assert!(output.text().contains(words), "{words}: {output}");
    }
    assert!(!format!("{output}").contains("a-new-pin"), "{output}");

    // The worker that runs keeps its login; the next one would need the new PIN and finds the old one.
    assert_eq!(gateway.member("b").await.state(), MemberState::Ready);
    tokio::task::block_in_place(|| gateway.kill_worker("b"));
    gateway.wait_for_member("b", MemberState::Stopped).await;
    cluster.place("members/b/user.pin", "a-new-pin-for-b\n");
    gateway.hang_up();
    gateway.wait_for_worker("b", 3).await;
}

#[test]
fn what_is_wrong_with_a_change_is_said_and_nothing_is_changed() {
    let cluster = TestCluster::new();
    let old = cluster.user_pin("a");
    let new = cluster.place("new.pin", "a-new-pin-for-a\n");
    let fails = |output: Output, words: &str| {
        assert!(!output.status.success(), "{output}");
        assert!(format!("{output}").contains(words), "{words}: {output}");
        assert!(!format!("{output}").contains("a-new-pin"), "{output}");
    };
    fails(change_pin(&cluster, "nobody", &new), "expected one of a, b, c");
    fails(change_pin(&cluster, "a", &cluster.path().join("absent")), "absent");
    fails(change_pin(&cluster, "a", &cluster.place("empty.pin", "\n")), "is empty");
    fails(
        change_pin(&cluster, "a", &cluster.member_directory("a").join("user.pin")),
        "is the old one",
    );
    use std::os::unix::fs::PermissionsExt;
    let open = cluster.place("open.pin", "a-new-pin-for-a\n");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("its permissions");
    fails(change_pin(&cluster, "a", &open), "may be read by others");
    // Without a file it asks a person, and there is none.
    let nobody = run(Command::new("setsid")
        .arg(workspace_binary("portcullisd"))
        .args(["member", "change-pin", "--member", "a", "--config"])
        .arg(cluster.config_file()));
    fails(nobody, "--new-pin-file");
    // A wrong old PIN is tried once.
    cluster.place("members/a/user.pin", "00000000-wrong\n");
    fails(change_pin(&cluster, "a", &new), "was tried once");
    cluster.place("members/a/user.pin", &old);
    assert!(change_pin(&cluster, "a", &new).status.success());
}

//! `portcullisd member change-pin`.

use crate::review::compile_module;
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
    // A probe in the moment of the change may find the token half-written.
    cluster.set_in_cluster("probe_interval", "10min");
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

/// A PKCS#11 module that is SoftHSM2, until a file says that the login is lost: then only the PIN in that file is taken, and
/// nothing works in a process that has not logged in with it. The function list is a version and a table of functions, by their
/// number in PKCS#11.
const FORGETFUL: &str = r#"
#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { LOGIN = 18, SIGN_INIT = 42, FUNCTIONS = 68 };
enum { CKR_PIN_INCORRECT = 0xa0, CKR_USER_NOT_LOGGED_IN = 0x101 };

struct list { unsigned char version[2]; void *functions[FUNCTIONS]; };
static struct list *real, changed;
static int logged_in;

static int is_lost(void) { return access("@LOST@", F_OK) == 0; }

static unsigned long login(unsigned long session, unsigned long user, unsigned char *pin, unsigned long length) {
    unsigned long (*real_login)(unsigned long, unsigned long, unsigned char *, unsigned long) = real->functions[LOGIN];
    if (is_lost()) {
        char taken[256];
        int file = open("@LOST@", O_RDONLY);
        long size = read(file, taken, sizeof taken);
        close(file);
        if (size != (long)length || memcmp(taken, pin, length) != 0) return CKR_PIN_INCORRECT;
        logged_in = 1;
        return real_login(session, user, (unsigned char *)"@PIN@", strlen("@PIN@"));
    }
    return real_login(session, user, pin, length);
}

static unsigned long sign_init(unsigned long session, void *mechanism, unsigned long key) {
    unsigned long (*real_init)(unsigned long, void *, unsigned long) = real->functions[SIGN_INIT];
    return is_lost() && !logged_in ? CKR_USER_NOT_LOGGED_IN : real_init(session, mechanism, key);
}

unsigned long C_GetFunctionList(struct list **result) {
    void *library = dlopen("@MODULE@", RTLD_NOW);
    if (library == NULL) return 5;
    unsigned long (*get)(struct list **) = dlsym(library, "C_GetFunctionList");
    unsigned long code = get(&real);
    if (code != 0) return code;
    memcpy(&changed, real, sizeof changed);
    changed.functions[LOGIN] = login;
    changed.functions[SIGN_INIT] = sign_init;
    *result = &changed;
    return 0;
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_loses_its_login_after_a_change_takes_the_new_pin_by_itself() {
    let cluster = TestCluster::new();
    cluster.set_in_cluster("restart_pause", "1ms");
    cluster.set_in_cluster("probe_interval", "100ms");
    let lost = cluster.path().join("lost");
    // The token itself keeps its PIN: a probe in the moment of a real change may find the token half-written.
    let source = FORGETFUL.replace("@LOST@", &lost.display().to_string());
    let module = compile_module(&cluster, &source.replace("@PIN@", &cluster.user_pin("b")));
    cluster.edit_member("b", |member| {
        drop(member.insert("module".to_owned(), module.to_str().expect("UTF-8").into()))
    });
    let gateway = Gateway::start(&cluster);
    gateway.wait_for_member("b", MemberState::Ready).await;
    cluster.place("members/b/user.pin", "a-new-pin-for-b\n");
    assert_eq!(gateway.member("b").await.worker_starts, 1);

    // The next probe finds no login; the worker tries the PIN that it was started with, which is the old one.
    cluster.place("lost", "a-new-pin-for-b");
    let ready = gateway.wait_for_worker("b", 2).await;
    assert_eq!(ready.worker_starts, 2);
    assert!(
        gateway.log().contains("a stopped member is started again"),
        "{}",
        gateway.log()
    );
}

//! A member that lost its login, and whose PIN is another one by now: tokens lock after a few wrong tries.

use super::compile_module;
use crate::worker::{MAC_USES, Worker, mac};
use portcullis_hsm::{
    algorithm::KeyType,
    worker::protocol::{Empty, FailureKind, Reply, ReplyBody, RequestBody},
};
use portcullis_softhsm_tests::TestCluster;
use std::{fs, path::PathBuf};

/// A PKCS#11 module that is SoftHSM2, until the file beside it says that the login is lost and the PIN is another one.
///
/// SoftHSM2 does neither by itself.
struct ForgetfulModule {
    library: PathBuf,
    lost: PathBuf,
    logins: PathBuf,
}

impl ForgetfulModule {
    fn build(cluster: &TestCluster) -> Self {
        let (lost, logins) = (cluster.path().join("lost"), cluster.path().join("logins"));
        let source = SOURCE
            .replace("@LOST@", &lost.display().to_string())
            .replace("@LOGINS@", &logins.display().to_string());
        Self {
            library: compile_module(cluster, &source),
            lost,
            logins,
        }
    }

    fn lose_login(&self) {
        fs::write(&self.lost, "").expect("the login is lost");
    }

    /// How often the PIN was tried since the login was lost.
    fn logins(&self) -> usize {
        fs::read(&self.logins).map_or(0, |bytes| bytes.len())
    }
}

/// The function list is a version and a table of functions, by their number in PKCS#11.
const SOURCE: &str = r#"
#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { LOGIN = 18, SIGN_INIT = 42, FUNCTIONS = 68 };
enum { CKR_PIN_INCORRECT = 0xa0, CKR_USER_NOT_LOGGED_IN = 0x101 };

struct list { unsigned char version[2]; void *functions[FUNCTIONS]; };
static struct list *real, changed;

static int is_lost(void) { return access("@LOST@", F_OK) == 0; }

static unsigned long login(unsigned long session, unsigned long user, unsigned char *pin, unsigned long length) {
    unsigned long (*real_login)(unsigned long, unsigned long, unsigned char *, unsigned long) = real->functions[LOGIN];
    if (!is_lost()) return real_login(session, user, pin, length);
    int file = open("@LOGINS@", O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (write(file, "x", 1) != 1) return 5;
    close(file);
    return CKR_PIN_INCORRECT;
}

static unsigned long sign_init(unsigned long session, void *mechanism, unsigned long key) {
    unsigned long (*real_init)(unsigned long, void *, unsigned long) = real->functions[SIGN_INIT];
    return is_lost() ? CKR_USER_NOT_LOGGED_IN : real_init(session, mechanism, key);
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

#[test]
fn a_pin_that_is_wrong_after_the_login_was_lost_is_tried_once() {
    let cluster = TestCluster::new();
    let module = ForgetfulModule::build(&cluster);
    let mut worker = Worker::serving_by(&cluster, &module.library, 100);
    let tokens: Vec<_> = (0..4)
        .map(|_| worker.generate(KeyType::HmacSha256, &MAC_USES))
        .collect();
    for token in &tokens {
        assert!(matches!(worker.ask(mac(token, true, b"data")), ReplyBody::Bytes(_)));
    }
    module.lose_login();
    // From both sessions, and from the probes' thread between them.
    let mut waiting = 0;
    for token in tokens.iter().cycle().take(40) {
        worker.send(mac(token, true, b"data"), 0);
        worker.send(RequestBody::Probe(Empty {}), 0);
        waiting += 2;
    }
    for _ in 0..waiting {
        let Reply { body, .. } = worker.receive();
        match body.expect("a body") {
            ReplyBody::Failure(failure) => assert_eq!(failure.kind(), FailureKind::Fatal, "{}", failure.message),
            _ => panic!("it worked without a login"),
        }
    }
    assert_eq!(module.logins(), 1, "the wrong PIN was tried again");
}

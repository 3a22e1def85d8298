//! What a vendor's library prints.

use super::compile_module;
use portcullis_client::v1::MemberState;
use portcullis_softhsm_tests::{Gateway, KeySpec, LONG, TestCluster, create_key, create_ring, sign, wait_until};

/// Prints what is no text, then more than a pipe holds without an end of line, then a last word; the rest is SoftHSM2.
const SOURCE: &str = r#"
#include <dlfcn.h>
#include <stdio.h>

unsigned long C_GetFunctionList(void **result) {
    void *library = dlopen("@MODULE@", RTLD_NOW);
    if (library == NULL) return 5;
    unsigned long (*get)(void **) = dlsym(library, "C_GetFunctionList");
    fputs("noise \xff\xfe\n", stderr);
    for (int i = 0; i < 1000000; i++) fputc('n', stderr);
    fputs("\nthe last word\n", stderr);
    return get(result);
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_library_that_prints_what_is_no_text_or_no_line_serves_and_is_heard_to_the_end() {
    let cluster = TestCluster::new();
    let module = compile_module(&cluster, SOURCE);
    cluster.set_in_cluster("start_deadline", "90s");
    cluster.edit_member("b", |member| {
        drop(member.insert("module".to_owned(), module.to_str().expect("UTF-8").into()))
    });
    let gateway = Gateway::start(&cluster);
    gateway.wait_for_member("b", MemberState::Ready).await;
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let mut request = portcullis_softhsm_tests::key_request("ring", "ed", KeySpec::ED25519_RESIDENT);
    request.member = "b".to_owned();
    let key = client
        .keys()
        .create_key(request)
        .await
        .expect("a key on the noisy member");
    sign(&client, &key.into_inner().name, b"a message")
        .await
        .expect("a signature by the noisy member");
    create_key(&client, "ring", "ec", KeySpec::EC_P256).await;
    tokio::task::block_in_place(|| {
        wait_until("the library's last word in the log", LONG, || {
            gateway.log().contains("the last word").then_some(())
        });
    });
    let log = gateway.stop().log;
    assert!(log.contains("worker: noise \u{fffd}\u{fffd}"), "{log}");
    let longest = log.lines().map(str::len).max().unwrap_or_default();
    assert!(longest < 10_000, "a line of {longest} bytes in the log");
}

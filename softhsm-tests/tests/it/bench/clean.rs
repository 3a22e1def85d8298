//! A measurement that is interrupted leaves no keys, and a PIN is where nobody looks.

use super::{Setting, document};
use portcullis_client::{
    Client,
    v1::{Key, KeyVersionState, ListKeysRequest},
};
use portcullis_softhsm_tests::{LONG, SHORT, interrupt, run, wait_until};
use std::{fs, process::Stdio};

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_measurement_cleans_up_and_showed_no_pin() {
    let setting = Setting::new();
    let before = setting.token_objects();
    let command = setting.command("p256 create-key --callers 2 --time 1h --repeats 5 --ring interrupted");
    let mut command = setting.directly(command, &setting.token.module());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("portcullis bench");
    let pid = child.id();
    let client = setting.gateway.unix_client().await;
    wait_until("the keys on the token", LONG, || {
        (setting.token_objects() > before).then_some(())
    });
    let pin = setting.token.user_pin("a");
    let helpers = wait_until("both helpers", SHORT, || {
        let helpers = children_of(pid);
        (helpers.len() == 2).then_some(helpers)
    });
    for process in helpers.into_iter().chain([pid]) {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{process}/{file}")).expect("what the process was started with");
            let shown = bytes.windows(pin.len()).any(|window| window == pin.as_bytes());
            assert!(!shown, "the PIN is in /proc/{process}/{file}");
        }
    }
    interrupt(pid);
    let status = wait_until("its end", LONG, || child.try_wait().expect("its status"));
    assert_eq!(status.code(), Some(70));
    assert_eq!(setting.token_objects(), before);
    let keys = keys_of(&client, "interrupted").await;
    assert!(!keys.is_empty());
    for key in keys {
        let version = key.primary.expect("its version");
        assert!(
            matches!(
                version.state(),
                KeyVersionState::DestroyScheduled | KeyVersionState::Destroying | KeyVersionState::Destroyed
            ),
            "{} is {}",
            key.name,
            version.state().as_str_name()
        );
        assert!(key.labels.contains_key("portcullis-bench"), "{}", key.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measurement_takes_a_ring_that_is_there_and_leaves_others_keys_alone() {
    let setting = Setting::new();
    let client = setting.gateway.unix_client().await;
    portcullis_softhsm_tests::create_ring(&client, "shared").await;
    let spec = portcullis_softhsm_tests::KeySpec::EC_P256;
    portcullis_softhsm_tests::create_key(&client, "shared", "mine", spec).await;
    let mut command =
        setting.command("create-key cold-key --callers 2 --time 200ms --repeats 1 --cold-keys 5 --ring shared");
    let output = run(&mut command).succeeded();
    let keys = keys_of(&client, "shared").await;
    let (mine, others): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(|key| key.name.ends_with("/mine"));
    assert_eq!(
        mine[0].primary.as_ref().map(|one| one.state()),
        Some(KeyVersionState::Active)
    );
    let scheduled = document(&output)["keys_scheduled_for_destruction"].as_u64();
    assert_eq!(scheduled, u64::try_from(others.len()).ok());
    assert!(others.len() > 5);
}

async fn keys_of(client: &Client, ring: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListKeysRequest {
            parent: format!("keyRings/{ring}"),
            page_size: 1000,
            page_token,
            ..ListKeysRequest::default()
        };
        let page = client.keys().list_keys(request).await.expect("the keys").into_inner();
        keys.extend(page.keys);
        if page.next_page_token.is_empty() {
            return keys;
        }
        page_token = page.next_page_token;
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

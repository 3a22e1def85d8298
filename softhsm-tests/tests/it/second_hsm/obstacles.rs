//! A token that refuses unwrap templates: found by trying, and said wherever a wrapped key is asked for.

use super::resident;
use portcullis_client::{
    Client, Code,
    v1::{
        CreateImportJobRequest, CreateKeyRequest, ImportMethod, Key, KeyType, ListMembersRequest, Member, MemberState,
    },
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, Kryoptic, LONG, Launch, PORTCULLIS, Refusal, TestCluster, create_ephemeral_key, create_key,
    create_ring, key_request, refusal, run, sign, temporary_directory, wait_until, workspace_binary,
};
use std::{fs, process::Command};

/// Why a key is refused: said with the code and the token's answer.
const TEMPLATE: &str = "CKA_UNWRAP_TEMPLATE (C_GenerateKey returned CKR_ATTRIBUTE_TYPE_INVALID (0x12))";
const CODE: &str = "UNWRAP_TEMPLATE_REFUSED";

#[test]
fn a_development_cluster_says_what_its_first_member_cannot_do_and_goes_on_with_that_one() {
    let state = temporary_directory();
    let output = run(&mut Kryoptic::WithoutTemplates.prepare(state.path())).succeeded();
    let said = &output.stderr;
    assert!(
        said.contains(&format!(
            "member a: cannot hold wrapped keys: the token refuses a key with {TEMPLATE} [{CODE}]"
        )),
        "{said}"
    );
    assert!(said.contains("member a: holds resident domain 1"), "{said}");
    assert!(
        said.contains("member a: refused 38 of 38 forbidden operations"),
        "{said}"
    );
    let config = fs::read_to_string(state.path().join("portcullis.toml")).expect("the configuration");
    assert_eq!(config.matches("[[member]]").count(), 1, "{config}");
    // A second start takes what the first one made.
    run(&mut Kryoptic::WithoutTemplates.prepare(state.path())).succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_members_are_listed_with_the_obstacle_and_the_command_line_shows_it() {
    let cluster = Kryoptic::WithoutTemplates.cluster();
    let gateway = Gateway::start(&cluster);
    let member = gateway.member("a").await;
    assert!(member.state() == MemberState::Ready, "{}", member.reason);
    let [obstacle] = member.sealing_obstacles.as_slice() else {
        panic!("{} obstacles", member.sealing_obstacles.len());
    };
    assert_eq!(obstacle.code, CODE);
    assert!(obstacle.message.contains(TEMPLATE), "{}", obstacle.message);
    let shown = tokio::task::block_in_place(|| {
        let mut command = Command::new(workspace_binary(PORTCULLIS));
        let endpoint = format!("unix:{}", gateway.unix().display());
        run(command.args(["cluster", "status"]).env("PORTCULLIS_ENDPOINT", endpoint))
    });
    let shown = shown.succeeded().text();
    assert!(
        shown.contains(&format!(
            "a cannot hold wrapped keys: the token refuses a key with {TEMPLATE} [{CODE}]"
        )),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_can_hold_wrapped_keys_have_no_obstacle() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let members = client
        .cluster()
        .list_members(ListMembersRequest {})
        .await
        .expect("the members");
    for Member {
        name,
        sealing_obstacles,
        ..
    } in members.into_inner().members
    {
        assert!(sealing_obstacles.is_empty(), "{name}: {}", sealing_obstacles[0].message);
    }
}

#[track_caller]
fn is_refused_for_the_template(refusal: Refusal) {
    let refused = refusal
        .is(Code::Unimplemented, "MECHANISM_UNSUPPORTED")
        .with("protection", "WRAPPED")
        .with("obstacles", CODE)
        .with("members", "a")
        .naming(TEMPLATE)
        .naming("RESIDENT");
    assert_eq!(refused.retry_after, None);
}

async fn create(client: &Client, request: CreateKeyRequest) -> Refusal {
    refusal(client.keys().create_key(request).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_would_have_to_be_wrapped_is_refused_with_the_reason() {
    let cluster = Kryoptic::WithoutTemplates.cluster();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for (id, spec) in [
        ("signer", KeySpec::EC_P256),
        ("cipher", KeySpec::AES_256),
        ("mac", KeySpec::HMAC_SHA256),
    ] {
        let request = key_request("ring", id, spec);
        is_refused_for_the_template(create(&client, request.clone()).await);
        let check = CreateKeyRequest {
            validate_only: true,
            ..request.clone()
        };
        is_refused_for_the_template(create(&client, check).await);
        let waiting = CreateKeyRequest {
            import_only: true,
            ..request.clone()
        };
        is_refused_for_the_template(create(&client, waiting).await);
        let exportable = CreateKeyRequest {
            key: request.key.clone().map(|key| Key {
                exportable: true,
                ..key
            }),
            ..request
        };
        is_refused_for_the_template(create(&client, exportable).await);
        is_refused_for_the_template(refusal(create_ephemeral_key(&client, "ring", spec, 60).await));
    }
    for validate_only in [true, false] {
        let job = CreateImportJobRequest {
            parent: "keyRings/ring".to_owned(),
            method: ImportMethod::RsaOaepSha1AesKwp as i32,
            wrapping_key_type: KeyType::Rsa2048 as i32,
            validate_only,
            ..Default::default()
        };
        is_refused_for_the_template(refusal(client.keys().create_import_job(job).await));
    }
    // What was refused left nothing behind, and the same names are free for keys that the member can keep.
    for (id, key_type) in [
        ("signer", KeyType::EcP256),
        ("cipher", KeyType::Aes256),
        ("mac", KeyType::HmacSha256),
    ] {
        create_key(&client, "ring", id, resident(key_type, &[])).await;
    }
    // A type that the token does not have is refused for that, however it would be kept.
    let edwards = key_request("ring", "edwards", KeySpec::ED25519_RESIDENT);
    create(&client, edwards)
        .await
        .is(Code::Unimplemented, "MECHANISM_UNSUPPORTED")
        .naming("ED25519")
        .with("members", "a");
    // A resident key still wants its caller's consent.
    let lone = KeySpec {
        allow_single_replica: false,
        ..resident(KeyType::EcP256, &[])
    };
    let refused = create(&client, key_request("ring", "lone", lone)).await;
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused:?}");
    let member = gateway.member("a").await;
    assert_eq!(
        (member.state(), member.worker_starts),
        (MemberState::Ready, 1),
        "{}",
        member.reason
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_a_domain_says_which_it_cannot_hold() {
    let cluster = Kryoptic::WithoutTemplates.cluster();
    cluster.edit_config(|config| {
        let domain = config["domain"].as_table_mut().expect("[domain]");
        domain.insert("epoch".to_owned(), 2.into());
    });
    let gateway = Launch::new(&cluster).begin();
    tokio::task::block_in_place(|| {
        wait_until("a word on the missing domain", LONG, || {
            let log = gateway.log();
            let mut lines = log.lines();
            lines
                .any(|line| {
                    line.contains("a member needs a person")
                        && line.contains("holds no domain keys of epoch 2")
                        && line.contains(TEMPLATE)
                        && line.contains(CODE)
                        && line.contains("it can hold a resident domain")
                })
                .then_some(())
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_domain_is_no_other_domain() {
    let cluster = Kryoptic::WithoutTemplates.cluster();
    let other = Kryoptic::WithoutTemplates.cluster();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", resident(KeyType::EcP256, &[])).await;
    sign(&client, &key.name, b"a message").await.expect("a signature");
    gateway.stop();
    // Another token of the same kind and label, with a domain of its own.
    cluster.take_member_from(&other, "a");
    let gateway = Launch::new(&cluster).begin();
    tokio::task::block_in_place(|| {
        wait_until("a word on the other domain", LONG, || {
            let log = gateway.log();
            let mut lines = log.lines();
            lines
                .any(|line| line.contains("a member needs a person") && line.contains("it holds another domain"))
                .then_some(())
        });
    });
}

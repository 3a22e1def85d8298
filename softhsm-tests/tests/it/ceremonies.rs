//! A production gateway on what ceremonies made, and the domain lost and brought back.

#[expect(dead_code, reason = "the ceremonies' own tests use the rest")]
#[expect(clippy::unwrap_used, reason = "a failed test")]
#[path = "../../../ceremony/tests/it/cluster.rs"]
mod cluster;
#[expect(dead_code, reason = "the ceremonies' own tests use the rest")]
#[expect(clippy::unwrap_used, reason = "a failed test")]
#[path = "../../../ceremony/tests/it/room.rs"]
mod room;

use cluster::{GENERATE, INIT, RESTORE, backup_of, empty, lose_everything, record_of, softhsm, tokens_of};
use portcullis_client::v1::MemberState;
use portcullis_provisioning::chain::Chain;
use portcullis_softhsm_tests::{Gateway, KeySpec, TestCluster, create_key, create_ring, decrypt, encrypt};
use room::{MEMBER_PIN, Reply, Room, say, tree};
use std::{fs, path::Path, time::Instant};
use tokio::task::block_in_place;

/// Holds a ceremony that counts, on tokens that are software because the script permits it, and puts its bundle away.
fn hold(room: &Room, name: &str, script: &str, settings: &str, tokens: &str) {
    let script = softhsm(script)
        .replace("software_tokens = \"refused\"", "software_tokens = \"allowed\"")
        .replace("rehearsal = \"required\"", "rehearsal = \"optional\"");
    room.prepare("production", &script, settings, tokens);
    // A host of tests may not let memory be locked: that is an exception, which people decide upon.
    let ran = room.run(&[], |id| match id {
        "exception/noticed-by" => say("Witness"),
        "decide/1" => say("go-on"),
        id if id.starts_with("exception/") || id.starts_with("decide/") => say("It is a host of tests."),
        _ => Reply::Usual,
    });
    ran.ended_with(0);
    room.verified();
    room.archive(name);
}

/// A cluster whose members are the tokens of the room, and which starts on the record that a ceremony left.
fn provision(cluster: &TestCluster, room: &Room, ceremony: &str) {
    let records = fs::read_to_string(room.path(ceremony).join("artefacts/record-1.record")).expect("the records");
    let domain = Chain::parse(&records).expect("a chain").last().record.domain;
    cluster.place("provisioning.record", &records);
    for member in ["a", "b"] {
        let directory = cluster.member_directory(member);
        let to = directory.join("tokens");
        fs::remove_dir_all(&to).expect("the tokens of before");
        for (path, content) in tree(&room.path("tokens")) {
            let path = to.join(path);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).expect("a directory");
            fs::write(path, content).expect("a token's file");
        }
        fs::write(directory.join("user.pin"), MEMBER_PIN).expect("the PIN's file");
        cluster.edit_member(member, |table| {
            table.insert("token_label".to_owned(), format!("alpha-{member}").into());
        });
    }
    cluster.edit_config(|config| {
        let members = config["member"].as_array_mut().expect("[[member]]");
        members.retain(|member| member["name"].as_str() != Some("c"));
        let section = config["domain"].as_table_mut().expect("[domain]");
        section.insert("epoch".to_owned(), i64::from(domain.epoch).into());
        section.insert("fingerprint".to_owned(), hex::encode(domain.fingerprint).into());
        let provisioning = toml::Table::from_iter([("record".to_owned(), "provisioning.record".into())]);
        config.insert("provisioning".to_owned(), provisioning.into());
    });
}

async fn serves(cluster: &TestCluster) -> Gateway {
    let gateway = block_in_place(|| Gateway::start(cluster));
    for member in ["a", "b"] {
        gateway.wait_for_member(member, MemberState::Ready).await;
    }
    gateway
}

/// The domain is born by a ceremony, a production gateway serves on it, all tokens are lost, three of five custodians bring the
/// domain back on new ones, and the gateway decrypts what it had encrypted before.
#[expect(clippy::print_stdout, reason = "the time stands in docs/ceremonies.md")]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_encrypted_is_decrypted_after_the_domain_was_lost_and_restored_by_a_ceremony() {
    let room = block_in_place(empty);
    let all = ["origin", "a", "b"];
    block_in_place(|| {
        hold(&room, "init", INIT, "", &tokens_of(&room, &all, None));
        hold(&room, "born", GENERATE, "", &tokens_of(&room, &all, Some("init")));
    });
    let cluster = TestCluster::new();
    provision(&cluster, &room, "born");
    let gateway = serves(&cluster).await;
    assert!(gateway.log().contains("record 1 of cluster alpha"), "{}", gateway.log());
    let [(_, client), _] = gateway.clients().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "key", KeySpec::AES_256).await.name;
    let sealed = encrypt(&client, &name, b"kept", b"with").await.expect("a ciphertext");
    block_in_place(|| gateway.stop());

    let lost = Instant::now();
    block_in_place(|| {
        lose_everything(&room);
        hold(&room, "init-again", INIT, "", &tokens_of(&room, &all, None));
        let settings = record_of(&room, "born") + &backup_of(&room, "born");
        hold(
            &room,
            "restored",
            RESTORE,
            &settings,
            &tokens_of(&room, &all, Some("init-again")),
        );
    });
    provision(&cluster, &room, "restored");
    let gateway = serves(&cluster).await;
    assert!(gateway.log().contains("record 2 of cluster alpha"), "{}", gateway.log());
    let [(_, client), _] = gateway.clients().await;
    let opened = decrypt(&client, &name, &sealed.ciphertext, b"with")
        .await
        .expect("the plaintext");
    println!(
        "restored and decrypted after {:?}, by programs that answer at once",
        lost.elapsed()
    );
    assert_eq!(&opened.plaintext[..], b"kept");
    block_in_place(|| gateway.stop());
}

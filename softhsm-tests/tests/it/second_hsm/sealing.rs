//! A token of another kind that enforces unwrap templates holds a domain like SoftHSM2: nothing is decided by a name.

use portcullis_client::{
    Client,
    v1::{Mechanism, MemberState, PublicKeyFormat},
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, Kryoptic, LONG, MEMBERS, create_key, create_ring, decrypt, encrypt, public_key, run,
    sign, temporary_directory, verifies,
};
use std::collections::BTreeSet;

#[test]
fn what_a_template_forces_counts_as_much_as_what_a_token_refuses() {
    let state = temporary_directory();
    let output = run(&mut Kryoptic::WithTemplates.prepare(state.path())).succeeded();
    let said = &output.stderr;
    for member in MEMBERS {
        let line =
            format!("member {member}: refused 118 of 121 forbidden operations, and made the keys of the other 3");
        assert!(said.contains(&line), "{said}");
    }
    assert!(!said.contains("cannot hold wrapped keys"), "{said}");
}

async fn sign_often(client: &Client, name: &str, public: &[u8], count: usize) {
    for number in 0..count {
        let message = format!("message {number}").into_bytes();
        let answer = sign(client, name, &message).await;
        let answer = answer.unwrap_or_else(|status| panic!("signature {number}: {status}"));
        assert!(verifies(public, Mechanism::EcdsaSha256, &message, &answer.signature));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_member_serves_wrapped_keys_and_the_death_of_one_costs_no_call() {
    let cluster = Kryoptic::WithTemplates.cluster();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await.with_deadline(LONG);
    for member in MEMBERS {
        let member = gateway.wait_for_member(member, MemberState::Ready).await;
        assert!(member.sealing_obstacles.is_empty());
    }
    create_ring(&client, "ring").await;
    let signer = create_key(&client, "ring", "signer", KeySpec::EC_P256).await.name;
    let cipher = create_key(&client, "ring", "cipher", KeySpec::AES_256).await.name;
    let public = public_key(&client, &signer, PublicKeyFormat::Der).await.public_key;
    let sealed = encrypt(&client, &cipher, b"a plaintext", b"")
        .await
        .expect("a ciphertext")
        .ciphertext;
    sign_often(&client, &signer, &public, 60).await;

    let under_load = {
        let (client, signer, public) = (client.clone(), signer.clone(), public.clone());
        tokio::spawn(async move { sign_often(&client, &signer, &public, 200).await })
    };
    tokio::task::block_in_place(|| gateway.kill_worker("b"));
    gateway.wait_for_worker("b", 2).await;
    under_load.await.expect("no call failed");
    let opened = decrypt(&client, &cipher, &sealed, b"").await.expect("the plaintext");
    assert_eq!(opened.plaintext, &b"a plaintext"[..]);
    gateway.stop();

    let log = AuditLog::read(&cluster.audit_file());
    let served: BTreeSet<_> = log
        .entries
        .iter()
        .filter(|entry| {
            entry["resource"]
                .as_str()
                .is_some_and(|one| one.contains("/keys/signer"))
        })
        .filter_map(|entry| entry["member"].as_str())
        .collect();
    assert_eq!(served, MEMBERS.into());
}

//! Keys that are not stored.

use portcullis_client::{
    Client, Code, Status,
    v1::{
        DecryptRequest, EncryptRequest, MacSignRequest, MacVerifyRequest, RenewEphemeralKeyRequest,
        RevokeEphemeralKeysRequest, SignRequest, VerifyRequest, sign_request, verify_request,
    },
};
use portcullis_softhsm_tests::{
    Database, Gateway, KeySpec, TestCluster, Wish, create_ephemeral_key, create_key, create_ring, refusal, verifies,
    wait_until,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MESSAGE: &[u8] = b"a message under a key that nobody keeps but its owner";
const HOUR: i64 = 3600;

async fn sign(client: &Client, token: &[u8]) -> Result<Vec<u8>, Status> {
    let request = SignRequest {
        key_token: token.to_vec().into(),
        input: Some(sign_request::Input::Message(MESSAGE.into())),
        ..Default::default()
    };
    Ok(client.crypto().sign(request).await?.into_inner().signature.to_vec())
}

async fn renew(client: &Client, token: &[u8], seconds: i64) -> Result<Vec<u8>, Status> {
    let request = RenewEphemeralKeyRequest {
        token: token.to_vec().into(),
        lifetime: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    Ok(client
        .keys()
        .renew_ephemeral_key(request)
        .await?
        .into_inner()
        .token
        .to_vec())
}

/// A client with a rule of its own.
async fn other_client(cluster: &TestCluster, gateway: &Gateway, name: &str) -> Client {
    let uri = format!("spiffe://portcullis.dev/{name}");
    let identity = cluster.authority().client(Wish::of(&uri), &cluster.pki("ca.pem"));
    gateway
        .tls_client_as(&identity.credentials())
        .await
        .expect("a connection")
}

fn allow(cluster: &TestCluster, name: &str, actions: &[&str], ring: &str) {
    let actions: Vec<_> = actions.iter().map(|action| format!("Action::\"{action}\"")).collect();
    let place = match ring {
        "*" => "resource".to_owned(),
        ring => format!("resource in KeyRing::\"{ring}\""),
    };
    cluster.add_policies(&format!(
        "permit (principal == Principal::\"spiffe://portcullis.dev/{name}\", action in [{}], {place});",
        actions.join(", ")
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_works_in_place_of_a_name_on_every_member() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let pair = create_ephemeral_key(&client, "ring", KeySpec::EC_P256, HOUR)
        .await
        .expect("a key");
    for _ in 0..20 {
        let signature = sign(&client, &pair.token).await.expect("a signature");
        assert!(verifies(
            &pair.public_key,
            portcullis_client::v1::Mechanism::EcdsaSha256,
            MESSAGE,
            &signature
        ));
        let request = VerifyRequest {
            key_token: pair.token.clone(),
            input: Some(verify_request::Input::Message(MESSAGE.into())),
            signature: signature.into(),
            ..Default::default()
        };
        assert!(
            client
                .crypto()
                .verify(request)
                .await
                .expect("an answer")
                .into_inner()
                .valid
        );
    }
    let cipher = create_ephemeral_key(&client, "ring", KeySpec::AES_256, HOUR)
        .await
        .expect("a key");
    let request = EncryptRequest {
        key_token: cipher.token.clone(),
        plaintext: MESSAGE.into(),
        ..Default::default()
    };
    let encrypted = client
        .crypto()
        .encrypt(request)
        .await
        .expect("a ciphertext")
        .into_inner();
    // A renewal is the same key.
    let renewed = renew(&client, &cipher.token, HOUR).await.expect("a renewed token");
    assert_ne!(renewed, cipher.token);
    for token in [cipher.token.to_vec(), renewed] {
        let request = DecryptRequest {
            key_token: token.into(),
            ciphertext: encrypted.ciphertext.clone(),
            ..Default::default()
        };
        let decrypted = client
            .crypto()
            .decrypt(request)
            .await
            .expect("a plaintext")
            .into_inner();
        assert_eq!(decrypted.plaintext, MESSAGE);
    }
    let mac = create_ephemeral_key(&client, "ring", KeySpec::HMAC_SHA256, HOUR)
        .await
        .expect("a key");
    let request = MacSignRequest {
        key_token: mac.token.clone(),
        data: MESSAGE.into(),
        ..Default::default()
    };
    let made = client.crypto().mac_sign(request).await.expect("a mac").into_inner().mac;
    let request = MacVerifyRequest {
        key_token: mac.token.clone(),
        data: MESSAGE.into(),
        mac: made,
        ..Default::default()
    };
    assert!(
        client
            .crypto()
            .mac_verify(request)
            .await
            .expect("an answer")
            .into_inner()
            .valid
    );
    // A key does what it was made for and nothing else; a name and a token together are neither.
    refusal(sign(&client, &mac.token).await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
    let both = SignRequest {
        name: "keyRings/ring/keys/any".to_owned(),
        key_token: pair.token.clone(),
        input: Some(sign_request::Input::Message(MESSAGE.into())),
        ..Default::default()
    };
    refusal(client.crypto().sign(both).await).is(Code::InvalidArgument, "FIELD_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_worth_nothing_to_others_or_without_permission_in_its_ring() {
    let cluster = TestCluster::new();
    allow(
        &cluster,
        "maker",
        &["ephemeral_key.create", "ephemeral_key.renew", "sign"],
        "first",
    );
    allow(&cluster, "maker", &["ephemeral_key.create"], "second");
    allow(
        &cluster,
        "other",
        &["ephemeral_key.create", "ephemeral_key.renew", "sign"],
        "first",
    );
    let gateway = Gateway::start(&cluster);
    let developer = gateway.unix_client().await;
    create_ring(&developer, "first").await;
    create_ring(&developer, "second").await;
    let maker = other_client(&cluster, &gateway, "maker").await;
    let other = other_client(&cluster, &gateway, "other").await;
    let first = create_ephemeral_key(&maker, "first", KeySpec::EC_P256, HOUR)
        .await
        .expect("a key");
    sign(&maker, &first.token).await.expect("a signature");
    // Also when the gateway has checked the token already.
    refusal(sign(&other, &first.token).await).is(Code::PermissionDenied, "ACCESS_DENIED");
    refusal(renew(&other, &first.token, HOUR).await).is(Code::PermissionDenied, "ACCESS_DENIED");
    refusal(sign(&developer, &first.token).await).is(Code::PermissionDenied, "ACCESS_DENIED");
    // The maker may make keys in the other ring, and may not sign there.
    let second = create_ephemeral_key(&maker, "second", KeySpec::EC_P256, HOUR)
        .await
        .expect("a key");
    refusal(sign(&maker, &second.token).await).is(Code::PermissionDenied, "ACCESS_DENIED");
    refusal(create_ephemeral_key(&maker, "third", KeySpec::EC_P256, HOUR).await)
        .is(Code::PermissionDenied, "ACCESS_DENIED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_token_and_one_of_another_kind_are_refused() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_ephemeral_key(&client, "ring", KeySpec::EC_P256, HOUR)
        .await
        .expect("a key");
    for at in (0..key.token.len()).step_by(7) {
        let mut changed = key.token.to_vec();
        changed[at] ^= 1;
        let answer = refusal(sign(&client, &changed).await);
        assert!(
            matches!(
                (answer.code, answer.reason.as_str()),
                (Code::InvalidArgument, "KEY_TOKEN_INVALID") | (Code::PermissionDenied, "ACCESS_DENIED")
            ),
            "byte {at}: {answer:?}"
        );
    }
    refusal(sign(&client, &key.token[..40]).await).is(Code::InvalidArgument, "KEY_TOKEN_INVALID");
    // A stored token, which somebody read from the database, is no ephemeral one.
    create_key(&client, "ring", "stored", KeySpec::EC_P256).await;
    let token = Database::of(&cluster).key_token("ring", "stored");
    refusal(sign(&client, &token).await).is(Code::InvalidArgument, "KEY_TOKEN_INVALID");
    // Nor an ephemeral one a stored one: put into the database, it is refused.
    let stored = "keyRings/ring/keys/stored";
    drop(client);
    assert!(gateway.stop().status.success());
    Database::of(&cluster).set_key_token("ring", "stored", &key.token);
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let answer = refusal(portcullis_softhsm_tests::sign(&client, stored, MESSAGE).await);
    answer.is(Code::DataLoss, "RECORD_NOT_AUTHENTIC");
    // The ephemeral key itself outlives the gateway.
    sign(&client, &key.token).await.expect("a signature");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_in_time_and_a_renewal_goes_on() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_ephemeral_key(&client, "ring", KeySpec::EC_P256, 2)
        .await
        .expect("a key");
    let renewed = renew(&client, &key.token, HOUR).await.expect("a renewed token");
    sign(&client, &key.token).await.expect("a signature");
    let end = key.expire_time.expect("an end");
    wait_until("the token's end", Duration::from_secs(5), || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time");
        (now.as_secs() as i64 > end.seconds).then_some(())
    });
    refusal(sign(&client, &key.token).await).is(Code::FailedPrecondition, "KEY_TOKEN_EXPIRED");
    refusal(renew(&client, &key.token, HOUR).await).is(Code::FailedPrecondition, "KEY_TOKEN_EXPIRED");
    let signature = sign(&client, &renewed).await.expect("a signature");
    assert!(verifies(
        &key.public_key,
        portcullis_client::v1::Mechanism::EcdsaSha256,
        MESSAGE,
        &signature
    ));
    for seconds in [0, -1, 24 * HOUR + 1] {
        let answer = refusal(create_ephemeral_key(&client, "ring", KeySpec::EC_P256, seconds).await);
        answer.is(Code::InvalidArgument, "FIELD_INVALID");
        refusal(renew(&client, &renewed, seconds).await).is(Code::InvalidArgument, "FIELD_INVALID");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_a_principals_keys_of_a_ring_and_their_renewals() {
    let cluster = TestCluster::new();
    allow(
        &cluster,
        "maker",
        &["ephemeral_key.create", "ephemeral_key.renew", "sign"],
        "*",
    );
    let gateway = Gateway::start(&cluster);
    let developer = gateway.unix_client().await;
    create_ring(&developer, "ring").await;
    create_ring(&developer, "other").await;
    let maker = other_client(&cluster, &gateway, "maker").await;
    let before = create_ephemeral_key(&maker, "ring", KeySpec::EC_P256, HOUR)
        .await
        .expect("a key");
    let renewed = renew(&maker, &before.token, HOUR).await.expect("a renewed token");
    let elsewhere = create_ephemeral_key(&maker, "other", KeySpec::EC_P256, HOUR)
        .await
        .expect("a key");
    let of_developer = create_ephemeral_key(&developer, "ring", KeySpec::EC_P256, HOUR)
        .await
        .expect("a key");
    sign(&maker, &before.token).await.expect("a signature");
    let revoke = RevokeEphemeralKeysRequest {
        parent: "keyRings/ring".to_owned(),
        principal: "spiffe://portcullis.dev/maker".to_owned(),
        ..Default::default()
    };
    refusal(maker.keys().revoke_ephemeral_keys(revoke.clone()).await).is(Code::PermissionDenied, "ACCESS_DENIED");
    let revoked = developer
        .keys()
        .revoke_ephemeral_keys(revoke.clone())
        .await
        .expect("a revocation")
        .into_inner();
    for token in [&before.token[..], &renewed] {
        refusal(sign(&maker, token).await).is(Code::FailedPrecondition, "KEY_TOKEN_REVOKED");
        refusal(renew(&maker, token, HOUR).await).is(Code::FailedPrecondition, "KEY_TOKEN_REVOKED");
    }
    sign(&maker, &elsewhere.token).await.expect("a signature");
    sign(&developer, &of_developer.token).await.expect("a signature");
    let after = create_ephemeral_key(&maker, "ring", KeySpec::EC_P256, HOUR)
        .await
        .expect("a key");
    sign(&maker, &after.token).await.expect("a signature");
    // A time is never set back, and lies not in the future.
    let earlier = RevokeEphemeralKeysRequest {
        not_before: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        ..revoke.clone()
    };
    let again = developer
        .keys()
        .revoke_ephemeral_keys(earlier)
        .await
        .expect("a revocation")
        .into_inner();
    assert_eq!(again.not_before, revoked.not_before);
    let later = RevokeEphemeralKeysRequest {
        not_before: Some(prost_types::Timestamp {
            seconds: 1 << 33,
            nanos: 0,
        }),
        ..revoke
    };
    refusal(developer.keys().revoke_ephemeral_keys(later).await).is(Code::InvalidArgument, "FIELD_INVALID");
    // What was revoked stays so after a start.
    drop((maker, developer));
    assert!(gateway.stop().status.success());
    let gateway = Gateway::start(&cluster);
    let maker = other_client(&cluster, &gateway, "maker").await;
    refusal(sign(&maker, &before.token).await).is(Code::FailedPrecondition, "KEY_TOKEN_REVOKED");
    sign(&maker, &after.token).await.expect("a signature");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_by_another_gateway_over_the_same_store_is_seen_within_seconds() {
    const ROW: &str = "FROM documents WHERE kind = 'revocation/1'";
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let developer = gateway.unix_client().await;
    create_ring(&developer, "ring").await;
    let key = create_ephemeral_key(&developer, "ring", KeySpec::EC_P256, HOUR)
        .await
        .expect("a key");
    let revoke = async |not_before: Option<prost_types::Timestamp>| {
        let request = RevokeEphemeralKeysRequest {
            parent: "keyRings/ring".to_owned(),
            principal: format!("unix:uid={}", rustix::process::getuid().as_raw()),
            not_before,
            ..Default::default()
        };
        let answer = developer.keys().revoke_ephemeral_keys(request).await;
        answer.expect("a revocation");
    };
    // An early revocation, which this gateway knows, and a late one, which the other makes.
    revoke(Some(prost_types::Timestamp { seconds: 1, nanos: 0 })).await;
    let attached = || {
        let database = Database::of(&cluster);
        let kept = cluster.path().join("kept.sqlite");
        database.execute("ATTACH ?1 AS kept", [kept.to_str().expect("a path")]);
        database
    };
    attached().execute(&format!("CREATE TABLE kept.early AS SELECT * {ROW}"), ());
    revoke(None).await;
    attached().execute(&format!("CREATE TABLE kept.late AS SELECT * {ROW}"), ());
    drop(developer);
    gateway.stop();
    let put = |table: &str| {
        let database = attached();
        assert_eq!(database.execute(&format!("DELETE {ROW}"), ()), 1);
        let sql = format!("INSERT INTO main.documents SELECT * FROM kept.{table}");
        assert_eq!(database.execute(&sql, ()), 1);
    };
    put("early");
    let gateway = Gateway::start(&cluster);
    let owner = gateway.unix_client().await;
    sign(&owner, &key.token).await.expect("a signature");
    put("late");
    let written = std::time::Instant::now();
    let answer = loop {
        match sign(&owner, &key.token).await {
            Err(status) => break Err::<(), _>(status),
            Ok(_) if written.elapsed() > Duration::from_secs(8) => panic!("the revocation is not seen"),
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    refusal(answer).is(Code::FailedPrecondition, "KEY_TOKEN_REVOKED");
    assert!(written.elapsed() < Duration::from_secs(7), "{:?}", written.elapsed());
}

//! The table of states: what each permits, and where each can go.

use super::{VERBS, Verb, apply, destroy, key_in, version};
use portcullis_client::{
    Client, Code, Status,
    v1::{
        DecryptRequest, DeriveSharedSecretRequest, EncryptRequest, GetPublicKeyRequest, KeyOperation, KeyType,
        KeyVersionState as State, MacSignRequest, MacVerifyRequest, Mechanism, PublicKeyFormat, VerifyRequest,
        verify_request,
    },
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, TestCluster, create_key, create_ring, public_key, refusal, sign,
};
use prost::bytes::Bytes;

/// The states that a caller can bring about and that stay.
const STATES: [State; 8] = [
    State::PreActive,
    State::Active,
    State::Disabled,
    State::Deactivated,
    State::Compromised,
    State::DestroyScheduled,
    State::Destroyed,
    State::PendingImport,
];

/// Where a verb leads: the table of `facts` in words of this test, written apart from the gateway's.
fn leads_to(state: State, verb: Verb) -> Option<State> {
    match (state, verb) {
        (State::PreActive, Verb::Activate) => Some(State::Active),
        (State::Active, Verb::Disable) => Some(State::Disabled),
        (State::Disabled, Verb::Enable) => Some(State::Active),
        (State::Active | State::Disabled, Verb::Deactivate) => Some(State::Deactivated),
        (State::PreActive | State::Active | State::Disabled | State::Deactivated, Verb::MarkCompromised) => {
            Some(State::Compromised)
        }
        // It goes on waiting, and is marked.
        (State::DestroyScheduled, Verb::MarkCompromised) => Some(State::DestroyScheduled),
        (State::Destroyed, Verb::ScheduleDestruction) => Some(State::Destroyed),
        (_, Verb::ScheduleDestruction) => Some(State::DestroyScheduled),
        // A scheduled destruction of an active version.
        (State::DestroyScheduled, Verb::CancelDestruction) => Some(State::Disabled),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_leads_from_every_state_where_the_table_says() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for state in STATES {
        for verb in VERBS {
            let id = format!("{state:?}-{verb:?}").to_lowercase();
            let key = key_in(&client, "ring", &id, KeySpec::EC_P256, state).await;
            let name = format!("{}/versions/1", key.name);
            let before = version(&client, &name).await;
            assert_eq!(before.state(), state, "{id}");
            let answer = apply(&client, &name, verb).await;
            match leads_to(state, verb) {
                Some(expected) => {
                    let after = answer.unwrap_or_else(|status| panic!("{id}: {status:?}"));
                    assert_eq!(after.state(), expected, "{id}");
                    assert_eq!(version(&client, &name).await.state(), expected, "{id}");
                    // A scheduled destruction gets another time, or a mark.
                    let changed = expected != state || state == State::DestroyScheduled;
                    assert_eq!(after.etag != before.etag, changed, "{id}");
                    if changed && verb != Verb::ScheduleDestruction {
                        assert_eq!(after.state_reason, "a test wants it", "{id}");
                    }
                }
                None => {
                    let refused = refusal(answer);
                    assert_eq!(
                        (refused.code, refused.reason.as_str()),
                        (Code::FailedPrecondition, "KEY_STATE_FORBIDS_OPERATION"),
                        "{id}"
                    );
                    assert_eq!(
                        refused.metadata["state"],
                        state.as_str_name()["KEY_VERSION_STATE_".len()..],
                        "{id}"
                    );
                    assert!(!refused.metadata["required_state"].is_empty(), "{id}");
                    assert_eq!(version(&client, &name).await.etag, before.etag, "{id}");
                }
            }
        }
    }
    // All of it is as it was after a restart: nothing was only in memory.
    let reasons = AuditLog::read(&cluster.audit_file())
        .outcomes()
        .filter(|entry| entry["action"] == "key_version.disable" && entry["reason"] == "a test wants it")
        .count();
    assert!(
        reasons >= STATES.len(),
        "{reasons} entries of disable with their reason"
    );
    drop(client);
    gateway.stop();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    for state in [State::PreActive, State::Active, State::Disabled, State::Deactivated] {
        let name = format!("keyRings/ring/keys/{state:?}-markcompromised/versions/1").to_lowercase();
        let name = name.replace("keyrings", "keyRings");
        let found = version(&client, &name).await;
        assert_eq!(found.state(), State::Compromised, "{name}");
        assert!(found.compromise_time.is_some(), "{name}");
    }
}

const AGREEMENT: KeySpec = KeySpec::wrapped(KeyType::EcP256, &[(KeyOperation::Derive, Mechanism::Ecdh)]);
const SIGNING: [KeySpec; 2] = [KeySpec::EC_P256, KeySpec::RSA_PSS];

/// What a state should permit: protecting new data, processing old data, public operations.
fn permits(state: State) -> (bool, bool, bool) {
    match state {
        State::Active => (true, true, true),
        State::Deactivated => (false, true, true),
        State::PendingImport => (false, false, false),
        _ => (false, false, true),
    }
}

#[track_caller]
fn check<T>(what: &str, state: State, answer: Result<T, Status>, permitted: bool) {
    if permitted {
        if let Err(status) = answer {
            panic!("{what} when {state:?}: {status:?}");
        }
        return;
    }
    let refused = refusal(answer);
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::FailedPrecondition, "KEY_STATE_FORBIDS_OPERATION"),
        "{what} when {state:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_permits_what_the_table_says() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let peer = create_key(&client, "ring", "peer", AGREEMENT).await;
    let peer = public_key(&client, &peer.name, PublicKeyFormat::Der).await.public_key;
    for state in STATES {
        let (protects, processes, public) = permits(state);
        for (number, spec) in SIGNING.into_iter().enumerate() {
            signing(&client, &format!("sign-{number}"), spec, state, protects, public).await;
        }
        encryption(&client, state, protects, processes).await;
        mac(&client, state, protects, processes).await;
        let id = format!("derive-{state:?}").to_lowercase();
        let key = key_in(&client, "ring", &id, AGREEMENT, state).await;
        let request = DeriveSharedSecretRequest {
            name: key.name,
            peer_public_key: peer.clone(),
            ..Default::default()
        };
        check(
            "derive",
            state,
            client.crypto().derive_shared_secret(request).await,
            processes,
        );
    }
}

async fn signing(client: &Client, id: &str, spec: KeySpec, state: State, protects: bool, public: bool) {
    let id = format!("{id}-{state:?}").to_lowercase();
    // Signed while it could: what was signed before stays verifiable.
    let before = [State::PreActive, State::PendingImport];
    let start = if before.contains(&state) { state } else { State::Active };
    let key = key_in(client, "ring", &id, spec, start).await;
    let signature = match start {
        State::Active => {
            sign(client, &key.name, b"message")
                .await
                .expect("a signature")
                .signature
        }
        _ => Bytes::from_static(b"none"),
    };
    move_to(client, &key.name, state).await;
    check(&id, state, sign(client, &key.name, b"message").await, protects);
    let request = VerifyRequest {
        name: key.name.clone(),
        input: Some(verify_request::Input::Message(Bytes::from_static(b"message"))),
        signature,
        ..Default::default()
    };
    let verified = client.crypto().verify(request).await;
    if public {
        let verified = verified.expect("an answer").into_inner();
        assert_eq!(
            (verified.valid, verified.state()),
            (start == State::Active, state),
            "{id}"
        );
    } else {
        refusal(verified);
    }
    let request = GetPublicKeyRequest {
        name: key.name.clone(),
        ..Default::default()
    };
    check("public key", state, client.keys().get_public_key(request).await, public);
}

async fn encryption(client: &Client, state: State, protects: bool, processes: bool) {
    let id = format!("encrypt-{state:?}").to_lowercase();
    let before = [State::PreActive, State::PendingImport];
    let start = if before.contains(&state) { state } else { State::Active };
    let key = key_in(client, "ring", &id, KeySpec::AES_256, start).await;
    let encrypt = || EncryptRequest {
        name: key.name.clone(),
        plaintext: Bytes::from_static(b"plaintext"),
        ..Default::default()
    };
    let ciphertext = match start {
        State::Active => {
            client
                .crypto()
                .encrypt(encrypt())
                .await
                .expect("encrypted")
                .into_inner()
                .ciphertext
        }
        _ => Bytes::new(),
    };
    move_to(client, &key.name, state).await;
    check(&id, state, client.crypto().encrypt(encrypt()).await, protects);
    if start != State::Active {
        // Nothing was ever encrypted that could be decrypted.
        return;
    }
    let decrypt = |reason: &str| DecryptRequest {
        name: key.name.clone(),
        ciphertext: ciphertext.clone(),
        break_glass_reason: reason.to_owned(),
        ..Default::default()
    };
    check(&id, state, client.crypto().decrypt(decrypt("")).await, processes);
    // In an emergency a compromised key still decrypts, for those who may, and with a reason.
    let emergency = client.crypto().decrypt(decrypt("the archive must be moved")).await;
    check(&id, state, emergency, processes || state == State::Compromised);
}

async fn mac(client: &Client, state: State, protects: bool, processes: bool) {
    let id = format!("mac-{state:?}").to_lowercase();
    let before = [State::PreActive, State::PendingImport];
    let start = if before.contains(&state) { state } else { State::Active };
    let key = key_in(client, "ring", &id, KeySpec::HMAC_SHA256, start).await;
    let request = || MacSignRequest {
        name: key.name.clone(),
        data: Bytes::from_static(b"data"),
        ..Default::default()
    };
    let tag = match start {
        State::Active => {
            client
                .crypto()
                .mac_sign(request())
                .await
                .expect("a MAC")
                .into_inner()
                .mac
        }
        _ => Bytes::from_static(&[0; 32]),
    };
    move_to(client, &key.name, state).await;
    check(&id, state, client.crypto().mac_sign(request()).await, protects);
    let verify = MacVerifyRequest {
        name: key.name.clone(),
        data: Bytes::from_static(b"data"),
        mac: tag,
        ..Default::default()
    };
    check(&id, state, client.crypto().mac_verify(verify).await, processes);
}

/// Moves the first version of an active key to a state.
async fn move_to(client: &Client, key: &str, state: State) {
    let name = format!("{key}/versions/1");
    let verb = match state {
        State::Disabled => Verb::Disable,
        State::Deactivated => Verb::Deactivate,
        State::Compromised => Verb::MarkCompromised,
        State::DestroyScheduled => Verb::ScheduleDestruction,
        State::Destroyed => {
            destroy(client, &name).await;
            return;
        }
        _ => return,
    };
    apply(client, &name, verb).await.expect("the state");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_never_undone() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for (id, deeds, expected) in [
        (
            "compromised",
            &[
                Verb::MarkCompromised,
                Verb::ScheduleDestruction,
                Verb::CancelDestruction,
            ][..],
            State::Compromised,
        ),
        (
            "deactivated",
            &[
                Verb::Deactivate,
                Verb::ScheduleDestruction,
                Verb::CancelDestruction,
                Verb::Enable,
            ],
            State::Deactivated,
        ),
        (
            "disabled",
            &[
                Verb::Disable,
                Verb::ScheduleDestruction,
                Verb::CancelDestruction,
                Verb::Enable,
            ],
            State::Active,
        ),
        (
            "marked",
            &[
                Verb::ScheduleDestruction,
                Verb::MarkCompromised,
                Verb::CancelDestruction,
            ],
            State::Compromised,
        ),
    ] {
        let key = create_key(&client, "ring", id, KeySpec::EC_P256).await;
        let name = format!("{}/versions/1", key.name);
        for verb in deeds {
            apply(&client, &name, *verb).await.expect("it applies");
        }
        assert_eq!(version(&client, &name).await.state(), expected, "{id}");
    }
}

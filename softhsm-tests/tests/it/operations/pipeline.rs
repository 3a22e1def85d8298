//! The stream of operations.

use portcullis_client::{
    Client, Code,
    v1::{
        self, GenerateRandomRequest, MacSignRequest, OperationError, PipelineRequest, PipelineResponse,
        PublicKeyFormat, pipeline_request::Request as Asked, pipeline_response::Response as Answer,
    },
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, LONG, SHORT, TestCluster, Wire, create_key, create_ring, encrypt_request,
    message_request, public_key, refusal, verifies, wait_until,
};
use prost::Message;
use std::{collections::HashMap, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Status, Streaming};

/// A stream to a gateway.
struct Stream {
    requests: mpsc::Sender<PipelineRequest>,
    answers: Streaming<PipelineResponse>,
}

impl Stream {
    async fn open(client: &Client) -> Self {
        let (requests, stream) = mpsc::channel(64);
        let answers = client.crypto().pipeline(ReceiverStream::new(stream)).await;
        Self {
            requests,
            answers: answers.expect("a stream").into_inner(),
        }
    }

    async fn send(&self, id: u64, asked: Asked) {
        self.send_within(id, asked, None).await;
    }

    async fn send_within(&self, id: u64, asked: Asked, timeout: Option<prost_types::Duration>) {
        let request = PipelineRequest {
            id,
            timeout,
            request: Some(asked),
        };
        self.requests.send(request).await.expect("the stream is open");
    }

    async fn answer(&mut self) -> (u64, Answer) {
        let answer = tokio::time::timeout(LONG, self.answers.next())
            .await
            .expect("an answer in time");
        let answer = answer.expect("the stream is open").expect("an answer");
        (answer.id, answer.response.expect("a response"))
    }

    /// Ends the caller's half and waits for the gateway's end.
    async fn end(mut self) -> Result<(), Status> {
        drop(self.requests);
        match tokio::time::timeout(LONG, self.answers.next())
            .await
            .expect("an end in time")
        {
            None => Ok(()),
            Some(Err(status)) => Err(status),
            Some(Ok(answer)) => panic!("an answer to operation {} is left", answer.id),
        }
    }
}

fn random(length_bytes: u32) -> Asked {
    Asked::GenerateRandom(GenerateRandomRequest { length_bytes })
}

fn mac(name: &str, data: &[u8]) -> Asked {
    Asked::MacSign(MacSignRequest {
        name: name.to_owned(),
        data: data.to_vec().into(),
        ..Default::default()
    })
}

#[track_caller]
fn error(answer: Answer) -> OperationError {
    match answer {
        Answer::Error(error) => error,
        _ => panic!("it was done"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_operations_are_each_answered_once() {
    const OPERATIONS: u64 = 10_000;
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let ec = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    let hmac = create_key(&client, "ring", "hmac", KeySpec::HMAC_SHA256).await.name;
    let aes = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    let der = public_key(&client, &ec, PublicKeyFormat::Der).await.public_key;
    let Stream { requests, mut answers } = Stream::open(&client).await;
    let sender = tokio::spawn(async move {
        for id in 0..OPERATIONS {
            let data = id.to_be_bytes();
            let asked = match id % 4 {
                0 => Asked::Sign(message_request(&ec, &data)),
                1 => mac(&hmac, &data),
                2 => Asked::Encrypt(encrypt_request(&aes, &data, b"")),
                _ => Asked::Sign(message_request(&aes, &data)),
            };
            let request = PipelineRequest {
                id,
                timeout: Some(prost_types::Duration { seconds: 100, nanos: 0 }),
                request: Some(asked),
            };
            requests.send(request).await.expect("the stream is open");
        }
    });
    let mut seen = vec![false; OPERATIONS as usize];
    let mut in_order = true;
    let mut last = 0;
    while let Some(answer) = tokio::time::timeout(LONG, answers.next())
        .await
        .expect("an answer in time")
    {
        let PipelineResponse { id, response } = answer.expect("an answer");
        assert!(
            !std::mem::replace(&mut seen[id as usize], true),
            "operation {id} is answered twice"
        );
        in_order &= id >= last;
        last = id;
        match (id % 4, response.expect("a response")) {
            // The checking is slow, so not of each.
            (0, Answer::Sign(answer)) if id % 200 == 0 => {
                assert!(verifies(&der, answer.mechanism(), &id.to_be_bytes(), &answer.signature));
            }
            (0, Answer::Sign(answer)) => assert!(!answer.signature.is_empty()),
            (1, Answer::MacSign(answer)) => assert_eq!(answer.mac.len(), 32),
            (2, Answer::Encrypt(answer)) => assert_eq!(answer.ciphertext.len(), 58),
            (3, Answer::Error(error)) => assert_eq!(error.reason, "ALGORITHM_MISMATCH"),
            (_, Answer::Error(error)) => panic!("operation {id}: {}", error.message),
            _ => panic!("operation {id} has an answer of another kind"),
        }
    }
    sender.await.expect("all are sent");
    assert!(seen.iter().all(|seen| *seen), "some are not answered");
    assert!(!in_order, "answers come as operations finish, not as they were asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_the_service_goes_through_the_stream() {
    const AGREE: [(v1::KeyOperation, v1::Mechanism); 1] = [(v1::KeyOperation::Derive, v1::Mechanism::Ecdh)];
    const RAW: [(v1::KeyOperation, v1::Mechanism); 1] = [(v1::KeyOperation::Decrypt, v1::Mechanism::RsaRaw)];
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        create_ring(&client, transport).await;
        let ec = create_key(&client, transport, "ec", KeySpec::EC_P256).await.name;
        let hmac = create_key(&client, transport, "hmac", KeySpec::HMAC_SHA256).await.name;
        let aes = create_key(&client, transport, "aes", KeySpec::AES_256).await.name;
        let agree = KeySpec::wrapped(v1::KeyType::EcP256, &AGREE);
        let agree = create_key(&client, transport, "agree", agree).await.name;
        let raw = create_key(&client, transport, "raw", KeySpec::wrapped(v1::KeyType::Rsa2048, &RAW))
            .await
            .name;
        let peer = public_key(&client, &ec, PublicKeyFormat::Der).await.public_key;
        let mut stream = Stream::open(&client).await;
        stream.send(1, Asked::Sign(message_request(&ec, b"text"))).await;
        let (1, Answer::Sign(signed)) = stream.answer().await else {
            panic!("no signature")
        };
        stream
            .send(
                2,
                Asked::Verify(v1::VerifyRequest {
                    name: ec.clone(),
                    input: Some(v1::verify_request::Input::Message(b"text"[..].into())),
                    signature: signed.signature,
                    ..Default::default()
                }),
            )
            .await;
        assert!(matches!(stream.answer().await, (2, Answer::Verify(answer)) if answer.valid));
        stream
            .send(3, Asked::Encrypt(encrypt_request(&aes, b"text", b"")))
            .await;
        let (3, Answer::Encrypt(encrypted)) = stream.answer().await else {
            panic!("no ciphertext")
        };
        stream
            .send(
                4,
                Asked::ReEncrypt(v1::ReEncryptRequest {
                    source_name: aes.clone(),
                    ciphertext: encrypted.ciphertext,
                    destination_name: aes.clone(),
                    ..Default::default()
                }),
            )
            .await;
        let (4, Answer::ReEncrypt(moved)) = stream.answer().await else {
            panic!("no ciphertext")
        };
        stream
            .send(
                5,
                Asked::Decrypt(v1::DecryptRequest {
                    name: aes.clone(),
                    ciphertext: moved.ciphertext,
                    ..Default::default()
                }),
            )
            .await;
        assert!(matches!(stream.answer().await, (5, Answer::Decrypt(answer)) if answer.plaintext == b"text"[..]));
        stream
            .send(
                6,
                Asked::GenerateDataKey(v1::GenerateDataKeyRequest {
                    name: aes,
                    length_bytes: 32,
                    ..Default::default()
                }),
            )
            .await;
        assert!(matches!(stream.answer().await, (6, Answer::GenerateDataKey(answer)) if answer.plaintext.len() == 32));
        stream.send(7, mac(&hmac, b"text")).await;
        let (7, Answer::MacSign(code)) = stream.answer().await else {
            panic!("no code")
        };
        stream
            .send(
                8,
                Asked::MacVerify(v1::MacVerifyRequest {
                    name: hmac,
                    data: b"text"[..].into(),
                    mac: code.mac,
                    ..Default::default()
                }),
            )
            .await;
        assert!(matches!(stream.answer().await, (8, Answer::MacVerify(answer)) if answer.valid));
        stream
            .send(
                9,
                Asked::AsymmetricDecrypt(v1::AsymmetricDecryptRequest {
                    name: raw,
                    ciphertext: [&[0; 255][..], &[1]].concat().into(),
                    ..Default::default()
                }),
            )
            .await;
        // One to any power is one.
        assert!(matches!(stream.answer().await, (9, Answer::AsymmetricDecrypt(answer)) if answer.plaintext[255] == 1));
        stream
            .send(
                10,
                Asked::DeriveSharedSecret(v1::DeriveSharedSecretRequest {
                    name: agree,
                    peer_public_key: peer,
                    ..Default::default()
                }),
            )
            .await;
        assert!(
            matches!(stream.answer().await, (10, Answer::DeriveSharedSecret(answer)) if answer.shared_secret.len() == 32)
        );
        stream.send(11, random(100)).await;
        assert!(matches!(stream.answer().await, (11, Answer::GenerateRandom(answer)) if answer.data.len() == 100));
        stream
            .end()
            .await
            .unwrap_or_else(|status| panic!("{transport}: {status}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_in_flight_is_not_used_twice_and_is_free_again_with_its_answer() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let rsa = create_key(&client, "ring", "rsa", KeySpec::RSA_PSS).await.name;
    let mut stream = Stream::open(&client).await;
    for round in 0..20 {
        // A signature takes a millisecond, and these come one behind the other.
        for _ in 0..3 {
            stream.send(7, Asked::Sign(message_request(&rsa, b"text"))).await;
        }
        let (mut signatures, mut refusals) = (0, 0);
        for _ in 0..3 {
            match stream.answer().await {
                (7, Answer::Sign(_)) => signatures += 1,
                (7, answer) => {
                    let error = error(answer);
                    assert_eq!(
                        (error.code, error.reason.as_str()),
                        (Code::InvalidArgument as i32, "FIELD_INVALID")
                    );
                    assert_eq!(error.metadata["field"], "id");
                    refusals += 1;
                }
                (other, _) => panic!("an answer to operation {other}"),
            }
        }
        assert_eq!(signatures + refusals, 3);
        assert!(signatures >= 1, "round {round}");
        // Answered, and so free.
        stream.send(7, random(16)).await;
        assert!(
            matches!(stream.answer().await, (7, Answer::GenerateRandom(_))),
            "round {round}"
        );
    }
    stream.end().await.expect("a good end");
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_hold_for_each_operation() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let ec = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    let mut stream = Stream::open(&client).await;
    let sign = || Asked::Sign(message_request(&ec, b"text"));
    let span = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    stream.send_within(1, sign(), span(0, 0)).await;
    assert_eq!(error(stream.answer().await.1).reason, "DEADLINE_EXCEEDED");
    stream.send_within(2, sign(), span(-1, 0)).await;
    let refused = error(stream.answer().await.1);
    assert_eq!(
        (refused.reason.as_str(), refused.metadata["field"].as_str()),
        ("FIELD_INVALID", "timeout")
    );
    stream.send_within(3, sign(), span(60, 0)).await;
    assert!(matches!(stream.answer().await, (3, Answer::Sign(_))));

    // Members that do not answer cost an operation its deadline, and no more.
    for member in portcullis_softhsm_tests::MEMBERS {
        gateway.freeze_worker(member);
    }
    stream.send_within(4, sign(), span(0, 200_000_000)).await;
    let (id, answer) = stream.answer().await;
    assert_eq!((id, error(answer).reason.as_str()), (4, "DEADLINE_EXCEEDED"));
    for member in portcullis_softhsm_tests::MEMBERS {
        gateway.thaw_worker(member);
    }
    stream.send_within(5, sign(), span(60, 0)).await;
    assert!(matches!(stream.answer().await, (5, Answer::Sign(_))));
    stream.end().await.expect("a good end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_frees_what_it_had() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let ec = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    for member in portcullis_softhsm_tests::MEMBERS {
        gateway.freeze_worker(member);
    }
    let stream = Stream::open(&client).await;
    for id in 0..100 {
        let timeout = Some(prost_types::Duration { seconds: 250, nanos: 0 });
        stream
            .send_within(id, Asked::Sign(message_request(&ec, b"text")), timeout)
            .await;
    }
    let log = || std::fs::read_to_string(cluster.audit_file()).expect("the log");
    let cancelled = || log().matches("\"CANCELLED\"").count();
    // All of them are under way: each member holds its share.
    let status = wait_for_outstanding(&gateway, 100).await;
    assert_eq!(cancelled(), 0, "{status:?}");
    drop(stream);
    // Nobody waits for them any more, and that is in the log.
    tokio::task::block_in_place(|| {
        wait_until("the end of a hundred operations", SHORT, || {
            (cancelled() == 100).then_some(())
        });
    });
    for member in portcullis_softhsm_tests::MEMBERS {
        gateway.thaw_worker(member);
    }
    // What the members had begun, they finish; then they have nothing to do.
    wait_for_outstanding(&gateway, 0).await;
    let mut stream = Stream::open(&client).await;
    stream.send(1, Asked::Sign(message_request(&ec, b"text"))).await;
    assert!(matches!(stream.answer().await, (1, Answer::Sign(_))));
}

async fn wait_for_outstanding(gateway: &Gateway, expected: u32) -> Vec<u32> {
    let started = std::time::Instant::now();
    loop {
        let members = gateway.cluster_status().await.members;
        let counts: Vec<_> = members.iter().map(|member| member.outstanding).collect();
        if counts.iter().sum::<u32>() == expected {
            return counts;
        }
        assert!(started.elapsed() < SHORT, "{counts:?}, expected {expected} in all");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_so_many_operations_under_way_and_then_is_not_read() {
    let cluster = TestCluster::new();
    cluster.edit_config(|config| {
        let limits: toml::Table = toml::from_str("pipeline_operations = 8").expect("limits");
        config.insert("limits".to_owned(), limits.into());
    });
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let ec = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    for member in portcullis_softhsm_tests::MEMBERS {
        gateway.freeze_worker(member);
    }
    let mut stream = Stream::open(&client).await;
    for id in 0..60 {
        let timeout = Some(prost_types::Duration { seconds: 100, nanos: 0 });
        stream
            .send_within(id, Asked::Sign(message_request(&ec, b"text")), timeout)
            .await;
    }
    wait_for_outstanding(&gateway, 8).await;
    for member in portcullis_softhsm_tests::MEMBERS {
        gateway.thaw_worker(member);
    }
    let mut answered = HashMap::new();
    for _ in 0..60 {
        let (id, answer) = stream.answer().await;
        assert!(matches!(answer, Answer::Sign(_)));
        *answered.entry(id).or_insert(0) += 1;
    }
    assert!((0..60).all(|id| answered.get(&id) == Some(&1)));
    stream.end().await.expect("a good end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_message_ends_the_stream_after_what_came_before_it() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let wire: Wire = gateway.wire().await;
    let good = |id| {
        let request = PipelineRequest {
            id,
            timeout: None,
            request: Some(random(16)),
        };
        request.encode_to_vec()
    };
    // Not a message, and a message longer than any may be.
    for (wrong, reason) in [
        (vec![0xff; 20], "REQUEST_MALFORMED"),
        (vec![0; 5 << 20], "REQUEST_TOO_LARGE"),
    ] {
        let messages = vec![good(1), good(2), wrong, good(3)];
        let mut answers = wire
            .open_stream("portcullis.v1.CryptoService/Pipeline", messages)
            .await
            .expect("a stream");
        let mut ids = Vec::new();
        let end = loop {
            match answers.message().await {
                Ok(Some(bytes)) => ids.push(PipelineResponse::decode(bytes).expect("an answer").id),
                Ok(None) => panic!("a good end"),
                Err(status) => break status,
            }
        };
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
        assert_eq!(refusal::<()>(Err(end)).reason, reason);
    }
    // A message without an operation is an error of that operation alone.
    let empty = PipelineRequest {
        id: 9,
        ..PipelineRequest::default()
    };
    let messages = vec![empty.encode_to_vec(), good(1)];
    let mut answers = wire
        .open_stream("portcullis.v1.CryptoService/Pipeline", messages)
        .await
        .expect("a stream");
    let mut reasons = HashMap::new();
    while let Some(bytes) = answers.message().await.expect("an answer") {
        let answer = PipelineResponse::decode(bytes).expect("an answer");
        reasons.insert(
            answer.id,
            matches!(answer.response, Some(Answer::Error(error)) if error.reason == "FIELD_INVALID"),
        );
    }
    assert_eq!(reasons, HashMap::from([(9, true), (1, false)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_answers_what_it_read_and_ends_its_streams() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    let mut stream = Stream::open(&client).await;
    stream.send(1, random(16)).await;
    assert!(matches!(stream.answer().await, (1, Answer::GenerateRandom(_))));
    let started = std::time::Instant::now();
    let stopping = tokio::task::spawn_blocking(move || gateway.stop());
    let end = tokio::time::timeout(LONG, stream.answers.next())
        .await
        .expect("an end in time");
    let status = end.expect("a status").map(drop);
    refusal(status).is(Code::Unavailable, "GATEWAY_STOPPING").retryable();
    stopping.await.expect("the gateway stopped");
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "an idle stream held the gateway up"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_a_stream_runs_costs_no_operation() {
    const OPERATIONS: u64 = 3000;
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let ec = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    let der = public_key(&client, &ec, PublicKeyFormat::Der).await.public_key;
    let Stream { requests, mut answers } = Stream::open(&client).await;
    let sender = tokio::spawn(async move {
        for id in 0..OPERATIONS {
            let request = PipelineRequest {
                id,
                timeout: Some(prost_types::Duration { seconds: 100, nanos: 0 }),
                request: Some(Asked::Sign(message_request(&ec, &id.to_be_bytes()))),
            };
            requests.send(request).await.expect("the stream is open");
        }
    });
    let mut answered = 0;
    while let Some(answer) = tokio::time::timeout(LONG, answers.next())
        .await
        .expect("an answer in time")
    {
        let PipelineResponse { id, response } = answer.expect("an answer");
        match response.expect("a response") {
            Answer::Sign(answer) if id % 100 == 0 => {
                assert!(verifies(&der, answer.mechanism(), &id.to_be_bytes(), &answer.signature));
            }
            Answer::Sign(answer) => assert!(!answer.signature.is_empty()),
            other => panic!("operation {id}: {}", error(other).message),
        }
        answered += 1;
        // One after the other, while most is still to come.
        match answered {
            500 => drop(tokio::task::block_in_place(|| gateway.kill_worker("a"))),
            1000 => drop(tokio::task::block_in_place(|| gateway.kill_worker("b"))),
            _ => {}
        }
    }
    sender.await.expect("all are sent");
    assert_eq!(answered, OPERATIONS);
    for member in ["a", "b"] {
        gateway.wait_for_worker(member, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_of_a_stream_is_in_the_audit_log() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let ec = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    let mut stream = Stream::open(&client).await;
    for id in 0..30 {
        let name = if id % 3 == 0 { "keyRings/ring/keys/nobody" } else { &ec };
        stream.send(id, Asked::Sign(message_request(name, b"text"))).await;
    }
    let mut errors = 0;
    for _ in 0..30 {
        if let Answer::Error(error) = stream.answer().await.1 {
            assert_eq!(error.reason, "KEY_NOT_FOUND");
            errors += 1;
        }
    }
    assert_eq!(errors, 10);
    stream.end().await.expect("a good end");
    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let signed: Vec<_> = log.outcomes().filter(|entry| entry["action"] == "sign").collect();
    assert_eq!(signed.len(), 30);
    assert_eq!(signed.iter().filter(|entry| entry["outcome"] == "OK").count(), 20);
    assert!(
        signed
            .iter()
            .all(|entry| entry["batch"] == signed[0]["batch"] && entry["batch"].is_string())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_before_it_begins_is_in_the_log_and_in_the_metrics() {
    let cluster = TestCluster::new();
    let metrics = cluster.serve_metrics();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let ec = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    let sign = || Asked::Sign(message_request(&ec, b"text"));
    let refused = || {
        let scrape = portcullis_softhsm_tests::Scrape::of(&metrics);
        let reason = [("portcullis_reason", "FIELD_INVALID")];
        scrape.sum("portcullis_requests_refused_total", &reason).unwrap_or(0.0)
    };
    let before = tokio::task::block_in_place(refused);

    for member in portcullis_softhsm_tests::MEMBERS {
        gateway.freeze_worker(member);
    }
    let mut stream = Stream::open(&client).await;
    stream.send(1, sign()).await;
    stream.send(1, sign()).await;
    let (id, answer) = stream.answer().await;
    assert_eq!((id, error(answer).reason.as_str()), (1, "FIELD_INVALID"));
    for member in portcullis_softhsm_tests::MEMBERS {
        gateway.thaw_worker(member);
    }
    assert!(matches!(stream.answer().await, (1, Answer::Sign(_))));
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    stream.send_within(2, random(16), negative).await;
    let named = error(stream.answer().await.1);
    assert!(named.message.contains("found -1 s"), "{}", named.message);
    stream.end().await.expect("a good end");
    // An operation of a kind that this gateway does not know, and then no message at all.
    let unknown = v1::PipelineRequest {
        id: 3,
        ..Default::default()
    };
    let method = "portcullis.v1.CryptoService/Pipeline";
    let wire = gateway.wire().await;
    let rubbish = vec![0xff; 8];
    let mut answers = wire
        .open_stream(method, vec![unknown.encode_to_vec(), rubbish])
        .await
        .expect("a stream");
    let answer = answers.message().await.expect("an answer").expect("a message");
    let answer = v1::PipelineResponse::decode(answer).expect("an answer");
    assert_eq!(error(answer.response.expect("a response")).reason, "FIELD_INVALID");
    refusal(answers.message().await).is(Code::InvalidArgument, "REQUEST_MALFORMED");

    let after = tokio::task::block_in_place(refused);
    assert!((after - before - 3.0).abs() < 0.5, "{before} and then {after}");
    drop(gateway.stop());
    let log = portcullis_softhsm_tests::AuditLog::read(&cluster.audit_file());
    let mut refused: Vec<_> = log
        .outcomes()
        .filter(|entry| entry["outcome"] == "FIELD_INVALID" || entry["outcome"] == "REQUEST_MALFORMED")
        .map(|entry| {
            assert!(
                entry["principal"].is_string() && entry["request"].is_string(),
                "{entry}"
            );
            (entry["action"].as_str().expect("an action"), entry["batch"].is_string())
        })
        .collect();
    // The end of the stream does not wait for the operation before it.
    refused.sort_unstable();
    assert_eq!(
        refused,
        [
            ("pipeline", false),
            ("pipeline", true),
            ("random", true),
            ("sign", true)
        ]
    );
    // The entry is found by the id that the caller was told.
    let told = &named.metadata["request_id"];
    assert!(log.outcomes().any(|entry| entry["request"] == told.as_str()), "{told}");
}

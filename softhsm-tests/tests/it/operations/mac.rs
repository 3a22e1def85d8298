//! Message authentication codes over the API. That they are right is shown by `known_answers`.

use portcullis_client::{
    Client, Code,
    v1::{KeyOperation, KeyType, MacSignRequest, MacSignResponse, MacVerifyRequest, MacVerifyResponse, Mechanism},
};
use portcullis_softhsm_tests::{Gateway, KeySpec, TestCluster, crc32c, create_key, create_ring, refusal};
use tonic::Status;

/// A name for each kind of key that MACs, the kind, how, and the code's length.
const KINDS: [(&str, KeySpec, Mechanism, usize); 5] = [
    ("hmac-256", KeySpec::HMAC_SHA256, Mechanism::HmacSha256, 32),
    (
        "hmac-384",
        KeySpec::wrapped(KeyType::HmacSha384, &[]),
        Mechanism::HmacSha384,
        48,
    ),
    (
        "hmac-512",
        KeySpec::wrapped(KeyType::HmacSha512, &[]),
        Mechanism::HmacSha512,
        64,
    ),
    (
        "cmac-128",
        KeySpec::wrapped(KeyType::Aes128, &CMAC),
        Mechanism::AesCmac,
        16,
    ),
    (
        "cmac-256",
        KeySpec::wrapped(KeyType::Aes256, &CMAC),
        Mechanism::AesCmac,
        16,
    ),
];

const CMAC: [(KeyOperation, Mechanism); 2] = [
    (KeyOperation::MacSign, Mechanism::AesCmac),
    (KeyOperation::MacVerify, Mechanism::AesCmac),
];

const DATA: &[u8] = b"what is to be authentic";

fn sign_request(name: &str, data: &[u8]) -> MacSignRequest {
    MacSignRequest {
        name: name.to_owned(),
        data: data.to_vec().into(),
        ..Default::default()
    }
}

fn verify_request(name: &str, data: &[u8], mac: &[u8]) -> MacVerifyRequest {
    MacVerifyRequest {
        name: name.to_owned(),
        data: data.to_vec().into(),
        mac: mac.to_vec().into(),
        ..Default::default()
    }
}

async fn sign(client: &Client, request: MacSignRequest) -> Result<MacSignResponse, Status> {
    Ok(client.crypto().mac_sign(request).await?.into_inner())
}

async fn verify(client: &Client, request: MacVerifyRequest) -> Result<MacVerifyResponse, Status> {
    Ok(client.crypto().mac_verify(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_member_makes_each_member_accepts() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        create_ring(&client, transport).await;
        for (id, spec, mechanism, length) in KINDS {
            let name = create_key(&client, transport, id, spec).await.name;
            let first = sign(&client, sign_request(&name, DATA)).await.expect("a code");
            assert_eq!(first.mac.len(), length, "{id}");
            assert_eq!(first.mac_crc32c, crc32c(&first.mac));
            assert_eq!(first.name, format!("{name}/versions/1"));
            assert!(first.mechanism() == mechanism, "{id}");
            // Often enough that each of the three members is asked for each.
            for _ in 0..20 {
                let again = sign(&client, sign_request(&name, DATA)).await.expect("a code");
                assert_eq!(again.mac, first.mac, "{id}");
                let answer = verify(&client, verify_request(&name, DATA, &first.mac)).await;
                let answer = answer.expect("an answer");
                assert!(answer.valid && answer.mechanism() == mechanism, "{id}");
            }
            let other = sign(&client, sign_request(&name, b"other data")).await.expect("a code");
            assert_ne!(other.mac, first.mac, "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_code_is_an_answer_and_not_an_error() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for (id, spec, _, length) in KINDS {
        let name = create_key(&client, "ring", id, spec).await.name;
        let good = sign(&client, sign_request(&name, DATA)).await.expect("a code").mac;
        let mut wrong: Vec<Vec<u8>> = vec![Vec::new(), good[1..].to_vec(), good[..length / 2].to_vec()];
        wrong.push([&good[..], &[0]].concat());
        wrong.push(vec![0; length]);
        for at in 0..length {
            let mut changed = good.to_vec();
            changed[at] ^= 1;
            wrong.push(changed);
        }
        for wrong in wrong {
            let answer = verify(&client, verify_request(&name, DATA, &wrong))
                .await
                .expect("an answer");
            assert!(!answer.valid, "{id}, {wrong:02x?}");
        }
        let answer = verify(&client, verify_request(&name, b"other data", &good)).await;
        assert!(!answer.expect("an answer").valid, "{id}");
    }
    for member in gateway.cluster_status().await.members {
        assert_eq!(member.worker_starts, 1, "{}", member.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_checked_and_a_dry_run_stops_before_the_hsm() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "hmac", KeySpec::HMAC_SHA256).await.name;
    let checked = MacSignRequest {
        data_crc32c: Some(crc32c(DATA)),
        mechanism: Mechanism::HmacSha256 as i32,
        ..sign_request(&name, DATA)
    };
    let answer = sign(&client, checked.clone()).await.expect("a code");
    assert!(answer.verified_data_crc32c);
    let dry = MacSignRequest {
        dry_run: true,
        ..checked.clone()
    };
    assert!(sign(&client, dry).await.expect("a dry run").mac.is_empty());
    let garbled = MacSignRequest {
        data_crc32c: Some(crc32c(DATA) ^ 1),
        ..checked.clone()
    };
    refusal(sign(&client, garbled).await).is(Code::InvalidArgument, "CHECKSUM_MISMATCH");
    let other = MacSignRequest {
        mechanism: Mechanism::HmacSha512 as i32,
        ..checked
    };
    refusal(sign(&client, other).await)
        .is(Code::InvalidArgument, "ALGORITHM_MISMATCH")
        .with("permitted", "HMAC_SHA256");

    let checked = MacVerifyRequest {
        data_crc32c: Some(crc32c(DATA)),
        mac_crc32c: Some(crc32c(&answer.mac)),
        ..verify_request(&name, DATA, &answer.mac)
    };
    let verified = verify(&client, checked.clone()).await.expect("an answer");
    assert!(verified.valid && verified.verified_data_crc32c && verified.verified_mac_crc32c);
    let dry = MacVerifyRequest {
        dry_run: true,
        ..checked.clone()
    };
    assert!(!verify(&client, dry).await.expect("a dry run").valid);
    let garbled = MacVerifyRequest {
        mac_crc32c: Some(0),
        ..checked
    };
    refusal(verify(&client, garbled).await).is(Code::InvalidArgument, "CHECKSUM_MISMATCH");

    let signer = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    refusal(sign(&client, sign_request(&signer, DATA)).await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
    refusal(verify(&client, verify_request(&signer, DATA, b"")).await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
    let missing = sign_request("keyRings/ring/keys/nobody", DATA);
    refusal(sign(&client, missing).await).is(Code::NotFound, "KEY_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_only_verify_verifies_and_makes_nothing() {
    const VERIFY: [(KeyOperation, Mechanism); 1] = [(KeyOperation::MacVerify, Mechanism::HmacSha256)];
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let spec = KeySpec::wrapped(KeyType::HmacSha256, &VERIFY);
    let name = create_key(&client, "ring", "verifier", spec).await.name;
    let answer = verify(&client, verify_request(&name, DATA, &[0; 32])).await;
    assert!(!answer.expect("an answer").valid);
    refusal(sign(&client, sign_request(&name, DATA)).await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
}

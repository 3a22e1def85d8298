//! Batches: a result for each item, as if it had come alone.

use portcullis_client::{
    Client, Code,
    v1::{
        self, BatchDecryptRequest, BatchEncryptRequest, BatchGenerateDataKeyRequest, BatchMacSignRequest,
        BatchMacVerifyRequest, BatchReEncryptRequest, BatchSignRequest, BatchVerifyRequest, DecryptRequest,
        GenerateDataKeyRequest, MacSignRequest, MacVerifyRequest, OperationError, PublicKeyFormat, ReEncryptRequest,
        SignRequest, VerifyRequest,
    },
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, TestCluster, Wish, create_key, create_ring, encrypt_request, message_request,
    public_key, refusal, verifies,
};
use std::collections::HashSet;

/// The results of a batch: responses or errors, in order.
macro_rules! results {
    ($answer:expr, $module:ident) => {
        $answer
            .expect("a batch")
            .into_inner()
            .results
            .into_iter()
            .map(|row| match row.result.expect("a result") {
                v1::$module::result::Result::Response(response) => Ok(response),
                v1::$module::result::Result::Error(error) => Err(Box::new(error)),
            })
            .collect::<Vec<_>>()
    };
}

#[track_caller]
fn failed<T>(result: &Result<T, Box<OperationError>>, code: Code, reason: &str) {
    let Err(error) = result else {
        panic!("it was done; expected {reason}")
    };
    assert_eq!(
        (error.code, error.reason.as_str()),
        (code as i32, reason),
        "{}",
        error.message
    );
    assert!(!error.message.is_empty());
    assert!(!error.metadata["request_id"].is_empty());
}

struct Keys {
    ec: String,
    aes: String,
    hmac: String,
}

async fn keys(client: &Client, ring: &str) -> Keys {
    create_ring(client, ring).await;
    Keys {
        ec: create_key(client, ring, "ec", KeySpec::EC_P256).await.name,
        aes: create_key(client, ring, "aes", KeySpec::AES_256).await.name,
        hmac: create_key(client, ring, "hmac", KeySpec::HMAC_SHA256).await.name,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_has_its_own_result_in_its_place() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        let Keys { ec, aes, hmac } = keys(&client, transport).await;
        let der = public_key(&client, &ec, PublicKeyFormat::Der).await.public_key;

        // Good and bad by turns.
        let items: Vec<_> = (0..100u8)
            .map(|number| match number % 4 {
                1 => message_request("keyRings/nobody/keys/nobody", &[number]),
                2 => message_request(&aes, &[number]),
                3 => SignRequest {
                    input_crc32c: Some(1),
                    ..message_request(&ec, &[number])
                },
                _ => message_request(&ec, &[number]),
            })
            .collect();
        let signed = results!(
            client.crypto().batch_sign(BatchSignRequest { items }).await,
            batch_sign_response
        );
        assert_eq!(signed.len(), 100);
        let mut to_verify = Vec::new();
        for (number, result) in (0..100u8).zip(&signed) {
            match number % 4 {
                1 => failed(result, Code::NotFound, "KEY_NOT_FOUND"),
                2 => failed(result, Code::InvalidArgument, "ALGORITHM_MISMATCH"),
                3 => failed(result, Code::InvalidArgument, "CHECKSUM_MISMATCH"),
                _ => {
                    let answer = result.as_ref().unwrap_or_else(|error| panic!("{}", error.message));
                    assert!(verifies(&der, answer.mechanism(), &[number], &answer.signature));
                    to_verify.push(VerifyRequest {
                        name: ec.clone(),
                        input: Some(v1::verify_request::Input::Message(vec![number].into())),
                        signature: answer.signature.clone(),
                        ..Default::default()
                    });
                }
            }
        }
        to_verify[3].signature = vec![1, 2, 3].into();
        let verified = BatchVerifyRequest { items: to_verify };
        let verified = results!(client.crypto().batch_verify(verified).await, batch_verify_response);
        let valid: Vec<_> = verified
            .into_iter()
            .map(|result| result.map(|answer| answer.valid))
            .collect();
        for (at, valid) in valid.iter().enumerate() {
            assert_eq!(valid.as_ref().ok(), Some(&(at != 3)));
        }

        let items = (0..20u8)
            .map(|number| encrypt_request(&aes, &[number; 100], b""))
            .collect();
        let encrypted = BatchEncryptRequest { items };
        let encrypted = results!(client.crypto().batch_encrypt(encrypted).await, batch_encrypt_response);
        let ciphertexts: Vec<_> = encrypted
            .into_iter()
            .map(|result| result.unwrap_or_else(|error| panic!("{}", error.message)).ciphertext)
            .collect();
        let moved = BatchReEncryptRequest {
            items: ciphertexts
                .iter()
                .map(|ciphertext| ReEncryptRequest {
                    source_name: aes.clone(),
                    ciphertext: ciphertext.clone(),
                    destination_name: aes.clone(),
                    ..Default::default()
                })
                .collect(),
        };
        let moved = results!(client.crypto().batch_re_encrypt(moved).await, batch_re_encrypt_response);
        let mut items: Vec<_> = moved
            .into_iter()
            .map(|result| DecryptRequest {
                name: aes.clone(),
                ciphertext: result.unwrap_or_else(|error| panic!("{}", error.message)).ciphertext,
                ..Default::default()
            })
            .collect();
        items[7].ciphertext = vec![0; 60].into();
        let decrypted = BatchDecryptRequest { items };
        let decrypted = results!(client.crypto().batch_decrypt(decrypted).await, batch_decrypt_response);
        for (number, result) in (0..20u8).zip(&decrypted) {
            if number == 7 {
                failed(result, Code::InvalidArgument, "DECRYPTION_FAILED");
            } else {
                let answer = result.as_ref().unwrap_or_else(|error| panic!("{}", error.message));
                assert_eq!(answer.plaintext, vec![number; 100]);
            }
        }

        let items = (0..20u8).map(|number| MacSignRequest {
            name: hmac.clone(),
            data: vec![number].into(),
            ..Default::default()
        });
        let macs = BatchMacSignRequest { items: items.collect() };
        let macs = results!(client.crypto().batch_mac_sign(macs).await, batch_mac_sign_response);
        let items = (0..20u8).zip(macs).map(|(number, result)| MacVerifyRequest {
            name: hmac.clone(),
            data: vec![number ^ u8::from(number == 4)].into(),
            mac: result.unwrap_or_else(|error| panic!("{}", error.message)).mac,
            ..Default::default()
        });
        let checks = BatchMacVerifyRequest { items: items.collect() };
        let checks = results!(
            client.crypto().batch_mac_verify(checks).await,
            batch_mac_verify_response
        );
        for (number, check) in checks.into_iter().enumerate() {
            assert_eq!(check.map(|answer| answer.valid).ok(), Some(number != 4));
        }

        let items = [16, 5, 64].map(|length_bytes| GenerateDataKeyRequest {
            name: aes.clone(),
            length_bytes,
            ..Default::default()
        });
        let data_keys = BatchGenerateDataKeyRequest { items: items.to_vec() };
        let data_keys = client.crypto().batch_generate_data_key(data_keys).await;
        let data_keys = results!(data_keys, batch_generate_data_key_response);
        failed(&data_keys[1], Code::InvalidArgument, "FIELD_INVALID");
        for (at, length) in [(0, 16), (2, 64)] {
            let answer = data_keys[at]
                .as_ref()
                .unwrap_or_else(|error| panic!("{}", error.message));
            assert_eq!(answer.plaintext.len(), length);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_is_in_the_audit_log_and_the_batch_tells_them_together() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let Keys { ec, aes, .. } = keys(&client, "ring").await;
    for _ in 0..2 {
        let items = vec![
            message_request(&ec, b"one"),
            message_request(&aes, b"two"),
            message_request(&ec, b"three"),
        ];
        let answer = client.crypto().batch_sign(BatchSignRequest { items }).await;
        assert_eq!(results!(answer, batch_sign_response).len(), 3);
    }
    client
        .crypto()
        .sign(message_request(&ec, b"alone"))
        .await
        .expect("a signature");
    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let signed: Vec<_> = log.outcomes().filter(|entry| entry["action"] == "sign").collect();
    assert_eq!(signed.len(), 7);
    let requests: HashSet<_> = signed.iter().map(|entry| entry["request"].as_str()).collect();
    assert_eq!(requests.len(), 7, "each item has an id of its own");
    let batches: Vec<_> = signed.iter().map(|entry| entry["batch"].as_str()).collect();
    assert!(batches[0].is_some() && batches[..3].iter().all(|one| one == &batches[0]));
    assert!(batches[3].is_some() && batches[3..6].iter().all(|one| one == &batches[3]));
    assert!(batches[0] != batches[3] && batches[6].is_none());
    let mut outcomes: Vec<_> = signed[..3]
        .iter()
        .filter_map(|entry| entry["outcome"].as_str())
        .collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["ALGORITHM_MISMATCH", "OK", "OK"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_holds_for_each_item() {
    let cluster = TestCluster::new();
    cluster.add_policies(
        r#"@id("mine")
permit (principal == Principal::"spiffe://portcullis.dev/caller", action == Action::"sign", resource in KeyRing::"mine");
"#,
    );
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    for ring in ["mine", "yours"] {
        create_ring(&client, ring).await;
        create_key(&client, ring, "ec", KeySpec::EC_P256).await;
    }
    let identity = cluster
        .authority()
        .client(Wish::of("spiffe://portcullis.dev/caller"), &cluster.pki("ca.pem"));
    let client = gateway.tls_client_as(&identity.credentials()).await.expect("a client");
    let items = ["yours", "mine", "yours"].map(|ring| message_request(&format!("keyRings/{ring}/keys/ec"), b"text"));
    let answer = client
        .crypto()
        .batch_sign(BatchSignRequest { items: items.to_vec() })
        .await;
    let results = results!(answer, batch_sign_response);
    failed(&results[0], Code::PermissionDenied, "ACCESS_DENIED");
    assert!(results[1].is_ok());
    failed(&results[2], Code::PermissionDenied, "ACCESS_DENIED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_so_many_items_and_bytes_and_not_more() {
    let cluster = TestCluster::new();
    cluster.edit_config(|config| {
        let limits: toml::Table = toml::from_str("batch_items = 5\nbatch_bytes = \"10KiB\"").expect("limits");
        config.insert("limits".to_owned(), limits.into());
    });
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let Keys { ec, .. } = keys(&client, "ring").await;
    let batch = |count: usize, length: usize| BatchSignRequest {
        items: vec![message_request(&ec, &vec![1; length]); count],
    };
    assert_eq!(
        results!(client.crypto().batch_sign(batch(5, 1000)).await, batch_sign_response).len(),
        5
    );
    refusal(client.crypto().batch_sign(batch(6, 10)).await)
        .is(Code::InvalidArgument, "PAYLOAD_TOO_LARGE")
        .with("unit", "items")
        .with("limit", 5)
        .with("actual", 6);
    refusal(client.crypto().batch_sign(batch(5, 3000)).await)
        .is(Code::InvalidArgument, "PAYLOAD_TOO_LARGE")
        .with("unit", "bytes")
        .with("limit", 10 * 1024);
    refusal(client.crypto().batch_sign(batch(0, 0)).await)
        .is(Code::InvalidArgument, "FIELD_INVALID")
        .with("field", "items");
}

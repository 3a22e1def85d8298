//! Data that is sealed under keys of a real gateway.

use portcullis_client::{
    Client, Code,
    envelope::{CacheBounds, EnvelopeError, Envelopes, Header, Parsed},
    v1::{ChangeKeyVersionStateRequest, GenerateDataKeyRequest, RotateKeyRequest},
};
use portcullis_softhsm_tests::{AuditLog, Gateway, KeySpec, TestCluster, create_key, create_ring};
use std::{
    io::{Read, Write},
    time::Duration,
};

const CHUNK: usize = 64 * 1024;

struct Stage {
    cluster: TestCluster,
    gateway: Gateway,
    client: Client,
    key: String,
}

impl Stage {
    async fn new() -> Self {
        let cluster = TestCluster::new();
        let gateway = Gateway::start(&cluster);
        let client = gateway.tls_client().await;
        create_ring(&client, "ring").await;
        let key = create_key(&client, "ring", "files", KeySpec::AES_256).await.name;
        Self {
            cluster,
            gateway,
            client,
            key,
        }
    }

    async fn rotate(&self) {
        let request = RotateKeyRequest {
            name: self.key.clone(),
            ..Default::default()
        };
        self.client.rotate_key(request).await.expect("a new version");
    }

    /// How often something was done, after the gateway has ended.
    fn outcomes(self, action: &str) -> usize {
        self.gateway.stop();
        let log = AuditLog::read(&self.cluster.audit_file());
        log.outcomes().filter(|entry| entry["action"] == action).count()
    }
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn header_of(sealed: &[u8]) -> (Header, usize) {
    match Header::parse(sealed).expect("a header") {
        Parsed::Whole(header, length) => (header, length),
        Parsed::More(more) => panic!("{more} bytes are missing"),
    }
}

fn reason(error: &EnvelopeError) -> Option<&str> {
    match error {
        EnvelopeError::Gateway(error) => error.fault()?.reason(),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_opens_under_its_key_and_context_alone() {
    let stage = Stage::new().await;
    let other = create_key(&stage.client, "ring", "other", KeySpec::AES_256).await.name;
    let envelopes = Envelopes::new(&stage.client);
    let envelope = envelopes.under(&stage.key).with_context([("a", "1"), ("b", "2")]);
    for size in [0, 1, CHUNK, 3 * CHUNK + 5] {
        let sealed = envelope.encrypt_bytes(&data(size)).await.expect("sealed");
        assert_eq!(*envelope.decrypt_bytes(&sealed).await.expect("opened"), data(size));
        // The blocking reader and writer make and read the same.
        let (_, mut writer) = envelope.seal(Vec::new(), None).await.expect("a writer");
        writer.write_all(&data(size)).expect("written");
        let again = writer.finish().expect("finished");
        let mut opened = Vec::new();
        let (_, mut reader) = envelope.open(&again[..]).await.expect("a reader");
        reader.read_to_end(&mut opened).expect("opened");
        assert_eq!(opened, data(size));
        for wrong in [
            envelopes.under(&stage.key),
            envelopes.under(&stage.key).with_context([("a", "1")]),
            envelopes.under(&stage.key).with_associated_data("a=1"),
        ] {
            let error = wrong.decrypt_bytes(&sealed).await.expect_err("another context");
            assert_eq!(reason(&error), Some("DECRYPTION_FAILED"), "{error}");
        }
        let error = envelopes
            .under(&other)
            .decrypt_bytes(&sealed)
            .await
            .expect_err("another key");
        assert!(
            matches!(&error, EnvelopeError::OtherKey { found, .. } if *found == stage.key),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_was_put_together_from_two_is_refused() {
    let stage = Stage::new().await;
    stage.rotate().await;
    let envelope = Envelopes::new(&stage.client).under(&stage.key);
    let sealed = envelope.encrypt_bytes(b"one").await.expect("sealed");
    let (_, length) = header_of(&sealed);
    // Another data key that the gateway decrypts as well.
    let other = stage.client.generate_data_key(GenerateDataKeyRequest {
        name: stage.key.clone(),
        length_bytes: 32,
        ..Default::default()
    });
    let other = other.await.expect("a data key").ciphertext;
    let mut exchanged = sealed.clone();
    exchanged[length - other.len()..length].copy_from_slice(&other);
    let error = envelope.decrypt_bytes(&exchanged).await.expect_err("another data key");
    assert!(matches!(error, EnvelopeError::NotAuthentic), "{error}");
    // The name of a version that did not encrypt it.
    let mut renamed = sealed.clone();
    let at = renamed
        .windows(11)
        .position(|bytes| bytes == b"/versions/2")
        .expect("the version");
    renamed[at + 10] = b'1';
    let error = envelope.decrypt_bytes(&renamed).await.expect_err("another version");
    assert!(matches!(error, EnvelopeError::NotAuthentic), "{error}");
    let (header, _) = header_of(&renamed);
    let error = envelope.rewrap(&header).await.expect_err("another version");
    assert!(matches!(error, EnvelopeError::NotAuthentic), "{error}");
    envelope.decrypt_bytes(&sealed).await.expect("as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_under_another_version_opens_the_same_data() {
    let stage = Stage::new().await;
    let envelope = Envelopes::new(&stage.client)
        .under(&stage.key)
        .with_context([("a", "1")]);
    let sealed = envelope.encrypt_bytes(&data(2 * CHUNK)).await.expect("sealed");
    stage.rotate().await;
    let (header, length) = header_of(&sealed);
    let rewrapped = envelope.rewrap(&header).await.expect("rewrapped");
    assert_eq!((header.version().number(), rewrapped.version().number()), (1, 2));
    let disable = ChangeKeyVersionStateRequest {
        name: header.version().to_string(),
        ..Default::default()
    };
    stage.client.disable_key_version(disable).await.expect("disabled");
    let error = envelope
        .decrypt_bytes(&sealed)
        .await
        .expect_err("its version is disabled");
    let EnvelopeError::Gateway(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.fault().expect("a fault").code(), Code::FailedPrecondition);
    let moved = [&rewrapped.to_bytes()[..], &sealed[length..]].concat();
    assert_eq!(*envelope.decrypt_bytes(&moved).await.expect("opened"), data(2 * CHUNK));
}

#[tokio::test(flavor = "multi_thread")]
async fn data_keys_are_shared_within_bounds_and_by_context() {
    let stage = Stage::new().await;
    let bounds = CacheBounds {
        age: Duration::from_secs(600),
        messages: 10,
        bytes: 1 << 20,
        entries: 10,
    };
    let envelopes = Envelopes::with_cache(&stage.client, bounds);
    let mut sealed = Vec::new();
    for context in ["a", "b"] {
        let envelope = envelopes.under(&stage.key).with_context([("of", context)]);
        for _ in 0..20 {
            sealed.push((
                envelope.clone(),
                envelope.encrypt_bytes(b"small").await.expect("sealed"),
            ));
        }
    }
    assert_eq!(envelopes.kept(), 0, "each has sealed its ten messages");
    for (envelope, sealed) in &sealed {
        assert_eq!(
            envelope.decrypt_bytes(sealed).await.expect("opened").as_slice(),
            b"small"
        );
    }
    // What is kept for one context opens nothing with another.
    let wrong = envelopes.under(&stage.key).with_context([("of", "c")]);
    let error = wrong.decrypt_bytes(&sealed[0].1).await.expect_err("another context");
    assert_eq!(reason(&error), Some("DECRYPTION_FAILED"), "{error}");
    envelopes.forget();
    assert_eq!(envelopes.kept(), 0);
    assert_eq!(stage.outcomes("data_key.generate"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cache_each_message_has_a_data_key() {
    let stage = Stage::new().await;
    let envelopes = Envelopes::new(&stage.client);
    let envelope = envelopes.under(&stage.key);
    for _ in 0..5 {
        let sealed = envelope.encrypt_bytes(b"small").await.expect("sealed");
        envelope.decrypt_bytes(&sealed).await.expect("opened");
    }
    assert_eq!(envelopes.kept(), 0);
    assert_eq!(stage.outcomes("data_key.generate"), 5);
}

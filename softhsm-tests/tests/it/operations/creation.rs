//! Creating rings and keys.

use super::KINDS;
use portcullis_client::{
    Code,
    v1::{
        CreateKeyRequest, CreateKeyRingRequest, GetKeyRequest, KeyOperation, KeyOrigin, KeyProtection, KeyType,
        KeyVersionState, Mechanism,
    },
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, MEMBERS, TestCluster, create_key, create_ring, key_request, refusal, sign,
};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_created_key_of_each_kind_says_what_it_is_and_is_found_again() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        let ring = create_ring(&client, transport).await;
        assert_eq!(ring.name, format!("keyRings/{transport}"));
        assert!(
            Uuid::parse_str(&ring.uid).is_ok_and(|uid| uid.get_version_num() == 7),
            "{}",
            ring.uid
        );
        for (id, spec) in KINDS {
            let created = create_key(&client, transport, id, spec).await;
            assert_eq!(created.name, format!("keyRings/{transport}/keys/{id}"));
            assert!(
                Uuid::parse_str(&created.uid).is_ok_and(|uid| uid.get_version_num() == 7),
                "{}",
                created.uid
            );
            assert!(created.r#type() == spec.key_type, "{id}");
            assert!(created.protection() == spec.protection, "{id}");
            assert_eq!(created.primary_version, 1);
            assert!(created.create_time.is_some() && !created.etag.is_empty(), "{id}");
            for (operation, mechanism) in spec.uses {
                let permitted = |used: &&portcullis_client::v1::PermittedUse| {
                    used.operation() == *operation && used.mechanism() == *mechanism
                };
                assert!(created.permitted_uses.iter().any(|used| permitted(&used)), "{id}");
            }
            assert!(!created.permitted_uses.is_empty(), "{id}");
            let version = created.primary.as_ref().expect("the primary version");
            assert_eq!(version.name, format!("{}/versions/1", created.name));
            assert!(version.state() == KeyVersionState::Active, "{id}");
            assert!(version.origin() == KeyOrigin::Generated, "{id}");
            assert_eq!(version.domain_epoch, 1, "{id}");
            let resident = spec.protection == KeyProtection::Resident;
            assert_eq!(version.single_replica, resident, "{id}");
            assert_eq!(version.members.len(), usize::from(resident), "{id}");
            let found = client
                .keys()
                .get_key(GetKeyRequest {
                    name: created.name.clone(),
                })
                .await;
            assert!(
                found.expect("the key").into_inner() == created,
                "{id} is another when it is read"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_type_that_the_hsm_does_not_wrap_is_refused_by_name() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let wrapped = key_request("ring", "ed", KeySpec::wrapped(KeyType::Ed25519, &[]));
    refusal(client.keys().create_key(wrapped).await)
        .is(Code::Unimplemented, "MECHANISM_UNSUPPORTED")
        .naming("ED25519");
    not_found(&client, "keyRings/ring/keys/ed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_key_needs_consent_to_a_single_replica() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let mut request = key_request("ring", "ed", KeySpec::ED25519_RESIDENT);
    request.allow_single_replica = false;
    let answer = client.keys().create_key(request.clone()).await;
    refusal(answer).is(Code::FailedPrecondition, "SINGLE_REPLICA_NOT_ACCEPTED");
    not_found(&client, "keyRings/ring/keys/ed").await;

    for member in MEMBERS {
        request.allow_single_replica = true;
        request.key_id = format!("on-{member}");
        request.member = member.to_owned();
        let key = client
            .keys()
            .create_key(request.clone())
            .await
            .expect("a resident key")
            .into_inner();
        let primary = key.primary.expect("the primary version");
        assert_eq!(primary.members, [format!("members/{member}")]);
        assert!(primary.single_replica);
        sign(&client, &key.name, b"a message").await.expect("a signature");
    }
    request.key_id = "on-nobody".to_owned();
    request.member = "nobody".to_owned();
    let refused = refusal(client.keys().create_key(request).await);
    assert!(
        matches!(refused.code, Code::InvalidArgument | Code::NotFound),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_is_repeated_with_its_request_id_has_the_same_answer_and_creates_nothing() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let ring = CreateKeyRingRequest {
        key_ring_id: "ring".to_owned(),
        request_id: Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let key = CreateKeyRequest {
        request_id: Uuid::new_v4().to_string(),
        ..key_request("ring", "key", KeySpec::EC_P256)
    };
    let first_ring = client
        .keys()
        .create_key_ring(ring.clone())
        .await
        .expect("a ring")
        .into_inner();
    let first_key = client.keys().create_key(key.clone()).await.expect("a key").into_inner();
    let repeat = async |client: &portcullis_client::Client| {
        let again = client
            .keys()
            .create_key_ring(ring.clone())
            .await
            .expect("the ring again")
            .into_inner();
        assert!(again == first_ring);
        let again = client
            .keys()
            .create_key(key.clone())
            .await
            .expect("the key again")
            .into_inner();
        assert!(again == first_key);
    };
    repeat(&client).await;
    // The promise outlives the process.
    gateway.stop();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    repeat(&client).await;

    let other = CreateKeyRequest {
        request_id: key.request_id.clone(),
        ..key_request("ring", "other", KeySpec::EC_P256)
    };
    refusal(client.keys().create_key(other).await).is(Code::InvalidArgument, "REQUEST_ID_REUSED");
    not_found(&client, "keyRings/ring/keys/other").await;
    let other = CreateKeyRingRequest {
        key_ring_id: "other".to_owned(),
        ..ring.clone()
    };
    refusal(client.keys().create_key_ring(other).await).is(Code::InvalidArgument, "REQUEST_ID_REUSED");

    // The id belongs to one caller: the developer over mTLS may use the same for a request of its own.
    let developer = gateway.tls_client().await;
    let theirs = CreateKeyRequest {
        request_id: key.request_id.clone(),
        ..key_request("ring", "theirs", KeySpec::EC_P256)
    };
    developer
        .keys()
        .create_key(theirs)
        .await
        .expect("another principal's request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_given_once() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    let again = CreateKeyRingRequest {
        key_ring_id: "ring".to_owned(),
        ..Default::default()
    };
    refusal(client.keys().create_key_ring(again).await).is(Code::AlreadyExists, "KEY_RING_ALREADY_EXISTS");
    let again = client
        .keys()
        .create_key(key_request("ring", "key", KeySpec::RSA_PSS))
        .await;
    refusal(again).is(Code::AlreadyExists, "KEY_ALREADY_EXISTS");
    let found = client
        .keys()
        .get_key(GetKeyRequest { name: key.name.clone() })
        .await
        .expect("the key")
        .into_inner();
    assert!(found == key);
}

#[tokio::test(flavor = "multi_thread")]
async fn validating_only_says_what_a_create_would_say_and_creates_nothing() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let ring = CreateKeyRingRequest {
        key_ring_id: "ring".to_owned(),
        validate_only: true,
        ..Default::default()
    };
    client.keys().create_key_ring(ring).await.expect("a valid request");
    let key = CreateKeyRequest {
        validate_only: true,
        ..key_request("ring", "key", KeySpec::EC_P256)
    };
    refusal(client.keys().create_key(key.clone()).await).is(Code::NotFound, "KEY_RING_NOT_FOUND");
    create_ring(&client, "ring").await;
    client.keys().create_key(key.clone()).await.expect("a valid request");
    not_found(&client, "keyRings/ring/keys/key").await;
    create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    refusal(client.keys().create_key(key).await).is(Code::AlreadyExists, "KEY_ALREADY_EXISTS");
}

#[tokio::test(flavor = "multi_thread")]
async fn uses_that_do_not_fit_or_conflict_are_refused() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    use KeyOperation::{Decrypt, Encrypt, Sign, Unwrap, Wrap};
    use Mechanism::{AesGcm, AesKwp, EcdsaSha256};
    let cases: [(KeyType, &'static [_]); 4] = [
        (KeyType::Rsa2048, &[(Sign, EcdsaSha256)]),
        (KeyType::Aes256, &[(Wrap, AesKwp), (Decrypt, AesGcm)]),
        (KeyType::Aes256, &[(Unwrap, AesKwp), (Encrypt, AesGcm)]),
        // RSA has several uses and none is obvious.
        (KeyType::Rsa2048, &[]),
    ];
    for (key_type, uses) in cases {
        let answer = client
            .keys()
            .create_key(key_request("ring", "key", KeySpec::wrapped(key_type, uses)))
            .await;
        let refused = refusal(answer);
        assert_eq!(refused.code, Code::InvalidArgument, "{refused:?}");
        assert!(
            matches!(refused.reason.as_str(), "FIELD_INVALID" | "ALGORITHM_MISMATCH"),
            "{refused:?}"
        );
    }
    not_found(&client, "keyRings/ring/keys/key").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_none_are_refused() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let long = "k".repeat(64);
    for id in [
        "",
        "UPPER",
        "-dash",
        "_underscore",
        "a/b",
        "..",
        "a b",
        "é",
        "a\0b",
        long.as_str(),
    ] {
        let ring = CreateKeyRingRequest {
            key_ring_id: id.to_owned(),
            ..Default::default()
        };
        refusal(client.keys().create_key_ring(ring).await).is(Code::InvalidArgument, "INVALID_NAME");
        let key = client
            .keys()
            .create_key(key_request("ring", id, KeySpec::EC_P256))
            .await;
        refusal(key).is(Code::InvalidArgument, "INVALID_NAME");
    }
    for name in [
        "",
        "ring/key",
        "keyRings/ring",
        "keyRings/ring/keys/",
        "keyRings//keys/key",
        "keyRings/ring/keys/key/",
    ] {
        let answer = client.keys().get_key(GetKeyRequest { name: name.to_owned() }).await;
        refusal(answer).is(Code::InvalidArgument, "INVALID_NAME");
    }
    // The longest name is one.
    create_key(&client, "ring", &long[1..], KeySpec::EC_P256).await;
}

async fn not_found(client: &portcullis_client::Client, name: &str) {
    let answer = client.keys().get_key(GetKeyRequest { name: name.to_owned() }).await;
    refusal(answer).is(Code::NotFound, "KEY_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_creates_at_once_one_makes_the_key_and_repetitions_see_it() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let at_once = async |request: CreateKeyRequest| {
        let mut creates = tokio::task::JoinSet::new();
        for _ in 0..24 {
            let (client, request) = (client.clone(), request.clone());
            creates.spawn(async move { client.keys().create_key(request).await.map(tonic::Response::into_inner) });
        }
        creates.join_all().await
    };
    // A repetition may come before, while and after the first request is carried out.
    for round in 0..10 {
        let once = CreateKeyRequest {
            request_id: Uuid::new_v4().to_string(),
            ..key_request("ring", &format!("once-{round}"), KeySpec::EC_P256)
        };
        let answers = at_once(once).await.into_iter();
        let answers: Vec<_> = answers
            .map(|answer| answer.unwrap_or_else(|status| panic!("round {round}: {status}")))
            .collect();
        assert!(
            answers.windows(2).all(|pair| pair[0] == pair[1]),
            "round {round}: repetitions made different keys"
        );
    }

    let (made, refused): (Vec<_>, Vec<_>) = at_once(key_request("ring", "first", KeySpec::EC_P256))
        .await
        .into_iter()
        .partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for answer in refused {
        refusal(answer).is(Code::AlreadyExists, "KEY_ALREADY_EXISTS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exportable_key_says_so_and_works_like_any_other() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let mut request = key_request("ring", "portable", KeySpec::EC_P256);
    request.key.as_mut().expect("the key").exportable = true;
    let key = client.keys().create_key(request).await.expect("a key").into_inner();
    assert!(key.exportable);
    let sealed = create_key(&client, "ring", "sealed", KeySpec::EC_P256).await;
    assert!(!sealed.exportable);
    for name in [&key.name, &sealed.name] {
        sign(&client, name, b"a message").await.expect("a signature");
    }
    let mut resident = key_request("ring", "resident", KeySpec::ED25519_RESIDENT);
    resident.key.as_mut().expect("the key").exportable = true;
    refusal(client.keys().create_key(resident).await).is(Code::InvalidArgument, "FIELD_INVALID");
}

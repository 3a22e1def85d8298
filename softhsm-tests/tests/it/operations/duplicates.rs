//! The same request, many times at once: one makes it, and the others see the same answer.

use portcullis_client::{
    Client, Status,
    v1::{
        Alias, CreateAliasRequest, CreateImportJobRequest, CreateKeyRingRequest, CreateObjectRequest,
        CreateRecipientRequest, DataObject, ImportMethod, KeyOperation, KeyType, Mechanism, PublicKeyFormat, Recipient,
        StoredObject, stored_object::Content,
    },
};
use portcullis_softhsm_tests::{Database, Gateway, KeySpec, TestCluster, create_key, create_ring, public_key};
use prost::Message;
use tokio::task::JoinSet;
use uuid::Uuid;

const AT_ONCE: usize = 16;

/// Makes calls at once over several connections; returns their answers, which are all there and all the same.
async fn all_the_same<T, F>(what: &str, clients: &[Client], call: impl Fn(Client) -> F)
where
    T: Message + PartialEq + Send + 'static,
    F: Future<Output = Result<T, Status>> + Send + 'static,
{
    let mut calls = JoinSet::new();
    for number in 0..AT_ONCE {
        calls.spawn(call(clients[number % clients.len()].clone()));
    }
    let answers = calls.join_all().await;
    let mut answers = answers
        .into_iter()
        .map(|answer| answer.unwrap_or_else(|status| panic!("{what}: {status:?}")));
    let first = answers.next().expect("an answer");
    assert!(answers.all(|answer| answer == first), "{what}: the answers differ");
    // And once more, when it is long made.
    let again = call(clients[0].clone())
        .await
        .unwrap_or_else(|status| panic!("{what}: {status:?}"));
    assert!(again == first, "{what}: the answer to a repetition differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_equal_requests_makes_it_and_all_see_the_same() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(gateway.tls_client().await);
    }
    create_ring(&clients[0], "ring").await;
    let target = create_key(&clients[0], "ring", "key", KeySpec::EC_P256).await.name;
    let rsa = KeySpec::wrapped(KeyType::Rsa2048, &[(KeyOperation::Decrypt, Mechanism::RsaOaepSha1)]);
    create_key(&clients[0], "ring", "rsa", rsa).await;
    let public = public_key(&clients[0], "keyRings/ring/keys/rsa", PublicKeyFormat::Der)
        .await
        .public_key;
    let parent = "keyRings/ring".to_owned();
    for round in 0..3 {
        let id = || Uuid::now_v7().to_string();
        let request = CreateKeyRingRequest {
            key_ring_id: format!("ring-{round}"),
            request_id: id(),
            ..Default::default()
        };
        all_the_same("a ring", &clients, |client| {
            let request = request.clone();
            async move { Ok(client.keys().create_key_ring(request).await?.into_inner()) }
        })
        .await;
        let request = CreateAliasRequest {
            parent: parent.clone(),
            alias_id: format!("alias-{round}"),
            alias: Some(Alias {
                target: target.clone(),
                ..Default::default()
            }),
            request_id: id(),
            ..Default::default()
        };
        all_the_same("an alias", &clients, |client| {
            let request = request.clone();
            async move { Ok(client.keys().create_alias(request).await?.into_inner()) }
        })
        .await;
        let request = CreateRecipientRequest {
            parent: parent.clone(),
            recipient_id: format!("recipient-{round}"),
            recipient: Some(Recipient {
                public_key: public.clone(),
                ..Default::default()
            }),
            request_id: id(),
            ..Default::default()
        };
        all_the_same("a recipient", &clients, |client| {
            let request = request.clone();
            async move { Ok(client.keys().create_recipient(request).await?.into_inner()) }
        })
        .await;
        let request = CreateObjectRequest {
            parent: parent.clone(),
            object_id: format!("object-{round}"),
            object: Some(StoredObject {
                content: Some(Content::Data(DataObject {
                    value: b"a value"[..].into(),
                    ..Default::default()
                })),
                ..Default::default()
            }),
            request_id: id(),
            ..Default::default()
        };
        all_the_same("an object", &clients, |client| {
            let request = request.clone();
            async move { Ok(client.objects().create_object(request).await?.into_inner()) }
        })
        .await;
        let request = CreateImportJobRequest {
            parent: parent.clone(),
            method: ImportMethod::RsaOaepSha1AesKwp.into(),
            wrapping_key_type: KeyType::Rsa2048.into(),
            request_id: id(),
            ..Default::default()
        };
        all_the_same("an import job", &clients, |client| {
            let request = request.clone();
            async move { Ok(client.keys().create_import_job(request).await?.into_inner()) }
        })
        .await;
    }
    drop(clients);
    gateway.stop();
    let database = Database::of(&cluster);
    assert_eq!(database.count("key_rings"), 4);
    for kind in ["alias/1", "recipient/1", "object/1", "import_job/1"] {
        let count = database.number(&format!("SELECT count(*) FROM documents WHERE kind = '{kind}'"));
        assert_eq!(count, 3, "{kind}");
    }
}

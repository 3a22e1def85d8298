//! Finding rings and keys.

use portcullis_client::{
    Client, Code,
    v1::{CreateKeyRequest, GetKeyRequest, ListKeysRequest, ListKeysResponse},
};
use portcullis_softhsm_tests::{Gateway, KeySpec, TestCluster, create_key, create_ring, key_request, refusal};

async fn page(client: &Client, ring: &str, page_size: i32, page_token: String) -> ListKeysResponse {
    let request = ListKeysRequest {
        parent: format!("keyRings/{ring}"),
        page_size,
        page_token,
        ..Default::default()
    };
    client.keys().list_keys(request).await.expect("a page").into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_key_once_in_the_order_of_names() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    for ring in ["empty", "ring", "other"] {
        create_ring(&client, ring).await;
    }
    create_key(&client, "other", "elsewhere", KeySpec::EC_P256).await;
    let mut expected = Vec::new();
    for number in [3, 11, 7, 1, 2, 9, 10, 5, 4, 8, 6] {
        expected.push(
            create_key(&client, "ring", &format!("key-{number:02}"), KeySpec::EC_P256)
                .await
                .name,
        );
    }
    expected.sort();
    let clients = gateway.clients().await.map(|(_, client)| client);
    for (client, page_size) in clients
        .iter()
        .flat_map(|client| [1, 2, 4, 11, 12, 0, 1000].map(|size| (client, size)))
    {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let answer = page(client, "ring", page_size, token).await;
            assert!(answer.unauthentic.is_empty());
            if page_size > 0 {
                assert!(
                    answer.keys.len() <= page_size as usize,
                    "a page of {page_size} has {}",
                    answer.keys.len()
                );
            }
            found.extend(answer.keys.into_iter().map(|key| key.name));
            token = answer.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(found, expected, "pages of {page_size}");
    }
    let empty = page(&client, "empty", 10, String::new()).await;
    assert!(empty.keys.is_empty() && empty.next_page_token.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_page_is_refused() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let list = async |parent: &str, page_size, page_token: &str| {
        let page_token = page_token.to_owned();
        client
            .keys()
            .list_keys(ListKeysRequest {
                parent: parent.to_owned(),
                page_size,
                page_token,
                ..Default::default()
            })
            .await
    };
    // More than the most is the most (AIP-158).
    assert!(list("keyRings/ring", 1001, "").await.is_ok());
    refusal(list("keyRings/ring", -1, "").await).is(Code::InvalidArgument, "FIELD_INVALID");
    refusal(list("keyRings/ring", 1, "rubbish \u{fffd}").await).is(Code::InvalidArgument, "FIELD_INVALID");
    refusal(list("keyRings/absent", 1, "").await).is(Code::NotFound, "KEY_RING_NOT_FOUND");
    refusal(list("ring", 1, "").await).is(Code::InvalidArgument, "INVALID_NAME");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_kept() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let mut request: CreateKeyRequest = key_request("ring", "key", KeySpec::AES_256);
    let labels = [("team", "payments"), ("tier", "one"), ("empty", "")];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    request.key.as_mut().expect("the key").labels.extend(labels.clone());
    client.keys().create_key(request).await.expect("a key with labels");
    let name = "keyRings/ring/keys/key".to_owned();
    gateway.stop();
    let gateway = Gateway::start(&cluster);
    let found = gateway
        .unix_client()
        .await
        .keys()
        .get_key(GetKeyRequest { name })
        .await
        .expect("the key")
        .into_inner();
    assert_eq!(found.labels, labels.into_iter().collect());
}

//! Rows of the database that are not even malformed in the usual way.

use portcullis_client::{
    Client, Code,
    v1::{GetKeyRequest, ListKeyRingsRequest, ListKeysRequest},
};
use portcullis_softhsm_tests::{Database, Gateway, KeySpec, TestCluster, create_key, create_ring, refusal, sign};
use std::collections::BTreeSet;

/// A list's names, page by page, and those that are not authentic.
async fn list(client: &Client, ring: &str, page_size: i32) -> (BTreeSet<String>, Vec<String>) {
    let (mut names, mut unauthentic) = (BTreeSet::new(), Vec::new());
    let mut page_token = String::new();
    for _ in 0..PAGES {
        let request = ListKeysRequest {
            parent: format!("keyRings/{ring}"),
            page_size,
            page_token,
            ..Default::default()
        };
        let page = client.keys().list_keys(request).await.expect("a page").into_inner();
        names.extend(page.keys.into_iter().map(|key| key.name));
        unauthentic.extend(page.unauthentic);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return (names, unauthentic);
        }
    }
    panic!("pages of {page_size} never end: {names:?}, not authentic: {unauthentic:?}");
}

/// More than there are keys in any ring here.
const PAGES: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_megabytes_concern_their_own_key_alone() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for id in ["bad", "good"] {
        create_key(&client, "ring", id, KeySpec::EC_P256).await;
    }
    gateway.stop();
    Database::of(&cluster).execute(
        "UPDATE keys SET labels = json_object('a', hex(zeroblob(5000000))) WHERE key_id = 'bad'",
        (),
    );
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        let (bad, good) = ("keyRings/ring/keys/bad", "keyRings/ring/keys/good");
        // All over one connection, at the same time.
        let mut neighbours = tokio::task::JoinSet::new();
        for number in 0..40u8 {
            let client = client.clone();
            neighbours.spawn(async move { sign(&client, good, &[number]).await });
        }
        let get = client.keys().get_key(GetKeyRequest { name: bad.to_owned() }).await;
        refusal(get).is(Code::DataLoss, "RECORD_NOT_AUTHENTIC").naming(bad);
        refusal(sign(&client, bad, b"a message").await)
            .is(Code::DataLoss, "RECORD_NOT_AUTHENTIC")
            .naming(bad);
        let (names, unauthentic) = list(&client, "ring", 100).await;
        assert_eq!(names, BTreeSet::from([good.to_owned()]), "{transport}");
        assert_eq!(unauthentic, [bad], "{transport}");
        for answer in neighbours.join_all().await {
            answer.unwrap_or_else(|status| panic!("a neighbour over {transport}: {status}"));
        }
    }
}

/// A ring of good keys and of others whose rows are changed: each by its id, an assignment, and the id that is shown then.
async fn others_are_listed(changes: &[(&str, String, &str)]) {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let good = ["a-good", "z-good"];
    for id in good.into_iter().chain(changes.iter().map(|(id, ..)| *id)) {
        create_key(&client, "ring", id, KeySpec::AES_256).await;
    }
    gateway.stop();
    let database = Database::of(&cluster);
    for (id, change, _) in changes {
        let sql = format!("UPDATE keys SET {change} WHERE key_id = ?1");
        assert_eq!(database.execute(&sql, [id]), 1, "{sql}");
    }
    drop(database);
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let expected: BTreeSet<_> = good.map(|id| format!("keyRings/ring/keys/{id}")).into();
    let malformed: BTreeSet<_> = changes
        .iter()
        .map(|(.., shown)| format!("keyRings/ring/keys/{shown}"))
        .collect();
    for page_size in [100, 2, 1] {
        let (names, unauthentic) = list(&client, "ring", page_size).await;
        assert_eq!(names, expected, "pages of {page_size}");
        assert_eq!(
            unauthentic.len(),
            changes.len(),
            "pages of {page_size}: {unauthentic:?}"
        );
        let unauthentic: BTreeSet<_> = unauthentic.into_iter().collect();
        assert_eq!(unauthentic, malformed, "pages of {page_size}");
    }
    for name in expected {
        client.keys().get_key(GetKeyRequest { name }).await.expect("a key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_fields_concern_their_own_key_alone() {
    others_are_listed(&[
        (
            "labels-bytes",
            "labels = CAST(x'ff' AS TEXT)".to_owned(),
            "labels-bytes",
        ),
        ("labels-list", "labels = '[1]'".to_owned(), "labels-list"),
        ("labels-none", "labels = ''".to_owned(), "labels-none"),
        ("purpose", "purpose = 999".to_owned(), "purpose"),
        ("time", "created = -1".to_owned(), "time"),
        ("tag", "tag = x''".to_owned(), "tag"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_are_none_concern_their_own_key_alone() {
    others_are_listed(&[
        ("spaces", "key_id = 'not an id'".to_owned(), "not an id"),
        ("upper", "key_id = 'UPPER'".to_owned(), "UPPER"),
        ("slash", "key_id = 'k/versions/1'".to_owned(), "k/versions/1"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_no_text_concerns_its_own_key_alone() {
    others_are_listed(&[("bytes", "key_id = CAST(x'6bff' AS TEXT)".to_owned(), "k\u{fffd}")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_too_long_to_show_concerns_its_own_key_alone() {
    let long = "k".repeat(5000);
    others_are_listed(&[("long", format!("key_id = '{long}'"), &long[..200])]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_rings_concern_themselves_alone() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    for ring in ["bytes", "good", "list", "other"] {
        create_ring(&client, ring).await;
    }
    create_key(&client, "good", "key", KeySpec::AES_256).await;
    gateway.stop();
    let database = Database::of(&cluster);
    let copy = |id: &str| {
        let sql = format!(
            "INSERT INTO key_rings (ring_id, uid, labels, created, revision, tag)
             SELECT {id}, randomblob(16), labels, created, revision, tag FROM key_rings WHERE ring_id = 'other'"
        );
        assert_eq!(database.execute(&sql, ()), 1, "{sql}");
    };
    database.execute("UPDATE key_rings SET labels = '[1]' WHERE ring_id = 'list'", ());
    database.execute(
        "UPDATE key_rings SET labels = CAST(x'ff' AS TEXT) WHERE ring_id = 'bytes'",
        (),
    );
    copy("'not an id'");
    copy("'copied'");
    copy("CAST(x'6dff' AS TEXT)");
    drop(database);
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let expected = ["keyRings/good", "keyRings/other"];
    for page_size in [100, 2, 1] {
        let mut names = BTreeSet::new();
        let mut page_token = String::new();
        for pages in 1.. {
            assert!(pages <= PAGES, "pages of {page_size} never end: {names:?}");
            let request = ListKeyRingsRequest { page_size, page_token };
            let page = client
                .keys()
                .list_key_rings(request)
                .await
                .expect("a page")
                .into_inner();
            names.extend(page.key_rings.into_iter().map(|ring| ring.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(names, expected.map(str::to_owned).into(), "pages of {page_size}");
    }
    let (names, unauthentic) = list(&client, "good", 100).await;
    assert_eq!(names, BTreeSet::from(["keyRings/good/keys/key".to_owned()]));
    assert!(unauthentic.is_empty(), "{unauthentic:?}");
}

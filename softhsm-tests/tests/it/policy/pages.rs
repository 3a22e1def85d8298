//! Pages of lists in which a caller does not see everything: no name that is hidden shows, in no page, no token and no length.

use super::client_of;
use portcullis_client::{
    Client, Code, Status,
    v1::{CreateKeyRequest, ListAliasesRequest, ListKeyRingsRequest, ListKeysRequest},
};
use portcullis_softhsm_tests::{Gateway, KeySpec, TestCluster, create_key, create_ring, key_request, refusal};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const POLICIES: &str = r#"
@id("open rings")
permit (
    principal == Principal::"spiffe://portcullis.dev/guest",
    action == Action::"key_ring.read",
    resource == KeyRing::"b-open"
);

@id("another open ring")
permit (
    principal == Principal::"spiffe://portcullis.dev/guest",
    action == Action::"key_ring.read",
    resource == KeyRing::"d-open"
);

@id("the list")
permit (
    principal == Principal::"spiffe://portcullis.dev/guest",
    action in [Action::"key.read", Action::"alias.read"],
    resource in KeyRing::"ring"
);

@id("the same list")
permit (
    principal == Principal::"spiffe://portcullis.dev/other",
    action in [Action::"key.read", Action::"alias.read"],
    resource in KeyRing::"ring"
);

@id("but not the closed ones")
forbid (principal == Principal::"spiffe://portcullis.dev/guest", action, resource is Key)
unless { resource.hasTag("open") };
"#;

/// A page of keys: names and the next token.
async fn keys(client: &Client, size: i32, filter: &str, token: &str) -> Result<(Vec<String>, String), Status> {
    let request = ListKeysRequest {
        parent: "keyRings/ring".to_owned(),
        page_size: size,
        page_token: token.to_owned(),
        filter: filter.to_owned(),
        with_versions: false,
    };
    let page = client.keys().list_keys(request).await?.into_inner();
    assert_eq!(page.unauthentic, [] as [&str; 0]);
    let names = page.keys.into_iter().map(|key| key.name);
    Ok((names.collect(), page.next_page_token))
}

/// A page of rings.
async fn rings(client: &Client, size: i32, token: &str) -> Result<(Vec<String>, String), Status> {
    let request = ListKeyRingsRequest {
        page_size: size,
        page_token: token.to_owned(),
    };
    let page = client.keys().list_key_rings(request).await?.into_inner();
    let names = page.key_rings.into_iter().map(|ring| ring.name);
    Ok((names.collect(), page.next_page_token))
}

fn labelled(key: &str, is_open: bool) -> CreateKeyRequest {
    let mut request = key_request("ring", key, KeySpec::HMAC_SHA256);
    if is_open {
        let labels = &mut request.key.as_mut().expect("a key").labels;
        labels.insert("open".to_owned(), String::new());
    }
    request
}

async fn start() -> (TestCluster, Gateway, Client) {
    let cluster = TestCluster::new();
    cluster.add_policies(POLICIES);
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    (cluster, gateway, developer)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_shows_in_no_page_and_no_token() {
    let (cluster, gateway, developer) = start().await;
    for ring in ["a-hidden", "b-open", "c-hidden-with-a-long-name", "d-open", "e-hidden"] {
        create_ring(&developer, ring).await;
    }
    for number in 0..12 {
        // Every third one is open, and hidden ones are first and last.
        let request = labelled(&format!("key-{number:02}"), number % 3 == 1);
        developer.keys().create_key(request).await.expect("a key");
    }
    let guest = client_of(&cluster, &gateway, "spiffe://portcullis.dev/guest").await;
    let open: Vec<_> = [1, 4, 7, 10]
        .map(|number| format!("keyRings/ring/keys/key-{number:02}"))
        .into();
    let mut lengths = BTreeSet::new();
    for size in [1, 2, 3, 4, 5, 1000] {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let (names, next) = keys(&guest, size, "", &token).await.expect("a page");
            assert!(!names.is_empty(), "an empty page says that something is hidden");
            found.extend(names);
            token = next;
            if token.is_empty() {
                break;
            }
            lengths.insert(token.len());
        }
        assert_eq!(found, open, "pages of {size}");
    }
    let visible = ["keyRings/b-open", "keyRings/d-open"];
    for size in [1, 2, 3] {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let (names, next) = rings(&guest, size, &token).await.expect("a page");
            assert!(!names.is_empty(), "an empty page says that something is hidden");
            found.extend(names);
            token = next;
            if token.is_empty() {
                break;
            }
            lengths.insert(token.len());
            let plain = hex::decode(&token).expect("hexadecimal");
            assert!(
                !plain.windows(4).any(|part| part == b"open" || part == b"hidd"),
                "{token}"
            );
        }
        assert_eq!(found, visible, "pages of {size}");
    }
    assert_eq!(lengths.len(), 1, "the length of a token tells that of a name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_serves_its_caller_and_its_list_alone_and_outlives_a_restart() {
    let (cluster, gateway, developer) = start().await;
    for number in 0..6 {
        developer
            .keys()
            .create_key(labelled(&format!("key-{number}"), true))
            .await
            .expect("a key");
    }
    create_ring(&developer, "other").await;
    for number in 0..3 {
        create_key(&developer, "other", &format!("key-{number}"), KeySpec::HMAC_SHA256).await;
    }
    let guest = client_of(&cluster, &gateway, "spiffe://portcullis.dev/guest").await;
    let other = client_of(&cluster, &gateway, "spiffe://portcullis.dev/other").await;
    let (_, token) = keys(&guest, 2, "", "").await.expect("a page");
    let (_, filtered) = keys(&guest, 2, "state=ACTIVE", "").await.expect("a page");
    let refused = |outcome: Result<(Vec<String>, String), Status>| {
        let refusal = refusal(outcome);
        refusal.is(Code::InvalidArgument, "FIELD_INVALID");
    };
    // Of another caller, another filter, another ring, another method.
    refused(keys(&other, 2, "", &token).await);
    refused(keys(&guest, 2, "state=ACTIVE", &token).await);
    refused(keys(&guest, 2, "", &filtered).await);
    refused(rings(&guest, 2, &token).await);
    let (_, own) = keys(&developer, 2, "", "").await.expect("a page");
    let elsewhere = ListKeysRequest {
        parent: "keyRings/other".to_owned(),
        page_size: 2,
        page_token: own.clone(),
        ..Default::default()
    };
    refusal(developer.keys().list_keys(elsewhere).await.map(drop)).is(Code::InvalidArgument, "FIELD_INVALID");
    let aliases = ListAliasesRequest {
        parent: "keyRings/ring".to_owned(),
        page_size: 2,
        page_token: own,
    };
    refusal(developer.keys().list_aliases(aliases).await.map(drop)).is(Code::InvalidArgument, "FIELD_INVALID");
    // Changed anywhere, cut, or made up.
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        refused(keys(&guest, 2, "", &String::from_utf8(changed).expect("ASCII")).await);
    }
    for made_up in [
        &token[..token.len() - 2],
        "00",
        &hex::encode("2/0011223344556677/key-1"),
        &"0".repeat(200),
    ] {
        refused(keys(&guest, 2, "", made_up).await);
    }
    // Made twice it looks different, and says the same.
    let (_, again) = keys(&guest, 2, "", "").await.expect("a page");
    assert_ne!(again, token);
    drop((guest, other, developer));
    gateway.stop();
    let gateway = Gateway::start(&cluster);
    let guest = client_of(&cluster, &gateway, "spiffe://portcullis.dev/guest").await;
    for token in [token, again] {
        let (names, _) = keys(&guest, 2, "", &token).await.expect("the second page");
        assert_eq!(names, ["keyRings/ring/keys/key-2", "keyRings/ring/keys/key-3"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_visible_key_once_while_keys_are_made() {
    let (cluster, gateway, developer) = start().await;
    let mut before = Vec::new();
    for number in (0..60).step_by(2) {
        let name = format!("key-{number:03}");
        developer
            .keys()
            .create_key(labelled(&name, number % 4 == 0))
            .await
            .expect("a key");
        if number % 4 == 0 {
            before.push(format!("keyRings/ring/keys/{name}"));
        }
    }
    let guest = client_of(&cluster, &gateway, "spiffe://portcullis.dev/guest").await;
    let made = Arc::new(AtomicBool::new(false));
    let making = tokio::spawn({
        let made = Arc::clone(&made);
        async move {
            for number in (1..60).step_by(2) {
                let request = labelled(&format!("key-{number:03}"), number % 4 == 1);
                developer.keys().create_key(request).await.expect("a key");
            }
            made.store(true, Ordering::SeqCst);
        }
    });
    let mut rounds = 0;
    while !made.load(Ordering::SeqCst) || rounds < 3 {
        let size = [1, 3, 7][rounds % 3];
        rounds += 1;
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let (names, next) = keys(&guest, size, "", &token).await.expect("a page");
            found.extend(names);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        let each: BTreeSet<_> = found.iter().collect();
        assert_eq!(each.len(), found.len(), "a key is on two pages: {found:?}");
        assert!(found.is_sorted(), "{found:?}");
        assert!(before.iter().all(|name| each.contains(name)), "{found:?}");
        let is_open = |name: &&String| name[name.len() - 3..].parse::<u32>().is_ok_and(|number| number % 4 < 2);
        assert!(found.iter().all(|name| is_open(&name)), "{found:?}");
    }
    making.await.expect("keys were made");
}

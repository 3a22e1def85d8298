//! Names of megabytes: refused in few words, and not repeated into the audit log.

use portcullis_client::{
    Client, Code,
    v1::{CreateKeyRequest, GetMemberRequest, ListKeyRingsRequest, ListKeysRequest},
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, Refusal, SHORT, TestCluster, create_ring, key_request, refusal, sign,
};
use std::{fs, time::Instant};

const LENGTH: usize = 3_000_000;
/// More than a few entries have, and less than any of the names.
const GROWTH: u64 = 10 * 1024;
/// The longest message that is still one for people.
const WORDS: usize = 4 * 1024;

/// Characters that grow when they are escaped, percent-encoded, or written as UTF-8.
const CHARACTERS: [char; 3] = ['\u{1}', '"', '\u{1f511}'];

fn name(character: char) -> String {
    character.to_string().repeat(LENGTH / character.len_utf8())
}

async fn is_refused(
    cluster: &TestCluster,
    client: &Client,
    what: &str,
    call: impl AsyncFnOnce(&Client) -> Refusal,
) -> Refusal {
    let size = || fs::metadata(cluster.audit_file()).expect("the audit log").len();
    let (before, started) = (size(), Instant::now());
    let refused = call(client).await;
    assert!(started.elapsed() < SHORT, "{what} took {:?}", started.elapsed());
    let grown = size() - before;
    assert!(grown < GROWTH, "{what}: the audit log grew by {grown} bytes");
    let words = refused.message.len() + refused.metadata.values().map(String::len).sum::<usize>();
    assert!(words < WORDS, "{what}: an error of {words} bytes");
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_megabytes_are_refused_in_few_words() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for character in CHARACTERS {
        let rubbish = name(character);
        for prefix in ["", "members/"] {
            let request = GetMemberRequest {
                name: format!("{prefix}{rubbish}"),
            };
            let call = async |client: &Client| refusal(client.cluster().get_member(request).await);
            let refused = is_refused(&cluster, &client, "GetMember", call).await;
            refused.is(Code::InvalidArgument, "INVALID_NAME");
        }
        for prefix in ["", "keyRings/ring/keys/"] {
            let name = format!("{prefix}{rubbish}");
            let call = async |client: &Client| refusal(sign(client, &name, b"a message").await);
            let refused = is_refused(&cluster, &client, "Sign", call).await;
            refused.is(Code::InvalidArgument, "INVALID_NAME");
        }
        for prefix in ["", "keyRings/"] {
            let request = ListKeysRequest {
                parent: format!("{prefix}{rubbish}"),
                ..Default::default()
            };
            let call = async |client: &Client| refusal(client.keys().list_keys(request).await);
            let refused = is_refused(&cluster, &client, "ListKeys", call).await;
            refused.is(Code::InvalidArgument, "INVALID_NAME");
        }
        let request = ListKeyRingsRequest {
            page_token: rubbish.clone(),
            ..Default::default()
        };
        let call = async |client: &Client| refusal(client.keys().list_key_rings(request).await);
        let refused = is_refused(&cluster, &client, "ListKeyRings", call).await;
        refused.is(Code::InvalidArgument, "FIELD_INVALID");
    }
    AuditLog::read(&cluster.audit_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_fields_are_megabytes_is_refused_in_few_words() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let resident = key_request("ring", "key", KeySpec::ED25519_RESIDENT);
    for character in CHARACTERS {
        let rubbish = name(character);
        let create = async |what: &str, request: CreateKeyRequest| {
            let call = async |client: &Client| refusal(client.keys().create_key(request).await);
            is_refused(&cluster, &client, what, call).await
        };
        let request = CreateKeyRequest {
            key_id: rubbish.clone(),
            ..resident.clone()
        };
        let refused = create("CreateKey by an id", request).await;
        refused.is(Code::InvalidArgument, "INVALID_NAME");
        let request = CreateKeyRequest {
            parent: rubbish.clone(),
            ..resident.clone()
        };
        let refused = create("CreateKey in a ring", request).await;
        refused.is(Code::InvalidArgument, "INVALID_NAME");
        let request = CreateKeyRequest {
            request_id: rubbish.clone(),
            ..resident.clone()
        };
        let refused = create("CreateKey by a request", request).await;
        refused.is(Code::InvalidArgument, "FIELD_INVALID");
        let mut request = resident.clone();
        let labels = [("label".to_owned(), rubbish.clone())];
        request.key.as_mut().expect("the key").labels.extend(labels);
        let refused = create("CreateKey with a label", request).await;
        refused.is(Code::InvalidArgument, "FIELD_INVALID");
        let mut request = resident.clone();
        let labels = [(rubbish, "value".to_owned())];
        request.key.as_mut().expect("the key").labels.extend(labels);
        let refused = create("CreateKey with a label's name", request).await;
        refused.is(Code::InvalidArgument, "FIELD_INVALID");
    }
    AuditLog::read(&cluster.audit_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_on_a_member_whose_name_is_megabytes_is_refused_in_few_words() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for character in CHARACTERS {
        let request = CreateKeyRequest {
            member: name(character),
            ..key_request("ring", "key", KeySpec::ED25519_RESIDENT)
        };
        let call = async |client: &Client| refusal(client.keys().create_key(request).await);
        let what = format!("CreateKey on a member of {character:?}");
        let refused = is_refused(&cluster, &client, &what, call).await;
        refused.is(Code::NotFound, "MEMBER_NOT_FOUND");
    }
}

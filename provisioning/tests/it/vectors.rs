//! The vectors of `docs/vectors.json`, which another implementation made from `docs/formats.md`.

use portcullis_provisioning::{
    chain::Chain,
    document::{DocumentKind, SignedDocument},
    join_request::JoinRequest,
    record::ProvisioningRecord,
    signing_key::SigningKey,
};
use serde_json::Value;

fn vectors() -> Value {
    let all: Value = serde_json::from_str(include_str!("../../../docs/vectors.json")).expect("JSON");
    all["provisioning"].clone()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[test]
fn records_are_read_with_their_signatures_and_digests() {
    let vectors = vectors();
    let records: Vec<_> = vectors["records"]
        .as_array()
        .expect("records")
        .iter()
        .map(text)
        .collect();
    let chain = Chain::parse(&records.join("\n")).expect("a chain");
    assert_eq!(chain.links().len(), records.len());
    for (index, link) in chain.links().iter().enumerate() {
        assert_eq!(hex::encode(link.digest), text(&vectors["digests"][index]));
        let names: Vec<_> = link.signers.names().iter().map(ToString::to_string).collect();
        let expected: Vec<_> = vectors["signers"][index]
            .as_array()
            .expect("names")
            .iter()
            .map(text)
            .collect();
        assert_eq!(names, expected);
        // Written again, it is the same text.
        let document = link.record.to_document().expect("a document");
        assert!(records[index].starts_with(document.document()));
        assert_eq!(
            ProvisioningRecord::parse(document.document().as_bytes()).expect("a record"),
            link.record
        );
    }
    let last = &chain.last().record;
    assert_eq!((last.provisioning.need(), last.provisioning.of()), (3, 5));
    assert_eq!(
        last.member("b").expect("a member").token_serial_number,
        "0123456789abcdeb"
    );
}

#[test]
fn keys_sign_as_the_vectors_say() {
    let vectors = vectors();
    let document =
        SignedDocument::parse(DocumentKind::ProvisioningRecord, text(&vectors["records"][0])).expect("a document");
    let roster = ProvisioningRecord::parse(document.document().as_bytes())
        .expect("a record")
        .roster;
    for custodian in roster.custodians() {
        let pkcs8 = hex::decode(text(&vectors["private_keys"][custodian.name.as_str()])).expect("a key");
        let key = SigningKey::from_der(&pkcs8).expect("a key");
        assert_eq!(*key.public(), custodian.signing_key);
        let mut signed = document.clone();
        let before = signed
            .signatures()
            .iter()
            .find(|one| one.key == key.public().id())
            .cloned();
        signed.sign(&key).expect("a signature");
        let made = signed.signatures().last().expect("a signature");
        // Ed25519 has one signature for one message.
        if let (Some(before), portcullis_provisioning::signing_key::SigningKeyKind::Ed25519) =
            (before, key.public().kind())
        {
            assert_eq!(*made, before);
        }
        assert!(custodian.signing_key.verifies(&document.to_be_signed(), &made.bytes));
    }
}

#[test]
fn a_join_request_is_read_and_belongs_to_one_ceremony() {
    let vectors = vectors();
    let signed = SignedDocument::parse(DocumentKind::JoinRequest, text(&vectors["join_request"])).expect("a document");
    assert_eq!(hex::encode(signed.digest()), text(&vectors["join_request_digest"]));
    let request = JoinRequest::parse(signed.document().as_bytes()).expect("a request");
    assert_eq!(request.to_document().expect("a document").document(), signed.document());
    let record =
        SignedDocument::parse(DocumentKind::ProvisioningRecord, text(&vectors["records"][0])).expect("a document");
    let record = ProvisioningRecord::parse(record.document().as_bytes()).expect("a record");
    let quorum = |requester: Option<&str>| {
        let requester = requester.map(|name| name.parse().expect("a name"));
        signed.check_quorum("record 1", &record.roster, record.provisioning, requester.as_ref())
    };
    quorum(None).expect("three signed");
    quorum(Some("custodian 4")).expect("three others signed");
    let refused = quorum(Some("custodian 2")).expect_err("who asks does not count");
    assert!(refused.to_string().starts_with("2 of the custodians"), "{refused}");

    let at = |time: &str| time.parse().expect("a time");
    let (nonce, ceremony) = (request.nonce, request.ceremony.as_str());
    request
        .check_answer(ceremony, &nonce, at("2026-12-02T18:00:00Z"))
        .expect("in time");
    let late = request
        .check_answer(ceremony, &nonce, at("2026-12-02T18:00:01Z"))
        .expect_err("late");
    assert!(late.to_string().contains("was valid until"), "{late}");
    assert!(
        request
            .check_answer("member-join 2", &nonce, at("2026-12-02T17:00:00Z"))
            .is_err()
    );
    assert!(
        request
            .check_answer(ceremony, &[0; 32], at("2026-12-02T17:00:00Z"))
            .is_err()
    );
}

#[test]
fn a_transport_key_that_could_leave_its_token_is_refused() {
    let vectors = vectors();
    let signed = SignedDocument::parse(DocumentKind::JoinRequest, text(&vectors["join_request"])).expect("a document");
    for (right, wrong) in [
        ("\"extractable\": false", "\"extractable\": true"),
        ("\"local\": true", "\"local\": false"),
        ("\"modifiable\": false", "\"modifiable\": true"),
    ] {
        let changed = signed.document().replacen(right, wrong, 1);
        let refused = JoinRequest::parse(changed.as_bytes()).expect_err("a wrong key");
        assert!(refused.to_string().contains("private half"), "{refused}");
    }
    let swapped = signed
        .document()
        .replacen("\"transport_key\": \"MII", "\"transport_key\": \"MIJ", 1);
    assert!(JoinRequest::parse(swapped.as_bytes()).is_err());
}

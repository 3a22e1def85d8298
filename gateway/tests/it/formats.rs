//! The stored formats against `docs/vectors.json`, which another implementation made from `docs/formats.md`.

use aws_lc_rs::{
    aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
    key_wrap::{AES_256, AesKek, KeyWrapPadded},
};
use portcullis_gateway::{
    audit,
    crypto::ciphertext::{Authenticated, Ciphertext, Header, Suite},
    keys::{
        name::{Id, KeyName},
        purpose::Purpose,
        record::{KeyRow, Protection, RingRow, Row, VersionRow, from_micros},
        state::VersionState,
    },
};
use portcullis_hsm::{
    domain::{Fingerprint, KNOWN_KEY},
    ephemeral_token::EphemeralToken,
    key_token::{KeyToken, token_digest},
    record::{RecordKind, framed},
};
use serde_json::Value;
use std::collections::BTreeMap;
use uuid::Uuid;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../docs/vectors.json")).expect("docs/vectors.json is JSON")
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hexadecimal text")).expect("hexadecimal text")
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn uid(value: &Value) -> Uuid {
    Uuid::from_slice(&bytes(value)).expect("16 bytes")
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).expect("a map of texts")
}

/// What the HSM computes with the mac key.
fn tag(vectors: &Value, kind: RecordKind, message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes(&vectors["mac_key"]));
    hmac::sign(&key, &framed(kind, message)).as_ref().to_vec()
}

#[test]
fn key_tokens() {
    let vectors = vectors();
    let tokens = vectors["key_tokens"].as_array().expect("tokens");
    assert_eq!(tokens.len(), 2);
    for vector in tokens {
        let body = bytes(&vector["body"]);
        let token = KeyToken::parse(&body).expect("a token");
        assert_eq!(token.body(), body);
        assert_eq!(u64::from(token.epoch), number(&vector["epoch"]));
        assert_eq!(token.uid, uid(&vector["uid"]));
        assert_eq!(u64::from(token.version), number(&vector["version"]));
        assert_eq!(u64::from(token.key_type.number()), number(&vector["key_type"]));
        assert_eq!(token.storage as u64, number(&vector["storage"]));
        assert_eq!(token.origin as u64, number(&vector["origin"]));
        let uses: Vec<[u64; 2]> = token
            .uses
            .iter()
            .map(|one| [one.operation.number().into(), one.mechanism.number().into()])
            .collect();
        assert_eq!(serde_json::json!(uses), vector["uses"]);
        assert_eq!(token.wrapped, bytes(&vector["wrapped"]));
        assert_eq!(token.public_key, bytes(&vector["public_key"]));
        let tag = tag(&vectors, RecordKind::KeyToken, &body);
        assert_eq!(tag, bytes(&vector["tag"]));
        let sealed = token.sealed(&tag.try_into().expect("32 bytes"));
        assert_eq!(token_digest(&sealed).as_slice(), bytes(&vector["digest"]));
    }
}

#[test]
fn ephemeral_key_tokens() {
    let vectors = vectors();
    let tokens = vectors["ephemeral_key_tokens"].as_array().expect("tokens");
    assert_eq!(tokens.len(), 2);
    for vector in tokens {
        let body = bytes(&vector["body"]);
        let token = EphemeralToken::parse(&body).expect("a token");
        assert_eq!(token.body(), body);
        assert_eq!(u64::from(token.epoch), number(&vector["epoch"]));
        assert_eq!(token.uid, uid(&vector["uid"]));
        assert_eq!(u64::from(token.key_type.number()), number(&vector["key_type"]));
        assert_eq!(token.storage as u64, number(&vector["storage"]));
        let uses: Vec<[u64; 2]> = token
            .uses
            .iter()
            .map(|one| [one.operation.number().into(), one.mechanism.number().into()])
            .collect();
        assert_eq!(serde_json::json!(uses), vector["uses"]);
        assert_eq!(token.owner, text(&vector["owner"]));
        assert_eq!(token.ring, text(&vector["ring"]));
        assert_eq!(token.created, number(&vector["created_us"]));
        assert_eq!(token.expires, number(&vector["expires_us"]));
        assert_eq!(token.wrapped, bytes(&vector["wrapped"]));
        assert_eq!(token.public_key, bytes(&vector["public_key"]));
        let tag = tag(&vectors, RecordKind::EphemeralToken, &body);
        assert_eq!(tag, bytes(&vector["tag"]));
        let sealed = token.sealed(&tag.try_into().expect("32 bytes"));
        assert_eq!(token_digest(&sealed).as_slice(), bytes(&vector["digest"]));
        assert!(KeyToken::parse(&body).is_err());
    }
}

#[test]
fn rows() {
    let vectors = vectors();
    let rows = &vectors["rows"];
    let created = |row: &Value| from_micros(number(&row["created_us"])).expect("a time");
    let id = |value: &Value| Id::parse(text(value)).expect("an id");

    let vector = &rows["key_ring"];
    let ring = RingRow {
        id: id(&vector["id"]),
        uid: uid(&vector["uid"]),
        labels: texts(&vector["labels"]),
        created: created(vector),
        revision: number(&vector["revision"]),
    };
    check_row(&vectors, vector, &ring);

    let vector = &rows["key"];
    let key = KeyRow {
        name: KeyName {
            ring: id(&vector["ring"]),
            key: id(&vector["key"]),
        },
        uid: uid(&vector["uid"]),
        purpose: Purpose::from_number(number(&vector["purpose"]) as i32).expect("a purpose"),
        protection: Protection::from_number(number(&vector["protection"]) as i64).expect("a protection"),
        labels: texts(&vector["labels"]),
        primary_version: number(&vector["primary_version"]) as u32,
        created: created(vector),
        revision: number(&vector["revision"]),
    };
    check_row(&vectors, vector, &key);

    let vector = &rows["key_version"];
    let version = VersionRow {
        key_uid: uid(&vector["key_uid"]),
        number: number(&vector["number"]) as u32,
        state: VersionState::from_number(number(&vector["state"]) as i64).expect("a state"),
        members: serde_json::from_value(vector["members"].clone()).expect("names"),
        created: created(vector),
        revision: number(&vector["revision"]),
        token: bytes(&vector["token"]),
    };
    check_row(&vectors, vector, &version);
}

fn check_row(vectors: &Value, vector: &Value, row: &impl Row) {
    assert_eq!(hex::encode(row.canonical()), text(&vector["canonical"]));
    assert_eq!(tag(vectors, RecordKind::Row, &row.canonical()), bytes(&vector["tag"]));
}

#[test]
fn ciphertexts() {
    let vectors = vectors();
    let ciphertexts = vectors["ciphertexts"].as_array().expect("ciphertexts");
    assert_eq!(ciphertexts.len(), 4);
    for vector in ciphertexts {
        let (algorithm, suite) = match number(&vector["suite"]) {
            1 => (&AES_256_GCM, Suite::Aes256Gcm),
            2 => (&AES_128_GCM, Suite::Aes128Gcm),
            suite => panic!("suite {suite} is not known"),
        };
        let authenticated = match vector.get("context") {
            Some(context) => Authenticated::Context(texts(context)),
            None => Authenticated::Data(bytes(&vector["associated_data"])),
        };
        assert_eq!(authenticated.to_bytes(), bytes(&vector["suffix"]));
        let header = Header {
            key_uid: uid(&vector["key_uid"]),
            version: number(&vector["version"]) as u32,
            suite,
        };
        let nonce = bytes(&vector["nonce"]);
        let associated_data = [header.to_bytes().as_slice(), &nonce, &authenticated.to_bytes()].concat();

        let key = LessSafeKey::new(UnboundKey::new(algorithm, &bytes(&vector["key"])).expect("a key"));
        let mut sealed = bytes(&vector["plaintext"]);
        let nonce_value = Nonce::try_assume_unique_for_key(&nonce).expect("12 bytes");
        key.seal_in_place_append_tag(nonce_value, Aad::from(associated_data), &mut sealed)
            .expect("sealed");
        let ciphertext = header.assemble(&nonce, &sealed);
        assert_eq!(
            hex::encode(&ciphertext),
            text(&vector["ciphertext"]),
            "{}",
            vector["note"]
        );
        let parts = Ciphertext::parse(&ciphertext).expect("a ciphertext");
        assert_eq!(
            (parts.header, parts.nonce.as_slice(), parts.sealed),
            (header, nonce.as_slice(), sealed.as_slice())
        );
    }
}

#[test]
fn fingerprint() {
    let vectors = vectors();
    let vector = &vectors["fingerprint"];
    assert_eq!(KNOWN_KEY.as_slice(), bytes(&vector["known_key"]));
    let wrap = |key: &Value| {
        let key = AesKek::new(&AES_256, &bytes(key)).expect("a key");
        let mut wrapped = [0; 64];
        key.wrap_with_padding(KNOWN_KEY, &mut wrapped)
            .expect("wrapped")
            .to_vec()
    };
    let epoch = number(&vector["epoch"]) as u32;
    let mac = tag(&vectors, RecordKind::Fingerprint, &epoch.to_be_bytes());
    assert_eq!(mac, bytes(&vector["mac"]));
    let fingerprint = Fingerprint::of_parts(epoch, &wrap(&vector["seal"]), &wrap(&vector["portable"]), &mac);
    assert_eq!(fingerprint.to_string(), text(&vector["fingerprint"]));
}

#[test]
fn audit_chain() {
    let vectors = vectors();
    let vector = &vectors["audit"];
    let lines: Vec<&str> = vector["lines"].as_array().expect("lines").iter().map(text).collect();
    let summary = audit::verify(format!("{}\n", lines.join("\n")).as_bytes()).expect("a whole chain");
    assert_eq!(summary.lines, 2);
    assert_eq!(hex::encode(summary.head), text(&vector["head"]));
}

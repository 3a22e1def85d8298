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
        alias::Alias,
        document::{Document, DocumentKey, DocumentRow},
        name::{Id, KeyName},
        purpose::Purpose,
        record::{History, KeyProfile, KeyRow, Layout, Protection, Remains, RingRow, Row, VersionRow, from_micros},
        state::VersionState,
        use_count::UseCountRow,
    },
};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation, PermittedUse, PermittedUses},
    domain::{Fingerprint, KNOWN_KEY},
    ephemeral_token::EphemeralToken,
    key_token::{KeyToken, Origin, token_digest},
    record::{CanonicalReader, CanonicalWriter, RecordKind, framed},
};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use time::OffsetDateTime;
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
    for vector in ["key_ring", "key_ring_2"].map(|name| &vectors["rows"][name]) {
        let window = vector.get("least_destroy_window_s");
        let ring = RingRow {
            id: id(&vector["id"]),
            uid: uid(&vector["uid"]),
            labels: texts(&vector["labels"]),
            created: created(vector),
            revision: number(&vector["revision"]),
            layout: window.map_or(Layout::One, |_| Layout::Two),
            least_destroy_window: window.map_or(Duration::ZERO, |window| Duration::from_secs(number(window))),
        };
        check_row(&vectors, vector, &ring);
    }
    for vector in ["key", "key_2"].map(|name| &vectors["rows"][name]) {
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
            profile: vector.get("key_type").map(|_| profile(vector)),
        };
        check_row(&vectors, vector, &key);
    }
    for vector in ["key_version", "key_version_2", "key_version_2_destroyed"].map(|name| &vectors["rows"][name]) {
        let second = vector.get("reason").is_some();
        let version = VersionRow {
            key_uid: uid(&vector["key_uid"]),
            number: number(&vector["number"]) as u32,
            state: VersionState::from_number(number(&vector["state"]) as i64).expect("a state"),
            members: serde_json::from_value(vector["members"].clone()).expect("names"),
            created: created(vector),
            revision: number(&vector["revision"]),
            token: bytes(&vector["token"]),
            layout: if second { Layout::Two } else { Layout::One },
            history: if second { history(vector) } else { History::default() },
        };
        check_row(&vectors, vector, &version);
    }
    let vector = &vectors["rows"]["use_count"];
    let count = UseCountRow {
        key_uid: uid(&vector["key_uid"]),
        number: number(&vector["number"]) as u32,
        uses: number(&vector["uses"]),
        encryptions: number(&vector["encryptions"]),
    };
    check_row(&vectors, vector, &count);
}

#[test]
fn documents() {
    let vectors = vectors();
    let vector = &vectors["rows"]["alias"];
    let alias = Alias {
        key: text(&vector["target"]["key"]).to_owned(),
        version: Some(number(&vector["target"]["version"]) as u32),
    };
    let body = alias.write(CanonicalWriter::new()).finish();
    assert_eq!(hex::encode(&body), text(&vector["body"]));
    assert_eq!(Alias::read(&mut CanonicalReader::new(&body)), Ok(alias));
    assert_eq!(text(&vector["kind"]), Alias::KIND);
    let row = DocumentRow {
        key: DocumentKey {
            kind: Alias::KIND,
            ring: text(&vector["ring"]).to_owned(),
            id: text(&vector["id"]).to_owned(),
        },
        uid: uid(&vector["uid"]),
        created: created(vector),
        updated: time(&vector["updated_us"]).expect("a time"),
        revision: number(&vector["revision"]),
        body,
    };
    check_row(&vectors, vector, &row);
}

fn id(value: &Value) -> Id {
    Id::parse(text(value)).expect("an id")
}

fn created(row: &Value) -> OffsetDateTime {
    time(&row["created_us"]).expect("a time")
}

fn time(value: &Value) -> Option<OffsetDateTime> {
    Some(number(value)).filter(|micros| *micros > 0).and_then(from_micros)
}

fn profile(vector: &Value) -> KeyProfile {
    let key_type = KeyType::from_number(number(&vector["key_type"]) as u16).expect("a key type");
    let uses = vector["uses"].as_array().expect("uses").iter().map(|one| PermittedUse {
        operation: Operation::from_number(number(&one[0]) as u8).expect("an operation"),
        mechanism: Mechanism::from_number(number(&one[1]) as u16).expect("a mechanism"),
    });
    KeyProfile {
        key_type,
        uses: PermittedUses::new(key_type, uses).expect("the uses fit"),
        exportable: vector["exportable"].as_bool().expect("a boolean"),
        last_version: number(&vector["last_version"]) as u32,
        destroy_window: Duration::from_secs(number(&vector["destroy_window_s"])),
    }
}

fn history(vector: &Value) -> History {
    let remains = &vector["remains"];
    History {
        reason: text(&vector["reason"]).to_owned(),
        activated: time(&vector["activated_us"]),
        deactivated: time(&vector["deactivated_us"]),
        compromised: time(&vector["compromised_us"]),
        destroy: time(&vector["destroy_us"]),
        remains: remains.is_object().then(|| Remains {
            origin: Origin::from_number(number(&remains["origin"]) as u8).expect("an origin"),
            epoch: number(&remains["epoch"]) as u32,
            public_key: bytes(&remains["public_key"]),
        }),
    }
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
fn resident_domain_fingerprints() {
    let vectors = vectors();
    let list = vectors["resident_domain_fingerprints"]
        .as_array()
        .expect("fingerprints");
    assert_eq!(list.len(), 2);
    for vector in list {
        let epoch = number(&vector["epoch"]) as u32;
        let mac = tag(&vectors, RecordKind::Fingerprint, &epoch.to_be_bytes());
        let fingerprint = Fingerprint::of_resident_domain(epoch, &mac);
        assert_eq!(fingerprint.to_string(), text(&vector["fingerprint"]));
    }
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

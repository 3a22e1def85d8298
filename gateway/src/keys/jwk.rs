//! Public keys as JSON web keys (RFC 7517, RFC 7518 section 6, RFC 8037).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_hsm::{
    algorithm::{Family, KeyType, Mechanism, Operation, PermittedUses},
    public_key::{curve_point, rsa_components},
};
use serde_json::{Map, Value, json};

/// The public key in DER (SubjectPublicKeyInfo) as a JSON web key with this `kid`; `None` if it is no key of its type.
///
/// `alg` is given where the key permits one mechanism for its one operation, `key_ops` always.
pub fn json_web_key(kid: &str, key_type: KeyType, uses: &PermittedUses, public_key: &[u8]) -> Option<Value> {
    let encode = |bytes: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(bytes));
    let mut key = Map::new();
    match key_type.family() {
        Family::Rsa(_) => {
            let (modulus, exponent) = rsa_components(public_key).ok()?;
            key.insert("kty".to_owned(), "RSA".into());
            key.insert("n".to_owned(), encode(without_leading_zeros(&modulus)));
            key.insert("e".to_owned(), encode(without_leading_zeros(&exponent)));
        }
        Family::Ec => {
            let point = curve_point(public_key).ok()?;
            let length = key_type.field_length()?;
            // An uncompressed point (SEC 1 section 2.3.3).
            let coordinates = point.strip_prefix(&[4]).filter(|rest| rest.len() == 2 * length)?;
            let (x, y) = coordinates.split_at(length);
            key.insert("kty".to_owned(), "EC".into());
            key.insert("crv".to_owned(), curve(key_type)?.into());
            key.insert("x".to_owned(), encode(x));
            key.insert("y".to_owned(), encode(y));
        }
        Family::Edwards => {
            key.insert("kty".to_owned(), "OKP".into());
            key.insert("crv".to_owned(), "Ed25519".into());
            key.insert("x".to_owned(), encode(&curve_point(public_key).ok()?));
        }
        Family::Aes(_) | Family::Hmac(_) => return None,
    }
    key.insert("kid".to_owned(), kid.into());
    key.insert("key_ops".to_owned(), key_operations(uses));
    let signs = uses.permit_operation(Operation::Sign);
    key.insert("use".to_owned(), if signs { "sig" } else { "enc" }.into());
    let mut mechanisms = uses.iter().map(|one| one.mechanism);
    if let (Some(only), None) = (mechanisms.next(), mechanisms.next())
        && let Some(name) = algorithm(key_type, only)
    {
        key.insert("alg".to_owned(), name.into());
    }
    Some(Value::Object(key))
}

/// What others do with the public half (RFC 7517 section 4.3).
fn key_operations(uses: &PermittedUses) -> Value {
    let mut names = Vec::new();
    for (operation, name) in [
        (Operation::Sign, "verify"),
        (Operation::Decrypt, "encrypt"),
        (Operation::Unwrap, "wrapKey"),
        (Operation::Derive, "deriveBits"),
    ] {
        if uses.permit_operation(operation) {
            names.push(name);
        }
    }
    json!(names)
}

/// The `alg` of a mechanism; none where the standards have no name for it.
fn algorithm(key_type: KeyType, mechanism: Mechanism) -> Option<&'static str> {
    match (key_type, mechanism) {
        (KeyType::EcP256, Mechanism::EcdsaSha256) => Some("ES256"),
        (KeyType::EcP384, Mechanism::EcdsaSha384) => Some("ES384"),
        (KeyType::EcP521, Mechanism::EcdsaSha512) => Some("ES512"),
        (_, Mechanism::RsaPkcs1Sha256) => Some("RS256"),
        (_, Mechanism::RsaPkcs1Sha384) => Some("RS384"),
        (_, Mechanism::RsaPkcs1Sha512) => Some("RS512"),
        (_, Mechanism::RsaPssSha256) => Some("PS256"),
        (_, Mechanism::RsaPssSha384) => Some("PS384"),
        (_, Mechanism::RsaPssSha512) => Some("PS512"),
        (_, Mechanism::RsaOaepSha1) => Some("RSA-OAEP"),
        (_, Mechanism::RsaOaepSha256) => Some("RSA-OAEP-256"),
        (_, Mechanism::Ed25519) => Some("EdDSA"),
        _ => None,
    }
}

fn curve(key_type: KeyType) -> Option<&'static str> {
    match key_type {
        KeyType::EcP256 => Some("P-256"),
        KeyType::EcP384 => Some("P-384"),
        KeyType::EcP521 => Some("P-521"),
        _ => None,
    }
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

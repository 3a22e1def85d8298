//! Decrypts a ciphertext of the gateway with nothing but a member, its PIN, and the key token.

use crate::{
    bytes,
    formats::{AES_256, Ciphertext, KeyToken},
    template::{Protection, of_token},
    token::Token,
};
use anyhow::ensure;
use cryptoki::mechanism::{Mechanism, aead::GcmParams};
use serde_json::{Value, json};

pub(crate) fn run(job: &Value) -> anyhow::Result<Value> {
    let key = KeyToken::parse(&bytes(job, "key_token")?)?;
    let ciphertext = Ciphertext::parse(&bytes(job, "ciphertext")?)?;
    ensure!(key.key_type == AES_256, "the key is not AES-256");
    ensure!(
        ciphertext.uid == key.uid,
        "the ciphertext names another key than the key token"
    );
    ensure!(
        ciphertext.version == key.version,
        "the ciphertext names another version than the key token"
    );

    let token = Token::open(job)?;
    let session = &token.session;
    let mac = token.domain_key("mac")?;
    ensure!(
        session.sign(&Mechanism::Sha256Hmac, mac, &key.framed_body)? == key.tag,
        "the key token's tag is not the mac key's over its body"
    );
    let seal = token.domain_key("seal")?;
    let template = of_token(&key, Protection::FULL)?;
    let loaded = session.unwrap_key(&Mechanism::AesKeyWrapPad, seal, &key.wrapped, &template)?;
    let associated_data = ciphertext.associated_data(&job["authenticated"])?;
    let mut nonce = ciphertext.nonce;
    let mechanism = Mechanism::AesGcm(GcmParams::new(&mut nonce, &associated_data, 128.into())?);
    let plaintext = session.decrypt(&mechanism, loaded, &ciphertext.encrypted)?;
    Ok(json!({
        "uid": hex::encode(ciphertext.uid),
        "version": ciphertext.version,
        "plaintext": hex::encode(plaintext),
    }))
}

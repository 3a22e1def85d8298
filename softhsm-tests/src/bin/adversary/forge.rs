//! A key token with a right tag around a wrapped key that no key unwraps: whoever has the user PIN can make one.

use crate::{bytes, formats::KeyToken, token::Token};
use anyhow::{Context, ensure};
use cryptoki::mechanism::Mechanism;
use serde_json::{Value, json};

/// Changes a byte of the wrapped key and computes the tag anew.
pub(crate) fn run(job: &Value) -> anyhow::Result<Value> {
    let genuine = bytes(job, "key_token")?;
    let parsed = KeyToken::parse(&genuine)?;
    let (body, _) = genuine.split_last_chunk::<32>().context("a token ends with its tag")?;
    let at = body
        .windows(parsed.wrapped.len())
        .position(|window| window == parsed.wrapped)
        .context("the wrapped key is in the token")?;
    let mut body = body.to_vec();
    body[at + parsed.wrapped.len() / 2] ^= 1;
    let framed = [
        b"portcullis mac v1\0\x01",
        &(body.len() as u64).to_be_bytes()[..],
        &body,
    ]
    .concat();
    let token = Token::open(job)?;
    let mac = token.domain_key("mac")?;
    // The layout is right, or the genuine token would not have this tag.
    let genuine_tag = token.session.sign(&Mechanism::Sha256Hmac, mac, &parsed.framed_body)?;
    ensure!(genuine_tag == parsed.tag, "the given token is not authentic");
    let tag = token.session.sign(&Mechanism::Sha256Hmac, mac, &framed)?;
    Ok(json!({ "key_token": hex::encode([body, tag].concat()) }))
}

//! A key token with a right tag around a secret key that the adversary chose: whoever has the user PIN can make one. What the
//! key then does can be checked by any implementation, because its value is known.

use crate::{bytes, formats::KeyToken, template::known_secret, token::Token};
use anyhow::{Context, ensure};
use cryptoki::mechanism::Mechanism;
use serde_json::{Value, json};

/// Puts a key of the adversary's in the place of the wrapped one and computes the tag anew.
pub(crate) fn run(job: &Value) -> anyhow::Result<Value> {
    let genuine = bytes(job, "key_token")?;
    let value = bytes(job, "value")?;
    let parsed = KeyToken::parse_any(&genuine)?;
    ensure!(
        usize::from(parsed.secret_length) == value.len(),
        "the key type has another length"
    );
    let token = Token::open(job)?;
    let known = token.session.create_object(&known_secret(&parsed, &value)?)?;
    let wrapped = token
        .session
        .wrap_key(&Mechanism::AesKeyWrapPad, token.domain_key("seal")?, known)?;
    ensure!(
        wrapped.len() == parsed.wrapped.len(),
        "the wrapped key has another length"
    );
    let (body, _) = genuine.split_last_chunk::<32>().context("a token ends with its tag")?;
    let at = body
        .windows(parsed.wrapped.len())
        .position(|window| window == parsed.wrapped)
        .context("the wrapped key is in the token")?;
    let body = [&body[..at], &wrapped, &body[at + wrapped.len()..]].concat();
    let framed = [
        b"portcullis mac v1\0\x01",
        &(body.len() as u64).to_be_bytes()[..],
        &body,
    ]
    .concat();
    let tag = token
        .session
        .sign(&Mechanism::Sha256Hmac, token.domain_key("mac")?, &framed)?;
    Ok(json!({ "key_token": hex::encode([body, tag].concat()) }))
}

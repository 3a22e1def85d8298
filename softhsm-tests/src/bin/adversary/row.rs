//! The tag of a row that the adversary wrote: whoever has the user PIN can make one.

use crate::{bytes, token::Token};
use cryptoki::mechanism::Mechanism;
use serde_json::{Value, json};

/// Computes the tag of a row's canonical form.
pub(crate) fn run(job: &Value) -> anyhow::Result<Value> {
    let row = bytes(job, "row")?;
    let token = Token::open(job)?;
    let framed = [b"portcullis mac v1\0\x03", &(row.len() as u64).to_be_bytes()[..], &row].concat();
    let tag = token
        .session
        .sign(&Mechanism::Sha256Hmac, token.domain_key("mac")?, &framed)?;
    Ok(json!({ "tag": hex::encode(tag) }))
}

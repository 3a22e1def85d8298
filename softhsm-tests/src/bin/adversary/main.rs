//! Somebody with the user PIN of one HSM member, a copy of the database and a copy of some ciphertexts: what can they do?
//!
//! The program shares no code with the gateway: it reads the formats as they are documented, and speaks PKCS#11 through
//! the crate `cryptoki`. So it is an attacker (`forbidden`) and an independent reader of the formats (`decrypt`).
//!
//! To show that the attacks would succeed where they can, `careless` replaces a token's domain by one without protection.
//!
//! Usage: `adversary forbidden|decrypt|login|careless|resident|destroy|forge`, with a job as JSON on standard input, because it holds the PIN, and
//! `SOFTHSM2_CONF` in the environment. The answer is JSON on standard output.
//!
//! `token` logs in, `formats` reads key tokens and ciphertexts, `template` makes attributes, also those that `cryptoki` has no
//! words for; `forbidden`, `decrypt`, `careless` and `forge` are the tasks.

#![forbid(unsafe_code)]

mod careless;
mod decrypt;
mod forbidden;
mod forge;
mod formats;
mod row;
mod template;
mod token;

use anyhow::{Context, bail};
use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use serde_json::{Value, json};
use std::{env, io};

fn main() -> anyhow::Result<()> {
    let job: Value = serde_json::from_reader(io::stdin().lock()).context("the job on standard input")?;
    let answer = match env::args().nth(1).as_deref() {
        Some("forbidden") => forbidden::run(&job)?,
        Some("decrypt") => decrypt::run(&job)?,
        Some("careless") => careless::run(&job)?,
        Some("resident") => resident(&job)?,
        Some("destroy") => destroy(&job)?,
        Some("forge") => forge::run(&job)?,
        Some("row") => row::run(&job)?,
        Some("login") => json!({ "accepted": token::Token::open(&job).is_ok() }),
        _ => bail!("usage: adversary forbidden|decrypt|login|careless|resident|destroy|forge|row < job.json"),
    };
    serde_json::to_writer(io::stdout().lock(), &answer)?;
    Ok(())
}

/// The ids of the private keys that live on the token.
fn resident(job: &Value) -> anyhow::Result<Value> {
    let token = token::Token::open(job)?;
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(true)];
    let mut ids = Vec::new();
    for key in token.session.find_objects(&template)? {
        match &token.session.get_attributes(key, &[AttributeType::Id])?[..] {
            [Attribute::Id(id)] => ids.push(hex::encode(id)),
            _ => bail!("a private key without an id is on the token"),
        }
    }
    Ok(json!({ "ids": ids }))
}

/// Destroys every object of an id on the token.
fn destroy(job: &Value) -> anyhow::Result<Value> {
    let token = token::Token::open(job)?;
    let template = [Attribute::Id(bytes(job, "id")?), Attribute::Token(true)];
    let objects = token.session.find_objects(&template)?;
    for object in &objects {
        token.session.destroy_object(*object)?;
    }
    Ok(json!({ "destroyed": objects.len() }))
}

/// A field of a job that is text.
fn text<'j>(job: &'j Value, field: &str) -> anyhow::Result<&'j str> {
    job[field]
        .as_str()
        .with_context(|| format!("the job has no text {field}"))
}

/// A field of a job that is bytes in hexadecimal.
fn bytes(job: &Value, field: &str) -> anyhow::Result<Vec<u8>> {
    Ok(hex::decode(text(job, field)?)?)
}

/// A field of a job that is a list of bytes in hexadecimal.
fn bytes_list(job: &Value, field: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let list = job[field]
        .as_array()
        .with_context(|| format!("the job has no list {field}"))?;
    list.iter()
        .map(|one| Ok(hex::decode(one.as_str().context("an element is not text")?)?))
        .collect()
}

//! What participants sign, and the form in which their signatures leave the transcript.

use super::Head;
use crate::name::Name;
use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_provisioning::{custodian::CustodianName, document::to_be_signed, signing_key::PublicKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// What somebody says by a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Statement {
    /// I am here.
    Present,
    /// This step was done as the transcript says.
    SignOff(Name),
    /// I agree with what was decided about the exception of this number.
    Decided(u32),
    /// The transcript says what happened: the ceremony is over, however it ended.
    Ended,
}

/// What is signed, in words and before its framing.
#[derive(Serialize)]
struct Body<'a> {
    ceremony: Uuid,
    sequence: u64,
    head: Head,
    person: &'a CustodianName,
    seats: &'a [Name],
    statement: &'a Statement,
}

/// A signature in the form of DSSE (secure-systems-lab/dsse, envelope.md), for other tools than this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Envelope {
    /// The statement, in base64.
    pub payload: String,
    /// What the payload is.
    pub payload_type: String,
    /// The signature.
    pub signatures: Vec<EnvelopeSignature>,
}

/// The signature in an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeSignature {
    /// The SHA-256 of the public key's SubjectPublicKeyInfo.
    pub keyid: String,
    /// The signature, in base64.
    pub sig: String,
}

/// Whom and what a signature is about.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    /// The ceremony.
    pub ceremony: Uuid,
    /// The number of the line that will hold the signature.
    pub sequence: u64,
    /// The hash of the line before it.
    pub head: Head,
    /// Who signs.
    pub person: &'a CustodianName,
    /// Their seats.
    pub seats: &'a [Name],
    /// What they say.
    pub statement: &'a Statement,
}

/// The bytes that are signed: DSSE's pre-authentication encoding of the statement.
pub fn signed_bytes(signing: Signing<'_>) -> Vec<u8> {
    to_be_signed(PAYLOAD_TYPE, &body(signing))
}

/// A signature as DSSE envelope.
pub fn envelope(signing: Signing<'_>, key: &PublicKey, signature: &str) -> Envelope {
    Envelope {
        payload: STANDARD.encode(body(signing)),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: vec![EnvelopeSignature {
            keyid: key.id().to_string(),
            sig: signature.to_owned(),
        }],
    }
}

fn body(signing: Signing<'_>) -> Vec<u8> {
    let body = Body {
        ceremony: signing.ceremony,
        sequence: signing.sequence,
        head: signing.head,
        person: signing.person,
        seats: signing.seats,
        statement: signing.statement,
    };
    // Invariant: texts and numbers, which JSON can hold.
    serde_json::to_vec(&body).expect("a statement is JSON")
}

impl fmt::Display for Statement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => formatter.write_str("I am here"),
            Self::SignOff(step) => write!(formatter, "step {step} was done as the transcript says"),
            Self::Decided(number) => write!(formatter, "I agree with the decision about exception {number}"),
            Self::Ended => formatter.write_str("the transcript says what happened"),
        }
    }
}

const PAYLOAD_TYPE: &str = "application/vnd.portcullis.ceremony.statement.v1+json";

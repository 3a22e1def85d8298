//! What a joining member says of itself and of the key to which the domain will be wrapped.
//!
//! There is no standard way for a token to prove where a key is. So the request is read aloud and compared, custodians sign it, and
//! a worthless key goes over before the domain does.

use crate::{
    Error, Moment,
    document::{DocumentKind, SignedDocument},
    record::MemberIdentity,
    text::{is_name, parse_digest, read_json, write_json},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A request to receive the domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The ceremony in which it is good.
    pub ceremony: String,
    /// Drawn by the one who has the domain, so that an old request is worth nothing.
    pub nonce: [u8; 32],
    /// The end of its time.
    pub valid_until: Moment,
    /// The member.
    pub member: MemberIdentity,
    /// `CK_TOKEN_INFO.firmwareVersion`.
    pub firmware_version: String,
    /// The transport key: SubjectPublicKeyInfo in DER.
    pub transport_key: Vec<u8>,
    /// The hash of RSA-OAEP.
    pub oaep_hash: OaepHashName,
    /// What the token says of the private half.
    pub private_key: PrivateKeyFacts,
}

/// The hash of RSA-OAEP and of its mask generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OaepHashName {
    /// SHA-256.
    Sha256,
    /// SHA-1, for tokens that have no other.
    Sha1,
}

/// Attributes of a transport key's private half, as its token reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivateKeyFacts {
    /// `CKA_LOCAL`: it was generated on the token.
    pub local: bool,
    /// `CKA_SENSITIVE`.
    pub sensitive: bool,
    /// `CKA_ALWAYS_SENSITIVE`.
    pub always_sensitive: bool,
    /// `CKA_EXTRACTABLE`.
    pub extractable: bool,
    /// `CKA_NEVER_EXTRACTABLE`.
    pub never_extractable: bool,
    /// `CKA_MODIFIABLE`.
    pub modifiable: bool,
}

impl PrivateKeyFacts {
    /// What a transport key must be.
    pub const RIGHT: Self = Self {
        local: true,
        sensitive: true,
        always_sensitive: true,
        extractable: false,
        never_extractable: true,
        modifiable: false,
    };
}

impl JoinRequest {
    /// Reads a request's text, without its signatures.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let request = read_json::<Written>(WHAT, text)?.into_request()?;
        request.check()?;
        Ok(request)
    }

    /// The request as a document for the custodians to sign.
    pub fn to_document(&self) -> Result<SignedDocument, Error> {
        self.check()?;
        Ok(SignedDocument::unsigned(
            DocumentKind::JoinRequest,
            write_json(&Written::of(self)),
        ))
    }

    /// The SHA-256 of the transport key, which people read aloud and type back.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.transport_key).into()
    }

    /// Checks that the request is an answer to this nonce in this ceremony, and not too late.
    pub fn check_answer(&self, ceremony: &str, nonce: &[u8; 32], now: Moment) -> Result<(), Error> {
        if self.ceremony != ceremony {
            return Err(malformed(format!(
                "it is of ceremony {}, expected {ceremony}",
                self.ceremony
            )));
        }
        if self.nonce != *nonce {
            return Err(malformed(
                "it answers another nonce: it is of an earlier try".to_owned(),
            ));
        }
        if now > self.valid_until {
            return Err(Error::Expired {
                what: WHAT,
                until: self.valid_until.to_string(),
                now: now.to_string(),
            });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        for name in [&self.ceremony, &self.member.name] {
            if !is_name(name) {
                return Err(Error::NotAName(name.clone()));
            }
        }
        if self.private_key != PrivateKeyFacts::RIGHT {
            return Err(malformed(format!(
                "the private half of the transport key must be {:?}, the token says {:?}",
                PrivateKeyFacts::RIGHT,
                self.private_key
            )));
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    ceremony: String,
    nonce: String,
    valid_until: Moment,
    member: MemberIdentity,
    firmware_version: String,
    transport_key: String,
    transport_key_sha256: String,
    oaep_hash: OaepHashName,
    private_key: PrivateKeyFacts,
}

impl Written {
    fn of(request: &JoinRequest) -> Self {
        Self {
            format: DocumentKind::JoinRequest.text().to_owned(),
            ceremony: request.ceremony.clone(),
            nonce: hex::encode(request.nonce),
            valid_until: request.valid_until,
            member: request.member.clone(),
            firmware_version: request.firmware_version.clone(),
            transport_key: STANDARD.encode(&request.transport_key),
            transport_key_sha256: hex::encode(request.fingerprint()),
            oaep_hash: request.oaep_hash,
            private_key: request.private_key,
        }
    }

    fn into_request(self) -> Result<JoinRequest, Error> {
        let expected = DocumentKind::JoinRequest.text();
        if self.format != expected {
            return Err(malformed(format!(
                "its format is {:?}, expected {expected:?}",
                self.format
            )));
        }
        let transport_key = STANDARD.decode(&self.transport_key);
        let request = JoinRequest {
            ceremony: self.ceremony,
            nonce: parse_digest(&self.nonce).ok_or_else(|| malformed("its nonce is not 32 bytes".to_owned()))?,
            valid_until: self.valid_until,
            member: self.member,
            firmware_version: self.firmware_version,
            transport_key: transport_key.map_err(|_| malformed("its transport key is not in base64".to_owned()))?,
            oaep_hash: self.oaep_hash,
            private_key: self.private_key,
        };
        if hex::encode(request.fingerprint()) != self.transport_key_sha256 {
            return Err(malformed(
                "the digest that it gives is not that of its transport key".to_owned(),
            ));
        }
        Ok(request)
    }
}

fn malformed(reason: String) -> Error {
    Error::Malformed { what: WHAT, reason }
}

const WHAT: &str = "join request";

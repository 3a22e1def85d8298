//! A text with signatures over its exact bytes.
//!
//! What is signed is the pre-authentication encoding of DSSE (secure-systems-lab/dsse, protocol.md) over the document's kind and
//! its bytes, so that a signature made for one kind of document is worth nothing for another.

use crate::{
    Error,
    custodian::CustodianName,
    quorum::{Roster, Signers, Threshold},
    signing_key::{KeyId, SigningKey},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use std::fmt;

/// What a document is. The texts are permanent: they are part of what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DocumentKind {
    /// [`crate::record`].
    ProvisioningRecord,
    /// [`crate::join_request`].
    JoinRequest,
}

impl DocumentKind {
    /// The kind as it is signed, and as it stands in the document itself.
    pub fn text(self) -> &'static str {
        match self {
            Self::ProvisioningRecord => "portcullis-provisioning-record/1",
            Self::JoinRequest => "portcullis-join-request/1",
        }
    }

    /// The kind in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::ProvisioningRecord => "provisioning record",
            Self::JoinRequest => "join request",
        }
    }
}

/// The bytes that are signed for a document.
pub fn to_be_signed(kind: &str, document: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), document.len());
    [head.as_bytes(), document].concat()
}

/// One signature, by the key that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key that signed.
    pub key: KeyId,
    /// Ed25519: 64 bytes. P-256: DER.
    pub bytes: Vec<u8>,
}

/// A document with the signatures that were made over it, which may be too few or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedDocument {
    kind: DocumentKind,
    document: String,
    signatures: Vec<Signature>,
}

impl SignedDocument {
    /// A document that nobody has signed yet: its text as its kind is written, with the line feed at its end.
    pub(crate) fn unsigned(kind: DocumentKind, document: String) -> Self {
        Self {
            kind,
            document,
            signatures: Vec::new(),
        }
    }

    /// Reads one document with its signatures.
    pub fn parse(kind: DocumentKind, text: &str) -> Result<Self, Error> {
        match Self::parse_all(kind, text)?.as_mut_slice() {
            [one] => Ok(one.clone()),
            several => Err(Error::Malformed {
                what: kind.words(),
                reason: format!("{} documents follow each other where one is expected", several.len()),
            }),
        }
    }

    /// Reads documents that follow each other: each its text, an empty line, its signatures, and between two of them an empty
    /// line. So files of such documents can be put together with `cat`, if an empty line is put between them.
    pub fn parse_all(kind: DocumentKind, text: &str) -> Result<Vec<Self>, Error> {
        let malformed = |reason: &str| Error::Malformed {
            what: kind.words(),
            reason: reason.to_owned(),
        };
        let mut documents = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (document, after) = match rest.split_once("\n\n") {
                Some((document, after)) => (document, after),
                None => return Err(malformed("no empty line is between its text and its signatures")),
            };
            let mut signatures = Vec::new();
            rest = after;
            while let Some(line) = rest.strip_prefix(SIGNATURE) {
                let (line, following) = line
                    .split_once('\n')
                    .ok_or_else(|| malformed("its last signature is not followed by a line feed"))?;
                signatures.push(Signature::parse(line).ok_or_else(|| malformed("a line with a signature is not one"))?);
                rest = following;
            }
            if let Some(next) = rest.strip_prefix('\n') {
                if next.is_empty() {
                    return Err(malformed("an empty line is at its end"));
                }
                rest = next;
            } else if !rest.is_empty() {
                return Err(malformed("something else than a signature follows its empty line"));
            }
            documents.push(Self {
                kind,
                document: format!("{document}\n"),
                signatures,
            });
        }
        Ok(documents)
    }

    /// The document's exact text.
    pub fn document(&self) -> &str {
        &self.document
    }

    /// The signatures.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The document's digest, by which others refer to it. Signatures are not part of it.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_be_signed()).into()
    }

    /// The bytes that are signed, for signers elsewhere such as smart cards.
    pub fn to_be_signed(&self) -> Vec<u8> {
        to_be_signed(self.kind.text(), self.document.as_bytes())
    }

    /// Signs it with a key.
    pub fn sign(&mut self, key: &SigningKey) -> Result<(), Error> {
        let bytes = key.sign(&self.to_be_signed())?;
        self.add(Signature {
            key: key.public().id(),
            bytes,
        });
        Ok(())
    }

    /// Adds a signature that was made elsewhere.
    pub fn add(&mut self, signature: Signature) {
        self.signatures.push(signature);
    }

    /// Checks every signature against the rosters whose custodians may sign; returns who did.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSigner`], [`Error::SignedTwice`], [`Error::WrongSignature`]: one signature that is wrong is enough to
    /// refuse a document, also where enough others would be left.
    pub fn signers(&self, rosters: &[&Roster]) -> Result<Signers, Error> {
        let message = self.to_be_signed();
        let mut signers = Signers::default();
        for signature in &self.signatures {
            let custodian = rosters
                .iter()
                .find_map(|roster| roster.holder(signature.key))
                .ok_or(Error::UnknownSigner(signature.key))?;
            signers.add(signature.key, &custodian.name)?;
            if !custodian.signing_key.verifies(&message, &signature.bytes) {
                return Err(Error::WrongSignature(custodian.name.clone()));
            }
        }
        Ok(signers)
    }

    /// Checks that a quorum of a roster signed. `requester` asked for what is signed and never counts.
    pub fn check_quorum(
        &self,
        whose: &str,
        roster: &Roster,
        threshold: Threshold,
        requester: Option<&CustodianName>,
    ) -> Result<Signers, Error> {
        let signers = self.signers(&[roster])?;
        signers.meet(whose, roster, threshold, requester)?;
        Ok(signers)
    }
}

impl fmt::Display for SignedDocument {
    /// The document, an empty line and its signatures.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.document)?;
        for signature in &self.signatures {
            let bytes = STANDARD.encode(&signature.bytes);
            writeln!(formatter, "{SIGNATURE}{} {bytes}", signature.key)?;
        }
        Ok(())
    }
}

impl Signature {
    fn parse(line: &str) -> Option<Self> {
        let (key, bytes) = line.split_once(' ')?;
        Some(Self {
            key: KeyId::parse(key)?,
            bytes: STANDARD.decode(bytes).ok()?,
        })
    }
}

const SIGNATURE: &str = "signature ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_that_of_dsse() {
        // The example of the protocol's specification.
        let signed = to_be_signed("http://example.com/HelloWorld", b"hello world");
        assert_eq!(signed, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn a_document_is_read_as_it_is_written_and_no_other_way() {
        let kind = DocumentKind::ProvisioningRecord;
        let mut one = SignedDocument::unsigned(kind, "{\n}\n".to_owned());
        let bare = one.to_string();
        assert_eq!(bare, "{\n}\n\n");
        assert_eq!(SignedDocument::parse(kind, &bare), Ok(one.clone()));
        one.add(Signature {
            key: KeyId::parse(&"ab".repeat(32)).expect("a key's name"),
            bytes: vec![1, 2, 3],
        });
        let signed = one.to_string();
        assert_eq!(SignedDocument::parse(kind, &signed), Ok(one.clone()));
        let both = format!("{signed}\n{signed}");
        assert_eq!(SignedDocument::parse_all(kind, &both), Ok(vec![one.clone(), one]));
        assert!(SignedDocument::parse(kind, &both).is_err());
        assert_eq!(SignedDocument::parse_all(kind, ""), Ok(Vec::new()));
        for wrong in [
            signed.trim_end().to_owned(),
            signed.replace("AQID", "AQJ="),
            signed.replace("AQID", "AQID "),
            signed.replace("abab", "ABAB"),
            signed.replace("signature ", "signed "),
            signed.replace("\n\n", "\n"),
            format!("{signed}\n"),
            format!("{signed}note\n"),
        ] {
            assert!(SignedDocument::parse(kind, &wrong).is_err(), "{wrong}");
        }
    }
}

//! Certificates and data objects of a ring.

use super::{
    document::Document,
    filter::{FilterError, terms},
};
use der::Decode;
use portcullis_hsm::record::{CanonicalError, CanonicalReader, CanonicalWriter};
use x509_cert::Certificate;

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// What is shown as `CKA_LABEL`.
    pub label: Vec<u8>,
    /// What is shown as `CKA_ID`.
    pub object_id: Vec<u8>,
    /// The key or version of the ring to which it belongs: `{key}` or `{key}/versions/{n}`; empty if to none.
    pub key: String,
    /// What it holds.
    pub content: Content,
}

/// What an object holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An X.509 certificate.
    Certificate {
        /// In DER.
        certificate: Vec<u8>,
        /// Those that certify it, each the issuer of the one before, in DER.
        chain: Vec<Vec<u8>>,
    },
    /// A data object.
    Data {
        /// `CKA_APPLICATION`.
        application: String,
        /// `CKA_OBJECT_ID` in DER.
        oid: Vec<u8>,
        /// `CKA_VALUE`.
        value: Vec<u8>,
    },
}

impl StoredObject {
    /// Says what is wrong with an object: the field, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let short = |field, length: usize| match length {
            0..=MOST_NAME_BYTES => Ok(()),
            _ => Err((
                field,
                format!("expected at most {MOST_NAME_BYTES} bytes, found {length}"),
            )),
        };
        short("object.label", self.label.len())?;
        short("object.object_id", self.object_id.len())?;
        match &self.content {
            Content::Certificate { certificate, chain } => check_certificates(certificate, chain),
            Content::Data {
                application,
                oid,
                value,
            } => {
                short("object.data.application", application.len())?;
                short("object.data.oid", oid.len())?;
                if !oid.is_empty() && <der::asn1::ObjectIdentifier>::from_der(oid).is_err() {
                    return Err(("object.data.oid", "expected an object identifier in DER".to_owned()));
                }
                if value.len() > MOST_CONTENT_BYTES {
                    let message = format!("expected at most {MOST_CONTENT_BYTES} bytes, found {}", value.len());
                    return Err(("object.data.value", message));
                }
                Ok(())
            }
        }
    }

    /// The public key that the object certifies: SubjectPublicKeyInfo in DER.
    pub fn certified_key(&self) -> Option<Vec<u8>> {
        let Content::Certificate { certificate, .. } = &self.content else {
            return None;
        };
        let certificate = Certificate::from_der(certificate).ok()?;
        der::Encode::to_der(certificate.tbs_certificate().subject_public_key_info()).ok()
    }

    /// About how many bytes it has on the way.
    pub fn size(&self) -> usize {
        let content = match &self.content {
            Content::Certificate { certificate, chain } => {
                certificate.len() + chain.iter().map(Vec::len).sum::<usize>()
            }
            Content::Data { value, .. } => value.len(),
        };
        content + self.label.len() + self.object_id.len() + 512
    }
}

fn check_certificates(certificate: &[u8], chain: &[Vec<u8>]) -> Result<(), (&'static str, String)> {
    let parsed = |field, der: &[u8]| {
        if der.len() > MOST_CONTENT_BYTES {
            let message = format!("expected at most {MOST_CONTENT_BYTES} bytes, found {}", der.len());
            return Err((field, message));
        }
        Certificate::from_der(der).map_err(|error| (field, format!("expected one X.509 certificate in DER: {error}")))
    };
    let mut last = parsed("object.certificate", certificate)?;
    let bytes: usize = chain.iter().map(Vec::len).sum();
    if chain.len() > MOST_CHAIN || bytes > MOST_CHAIN_BYTES {
        let message = format!(
            "expected at most {MOST_CHAIN} certificates of {MOST_CHAIN_BYTES} bytes in all, found {} of {bytes}",
            chain.len()
        );
        return Err(("object.chain", message));
    }
    for der in chain {
        let next = parsed("object.chain", der)?;
        if last.tbs_certificate().issuer() != next.tbs_certificate().subject() {
            return Err((
                "object.chain",
                "each certificate must be the issuer of the one before it".to_owned(),
            ));
        }
        last = next;
    }
    Ok(())
}

impl Document for StoredObject {
    const KIND: &'static str = "object/1";
    const COLLECTION: &'static str = "objects";

    fn write(&self, writer: CanonicalWriter) -> CanonicalWriter {
        let writer = writer
            .bytes(&self.label)
            .bytes(&self.object_id)
            .bytes(self.key.as_bytes());
        match &self.content {
            Content::Certificate { certificate, chain } => {
                let writer = writer.u8(CERTIFICATE).bytes(certificate).u32(chain.len() as u32);
                chain.iter().fold(writer, |writer, one| writer.bytes(one))
            }
            Content::Data {
                application,
                oid,
                value,
            } => writer.u8(DATA).bytes(application.as_bytes()).bytes(oid).bytes(value),
        }
    }

    fn read(reader: &mut CanonicalReader<'_>) -> Result<Self, CanonicalError> {
        let label = reader.bytes()?.to_vec();
        let object_id = reader.bytes()?.to_vec();
        let key = reader.text()?;
        let content = match reader.u8()? {
            CERTIFICATE => {
                let certificate = reader.bytes()?.to_vec();
                let count = reader.u32()?;
                let chain = (0..count).map(|_| Ok(reader.bytes()?.to_vec()));
                Content::Certificate {
                    certificate,
                    chain: chain.collect::<Result<_, CanonicalError>>()?,
                }
            }
            DATA => Content::Data {
                application: reader.text()?,
                oid: reader.bytes()?.to_vec(),
                value: reader.bytes()?.to_vec(),
            },
            _ => return Err(CanonicalError::UnknownValue),
        };
        Ok(Self {
            label,
            object_id,
            key,
            content,
        })
    }
}

/// What a list of objects leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectFilter(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Kind(u8),
    Label(Vec<u8>),
    ObjectId(Vec<u8>),
    Key(String),
    Application(String),
}

impl ObjectFilter {
    /// Reads a filter; an empty one lets everything pass. `ring` is the prefix of the names of its keys.
    pub fn parse(text: &str, ring: &str) -> Result<Self, FilterError> {
        let term = |(field, value): (String, String)| {
            let bytes = || hex::decode(&value).map_err(|_| FilterError::new(format!("{field}: expected hexadecimal")));
            match (field.as_str(), value.as_str()) {
                ("kind", "certificate") => Ok(Term::Kind(CERTIFICATE)),
                ("kind", "data") => Ok(Term::Kind(DATA)),
                ("kind", _) => Err(FilterError::new("kind: expected certificate or data".to_owned())),
                ("label", _) => bytes().map(Term::Label),
                ("object_id", _) => bytes().map(Term::ObjectId),
                ("key", name) => Ok(Term::Key(name.strip_prefix(ring).unwrap_or(name).to_owned())),
                ("application", _) => Ok(Term::Application(value)),
                _ => Err(FilterError::new(format!(
                    "\"{field}\" is no field of objects: expected kind, label, object_id, key or application"
                ))),
            }
        };
        Ok(Self(terms(text)?.into_iter().map(term).collect::<Result<_, _>>()?))
    }

    /// Whether an object passes.
    pub fn passes(&self, object: &StoredObject) -> bool {
        self.0.iter().all(|term| match (term, &object.content) {
            (Term::Kind(kind), Content::Certificate { .. }) => *kind == CERTIFICATE,
            (Term::Kind(kind), Content::Data { .. }) => *kind == DATA,
            (Term::Label(label), _) => object.label == *label,
            (Term::ObjectId(id), _) => object.object_id == *id,
            (Term::Key(key), _) => object.key == *key,
            (Term::Application(wanted), Content::Data { application, .. }) => application == wanted,
            (Term::Application(_), Content::Certificate { .. }) => false,
        })
    }
}

const CERTIFICATE: u8 = 1;
const DATA: u8 = 2;
const MOST_NAME_BYTES: usize = 255;
const MOST_CONTENT_BYTES: usize = 64 * 1024;
const MOST_CHAIN: usize = 8;
const MOST_CHAIN_BYTES: usize = 128 * 1024;

//! The bodies of documents: aliases, import jobs, recipients, revocations, certificates and data objects.

use super::{bytes, sample, vectors};
use crate::{Memory, Pure, Target, Verdict};
use portcullis_gateway::keys::{
    alias::Alias,
    document::Document,
    import_job::ImportJob,
    name::Id,
    object::{Content, StoredObject},
    recipient::Recipient,
    revocation::Revocation,
};
use portcullis_hsm::{
    algorithm::Mechanism,
    record::{CanonicalReader, CanonicalWriter},
};

/// A byte that says which kind of document, and its body.
pub(super) const DOCUMENTS: Target = Target {
    name: "documents",
    prepare: || {
        Box::new(Pure {
            samples,
            judge,
            memory: Memory {
                fixed: 16 * 1024,
                // Each certificate of a chain is a vector; and a certificate is parsed into many parts.
                per_byte: 64,
            },
        })
    },
};

fn judge(input: &[u8]) -> Verdict {
    let Some((kind, body)) = input.split_first() else {
        return Verdict::Refused;
    };
    match kind {
        0 => read::<Alias>(body, |alias| {
            let ring = Id::parse("demo").expect("an id");
            if let Some(name) = alias.target(&ring) {
                assert_eq!(name.key.key.as_str(), alias.key);
            }
        }),
        1 => read::<ImportJob>(body, |job| {
            job.key();
            job.is_expired(time::OffsetDateTime::UNIX_EPOCH);
        }),
        2 => read::<Recipient>(body, |recipient| {
            drop(recipient.check());
            assert_eq!(recipient.fingerprint().len(), 64);
        }),
        3 => read::<Revocation>(body, |revocation| {
            assert_eq!(Revocation::id(&revocation.principal).len(), 64)
        }),
        4 => read::<StoredObject>(body, |object| {
            let certifies = object.certified_key();
            let certificate = matches!(object.content, Content::Certificate { .. });
            assert!(certificate || certifies.is_none());
            assert_eq!(
                object.check().is_ok() && certificate,
                object.check().is_ok() && certifies.is_some()
            );
            assert!(object.size() >= body.len().saturating_sub(512));
        }),
        _ => Verdict::Refused,
    }
}

/// Reads a document, uses it, and writes it again.
fn read<D: Document>(body: &[u8], then: impl FnOnce(&D)) -> Verdict {
    let mut reader = CanonicalReader::new(body);
    let document = D::read(&mut reader).and_then(|document| reader.finish().map(|()| document));
    if let Ok(document) = &document {
        assert_eq!(
            document.write(CanonicalWriter::new()).finish(),
            body,
            "a {} has one form",
            D::KIND
        );
        then(document);
    }
    Verdict::of(&document)
}

fn samples() -> Vec<Vec<u8>> {
    let vectors = vectors();
    let token = &vectors["key_tokens"][0];
    let object = |content| StoredObject {
        label: b"label".to_vec(),
        object_id: vec![1, 2, 3],
        key: "signing/versions/2".to_owned(),
        content,
    };
    let alias = |version| Alias {
        key: "signing".to_owned(),
        version,
    };
    vec![
        body(0, &alias(None)),
        body(0, &alias(Some(7))),
        body(
            1,
            &ImportJob {
                mechanism: Mechanism::RsaOaepSha256,
                token: [bytes(&token["body"]), bytes(&token["tag"])].concat(),
                expires: 1_790_000_000_000_000,
                used_for: "keyRings/demo/keys/signing/versions/1".to_owned(),
            },
        ),
        body(
            2,
            &Recipient {
                public_key: sample!("rsa.spki").to_vec(),
                description: "the other site".to_owned(),
            },
        ),
        body(
            3,
            &Revocation {
                principal: "spiffe://example.org/payments".to_owned(),
                not_before: 1_790_000_000_000_000,
            },
        ),
        body(
            4,
            &object(Content::Certificate {
                certificate: sample!("subject.der").to_vec(),
                chain: vec![sample!("authority.der").to_vec()],
            }),
        ),
        body(
            4,
            &object(Content::Data {
                application: "payments".to_owned(),
                oid: vec![6, 3, 0x2a, 3, 4],
                value: b"value".to_vec(),
            }),
        ),
    ]
}

fn body(kind: u8, document: &impl Document) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(document.write(CanonicalWriter::new()).finish());
    bytes
}

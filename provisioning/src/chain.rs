//! The records of a cluster, from the first to the last.
//!
//! The first record is signed by a quorum of its own custodians: whom to believe at the beginning is for people to decide. Every
//! later one is signed by a quorum of the one before, which lets it in, and by a quorum of its own custodians, which shows that
//! they have their keys.

use crate::{
    Error,
    document::{DocumentKind, SignedDocument},
    quorum::Signers,
    record::ProvisioningRecord,
};

/// A record whose signatures and place were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The record.
    pub record: ProvisioningRecord,
    /// Its digest.
    pub digest: [u8; 32],
    /// Who signed it.
    pub signers: Signers,
}

/// All records of a cluster, checked. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain(Vec<Link>);

impl Chain {
    /// Reads and checks a file with all records of a cluster, the first one first, with an empty line between two.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut links: Vec<Link> = Vec::new();
        for document in SignedDocument::parse_all(DocumentKind::ProvisioningRecord, text)? {
            let link = follow(links.last(), &document)?;
            links.push(link);
        }
        if links.is_empty() {
            Err(Error::EmptyChain)
        } else {
            Ok(Self(links))
        }
    }

    /// Checks that a record may follow this chain; the chain is then longer by it.
    pub fn extend(&mut self, document: &SignedDocument) -> Result<(), Error> {
        let link = follow(self.0.last(), document)?;
        self.0.push(link);
        Ok(())
    }

    /// The record that holds now.
    pub fn last(&self) -> &Link {
        // Invariant: `parse` refuses a chain without records.
        self.0.last().expect("a chain has a record")
    }

    /// All records, the first one first.
    pub fn links(&self) -> &[Link] {
        &self.0
    }

    /// The record of a digest, if it is one of these.
    pub fn find(&self, digest: &[u8; 32]) -> Option<&Link> {
        self.0.iter().find(|link| link.digest == *digest)
    }
}

/// Checks one record after the one before it.
fn follow(before: Option<&Link>, document: &SignedDocument) -> Result<Link, Error> {
    let record = ProvisioningRecord::parse(document.document().as_bytes())?;
    let own = format!("record {}", record.sequence);
    let signers = match before {
        None if record.sequence != 1 => return Err(Error::DoesNotBegin(record.sequence)),
        None => document.signers(&[&record.roster])?,
        Some(before) => {
            check_place(before, &record)?;
            let signers = document.signers(&[&before.record.roster, &record.roster])?;
            let earlier = format!("record {}, the one before", before.record.sequence);
            signers.meet(&earlier, &before.record.roster, before.record.provisioning, None)?;
            signers
        }
    };
    signers.meet(&own, &record.roster, record.provisioning, None)?;
    Ok(Link {
        digest: document.digest(),
        record,
        signers,
    })
}

fn check_place(before: &Link, record: &ProvisioningRecord) -> Result<(), Error> {
    let refuse = |reason: String| {
        Err(Error::DoesNotFollow {
            sequence: record.sequence,
            reason,
        })
    };
    let earlier = &before.record;
    if record.cluster != earlier.cluster {
        return refuse(format!(
            "it is of cluster {}, that one of {}",
            record.cluster, earlier.cluster
        ));
    }
    if Some(record.sequence) != earlier.sequence.checked_add(1) {
        return refuse(format!("that one is record {}", earlier.sequence));
    }
    if record.previous != Some(before.digest) {
        return refuse(format!(
            "it names another one before it; that one's digest is {}",
            hex::encode(before.digest)
        ));
    }
    if record.made_at < earlier.made_at {
        return refuse(format!(
            "it was made at {}, that one at {}",
            record.made_at, earlier.made_at
        ));
    }
    if record.domain.epoch < earlier.domain.epoch {
        return refuse(format!(
            "its domain epoch is {}, that one's {}",
            record.domain.epoch, earlier.domain.epoch
        ));
    }
    if record.domain.epoch == earlier.domain.epoch && record.domain.fingerprint != earlier.domain.fingerprint {
        return refuse(format!(
            "the fingerprint of domain epoch {} is another",
            record.domain.epoch
        ));
    }
    Ok(())
}

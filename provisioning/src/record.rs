//! The provisioning record: which domain a cluster has, on which members, and who guards it. The gateway starts on it.

use crate::{
    Error, Moment,
    custodian::Custodian,
    document::{DocumentKind, SignedDocument},
    quorum::{Roster, Threshold},
    text::{is_name, parse_digest, read_json, write_json},
};
use serde::{Deserialize, Serialize};

/// A provisioning record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvisioningRecord {
    /// What the cluster is called.
    pub cluster: String,
    /// Its number among the cluster's records, from 1.
    pub sequence: u64,
    /// The digest of the record before it; `None` for the first.
    pub previous: Option<[u8; 32]>,
    /// When it was made.
    pub made_at: Moment,
    /// The ceremony that made it.
    pub ceremony: String,
    /// The domain that every member holds.
    pub domain: DomainIdentity,
    /// The members.
    pub members: Vec<MemberIdentity>,
    /// How many custodians sign the next record, or approve a ceremony.
    pub provisioning: Threshold,
    /// How many custodians activate a root key.
    pub activation: Threshold,
    /// The custodians.
    pub roster: Roster,
}

/// A domain by its epoch and fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainIdentity {
    /// The epoch, from 1.
    pub epoch: u32,
    /// The fingerprint of its keys.
    pub fingerprint: [u8; 32],
}

/// A member as its token names itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberIdentity {
    /// Its name in the cluster, and in the gateway's configuration.
    pub name: String,
    /// `CK_TOKEN_INFO.label`, without padding.
    pub token_label: String,
    /// `CK_TOKEN_INFO.serialNumber`, without padding.
    pub token_serial_number: String,
    /// `CK_TOKEN_INFO.manufacturerID`, without padding.
    pub manufacturer: String,
    /// `CK_TOKEN_INFO.model`, without padding.
    pub model: String,
}

impl ProvisioningRecord {
    /// Reads a record's text, without its signatures.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let written: Written = read_json(WHAT, text)?;
        let record = written.into_record()?;
        record.check()?;
        Ok(record)
    }

    /// The record as a document for the custodians to sign.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where it could not be read again.
    pub fn to_document(&self) -> Result<SignedDocument, Error> {
        self.check()?;
        let text = write_json(&Written::of(self));
        Ok(SignedDocument::unsigned(DocumentKind::ProvisioningRecord, text))
    }

    /// The member of a name.
    pub fn member(&self, name: &str) -> Option<&MemberIdentity> {
        self.members.iter().find(|member| member.name == name)
    }

    /// What the types do not say.
    fn check(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(malformed(reason));
        if !is_name(&self.cluster) {
            return Err(Error::NotAName(self.cluster.clone()));
        }
        if !is_name(&self.ceremony) {
            return Err(Error::NotAName(self.ceremony.clone()));
        }
        if (self.sequence == 1) != self.previous.is_none() || self.sequence == 0 {
            return refuse("record 1 has no record before it, and every other has one".to_owned());
        }
        if self.domain.epoch == 0 {
            return refuse("a domain's epochs begin with 1".to_owned());
        }
        if self.members.is_empty() {
            return refuse("it names no member".to_owned());
        }
        for (index, one) in self.members.iter().enumerate() {
            if !is_name(&one.name) {
                return Err(Error::NotAName(one.name.clone()));
            }
            for (field, longest) in [
                (&one.token_label, 32),
                (&one.token_serial_number, 16),
                (&one.manufacturer, 32),
                (&one.model, 16),
            ] {
                if field.chars().count() > longest || field.chars().any(char::is_control) {
                    return refuse(format!(
                        "{field:?} of member {} is longer than a token's, or no text",
                        one.name
                    ));
                }
            }
            if one.token_serial_number.is_empty() {
                return refuse(format!("member {} has no serial number", one.name));
            }
            for other in &self.members[..index] {
                if one.name.eq_ignore_ascii_case(&other.name) {
                    return refuse(format!("two members have the name {}", one.name));
                }
                if one.token_serial_number == other.token_serial_number && one.manufacturer == other.manufacturer {
                    return refuse(format!("members {} and {} are one token", other.name, one.name));
                }
            }
        }
        Ok(())
    }
}

/// The record as it stands in its text, in the order of the format.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    cluster: String,
    sequence: u64,
    previous: Option<String>,
    made_at: Moment,
    ceremony: String,
    domain: WrittenDomain,
    members: Vec<MemberIdentity>,
    thresholds: WrittenThresholds,
    custodians: Vec<Custodian>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDomain {
    epoch: u32,
    fingerprint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenThresholds {
    provisioning: u32,
    activation: u32,
}

impl Written {
    fn of(record: &ProvisioningRecord) -> Self {
        Self {
            format: DocumentKind::ProvisioningRecord.text().to_owned(),
            cluster: record.cluster.clone(),
            sequence: record.sequence,
            previous: record.previous.map(hex::encode),
            made_at: record.made_at,
            ceremony: record.ceremony.clone(),
            domain: WrittenDomain {
                epoch: record.domain.epoch,
                fingerprint: hex::encode(record.domain.fingerprint),
            },
            members: record.members.clone(),
            thresholds: WrittenThresholds {
                provisioning: record.provisioning.need().into(),
                activation: record.activation.need().into(),
            },
            custodians: record.roster.custodians().to_vec(),
        }
    }

    fn into_record(self) -> Result<ProvisioningRecord, Error> {
        let expected = DocumentKind::ProvisioningRecord.text();
        if self.format != expected {
            return Err(malformed(format!(
                "its format is {:?}, expected {expected:?}",
                self.format
            )));
        }
        let digest = |text: &str| {
            let wrong = || {
                malformed(format!(
                    "{text:?} is no digest: expected 64 hexadecimal digits in lower case"
                ))
            };
            parse_digest(text).ok_or_else(wrong)
        };
        let roster = Roster::new(self.custodians)?;
        Ok(ProvisioningRecord {
            cluster: self.cluster,
            sequence: self.sequence,
            previous: self.previous.as_deref().map(digest).transpose()?,
            made_at: self.made_at,
            ceremony: self.ceremony,
            domain: DomainIdentity {
                epoch: self.domain.epoch,
                fingerprint: digest(&self.domain.fingerprint)?,
            },
            members: self.members,
            provisioning: roster.threshold(self.thresholds.provisioning)?,
            activation: roster.threshold(self.thresholds.activation)?,
            roster,
        })
    }
}

fn malformed(reason: String) -> Error {
    Error::Malformed { what: WHAT, reason }
}

const WHAT: &str = "provisioning record";

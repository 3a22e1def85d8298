//! Custodians with keys of their own, who sign provisioning records of test clusters.

use crate::{cluster::TestCluster, gateway::Gateway};
use portcullis_provisioning::{
    chain::Chain,
    custodian::Custodian,
    document::SignedDocument,
    quorum::Roster,
    record::{DomainIdentity, MemberIdentity, ProvisioningRecord},
    signing_key::{SigningKey, SigningKeyKind},
};
use std::fs;

/// Six custodians, of whom five are on the roster of a first record; every other one has a key of a smart card's kind.
pub struct Custodians {
    keys: Vec<SigningKey>,
    custodians: Vec<Custodian>,
}

impl Custodians {
    /// Six people.
    pub fn new() -> Self {
        let keys: Vec<SigningKey> = (0..6)
            .map(|index| match index % 2 {
                0 => SigningKey::generate(SigningKeyKind::Ed25519),
                _ => SigningKey::generate(SigningKeyKind::EcdsaP256),
            })
            .map(|made| made.expect("a signing key").0)
            .collect();
        let custodians = keys
            .iter()
            .zip(RECIPIENTS)
            .enumerate()
            .map(|(index, (key, recipient))| Custodian {
                name: format!("custodian {}", index + 1).parse().expect("a name"),
                signing_key: key.public().clone(),
                age_recipient: recipient.parse().expect("a recipient"),
            });
        Self {
            custodians: custodians.collect(),
            keys,
        }
    }

    /// The roster of these, counted from 1.
    pub fn roster(&self, numbers: &[usize]) -> Roster {
        let chosen = numbers.iter().map(|number| self.custodians[number - 1].clone());
        Roster::new(chosen.collect()).expect("a roster")
    }

    /// The first record of a running gateway's cluster: its domain and its tokens, with three of the first five custodians.
    pub async fn record_of(&self, cluster: &TestCluster, gateway: &Gateway) -> ProvisioningRecord {
        let roster = self.roster(&[1, 2, 3, 4, 5]);
        let status = gateway.cluster_status().await;
        let members = status.members.iter().map(|member| {
            let token = member.token.clone().expect("the member's token");
            MemberIdentity {
                name: member.name.trim_start_matches("members/").to_owned(),
                token_label: token.label,
                token_serial_number: token.serial_number,
                manufacturer: token.manufacturer,
                model: token.model,
            }
        });
        let config = fs::read_to_string(cluster.config_file()).expect("the configuration");
        let config: toml::Table = config.parse().expect("the configuration is TOML");
        let fingerprint = config["domain"]["fingerprint"].as_str().expect("a fingerprint");
        ProvisioningRecord {
            cluster: "alpha".to_owned(),
            sequence: 1,
            previous: None,
            made_at: "2026-11-22T12:00:00Z".parse().expect("a time"),
            ceremony: "domain-key-generate".to_owned(),
            domain: DomainIdentity {
                epoch: status.domain_epoch,
                fingerprint: hex::decode(fingerprint)
                    .ok()
                    .and_then(|bytes| bytes.try_into().ok())
                    .expect("32 bytes"),
            },
            members: members.collect(),
            provisioning: roster.threshold(3).expect("a threshold"),
            activation: roster.threshold(3).expect("a threshold"),
            roster,
        }
    }

    /// A record with the signatures of these, counted from 1.
    pub fn signed(&self, record: &ProvisioningRecord, numbers: &[usize]) -> SignedDocument {
        let mut document = record.to_document().expect("a record");
        self.sign(&mut document, numbers);
        document
    }

    /// Lets these sign a document.
    pub fn sign(&self, document: &mut SignedDocument, numbers: &[usize]) {
        for number in numbers {
            document.sign(&self.keys[number - 1]).expect("a signature");
        }
    }

    /// The digest by which the next record names this one.
    pub fn digest(&self, file: &str) -> [u8; 32] {
        Chain::parse(file).expect("a chain of records").last().digest
    }
}

impl Default for Custodians {
    fn default() -> Self {
        Self::new()
    }
}

// Nothing is ever encrypted to these.
const RECIPIENTS: [&str; 6] = [
    "age17gdexhhakfrmq4fuwafwqv6qc74tuerx9zp3gjverqwdjhqhlv7q5as89v",
    "age1g53ycprpns3fhpgmdna97f6cgkdl8jf6pt8w8rfycxhhw9mdjmesq4ve54",
    "age13wrd8kks7cur8q08ps63j8dv6ja3496wn5j6kl9gp3rj4yw8lt4qsqzsz9",
    "age1qxckp8yqf6v75esy9qtx0dzjgglwawy5sz4vpck5kghsuxnkgllsuz67gl",
    "age1hurz84l8u0ackldz40yxlgrrgqqhadll6k24q7j5z0qkavy226eqpkfdl0",
    "age18z5zj9th8u0ujkesregzy42thsreay2563vwzc3ezuqw9vqu6dyqyvw9p8",
];

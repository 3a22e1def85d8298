//! Custodians with keys of their own, and the records that they sign.

use bech32::{Bech32, Hrp};
use portcullis_provisioning::{
    custodian::Custodian,
    document::SignedDocument,
    quorum::Roster,
    record::{DomainIdentity, MemberIdentity, ProvisioningRecord},
    signing_key::{SigningKey, SigningKeyKind},
};
use std::sync::LazyLock;

/// Seven people; every other one signs with a key of a smart card's kind.
pub(crate) static KEYS: LazyLock<Vec<SigningKey>> = LazyLock::new(|| {
    (0..7)
        .map(|index| match index % 2 {
            0 => SigningKey::generate(SigningKeyKind::Ed25519),
            _ => SigningKey::generate(SigningKeyKind::EcdsaP256),
        })
        .map(|made| made.expect("a key").0)
        .collect()
});

/// The custodian with the number.
pub(crate) fn custodian(number: usize) -> Custodian {
    let hrp = Hrp::parse("age").expect("a prefix");
    let recipient = bech32::encode::<Bech32>(hrp, &[number as u8; 32]).expect("a recipient");
    Custodian {
        name: format!("custodian {number}").parse().expect("a name"),
        signing_key: KEYS[number - 1].public().clone(),
        age_recipient: recipient.parse().expect("a recipient"),
    }
}

/// A roster of these.
pub(crate) fn roster(numbers: &[usize]) -> Roster {
    Roster::new(numbers.iter().map(|number| custodian(*number)).collect()).expect("a roster")
}

/// The first record of a cluster, with these custodians, of whom so many sign.
pub(crate) fn first_record(numbers: &[usize], need: u32) -> ProvisioningRecord {
    let roster = roster(numbers);
    ProvisioningRecord {
        cluster: "alpha".to_owned(),
        sequence: 1,
        previous: None,
        made_at: "2026-12-01T09:30:00Z".parse().expect("a time"),
        ceremony: "domain-key-generate 1".to_owned(),
        domain: DomainIdentity {
            epoch: 1,
            fingerprint: [7; 32],
        },
        members: vec![member("a")],
        provisioning: roster.threshold(need).expect("a threshold"),
        activation: roster.threshold(need).expect("a threshold"),
        roster,
    }
}

/// A record that follows another with the same content.
pub(crate) fn next_record(before: &ProvisioningRecord, digest: [u8; 32]) -> ProvisioningRecord {
    ProvisioningRecord {
        sequence: before.sequence + 1,
        previous: Some(digest),
        ..before.clone()
    }
}

/// A member of a name.
pub(crate) fn member(name: &str) -> MemberIdentity {
    MemberIdentity {
        name: name.to_owned(),
        token_label: format!("portcullis-{name}"),
        token_serial_number: format!("serial-{name}"),
        manufacturer: "Example HSMs".to_owned(),
        model: "Model 1".to_owned(),
    }
}

/// The record with signatures of these.
pub(crate) fn signed(record: &ProvisioningRecord, numbers: &[usize]) -> SignedDocument {
    let mut document = record.to_document().expect("a document");
    for number in numbers {
        document.sign(&KEYS[number - 1]).expect("a signature");
    }
    document
}

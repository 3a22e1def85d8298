//! Records after each other.

use crate::people::{KEYS, custodian, first_record, member, next_record, roster, signed};
use portcullis_provisioning::{
    Error,
    chain::Chain,
    document::{DocumentKind, Signature, SignedDocument},
    quorum::Roster,
    record::ProvisioningRecord,
    signing_key::{SigningKey, SigningKeyKind},
};

const ALL: [usize; 5] = [1, 2, 3, 4, 5];

fn parse(documents: &[&SignedDocument]) -> Result<Chain, Error> {
    let texts: Vec<_> = documents.iter().map(ToString::to_string).collect();
    Chain::parse(&texts.join("\n"))
}

fn names(link: &portcullis_provisioning::chain::Link) -> Vec<String> {
    link.signers.names().iter().map(ToString::to_string).collect()
}

#[test]
fn a_quorum_signs_the_first_record_and_each_that_follows() {
    let first = first_record(&ALL, 3);
    let one = signed(&first, &[5, 1, 4]);
    let chain = parse(&[&one]).expect("a chain");
    assert_eq!(chain.last().record, first);
    assert_eq!(names(chain.last()), ["custodian 1", "custodian 4", "custodian 5"]);

    // Custodians 4 and 5 go, 6 and 7 come; the old quorum lets them in, the new one shows its keys.
    let mut second = next_record(&first, one.digest());
    second.roster = roster(&[1, 2, 3, 6, 7]);
    second.members.push(member("b"));
    let two = signed(&second, &[1, 2, 4, 6]);
    let chain = parse(&[&one, &two]).expect("a chain");
    assert_eq!(chain.last().record, second);
    assert_eq!(chain.links().len(), 2);
    assert_eq!(chain.find(&one.digest()).expect("the first").record.sequence, 1);

    let mut grown = parse(&[&one]).expect("a chain");
    grown.extend(&two).expect("the second follows");
    assert_eq!(grown, chain);
}

#[test]
fn too_few_custodians_are_refused() {
    let first = first_record(&ALL, 3);
    for few in [&[][..], &[1], &[2, 5]] {
        let refused = parse(&[&signed(&first, few)]).expect_err("too few");
        assert!(
            matches!(&refused, Error::TooFewSignatures { need: 3, found, .. } if *found == few.len()),
            "{refused}"
        );
    }
}

#[test]
fn a_later_record_needs_the_quorum_of_the_one_before_and_its_own() {
    let first = first_record(&ALL, 3);
    let one = signed(&first, &[1, 2, 3]);
    let mut second = next_record(&first, one.digest());
    second.roster = roster(&[3, 4, 5, 6, 7]);
    // All of the new ones agree; of the old ones only those who stay and sign count.
    let refused = parse(&[&one, &signed(&second, &[3, 5, 6, 7])]).expect_err("the old quorum did not sign");
    assert!(
        matches!(&refused, Error::TooFewSignatures { whose, found: 2, .. } if whose.starts_with("record 1")),
        "{refused}"
    );
    // The old ones put in keys that nobody has shown to have.
    let refused = parse(&[&one, &signed(&second, &[1, 2, 3])]).expect_err("the new quorum did not sign");
    assert!(
        matches!(&refused, Error::TooFewSignatures { whose, found: 1, .. } if whose == "record 2"),
        "{refused}"
    );
    parse(&[&one, &signed(&second, &[1, 2, 3, 4, 5])]).expect("both did");
}

#[test]
fn nobody_counts_twice_and_strangers_never() {
    let first = first_record(&ALL, 3);
    let refused = parse(&[&signed(&first, &[1, 2, 2])]).expect_err("one signed twice");
    assert_eq!(refused, Error::SignedTwice(custodian(2).name));
    let refused = parse(&[&signed(&first, &[1, 2, 3, 6])]).expect_err("a stranger");
    assert_eq!(refused, Error::UnknownSigner(KEYS[5].public().id()));
    // A stranger's signature under a custodian's name, although three others are right.
    let (stranger, _) = SigningKey::generate(SigningKeyKind::Ed25519).expect("a key");
    let mut document = signed(&first, &[1, 2, 3]);
    let bytes = stranger.sign(&document.to_be_signed()).expect("a signature");
    document.add(Signature {
        key: KEYS[3].public().id(),
        bytes,
    });
    assert_eq!(parse(&[&document]), Err(Error::WrongSignature(custodian(4).name)));
}

#[test]
fn a_signature_is_of_one_document_alone() {
    let first = first_record(&ALL, 3);
    let one = signed(&first, &[1, 2, 3]);
    let mut other = first.clone();
    other.domain.fingerprint[0] ^= 1;
    let mut forged = other.to_document().expect("a document");
    for signature in one.signatures() {
        forged.add(signature.clone());
    }
    assert_eq!(parse(&[&forged]), Err(Error::WrongSignature(custodian(1).name)));
    // Nor is it one of the same text read as another kind.
    let as_request = SignedDocument::parse(DocumentKind::JoinRequest, &one.to_string()).expect("a document");
    let refused = as_request.signers(&[&first.roster]).expect_err("another kind");
    assert_eq!(refused, Error::WrongSignature(custodian(1).name));
}

#[test]
fn one_person_cannot_be_two_custodians() {
    let (one, two) = (custodian(1), custodian(2));
    let duplicate = |change: &dyn Fn(&mut portcullis_provisioning::custodian::Custodian)| {
        let mut second = two.clone();
        change(&mut second);
        Roster::new(vec![one.clone(), second]).expect_err("one person")
    };
    let same_name = duplicate(&|second| second.name = "Custodian 1".parse().expect("a name"));
    assert!(matches!(same_name, Error::DuplicateCustodian(_)), "{same_name}");
    let same_key = duplicate(&|second| second.signing_key = one.signing_key.clone());
    assert!(matches!(same_key, Error::DuplicateSigningKey(..)), "{same_key}");
    let same_recipient = duplicate(&|second| second.age_recipient = one.age_recipient.clone());
    assert!(
        matches!(same_recipient, Error::DuplicateRecipient(..)),
        "{same_recipient}"
    );
}

#[test]
fn a_record_follows_exactly_one_other() {
    let first = first_record(&ALL, 3);
    let one = signed(&first, &[1, 2, 3]);
    let next = next_record(&first, one.digest());
    let refused = |change: &dyn Fn(&mut ProvisioningRecord)| {
        let mut second = next.clone();
        change(&mut second);
        parse(&[&one, &signed(&second, &[1, 2, 3])])
            .expect_err("it does not follow")
            .to_string()
    };
    for (change, words) in [
        (
            &(|record: &mut ProvisioningRecord| record.sequence = 3) as &dyn Fn(&mut ProvisioningRecord),
            "that one is record 1",
        ),
        (
            &|record| record.previous = Some([0; 32]),
            "it names another one before it",
        ),
        (&|record| record.cluster = "beta".to_owned(), "it is of cluster beta"),
        (
            &|record| record.made_at = "2026-11-30T00:00:00Z".parse().expect("a time"),
            "it was made at",
        ),
        (
            &|record| record.domain.fingerprint = [8; 32],
            "the fingerprint of domain epoch 1 is another",
        ),
        (
            &|record| record.provisioning = record.roster.threshold(4).expect("a threshold"),
            "3 of the custodians of record 2",
        ),
    ] {
        let said = refused(change);
        assert!(said.contains(words), "{words}: {said}");
    }
    let two = signed(&next, &[1, 2, 3]);
    assert_eq!(parse(&[&two]), Err(Error::DoesNotBegin(2)));
    assert!(matches!(
        parse(&[&one, &one]),
        Err(Error::DoesNotFollow { sequence: 1, .. })
    ));
    assert_eq!(parse(&[]), Err(Error::EmptyChain));
}

#[test]
fn a_record_that_says_nonsense_is_not_made() {
    let refused = |change: &dyn Fn(&mut ProvisioningRecord)| {
        let mut record = first_record(&ALL, 3);
        change(&mut record);
        record.to_document().expect_err("nonsense").to_string()
    };
    for (change, words) in [
        (
            &(|record: &mut ProvisioningRecord| record.members.clear()) as &dyn Fn(&mut ProvisioningRecord),
            "names no member",
        ),
        (
            &|record| record.members.push(member("a")),
            "two members have the name a",
        ),
        (
            &|record| {
                record.members.push(portcullis_provisioning::record::MemberIdentity {
                    name: "b".to_owned(),
                    ..member("a")
                })
            },
            "are one token",
        ),
        (
            &|record| record.members[0].token_serial_number.clear(),
            "has no serial number",
        ),
        (&|record| record.cluster = "a:b".to_owned(), "is no name"),
        (&|record| record.sequence = 2, "every other has one"),
        (&|record| record.domain.epoch = 0, "begin with 1"),
    ] {
        let said = refused(change);
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn thresholds_in_a_text_are_checked_like_all_others() {
    let text = first_record(&ALL, 3)
        .to_document()
        .expect("a document")
        .document()
        .to_owned();
    for (wrong, refusal) in [
        ("\"provisioning\": 1", Error::ThresholdBelowTwo { need: 1 }),
        ("\"provisioning\": 0", Error::ThresholdBelowTwo { need: 0 }),
        (
            "\"provisioning\": 6",
            Error::ThresholdAboveCustodians { need: 6, of: 5 },
        ),
    ] {
        let changed = text.replace("\"provisioning\": 3", wrong);
        assert_eq!(ProvisioningRecord::parse(changed.as_bytes()), Err(refusal));
    }
}

//! Splitting, distribution and collection; each refusal by its name; and what shares tell of a secret: nothing.

use super::{
    set::{check_groups, combine, raw_shares},
    *,
};
use age::{secrecy::ExposeSecret, x25519};
use portcullis_provisioning::{
    custodian::{Custodian, CustodianName},
    quorum::{Roster, Threshold},
    signing_key::{SigningKey, SigningKeyKind},
};
use rand::{CryptoRng, SeedableRng, TryCryptoRng, TryRng, rngs::StdRng};
use std::convert::Infallible;
use zeroize::Zeroizing;

/// Custodians with identities of their own.
struct People {
    roster: Roster,
    identities: Vec<x25519::Identity>,
}

impl People {
    fn new(number: usize) -> Self {
        let identities: Vec<_> = (0..number).map(|_| x25519::Identity::generate()).collect();
        let custodians = identities.iter().enumerate().map(|(index, identity)| Custodian {
            name: name(index + 1),
            signing_key: SigningKey::generate(SigningKeyKind::Ed25519)
                .expect("a key")
                .0
                .public()
                .clone(),
            age_recipient: identity.to_public().to_string().parse().expect("a recipient"),
        });
        Self {
            roster: Roster::new(custodians.collect()).expect("a roster"),
            identities,
        }
    }

    fn split(&self, need: u32) -> ShareSet {
        let random = &mut random();
        ShareSet::split(
            &secret(),
            "the PIN of a root token",
            &self.roster,
            need,
            AllNeeded::Refused,
            random,
        )
        .expect("a set")
    }

    /// The shares as their custodians decrypt them.
    fn decrypt(&self, distribution: &Distribution) -> Vec<Share> {
        distribution
            .encrypted()
            .iter()
            .zip(&self.identities)
            .map(|(share, identity)| open(&share.file, identity.to_string().expose_secret()).expect("a share"))
            .collect()
    }
}

fn name(number: usize) -> CustodianName {
    format!("custodian {number}").parse().expect("a name")
}

fn secret() -> Secret {
    Secret::new(Zeroizing::new(SECRET.to_vec())).expect("a secret")
}

fn random() -> StdRng {
    StdRng::seed_from_u64(7)
}

const SECRET: &[u8; 32] = b"k7m3w9q2x8r4t6y5u3n8d2f7h9j4c6v5";

#[test]
fn shares_go_out_come_back_and_give_the_secret() {
    let people = People::new(5);
    let mut distribution = people.split(3).encrypt(&mut random()).expect("encrypted shares");
    let shares = people.decrypt(&distribution);
    for (number, share) in (1..).zip(&shares) {
        let challenge = distribution.challenge(&name(number)).expect("a challenge");
        distribution
            .prove(&name(number), &share.answer(&challenge))
            .expect("a proof");
    }
    let description = distribution.activate().expect("everybody has a share");
    let mut collection = Collection::new(description, &Voided::default()).expect("a collection");
    for (share, missing) in shares.into_iter().skip(1).take(3).zip([2, 1, 0]) {
        let owner = name(share.index().into());
        assert_eq!(collection.add(&owner, share), Ok(missing));
    }
    assert_eq!(collection.combine().expect("the secret").expose(), SECRET);
}

#[test]
fn nothing_is_activated_before_everybody_has_shown_a_share() {
    let people = People::new(3);
    let mut distribution = people.split(2).encrypt(&mut random()).expect("encrypted shares");
    let shares = people.decrypt(&distribution);
    for number in [1, 3] {
        let challenge = distribution.challenge(&name(number)).expect("a challenge");
        let proof = shares[number - 1].answer(&challenge);
        distribution.prove(&name(number), &proof).expect("a proof");
        // The second custodian cannot show it: neither with another's share, nor with another's answer.
        assert_eq!(
            distribution.prove(&name(2), &proof),
            Err(ShareError::WrongProof(name(2)))
        );
        let challenge = distribution.challenge(&name(2)).expect("a challenge");
        let borrowed = shares[number - 1].answer(&challenge);
        assert_eq!(
            distribution.prove(&name(2), &borrowed),
            Err(ShareError::WrongProof(name(2)))
        );
    }
    assert_eq!(
        distribution.activate(),
        Err(ShareError::NotProved("custodian 2".to_owned()))
    );
    assert_eq!(distribution.missing(), [&name(2)]);
    assert_eq!(
        distribution.prove(&name(4), &Proof([0; 32])),
        Err(ShareError::UnknownCustodian(name(4)))
    );
    let challenge = distribution.challenge(&name(2)).expect("a challenge");
    distribution
        .prove(&name(2), &shares[1].answer(&challenge))
        .expect("a proof");
    distribution.activate().expect("everybody has a share");
}

#[test]
fn a_share_is_for_its_custodian_alone() {
    let people = People::new(3);
    let distribution = people.split(2).encrypt(&mut random()).expect("encrypted shares");
    let [first, ..] = distribution.encrypted() else {
        panic!("three shares")
    };
    let other = people.identities[1].to_string();
    assert!(matches!(
        open(&first.file, other.expose_secret()),
        Err(ShareError::NotDecrypted(_))
    ));
    assert!(matches!(
        open(&first.file, "no identity"),
        Err(ShareError::NotDecrypted(_))
    ));
    let mut damaged = first.file.clone();
    *damaged.last_mut().expect("a byte") ^= 1;
    let own = people.identities[0].to_string();
    assert!(matches!(
        open(&damaged, own.expose_secret()),
        Err(ShareError::NotDecrypted(_))
    ));
    for share in distribution.encrypted() {
        let value = open(
            &share.file,
            people.identities[usize::from(share.index) - 1]
                .to_string()
                .expose_secret(),
        );
        let value = value.expect("a share").value.to_vec();
        assert!(!share.file.windows(value.len()).any(|window| window == value));
    }
}

#[test]
fn thresholds_and_lengths_are_refused_by_name() {
    let people = People::new(3);
    let split = |need, all_needed| {
        ShareSet::split(&secret(), "PIN", &people.roster, need, all_needed, &mut random()).map(|_| ())
    };
    use portcullis_provisioning::Error;
    for need in [0, 1] {
        let refused = ShareError::Roster(Error::ThresholdBelowTwo { need });
        assert_eq!(split(need, AllNeeded::Refused), Err(refused));
    }
    let above = ShareError::Roster(Error::ThresholdAboveCustodians { need: 4, of: 3 });
    assert_eq!(split(4, AllNeeded::Meant), Err(above));
    assert_eq!(split(3, AllNeeded::Refused), Err(ShareError::AllNeeded(3)));
    assert_eq!(split(3, AllNeeded::Meant), Ok(()));
    for length in [0, 15, 65] {
        let refused = Secret::new(Zeroizing::new(vec![1; length])).expect_err("a wrong length");
        assert_eq!(refused, ShareError::SecretLength(length));
    }
}

#[test]
fn what_is_not_a_share_of_the_set_is_refused_by_name() {
    let people = People::new(4);
    let set = people.split(3);
    let description = set.description().clone();
    // Another set of the same secret and people.
    let other = ShareSet::split(
        &secret(),
        "PIN",
        &people.roster,
        3,
        AllNeeded::Refused,
        &mut StdRng::seed_from_u64(8),
    )
    .expect("a set");
    let share =
        |set: &ShareSet, index| Share::from_bytes(&set.share(index).expect("a share").to_bytes()).expect("a share");
    let mut collection = Collection::new(description.clone(), &Voided::default()).expect("a collection");
    let foreign = collection.add(&name(1), share(&other, 1));
    assert!(
        matches!(foreign, Err(ShareError::ForeignSet { found, .. }) if found == other.description().set),
        "{foreign:?}"
    );
    let swapped = collection.add(&name(1), share(&set, 2));
    assert_eq!(
        swapped,
        Err(ShareError::Swapped {
            brought: name(1),
            owner: name(2)
        })
    );
    assert_eq!(
        collection.add(&name(5), share(&set, 1)),
        Err(ShareError::UnknownCustodian(name(5)))
    );
    collection.add(&name(1), share(&set, 1)).expect("the first");
    let twice = collection.add(&name(1), share(&set, 1));
    assert_eq!(
        twice,
        Err(ShareError::Duplicate {
            index: 1,
            custodian: name(1)
        })
    );

    for change in [
        |share: &mut Share| share.value[5] ^= 1,
        |share: &mut Share| share.salt[0] ^= 1,
        |share: &mut Share| share.threshold = Threshold::new(2, 4).expect("a threshold"),
    ] {
        let mut tampered = share(&set, 2);
        change(&mut tampered);
        // Its own checksum is right.
        let tampered = Share::from_bytes(&tampered.to_bytes()).expect("a share");
        assert_eq!(collection.add(&name(2), tampered), Err(ShareError::Tampered(name(2))));
    }
    let mut forged = share(&set, 2);
    forged.index = 0;
    assert_eq!(
        Share::from_bytes(&forged.to_bytes()).map(|_| ()),
        Err(ShareError::ZeroIndex)
    );
    assert_eq!(collection.add(&name(2), forged), Err(ShareError::ZeroIndex));
    let mut forged = share(&set, 2);
    forged.index = 5;
    let above = ShareError::IndexAbove { index: 5, of: 4 };
    assert_eq!(Share::from_bytes(&forged.to_bytes()).map(|_| ()), Err(above.clone()));
    assert_eq!(collection.add(&name(2), forged), Err(above));

    collection.add(&name(2), share(&set, 2)).expect("the second");
    let too_few = collection.combine().map(|_| ());
    assert_eq!(too_few, Err(ShareError::TooFew { need: 3, found: 2 }));

    let mut voided = Voided::default();
    voided.add(description.set);
    let refused = Collection::new(description.clone(), &voided).map(|_| ());
    assert_eq!(refused, Err(ShareError::VoidSet(description.set)));
}

#[test]
fn shares_of_a_replaced_set_do_not_help_the_new_one() {
    let people = People::new(5);
    let old = people.split(3);
    let new_secret = Secret::new(Zeroizing::new(vec![9; 32])).expect("a secret");
    let new = ShareSet::split(
        &new_secret,
        "PIN",
        &people.roster,
        3,
        AllNeeded::Refused,
        &mut StdRng::seed_from_u64(9),
    )
    .expect("a set");
    let share =
        |set: &ShareSet, index| Share::from_bytes(&set.share(index).expect("a share").to_bytes()).expect("a share");
    let mut collection = Collection::new(new.description().clone(), &Voided::default()).expect("a collection");
    collection.add(&name(1), share(&new, 1)).expect("a share");
    collection.add(&name(2), share(&new, 2)).expect("a share");
    assert!(matches!(
        collection.add(&name(3), share(&old, 3)),
        Err(ShareError::ForeignSet { .. })
    ));
    assert!(collection.combine().is_err());
    // Relabelled, it is found out too.
    let mut relabelled = share(&old, 3);
    relabelled.set = new.description().set;
    assert_eq!(new.description().check(&relabelled), Err(ShareError::Tampered(name(3))));
}

#[test]
fn every_group_is_tried_before_a_share_is_released() {
    let people = People::new(5);
    let set = people.split(3);
    let names = &set.description().custodians;
    let threshold = set.description().threshold;
    let mut shares: Vec<Share> = (1..=5)
        .map(|index| Share::from_bytes(&set.share(index).expect("a share").to_bytes()).expect("a share"))
        .collect();
    check_groups(&secret(), &shares, names, threshold).expect("every group has the secret");
    // One bad share is found wherever it is, by the first group that has it.
    for bad in 0..5 {
        shares[bad].value[31] ^= 0x80;
        let refused = check_groups(&secret(), &shares, names, threshold).expect_err("a bad share");
        assert!(
            refused.to_string().contains(&format!("custodian {}", bad + 1)),
            "{refused}"
        );
        shares[bad].value[31] ^= 0x80;
    }
}

#[test]
fn a_description_in_which_a_custodian_stands_twice_is_refused() {
    let text = toml::to_string(People::new(3).split(2).description()).expect("text");
    assert!(text.contains("\"custodian 2\""), "{text}");
    let wrong = text.replace("\"custodian 2\"", "\"custodian 3\"");
    let refused = toml::from_str::<SetDescription>(&wrong).expect_err("a custodian who counts twice");
    assert!(
        refused.to_string().contains("two custodians have the name custodian 3"),
        "{refused}"
    );
}

#[test]
fn the_description_is_read_as_it_is_written_and_tells_no_secret() {
    let people = People::new(3);
    let set = people.split(2);
    let text = toml::to_string(set.description()).expect("text");
    assert_eq!(
        toml::from_str::<SetDescription>(&text).expect("a description"),
        *set.description()
    );
    for wrong in [
        text.replace("need = 2", "need = 1"),
        text.replace("need = 2", "need = 4"),
        format!("{text}more = 1\n"),
    ] {
        assert!(toml::from_str::<SetDescription>(&wrong).is_err(), "{wrong}");
    }
    let share = set.share(1).expect("a share");
    let shown = format!("{set:?} {share:?} {:?} {text}", secret());
    for secret in [
        hex::encode(SECRET),
        hex::encode(share.value.as_slice()),
        hex::encode(share.salt.as_slice()),
    ] {
        assert!(!shown.contains(&secret));
    }
    assert!(!shown.contains(std::str::from_utf8(SECRET).expect("text")));
}

#[test]
fn a_share_is_typed_in_again_from_paper() {
    let people = People::new(3);
    let set = people.split(2);
    let share = set.share(2).expect("a share");
    let paper = share.to_paper();
    let again = Share::from_paper(&format!("\n  {}\n", paper.to_uppercase().replace(' ', "   "))).expect("the share");
    assert_eq!(*again.to_bytes(), *share.to_bytes());
    set.description().check(&again).expect("the share of the set");

    let rows: Vec<&str> = paper.lines().collect();
    let typed = |rows: &[String]| Share::from_paper(&rows.join("\n")).map(|_| ());
    let own = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
    // Every character, one at a time: the row is named.
    for row in 0..rows.len() {
        for at in rows[row].find(' ').expect("a space") + 1..rows[row].len() {
            let mut wrong = own(&rows);
            let old = wrong[row].as_bytes()[at];
            if old == b' ' {
                continue;
            }
            let new = if old == b'q' { "p" } else { "q" };
            wrong[row].replace_range(at..=at, new);
            assert_eq!(typed(&wrong), Err(PaperError::Check(row + 1)), "row {row}, place {at}");
        }
    }
    let mut swapped = own(&rows);
    swapped.swap(1, 2);
    assert_eq!(typed(&swapped), Err(PaperError::Order { expected: 2, found: 3 }));
    // Also when the numbers are those that are expected.
    let (second, third) = (rows[1].replacen("2:", "3:", 1), rows[2].replacen("3:", "2:", 1));
    (swapped[1], swapped[2]) = (third, second);
    assert_eq!(typed(&swapped), Err(PaperError::Check(2)));
    let mut short = own(&rows);
    short.pop();
    assert_eq!(typed(&short), Err(PaperError::Share(ShareError::NotAShare)));
    let mut wrong = own(&rows);
    wrong[3] = wrong[3].replacen(": ", ": b", 1);
    assert!(matches!(
        typed(&wrong),
        Err(PaperError::Length {
            row: 4,
            group: 1,
            found: 5
        })
    ));
    wrong[3] = format!("4: b{}", &rows[3][4..]);
    assert_eq!(
        typed(&wrong),
        Err(PaperError::Character {
            row: 4,
            group: 1,
            found: 'b'
        })
    );
    wrong[3] = rows[3][..22].to_owned();
    assert!(matches!(typed(&wrong), Err(PaperError::Groups { row: 4, .. })));
    wrong[3] = "four".to_owned();
    assert_eq!(typed(&wrong), Err(PaperError::NoNumber(4)));
}

#[test]
fn a_share_has_the_bytes_that_are_published() {
    let share = share_of(2, (0..32).collect());
    let vectors = vectors();
    assert_eq!(hex::encode(share.to_bytes().as_slice()), vectors["share"]);
    assert_eq!(hex::encode(share.commitment()), vectors["commitment"]);
    assert_eq!(hex::encode(share.answer(&Challenge([0x77; 32])).0), vectors["answer"]);
    assert_eq!(share.to_paper().as_str(), vectors["paper"]);
}

/// Values that another implementation computed.
#[test]
fn the_scheme_is_the_one_that_is_published() {
    let vectors = vectors();
    let values = vectors["three_of_five"]["values"].as_array().expect("values").clone();
    let value = |index: u8| {
        let text = values[usize::from(index) - 1].as_str().expect("a text");
        hex::decode(text).expect("hexadecimal")
    };
    for group in [[1, 2, 3], [1, 3, 5], [2, 4, 5], [5, 4, 3]] {
        let shares = group.map(|index| share_of(index, value(index)));
        let together = combine(&shares).expect("a secret");
        assert_eq!(hex::encode(together.as_slice()), vectors["three_of_five"]["secret"]);
    }
}

fn share_of(index: u8, value: Vec<u8>) -> Share {
    Share {
        set: SetId([0xa5; 16]),
        threshold: Threshold::new(3, 5).expect("a threshold"),
        index,
        salt: Zeroizing::new([0x5a; 16]),
        value: Zeroizing::new(value),
    }
}

fn vectors() -> serde_json::Value {
    let all: serde_json::Value = serde_json::from_str(include_str!("../../../docs/vectors.json")).expect("JSON");
    all["shares"].clone()
}

/// The shares of many splits say nothing of the secret, by any of their bits, and the coefficients are those of chance.
#[test]
fn shares_are_independent_of_the_secret() {
    for (need, of) in [(2, 3), (3, 5), (5, 5)] {
        look_at_distribution(need, of, &mut random()).unwrap_or_else(|why| panic!("{need} of {of}: {why}"));
    }
}

/// The same look finds the source whose numbers are all odd, as a published library's once were.
#[test]
fn a_biased_source_is_found_out() {
    let why = look_at_distribution(2, 3, &mut Odd(random())).expect_err("a biased source");
    assert!(why.contains("share 1, bit 0"), "{why}");
}

struct Odd(StdRng);

impl TryRng for Odd {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.try_next_u32()? | 0x0101_0101)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.try_next_u64()? | 0x0101_0101_0101_0101)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(bytes)?;
        bytes.iter_mut().for_each(|byte| *byte |= 1);
        Ok(())
    }
}

impl TryCryptoRng for Odd {}

/// Splits a secret many times and counts how often each bit of each share differs from the same bit of the secret, and how often
/// each byte stands in it.
fn look_at_distribution(need: u32, of: usize, random: &mut impl CryptoRng) -> Result<(), String> {
    let secret: Vec<u8> = [0x00, 0xff, 0x5a, 0x31].repeat(4);
    let secret = Secret::new(Zeroizing::new(secret)).expect("a secret");
    let threshold = Threshold::new(need, of).expect("a threshold");
    let mut differ = vec![[0u32; 8]; of];
    let mut bytes = vec![[0u32; 256]; of];
    for _ in 0..SPLITS {
        let shares = raw_shares(&secret, threshold, random).expect("shares");
        for (share, (differ, bytes)) in shares.iter().zip(differ.iter_mut().zip(&mut bytes)) {
            for (byte, of_secret) in share.iter().zip(secret.expose()) {
                bytes[usize::from(byte ^ of_secret)] += 1;
                for (bit, count) in differ.iter_mut().enumerate() {
                    *count += u32::from((byte ^ of_secret) >> bit & 1);
                }
            }
        }
    }
    let samples = f64::from(SPLITS) * secret.expose().len() as f64;
    for (place, (differ, bytes)) in differ.iter().zip(&bytes).enumerate() {
        for (bit, count) in differ.iter().enumerate() {
            let off = (f64::from(*count) - samples / 2.0).abs() / (samples / 4.0).sqrt();
            // Chance goes beyond five standard deviations once in a million.
            if off > 5.0 {
                return Err(format!(
                    "share {}, bit {bit}: {off:.1} standard deviations off",
                    place + 1
                ));
            }
        }
        let expected = samples / 256.0;
        let squares: f64 = bytes
            .iter()
            .map(|count| (f64::from(*count) - expected).powi(2) / expected)
            .sum();
        // 255 degrees of freedom: chance goes beyond this once in a million.
        if squares > 377.0 {
            return Err(format!(
                "share {}: its bytes are not spread evenly ({squares:.0})",
                place + 1
            ));
        }
    }
    Ok(())
}

const SPLITS: u32 = 4000;

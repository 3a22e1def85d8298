//! What the cluster can do: of the mechanisms that are carried here, those that it has.

use crate::mechanism::{MECHANISMS, Row};
use cryptoki_sys::*;
use portcullis_proto::v1::{KeyOperation, KeyType, ListMechanismsResponse, Mechanism, PermittedUse};

/// What the gateway said that its HSMs can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Abilities {
    uses: Vec<(KeyOperation, Mechanism)>,
    generated: Vec<KeyType>,
}

impl Abilities {
    pub(crate) fn new(answer: &ListMechanismsResponse) -> Self {
        Self {
            uses: answer
                .uses
                .iter()
                .map(|one| (one.operation(), one.mechanism()))
                .collect(),
            generated: answer.generated_types().collect(),
        }
    }

    /// The mechanisms that are carried here and that the cluster has, each with what can be done by it there.
    pub(crate) fn rows(&self) -> Vec<Row> {
        MECHANISMS.iter().filter_map(|row| self.row(*row)).collect()
    }

    /// Those of some uses that the cluster has; all of them where it has none, so that it can say what it lacks.
    pub(crate) fn among(&self, uses: Vec<PermittedUse>) -> Vec<PermittedUse> {
        let has = |one: &PermittedUse| self.uses.contains(&(one.operation(), one.mechanism()));
        let (had, lacked): (Vec<_>, Vec<_>) = uses.into_iter().partition(has);
        match had.is_empty() {
            true => lacked,
            false => had,
        }
    }

    fn row(&self, row: Row) -> Option<Row> {
        let possible = match row.flags & WORK {
            CKF_DIGEST => CKF_DIGEST,
            flags @ (CKF_GENERATE | CKF_GENERATE_KEY_PAIR) => {
                let is_generated = |key_type: &KeyType| crate::key::generator(*key_type) == row.kind;
                match self.generated.iter().any(is_generated) {
                    true => flags,
                    false => 0,
                }
            }
            _ => self
                .uses
                .iter()
                .filter(|(_, one)| crate::key::standard(*one).contains(&row.kind))
                .fold(0, |flags, (operation, mechanism)| flags | work(*operation, *mechanism)),
        };
        let flags = (row.flags & !WORK) | (row.flags & possible);
        (flags & WORK != 0).then_some(Row { flags, ..row })
    }
}

/// What a use makes possible. What is made with a public key needs no HSM, and is of no use without what only one can do.
fn work(operation: KeyOperation, mechanism: Mechanism) -> CK_FLAGS {
    match (operation, mechanism) {
        (KeyOperation::Sign | KeyOperation::MacSign, _) => CKF_SIGN | CKF_VERIFY,
        (KeyOperation::Encrypt, Mechanism::AesCtr) => 0,
        (KeyOperation::Encrypt, _) => CKF_ENCRYPT,
        (
            KeyOperation::Decrypt,
            Mechanism::AesCtr | Mechanism::RsaOaepSha1 | Mechanism::RsaOaepSha256 | Mechanism::RsaPkcs1Encryption,
        ) => CKF_ENCRYPT | CKF_DECRYPT,
        (KeyOperation::Decrypt, _) => CKF_DECRYPT,
        (KeyOperation::Wrap, _) => CKF_WRAP,
        (KeyOperation::Unwrap, _) => CKF_UNWRAP,
        (KeyOperation::Derive, _) => CKF_DERIVE,
        (KeyOperation::MacVerify | KeyOperation::Unspecified, _) => 0,
    }
}

const WORK: CK_FLAGS = CKF_ENCRYPT
    | CKF_DECRYPT
    | CKF_DIGEST
    | CKF_SIGN
    | CKF_VERIFY
    | CKF_GENERATE
    | CKF_GENERATE_KEY_PAIR
    | CKF_WRAP
    | CKF_UNWRAP
    | CKF_DERIVE;

#[cfg(test)]
mod tests {
    use super::*;

    fn abilities(uses: &[(KeyOperation, Mechanism)], generated: &[KeyType]) -> Abilities {
        Abilities {
            uses: uses.to_vec(),
            generated: generated.to_vec(),
        }
    }

    fn flags(abilities: &Abilities, kind: CK_MECHANISM_TYPE) -> Option<CK_FLAGS> {
        let rows = abilities.rows();
        rows.iter().find(|row| row.kind == kind).map(|row| row.flags & WORK)
    }

    #[test]
    fn what_the_cluster_lacks_is_not_listed() {
        let none = abilities(&[], &[]);
        assert!(none.rows().iter().all(|row| row.flags & WORK == CKF_DIGEST));
        let some = abilities(
            &[
                (KeyOperation::Sign, Mechanism::EcdsaSha256),
                (KeyOperation::Decrypt, Mechanism::RsaPkcs1Encryption),
                (KeyOperation::Encrypt, Mechanism::AesCtr),
            ],
            &[KeyType::EcP256],
        );
        assert_eq!(flags(&some, CKM_ECDSA_SHA1), Some(CKF_SIGN | CKF_VERIFY));
        assert_eq!(flags(&some, CKM_RSA_PKCS), Some(CKF_ENCRYPT | CKF_DECRYPT));
        assert_eq!(flags(&some, CKM_EC_KEY_PAIR_GEN), Some(CKF_GENERATE_KEY_PAIR));
        for absent in [
            CKM_AES_CTR,
            CKM_RSA_PKCS_PSS,
            CKM_RSA_PKCS_KEY_PAIR_GEN,
            CKM_ECDH1_DERIVE,
        ] {
            assert_eq!(flags(&some, absent), None, "{absent:#x}");
        }
    }

    #[test]
    fn a_cluster_that_can_do_everything_has_all_that_is_carried() {
        let mechanisms = (0..=255).filter_map(|number| Mechanism::try_from(number).ok());
        let operations = || (1..=8).filter_map(|number| KeyOperation::try_from(number).ok());
        let uses: Vec<_> = mechanisms
            .flat_map(|mechanism| operations().map(move |operation| (operation, mechanism)))
            .collect();
        let types: Vec<_> = (1..=255).filter_map(|number| KeyType::try_from(number).ok()).collect();
        assert_eq!(abilities(&uses, &types).rows(), MECHANISMS);
    }
}

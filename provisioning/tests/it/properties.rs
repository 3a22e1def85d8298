//! What holds for all records.

use crate::people::{first_record, signed};
use portcullis_provisioning::chain::Chain;
use proptest::{collection::btree_set, prelude::*, sample::Index};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A record counts exactly when as many of its custodians signed as are needed.
    #[test]
    fn fewer_than_needed_never_suffice(
        of in 2usize..=7,
        need in 2u32..=7,
        who in btree_set(1usize..=7, 0..=7),
    ) {
        prop_assume!(need as usize <= of);
        let all: Vec<usize> = (1..=of).collect();
        let who: Vec<usize> = who.into_iter().filter(|one| *one <= of).collect();
        let record = signed(&first_record(&all, need), &who);
        prop_assert_eq!(Chain::parse(&record.to_string()).is_ok(), who.len() >= need as usize);
    }

    /// No byte of a signed record can be another.
    #[test]
    fn a_changed_byte_is_refused(at: Index, bit in 0u8..7) {
        let text = signed(&first_record(&[1, 2, 3], 2), &[1, 2]).to_string();
        let mut bytes = text.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(changed) = String::from_utf8(bytes) {
            prop_assert!(Chain::parse(&changed).is_err(), "byte {at}: {changed}");
        }
    }
}

//! A root key on a token of its own.

use super::{Bench, Detour, Facts, OrFail, StepEnd, as_user, or_undone};
use crate::{
    clock::Clock,
    front::Front,
    name::Name,
    progress::{ALLOWED, NOTHING},
    script::{RootKeyType, Step},
    table::Table,
    token::identity_facts,
};
use portcullis_hsm::{
    pkcs11::Session,
    root_key::{NewRootKey, RootKey},
};
use portcullis_provisioning::custodian::CustodianName;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

impl<F: Front, C: Clock> Table<'_, F, C> {
    pub(super) fn generate_root_key(
        &mut self,
        step: &Step,
        by: &[CustodianName],
        on: &Name,
        label: &str,
        kind: RootKeyType,
    ) -> Result<StepEnd, Detour> {
        let mut bench = Bench::default();
        let mut token = self.open_token(&mut bench, on)?;
        let id = self.object_id(step)?;
        let mut facts = identity_facts(token.info());
        // Somebody who knew it could use the key alone.
        self.required_set(on, super::pins::Whose::User)?;
        let pin = self.user_pin(on, &mut token)?;
        let new = NewRootKey {
            id,
            label: label.to_owned(),
            key_type: kind.key_type(),
            mechanisms: vec![kind.mechanism()],
        };
        let public_key = as_user(&mut token, &pin, |session| {
            self.begin_anew(session, &id)?;
            let made = new.create(session).or_fail()?;
            let looked_at = self.look_at_root_key(session, step, by, &made, &mut facts);
            or_undone(session, &id, looked_at)?;
            Ok(made.public_key().to_vec())
        })?;
        for (name, value) in [
            ("root key", label.to_owned()),
            ("type", kind.to_string()),
            ("signs by", kind.mechanism().to_string()),
            ("objects", id.to_string()),
        ] {
            facts.insert(name.to_owned(), value);
        }
        let mut artefacts = BTreeMap::new();
        let name = self.artefact(step, "spki");
        self.keep(&mut artefacts, name, &public_key)?;
        Ok(StepEnd::Done { facts, artefacts })
    }

    fn look_at_root_key(
        &mut self,
        session: &mut Session,
        step: &Step,
        by: &[CustodianName],
        key: &RootKey,
        facts: &mut Facts,
    ) -> Result<(), Detour> {
        let allowed = key.try_forbidden(session).or_fail()?;
        if !allowed.is_empty() {
            return Err(Detour::Failed(format!(
                "the token allowed what it must refuse: {}",
                allowed.join("; ")
            )));
        }
        facts.insert(ALLOWED.to_owned(), NOTHING.to_owned());
        let fingerprint = Sha256::digest(key.public_key());
        facts.insert("public key, SHA-256".to_owned(), hex::encode(fingerprint));
        self.read_back(step, by, "the fingerprint of the root key", &fingerprint)
    }
}

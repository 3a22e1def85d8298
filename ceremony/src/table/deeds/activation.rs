//! A root key signs at the table, for a while and so many times.

use super::{Bench, Detour, OrFail, StepEnd, as_user, pins::Whose};
use crate::{
    clock::Clock,
    front::Front,
    name::Name,
    progress::USES,
    script::{Activation, FileHash, RootKeyType, Step},
    table::Table,
    token::identity_facts,
    transcript::Event,
};
use der::{Encode, Sequence, asn1::UintRef};
use portcullis_hsm::{
    algorithm::{Family, Hash},
    pkcs11::Session,
    root_key::RootKey,
};
use portcullis_provisioning::custodian::CustodianName;
use sha2::{Digest, Sha256, Sha384};
use std::{collections::BTreeMap, fs, time::Duration};

impl<F: Front, C: Clock> Table<'_, F, C> {
    /// The PIN comes from the shares, and every use is on both media before the key signs. At the end nobody is logged in, and it is
    /// seen that the token refuses.
    pub(super) fn activate_root_key(
        &mut self,
        step: &Step,
        by: &[CustodianName],
        on: &Name,
        activation: &Activation,
    ) -> Result<StepEnd, Detour> {
        let mut bench = Bench::default();
        let mut token = self.open_token(&mut bench, on)?;
        // Somebody who knew it could use the key alone.
        self.required_set(on, Whose::User)?;
        let pin = self.user_pin(on, &mut token)?;
        let until = self.clock.elapsed() + Duration::from_secs(60 * u64::from(activation.within_minutes));
        let mut artefacts = BTreeMap::new();
        let key = as_user(&mut token, &pin, |session| {
            let key = RootKey::find(session, &activation.key, activation.key_type.key_type()).or_fail()?;
            self.say(&format!(
                "The root key is active: {} uses, {} minutes.",
                activation.uses, activation.within_minutes
            ))?;
            self.sign_files(session, step, by, activation, (&key, until), &mut artefacts)?;
            Ok(key)
        })?;
        let digest = vec![0; activation.key_type.hash().length()];
        let refused = token
            .as_nobody(|session| Ok(key.sign(session, activation.key_type.mechanism(), &digest).is_err()))
            .or_fail()?;
        if !refused {
            return Err(Detour::Failed(format!(
                "{on} signs although nobody is logged in: take it away"
            )));
        }
        let mut facts = identity_facts(token.info());
        facts.insert(
            "public key, SHA-256".to_owned(),
            hex::encode(Sha256::digest(key.public_key())),
        );
        facts.insert(USES.to_owned(), self.progress.uses(&step.id).to_string());
        facts.insert("signing afterwards".to_owned(), "refused".to_owned());
        Ok(StepEnd::Done { facts, artefacts })
    }

    fn sign_files(
        &mut self,
        session: &mut Session,
        step: &Step,
        by: &[CustodianName],
        activation: &Activation,
        (key, until): (&RootKey, Duration),
        artefacts: &mut BTreeMap<String, FileHash>,
    ) -> Result<(), Detour> {
        let who = by.first().map(CustodianName::to_string).unwrap_or_default();
        loop {
            let used = self.progress.uses(&step.id);
            let left = activation.uses.saturating_sub(used);
            if left == 0 {
                self.say("Every use is made.")?;
                return Ok(());
            }
            let question = format!("The path of the file to sign, or \"done\" ({left} uses left)");
            let typed = self.ask_text(&format!("use/{}", step.id), &who, &question)?;
            if typed == "done" {
                return Ok(());
            }
            let content = match fs::read(&typed) {
                Ok(content) => content,
                Err(error) => {
                    self.say(&format!("{typed} cannot be read: {error}"))?;
                    continue;
                }
            };
            if self.clock.elapsed() >= until {
                self.say("The time is over: nothing more is signed.")?;
                return Ok(());
            }
            let digest = activation.key_type.digest(&content);
            self.append(Event::Used {
                step: step.id.clone(),
                attempt: self.progress.attempts(&step.id),
                number: used + 1,
                digest: hex::encode(&digest),
            })?;
            let signature = key.sign(session, activation.key_type.mechanism(), &digest).or_fail()?;
            let name = self.artefact(step, "");
            let name = format!("{}-{}.sig", name.trim_end_matches('.'), used + 1);
            let name = self.keep(artefacts, name, &activation.key_type.encode(&signature)?)?;
            self.say(&format!("The signature is {name}, of {typed}."))?;
        }
    }
}

impl RootKeyType {
    fn hash(self) -> Hash {
        match self {
            Self::EcP384 => Hash::Sha384,
            Self::EcP256 | Self::Rsa3072 | Self::Rsa4096 => Hash::Sha256,
        }
    }

    fn digest(self, content: &[u8]) -> Vec<u8> {
        match self.hash() {
            Hash::Sha384 => Sha384::digest(content).to_vec(),
            _ => Sha256::digest(content).to_vec(),
        }
    }

    /// The signature as other tools read it: RSA as it is, ECDSA as `ECDSA-Sig-Value` (RFC 3279 section 2.2.3).
    fn encode(self, signature: &[u8]) -> Result<Vec<u8>, Detour> {
        if matches!(self.key_type().family(), Family::Rsa(_)) {
            return Ok(signature.to_vec());
        }
        let (r, s) = signature.split_at(signature.len() / 2);
        let value = EcdsaSigValue {
            r: UintRef::new(r).or_fail()?,
            s: UintRef::new(s).or_fail()?,
        };
        value.to_der().or_fail()
    }
}

#[derive(Sequence)]
struct EcdsaSigValue<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

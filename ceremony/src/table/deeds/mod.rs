//! What is done with tokens.
//!
//! - `bench`: the tokens of one step; when the step is over nobody is logged in any more.
//! - `custody`: shares that are handed out and shown to be there, and shares that come back.
//! - `pins`: PINs, from shares or typed.
//! - `init`, `renew`, `wipe`, `domain`, `join`, `root_key`, `activation`: the deeds. `record`: what they add up to. `sweep`: what an abort destroys.
//!
//! Token objects that a step makes have a `CKA_ID` of their own. Every attempt begins by destroying what an earlier one left, so
//! it does not matter where that one ended; an abort does the same for all steps.

mod activation;
mod bench;
mod custody;
mod domain;
mod init;
mod join;
mod pins;
mod record;
mod renew;
mod root_key;
mod sweep;
mod wipe;

use super::{Detour, Facts, Table, steps::StepEnd};
use crate::{
    clock::Clock,
    front::Front,
    name::Name,
    progress::{ALLOWED, NOTHING},
    script::{Deed, FileHash, Step},
    words::Words,
};
use bench::Bench;
use portcullis_hsm::{
    domain::{Attempt, Verdict},
    object_id::ObjectId,
    offline_token::OfflineToken,
    pkcs11::Session,
};
use portcullis_provisioning::custodian::CustodianName;
use secrecy::SecretSlice;
use std::{collections::BTreeMap, fmt};

impl<F: Front, C: Clock> Table<'_, F, C> {
    pub(super) fn perform_deed(
        &mut self,
        step: &Step,
        by: &[CustodianName],
        on: &Name,
        deed: &Deed,
    ) -> Result<StepEnd, Detour> {
        match deed {
            Deed::Initialise { user_pin } => self.initialise(step, by, on, *user_pin),
            Deed::RenewPins => self.renew_pins(step, on),
            Deed::Wipe => self.wipe(step, on),
            Deed::GenerateDomain { epoch } => self.generate_domain(step, by, on, *epoch),
            Deed::BackUpDomain { epoch } => self.back_up_domain(step, on, *epoch),
            Deed::JoinDomain { epoch, from, oaep_hash } => self.join_domain(step, by, (on, from), *epoch, *oaep_hash),
            Deed::RestoreDomain { epoch, to_be } => self.restore_domain(step, on, *epoch, *to_be),
            Deed::DestroyDomain { epoch } => self.destroy_domain(step, on, *epoch),
            Deed::GenerateRootKey { label, key_type } => self.generate_root_key(step, by, on, label, *key_type),
            Deed::ActivateRootKey(activation) => self.activate_root_key(step, by, on, activation),
        }
    }

    /// The `CKA_ID` of what a step makes.
    fn object_id(&self, step: &Step) -> Result<ObjectId, Detour> {
        let opened = self.progress.opened();
        let opened = opened.ok_or_else(|| Detour::Failed("the ceremony was never opened".to_owned()))?;
        Ok(ObjectId::of(opened.ceremony.as_bytes(), step.id.as_str()))
    }

    /// Destroys what an earlier attempt of a step left. The session is the user's.
    fn begin_anew(&mut self, session: &mut Session, id: &ObjectId) -> Result<(), Detour> {
        match id.destroy(session).or_fail()? {
            0 => Ok(()),
            count => {
                self.say(&format!(
                    "An earlier attempt of this step had left {count} objects on the token: they are destroyed."
                ))?;
                Ok(())
            }
        }
    }

    /// Keeps a file that the step made, and remembers its hash.
    fn keep(
        &mut self,
        artefacts: &mut BTreeMap<String, FileHash>,
        name: String,
        content: &[u8],
    ) -> Result<String, Detour> {
        self.bundle
            .keep(&name, content)
            .map_err(crate::failure::Failure::file("keep what the step made in the bundle"))?;
        artefacts.insert(name.clone(), FileHash::of(content));
        Ok(name)
    }

    /// One reads bytes aloud as words, another types them: both have then seen what they are.
    fn read_back(&mut self, step: &Step, by: &[CustodianName], what: &str, bytes: &[u8]) -> Result<(), Detour> {
        let [reader, typist, ..] = by else {
            return Err(Detour::Failed(
                "two people are needed to read aloud and to type".to_owned(),
            ));
        };
        // A second preimage of 128 bits is out of reach.
        let words = Words::of(&bytes[..bytes.len().min(16)]);
        self.say(&format!("{what}, which {reader} reads aloud and {typist} types:"))?;
        self.say(&format!("    {words}"))?;
        for left in (0..ATTEMPTS).rev() {
            let id = format!("heard/{}", step.id);
            let typed = self.ask(&id, typist.as_str(), "Type the words that you hear", &[])?;
            match words.compare(&typed) {
                Ok(()) => return Ok(()),
                Err(difference) => self.say(&format!("{difference}. Attempts left: {left}."))?,
            }
        }
        Err(Detour::Failed(format!("what {typist} typed was never {what}")))
    }
}

/// What a token refused is counted; what it allowed fails the step.
fn refused(attempts: &[Attempt], facts: &mut Facts) -> Result<(), Detour> {
    let allowed: Vec<&str> = attempts
        .iter()
        .filter(|one| one.verdict == Verdict::Allowed)
        .map(|one| one.what.as_str())
        .collect();
    if !allowed.is_empty() {
        return Err(Detour::Failed(format!(
            "the token allowed what it must refuse: {}",
            allowed.join("; ")
        )));
    }
    facts.insert(
        "forbidden operations that were tried".to_owned(),
        attempts.len().to_string(),
    );
    facts.insert(ALLOWED.to_owned(), NOTHING.to_owned());
    Ok(())
}

/// Does something as a token's user; whatever ends it, nobody is logged in afterwards.
fn as_user<T>(
    token: &mut OfflineToken,
    pin: &SecretSlice<u8>,
    deed: impl FnOnce(&mut Session) -> Result<T, Detour>,
) -> Result<T, Detour> {
    token.as_user(pin, |session| Ok(deed(session))).or_fail()?
}

/// What a deed made is destroyed again if it does not come to its end, as far as the token lets it be.
fn or_undone<T>(session: &mut Session, id: &ObjectId, done: Result<T, Detour>) -> Result<T, Detour> {
    done.map_err(|detour| match (id.destroy(session), detour) {
        (Err(left), Detour::Failed(what)) => Detour::Failed(format!(
            "{what}; and what was made could not be destroyed ({left}): the next attempt, or an abort, looks for it"
        )),
        (_, detour) => detour,
    })
}

/// What ends a step and not the program.
trait OrFail<T> {
    fn or_fail(self) -> Result<T, Detour>;
}

impl<T, E: fmt::Display> OrFail<T> for Result<T, E> {
    fn or_fail(self) -> Result<T, Detour> {
        self.map_err(|error| Detour::Failed(error.to_string()))
    }
}

/// How often something is typed, or a medium put in, before the step fails.
const ATTEMPTS: u32 = 3;

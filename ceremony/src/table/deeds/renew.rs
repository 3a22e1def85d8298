//! The PINs of a token that are in shares become others, for other custodians.

use super::{
    Bench, Detour, OrFail, StepEnd,
    custody::ToShare,
    pins::{Whose, to_pin, to_secret},
};
use crate::{
    clock::Clock, front::Front, name::Name, progress::PROVED, script::Step, table::Table, token::identity_facts,
};
use portcullis_hsm::offline_token::{OfflineToken, random_pin};
use secrecy::SecretSlice;

impl<F: Front, C: Clock> Table<'_, F, C> {
    /// The shares of the new PINs go out and are proved before the token is touched. From the moment at which the officer's PIN is
    /// another, the shares of the old one are worthless, whoever has them.
    pub(super) fn renew_pins(&mut self, step: &Step, on: &Name) -> Result<StepEnd, Detour> {
        let mut bench = Bench::default();
        let mut token = self.open_token(&mut bench, on)?;
        let user_is_shared = self.set_of(on, Whose::User)?.is_some();
        let old_set = self.required_set(on, Whose::Officer)?.description.set;
        let old = self.present_officer_pin(step, on, &mut token)?;
        let officer = random_pin().or_fail()?;
        let user = if user_is_shared {
            Some(random_pin().or_fail()?)
        } else {
            None
        };
        let mut secrets = vec![(Whose::Officer, to_secret(&officer)?)];
        if let Some(user) = &user {
            secrets.push((Whose::User, to_secret(user)?));
        }
        let to_share: Vec<ToShare<'_>> = secrets
            .iter()
            .map(|(whose, secret)| ToShare {
                secret,
                purpose: format!("{} of {on}", whose.words()),
                part: whose.part(),
            })
            .collect();
        let shared = self.distribute(step, &to_share)?;
        token.change_officer_pin(&old, &officer).or_fail()?;
        if let Some(user) = &user {
            token.set_user_pin(&officer, user).or_fail()?;
            token.as_user(user, |_| Ok(())).or_fail()?;
        }
        token.as_officer(&officer, |_| Ok(())).or_fail()?;
        let mut facts = identity_facts(token.info());
        facts.insert(PROVED.to_owned(), shared.proved_by);
        facts.insert("set that is void".to_owned(), old_set.to_string());
        for set in &shared.sets {
            facts.insert(format!("set of {}", set.purpose), set.set.to_string());
        }
        Ok(StepEnd::Done {
            facts,
            artefacts: shared.artefacts,
        })
    }

    /// The officer's PIN that the token has now: the old one, or that of an attempt which was interrupted when it had set it.
    fn present_officer_pin(
        &mut self,
        step: &Step,
        on: &Name,
        token: &mut OfflineToken,
    ) -> Result<SecretSlice<u8>, Detour> {
        let mut sets = vec![self.required_set(on, Whose::Officer)?];
        sets.extend(self.begun_before(step)?.map(|before| before.set));
        let mut refused = String::new();
        for set in sets {
            let [pin] = &self.collect(&[set])?[..] else {
                return Err(Detour::Failed("the shares of one set give one secret".to_owned()));
            };
            let pin = to_pin(pin);
            match token.as_officer(&pin, |_| Ok(())) {
                Ok(()) => return Ok(pin),
                Err(error) => refused = error.to_string(),
            }
        }
        Err(Detour::Failed(refused))
    }
}

//! An empty token gets its label and its PINs.

use super::{
    Bench, Detour, Facts, OrFail, StepEnd,
    custody::{Shared, SharedSecret, ToShare},
    pins::{Whose, to_pin, to_secret},
};
use crate::{
    clock::Clock,
    front::Front,
    name::Name,
    progress::PROVED,
    script::{FileHash, Step, UserPin},
    table::Table,
    token::identity_facts,
};
use portcullis_hsm::{
    Error,
    offline_token::{OfflineToken, random_pin},
    pkcs11::TokenInfo,
    token::initialise_token,
};
use portcullis_provisioning::custodian::CustodianName;
use secrecy::SecretSlice;
use std::{collections::BTreeMap, fs};

/// What an attempt of a step had handed out of a security officer's PIN.
pub(super) struct HandedOut {
    pub(super) set: SharedSecret,
    /// The description and the encrypted shares.
    pub(super) artefacts: BTreeMap<String, FileHash>,
}

impl<F: Front, C: Clock> Table<'_, F, C> {
    /// The shares go out and are proved before the token is touched, so a token never has a PIN that nobody could give. A token that
    /// an earlier attempt had initialised is known by the officer's PIN that the shares of that attempt give, and is finished.
    pub(super) fn initialise(
        &mut self,
        step: &Step,
        by: &[CustodianName],
        on: &Name,
        user_pin: UserPin,
    ) -> Result<StepEnd, Detour> {
        let mut bench = Bench::default();
        let token = self.token(on)?;
        let Some(label) = token.selector.label.clone() else {
            return Err(Detour::Failed(format!(
                "the environment gives {on} no label, which it is to get"
            )));
        };
        match bench.open(&token) {
            Ok(open) => {
                self.may_touch(on, open.info())?;
                match self.begun_before(step)? {
                    Some(before) => self.finish_token(step, by, on, (open, user_pin), before),
                    None => Err(Detour::Failed(format!(
                        "{on} is no empty token: it has the label \"{label}\" and the serial number {} already; nothing was changed",
                        open.info().serial_number
                    ))),
                }
            }
            Err(Error::TokenAbsent(_)) => {
                let module = bench.module(&token.module).or_fail()?;
                let mut empty = Vec::new();
                for slot in module.slots_with_token().or_fail()? {
                    let info = module.token_info(slot).or_fail()?;
                    if !info.initialised {
                        empty.push(info);
                    }
                }
                let [one] = empty.as_slice() else {
                    return Err(Detour::Failed(format!(
                        "{} empty tokens are connected, expected one: the one that is to become {on}",
                        empty.len()
                    )));
                };
                self.may_touch(on, one)?;
                let officer = random_pin().or_fail()?;
                let user = match user_pin {
                    UserPin::Shared => random_pin().or_fail()?,
                    UserPin::Typed => self.new_pin(on)?,
                };
                let shared_user = (user_pin == UserPin::Shared).then_some(&user);
                let shared = self.hand_out(step, on, Some(&officer), shared_user)?;
                initialise_token(&module, &label, &officer, &user).or_fail()?;
                let mut open = bench.open(&token).or_fail()?;
                open.as_officer(&officer, |_| Ok(())).or_fail()?;
                open.as_user(&user, |_| Ok(())).or_fail()?;
                Ok(done(by, open.info(), user_pin, &shared, BTreeMap::new()))
            }
            Err(error) => Err(error).or_fail(),
        }
    }

    /// What an attempt before this one had handed out of the officer's PIN, if it came so far.
    pub(super) fn begun_before(&self, step: &Step) -> Result<Option<HandedOut>, Detour> {
        let attempts = self.progress.attempts(&step.id);
        for attempt in (1..=attempts).rev() {
            let stem = format!("{}-{attempt}-{}", step.id, Whose::Officer.part());
            let path = self.bundle.artefact(&format!("{stem}.shares"));
            if !path.exists() {
                continue;
            }
            let set = SharedSecret::read(&path)?;
            let mut artefacts = BTreeMap::new();
            let shares = (1..=set.description.custodians.len()).map(|index| format!("{stem}-{index}.age"));
            for name in shares.chain([format!("{stem}.shares")]) {
                let content = fs::read(self.bundle.artefact(&name)).map_err(crate::failure::Failure::file(
                    "read what an attempt before this one left",
                ))?;
                artefacts.insert(name, FileHash::of(&content));
            }
            return Ok(Some(HandedOut { set, artefacts }));
        }
        Ok(None)
    }

    fn finish_token(
        &mut self,
        step: &Step,
        by: &[CustodianName],
        on: &Name,
        (mut open, user_pin): (OfflineToken, UserPin),
        HandedOut { set, artefacts }: HandedOut,
    ) -> Result<StepEnd, Detour> {
        self.say("An earlier attempt of this step had initialised the token. It is finished now.")?;
        let proved_by = self.names_of(&set);
        let [officer] = &self.collect(&[set])?[..] else {
            return Err(Detour::Failed("the shares of one set give one secret".to_owned()));
        };
        let officer = to_pin(officer);
        open.as_officer(&officer, |_| Ok(())).or_fail()?;
        let user = match user_pin {
            UserPin::Shared => random_pin().or_fail()?,
            UserPin::Typed => self.new_pin(on)?,
        };
        let shared_user = (user_pin == UserPin::Shared).then_some(&user);
        let mut shared = self.hand_out(step, on, None, shared_user)?;
        open.set_user_pin(&officer, &user).or_fail()?;
        open.as_user(&user, |_| Ok(())).or_fail()?;
        if shared.proved_by.is_empty() {
            shared.proved_by = proved_by;
        }
        Ok(done(by, open.info(), user_pin, &shared, artefacts))
    }

    fn hand_out(
        &mut self,
        step: &Step,
        on: &Name,
        officer: Option<&SecretSlice<u8>>,
        user: Option<&SecretSlice<u8>>,
    ) -> Result<Shared, Detour> {
        let mut secrets = Vec::new();
        for (whose, pin) in [(Whose::Officer, officer), (Whose::User, user)] {
            if let Some(pin) = pin {
                secrets.push((whose, to_secret(pin)?));
            }
        }
        let to_share: Vec<ToShare<'_>> = secrets
            .iter()
            .map(|(whose, secret)| ToShare {
                secret,
                purpose: format!("{} of {on}", whose.words()),
                part: whose.part(),
            })
            .collect();
        if to_share.is_empty() {
            return Ok(Shared {
                sets: Vec::new(),
                artefacts: BTreeMap::new(),
                proved_by: String::new(),
            });
        }
        self.distribute(step, &to_share)
    }

    fn names_of(&self, set: &SharedSecret) -> String {
        let names: Vec<&str> = set.description.custodians.iter().map(CustodianName::as_str).collect();
        names.join(", ")
    }
}

fn done(
    by: &[CustodianName],
    info: &TokenInfo,
    user_pin: UserPin,
    shared: &Shared,
    earlier: BTreeMap<String, FileHash>,
) -> StepEnd {
    let mut facts: Facts = identity_facts(info);
    facts.insert(PROVED.to_owned(), shared.proved_by.clone());
    for set in &shared.sets {
        facts.insert(format!("set of {}", set.purpose), set.set.to_string());
    }
    if user_pin == UserPin::Typed {
        let who = by.first().map(CustodianName::to_string).unwrap_or_default();
        facts.insert("the user's PIN".to_owned(), format!("typed by {who}"));
    }
    let mut artefacts = shared.artefacts.clone();
    artefacts.extend(earlier);
    StepEnd::Done { facts, artefacts }
}

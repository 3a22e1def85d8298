//! A token that is not used any more is initialised anew.

use super::{
    Bench, Detour, Facts, OrFail, StepEnd,
    pins::{Whose, to_pin},
};
use crate::{
    clock::Clock,
    front::Front,
    name::Name,
    progress::NOTHING,
    script::Step,
    table::Table,
    token::{Token, identity_facts},
};
use portcullis_hsm::{
    Error,
    pkcs11::{Template, TokenInfo},
    token::TokenSelector,
};
use secrecy::SecretSlice;
use std::collections::BTreeMap;

impl<F: Front, C: Clock> Table<'_, F, C> {
    /// It then has a label that no gateway and no script asks for, no user PIN and no object.
    pub(super) fn wipe(&mut self, step: &Step, on: &Name) -> Result<StepEnd, Detour> {
        let mut bench = Bench::default();
        let token = self.token(on)?;
        let set = self.required_set(on, Whose::Officer)?;
        let label = format!("retired {on}");
        let retired = Token {
            selector: TokenSelector {
                label: Some(label.chars().take(32).collect()),
                serial_number: None,
            },
            ..token.clone()
        };
        let open = match bench.open(&token) {
            Ok(open) => Some(open),
            // An attempt before this one may have been interrupted when it was done.
            Err(Error::TokenAbsent(_)) if self.progress.attempts(&step.id) > 1 => None,
            Err(error) => return Err(error).or_fail(),
        };
        let [officer] = &self.collect(&[set])?[..] else {
            return Err(Detour::Failed("the shares of one set give one secret".to_owned()));
        };
        let officer = to_pin(officer);
        if let Some(open) = open {
            self.may_touch(on, open.info())?;
            let new_label = retired.selector.label.clone().unwrap_or_default();
            open.wipe(&officer, &new_label).or_fail()?;
        }
        let info = self.is_empty(&mut bench, on, &retired, &officer)?;
        let mut facts: Facts = identity_facts(&info);
        facts.insert("objects that are left".to_owned(), NOTHING.to_owned());
        Ok(StepEnd::Done {
            facts,
            artefacts: BTreeMap::new(),
        })
    }

    /// Looks at the token as somebody would who found it.
    fn is_empty(
        &self,
        bench: &mut Bench,
        on: &Name,
        retired: &Token,
        officer: &SecretSlice<u8>,
    ) -> Result<TokenInfo, Detour> {
        let mut open = bench.open(retired).or_fail()?;
        self.may_touch(on, open.info())?;
        let left = open
            .as_officer(officer, |session| Ok(session.find_objects(&Template::default(), 1)?))
            .or_fail()?;
        if !left.is_empty() || open.info().user_pin_initialised {
            return Err(Detour::Failed(format!("{on} still has objects, or a user PIN")));
        }
        Ok(open.info().clone())
    }
}

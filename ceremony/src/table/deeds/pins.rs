//! PINs: what shares give, and what somebody types.

use super::{ATTEMPTS, Detour, OrFail, custody::SharedSecret};
use crate::{
    clock::Clock,
    failure::Failure,
    front::{Front, Question},
    name::Name,
    progress::deed_of,
    script::{Deed, FileHash},
    shares::Secret,
    table::Table,
    transcript::Event,
};
use portcullis_hsm::{Error, offline_token::OfflineToken, return_code::ReturnCode};
use secrecy::{ExposeSecret, SecretSlice};
use std::{collections::BTreeMap, path::PathBuf};
use zeroize::Zeroizing;

/// Whose PIN it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Officer,
    User,
}

impl Whose {
    /// Its part in the names of files.
    pub(super) fn part(self) -> &'static str {
        match self {
            Self::Officer => "officer",
            Self::User => "user",
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Officer => "the security officer's PIN",
            Self::User => "the user's PIN",
        }
    }
}

impl<F: Front, C: Clock> Table<'_, F, C> {
    /// The set in which the custodians have a token's PIN: of this ceremony, or of the one that the environment names.
    pub(super) fn set_of(&self, name: &Name, whose: Whose) -> Result<Option<SharedSecret>, Detour> {
        if let Some(artefacts) = self.made_by(|on, deed| on == name && deed.sets_pins()) {
            let ending = format!("-{}.shares", whose.part());
            return match artefacts.keys().find(|file| file.ends_with(&ending)) {
                Some(file) => SharedSecret::read(&self.bundle.artefact(file)).map(Some),
                None => Ok(None),
            };
        }
        let token = self.token(name)?;
        let path: Option<PathBuf> = match whose {
            Whose::Officer => token.officer_shares,
            Whose::User => token.user_shares,
        };
        path.map(|path| SharedSecret::read(&path)).transpose()
    }

    /// The same where there must be one.
    pub(super) fn required_set(&self, name: &Name, whose: Whose) -> Result<SharedSecret, Detour> {
        let missing = || {
            Detour::Failed(format!(
                "the environment does not say where the shares of {} of {name} are: {}_shares",
                whose.words(),
                whose.part()
            ))
        };
        self.set_of(name, whose)?.ok_or_else(missing)
    }

    /// The files of the last step of this ceremony that did such a deed.
    pub(super) fn made_by(&self, is_it: impl Fn(&Name, &Deed) -> bool) -> Option<&BTreeMap<String, FileHash>> {
        self.lines.iter().rev().find_map(|line| match &line.entry.event {
            Event::Result { step, artefacts, .. } => {
                let (on, deed) = deed_of(self.script.step(step)?)?;
                is_it(on, deed).then_some(artefacts)
            }
            _ => None,
        })
    }

    /// The user's PIN of a token, which the token has accepted: what shares gave, or what somebody types.
    pub(super) fn user_pin(&mut self, name: &Name, token: &mut OfflineToken) -> Result<SecretSlice<u8>, Detour> {
        if let Some(set) = self.set_of(name, Whose::User)? {
            let [pin] = &self.collect(&[set])?[..] else {
                return Err(Detour::Failed("the shares of one set give one secret".to_owned()));
            };
            return accepted(token, to_pin(pin));
        }
        for left in (0..ATTEMPTS).rev() {
            let typed = self.ask_secret(
                &format!("pin/{name}"),
                &format!("The user's PIN of {name} (it is not shown)"),
            )?;
            let pin = SecretSlice::from(typed.as_bytes().to_vec());
            match token.as_user(&pin, |_| Ok(())) {
                Ok(()) => return Ok(pin),
                Err(Error::LoginRefused { source, .. }) if source.code == ReturnCode::PIN_LOCKED => {
                    return Err(Detour::Failed(format!("{name} has locked its user PIN: {source}")));
                }
                Err(error @ Error::LoginRefused { .. }) => {
                    self.say(&format!("{error}. Attempts left: {left}."))?;
                }
                Err(error) => return Err(error).or_fail(),
            }
        }
        Err(Detour::Failed(format!(
            "{name} accepted none of the PINs that were typed"
        )))
    }

    /// A PIN that is set: typed twice.
    pub(super) fn new_pin(&mut self, name: &Name) -> Result<SecretSlice<u8>, Detour> {
        for left in (0..ATTEMPTS).rev() {
            let first = self.ask_secret(
                &format!("new-pin/{name}"),
                &format!("A new user PIN for {name}, 8 to 64 characters (it is not shown)"),
            )?;
            let again = self.ask_secret(&format!("new-pin/{name}"), "The same again")?;
            let fits = (8..=64).contains(&first.len()) && first.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
            if fits && *first == *again {
                return Ok(SecretSlice::from(first.as_bytes().to_vec()));
            }
            let why = if fits {
                "These were two different PINs."
            } else {
                "Expected 8 to 64 letters, digits and signs, without spaces."
            };
            self.say(&format!("{why} Attempts left: {left}."))?;
        }
        Err(Detour::Failed("no PIN was typed that could be set".to_owned()))
    }

    fn ask_secret(&mut self, id: &str, prompt: &str) -> Result<Zeroizing<String>, Detour> {
        let question = Question {
            id: id.to_owned(),
            who: "the operator".to_owned(),
            prompt: prompt.to_owned(),
            choices: &[],
        };
        let asked = self.front.ask_secret(&question).map_err(Failure::Front)?;
        asked.ok_or(Detour::Gone)
    }
}

/// A PIN that was in shares, if the token accepts it. It is tried once: nobody could type it better.
pub(super) fn accepted(token: &mut OfflineToken, pin: SecretSlice<u8>) -> Result<SecretSlice<u8>, Detour> {
    token.as_user(&pin, |_| Ok(())).or_fail()?;
    Ok(pin)
}

pub(super) fn to_pin(secret: &Secret) -> SecretSlice<u8> {
    SecretSlice::from(secret.expose().to_vec())
}

pub(super) fn to_secret(pin: &SecretSlice<u8>) -> Result<Secret, Detour> {
    Secret::new(Zeroizing::new(pin.expose_secret().to_vec())).or_fail()
}

//! Signatures, by keys that people bring on media of their own.

use super::{Detour, Table};
use crate::{
    clock::Clock,
    environment::Person,
    failure::Failure,
    front::{Front, Question},
    key_file::{LockedKey, PrivateKeyFile},
    transcript::{Event, Signing, Statement, signed_bytes},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_provisioning::{custodian::CustodianName, signing_key::SigningKey};
use std::{fs, path::PathBuf};
use zeroize::Zeroizing;

impl<F: Front, C: Clock> Table<'_, F, C> {
    /// Lets one person sign everything that was recorded so far.
    pub(super) fn sign(&mut self, name: &CustodianName, statement: &Statement) -> Result<(), Detour> {
        let known = self.environment.person(name);
        let person = known.ok_or_else(|| Failure::Environment(format!("nobody is called {name}")))?;
        let id = format!("sign/{}/{}", question_part(statement), person.name);
        let key = self.bring_key(person, &id, &format!("\"{statement}\""))?;
        let opened = self.progress.opened();
        let ceremony = opened
            .ok_or_else(|| Failure::Environment("the ceremony was never opened".to_owned()))?
            .ceremony;
        let bytes = signed_bytes(Signing {
            ceremony,
            sequence: self.journal.next(),
            head: self.journal.head(),
            person: name,
            seats: &person.seats,
            statement,
        });
        let signature = key
            .sign(&bytes)
            .map_err(|error| Failure::Environment(error.to_string()))?;
        self.append(Event::Signed {
            person: name.clone(),
            statement: statement.clone(),
            signature: STANDARD.encode(signature),
        })?;
        Ok(())
    }

    /// Asks for a private key until it is this person's.
    pub(super) fn bring_key(&mut self, person: &Person, id: &str, what: &str) -> Result<SigningKey, Detour> {
        let usual = match &person.key_file {
            Some(path) => format!("Enter for {}, or the path of your private key", path.display()),
            None => "the path of your private key".to_owned(),
        };
        loop {
            let prompt = format!("Sign {what}. Put in your medium and type {usual}");
            let typed = self.ask(id, person.name.as_str(), &prompt, &[])?;
            let path = match (&person.key_file, typed.as_str()) {
                (Some(path), "") => path.clone(),
                (None, "") => {
                    self.say("Expected a path.")?;
                    continue;
                }
                (_, typed) => PathBuf::from(typed),
            };
            let text = match fs::read_to_string(&path) {
                Ok(text) => Zeroizing::new(text),
                Err(error) => {
                    self.say(&format!("{} cannot be read: {error}", path.display()))?;
                    continue;
                }
            };
            let key = match PrivateKeyFile::parse(&text) {
                Ok(PrivateKeyFile::Open(key)) => Some(key),
                Ok(PrivateKeyFile::Locked(locked)) => self.unlock(person, &locked)?,
                Err(error) => {
                    self.say(&format!("{}: {error}", path.display()))?;
                    None
                }
            };
            match key {
                Some(key) if *key.public() == person.key => return Ok(key),
                Some(key) => self.say(&format!(
                    "This is the key {}, expected the key {} of {}.",
                    key.public().id(),
                    person.key.id(),
                    person.name
                ))?,
                None => {}
            }
        }
    }

    /// Asks for a passphrase, a few times.
    fn unlock(&mut self, person: &Person, locked: &LockedKey) -> Result<Option<SigningKey>, Detour> {
        for left in (0..PASSPHRASE_ATTEMPTS).rev() {
            let question = Question {
                id: format!("passphrase/{}", person.name),
                who: person.name.to_string(),
                prompt: "The passphrase of your key (it is not shown)".to_owned(),
                choices: &[],
            };
            let asked = self.front.ask_secret(&question).map_err(Failure::Front)?;
            let passphrase = asked.ok_or(Detour::Gone)?;
            match locked.unlock(passphrase.as_bytes()) {
                Ok(key) => return Ok(Some(key)),
                Err(error) => self.say(&format!("{error}. Attempts left: {left}."))?,
            }
        }
        Ok(None)
    }
}

fn question_part(statement: &Statement) -> String {
    match statement {
        Statement::Present => "present".to_owned(),
        Statement::SignOff(step) => format!("sign-off/{step}"),
        Statement::Decided(number) => format!("decided/{number}"),
        Statement::Ended => "ended".to_owned(),
    }
}

const PASSPHRASE_ATTEMPTS: u32 = 5;

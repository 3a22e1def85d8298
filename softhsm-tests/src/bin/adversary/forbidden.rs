//! The matrix of what must be refused: each deed on each key, and the same deed on a key of one's own, where it must work.

mod deeds;
mod loaded;

use crate::{bytes_list, formats::KeyToken, token::Token};
use cryptoki::{error::Error, object::ObjectHandle, session::Session};
use deeds::{Wrapper, aes_deeds, changes, own_aes_key, own_rsa_key, own_secret, read_value, secret_deeds};
use serde_json::{Value, json};

pub(crate) fn run(job: &Value) -> anyhow::Result<Value> {
    let token = Token::open(job)?;
    let mut trial = Trial::new(&token)?;
    trial.use_against_their_purpose()?;
    trial.change()?;
    trial.take_out()?;
    for key_token in bytes_list(job, "key_tokens")? {
        loaded::try_all(&mut trial, &KeyToken::parse(&key_token)?)?;
    }
    loaded::try_portable(&mut trial)?;
    Ok(json!({ "controls": trial.controls, "attempts": trial.attempts }))
}

/// What is tried on a token, and what came of it.
struct Trial<'t> {
    token: &'t Token,
    /// The domain's keys by name.
    domain: [(&'static str, ObjectHandle); 3],
    controls: Vec<Value>,
    attempts: Vec<Value>,
}

impl<'t> Trial<'t> {
    fn new(token: &'t Token) -> anyhow::Result<Self> {
        let [seal, portable, mac] = ["seal", "portable", "mac"].map(|name| token.domain_key(name));
        let domain = [("seal", seal?), ("portable", portable?), ("mac", mac?)];
        Ok(Self {
            token,
            domain,
            controls: Vec::new(),
            attempts: Vec::new(),
        })
    }

    fn session(&self) -> &'t Session {
        &self.token.session
    }

    /// Does what must work.
    fn control(&mut self, what: String, deed: impl FnOnce(&Session) -> Result<(), Error>) -> anyhow::Result<()> {
        let result = deed(&self.token.another_session()?);
        self.controls
            .push(json!({ "what": what, "worked": result.is_ok(), "code": code(&result) }));
        Ok(())
    }

    /// Does what must be refused.
    fn attempt(&mut self, what: String, deed: impl FnOnce(&Session) -> Result<(), Error>) -> anyhow::Result<()> {
        let result = deed(&self.token.another_session()?);
        self.attempts
            .push(json!({ "what": what, "refused": result.is_err(), "code": code(&result) }));
        Ok(())
    }

    fn use_against_their_purpose(&mut self) -> anyhow::Result<()> {
        let domain = self.domain;
        let [(_, seal), (_, portable), (_, mac)] = domain;
        let aes = own_aes_key(self.session())?;
        let secret = own_secret(self.session())?;
        for (what, deed) in aes_deeds() {
            self.control(format!("own key: {what}"), |session| deed(session, aes))?;
            for (name, key) in domain {
                self.attempt(format!("{name}: {what}"), |session| deed(session, key))?;
            }
        }
        for (what, deed) in secret_deeds() {
            self.control(format!("own secret: {what}"), |session| deed(session, secret))?;
            for (name, key) in [("seal", seal), ("portable", portable)] {
                self.attempt(format!("{name}: {what}"), |session| deed(session, key))?;
            }
            if what == deeds::PROPER_MAC {
                self.control(format!("mac: {what}"), |session| deed(session, mac))?;
            } else {
                self.attempt(format!("mac: {what}"), |session| deed(session, mac))?;
            }
        }
        Ok(())
    }

    fn change(&mut self) -> anyhow::Result<()> {
        let own = own_aes_key(self.session())?;
        self.control("own key: copy it as it is".to_owned(), |session| {
            session.copy_object(own, &[]).map(drop)
        })?;
        for (name, key) in self.domain {
            self.attempt(format!("{name}: copy it as it is"), |session| {
                session.copy_object(key, &[]).map(drop)
            })?;
        }
        for change in changes() {
            let (what, template) = (change.what, [change.attribute]);
            if change.works_on_own_keys {
                let own = own_aes_key(self.session())?;
                self.control(format!("own key: make it {what}"), |session| {
                    session.update_attributes(own, &template)
                })?;
                self.control(format!("own key: copy it {what}"), |session| {
                    session.copy_object(own, &template).map(drop)
                })?;
            }
            for (name, key) in self.domain {
                self.attempt(format!("{name}: make it {what}"), |session| {
                    session.update_attributes(key, &template)
                })?;
                self.attempt(format!("{name}: copy it {what}"), |session| {
                    session.copy_object(key, &template).map(drop)
                })?;
            }
        }
        Ok(())
    }

    fn take_out(&mut self) -> anyhow::Result<()> {
        let own = own_aes_key(self.session())?;
        self.control("own key: read the value".to_owned(), |session| read_value(session, own))?;
        for (name, key) in self.domain {
            self.attempt(format!("{name}: read the value"), |session| read_value(session, key))?;
        }
        for wrapper in self.wrappers()? {
            let Wrapper {
                name: by,
                key: wrapping,
                ..
            } = wrapper;
            for (how, mechanism) in wrapper.mechanisms() {
                let wraps = |session: &Session, key| session.wrap_key(&mechanism, wrapping, key).map(drop);
                if wrapper.may(how) {
                    self.control(format!("own key: wrap it under {by} by {how}"), |session| {
                        wraps(session, own)
                    })?;
                } else {
                    self.attempt(format!("{by}: wrap a key by {how}"), |session| wraps(session, own))?;
                }
                for (name, key) in self.domain {
                    self.attempt(format!("{name}: wrap it under {by} by {how}"), |session| {
                        wraps(session, key)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Everything on the token under which a key could be wrapped.
    fn wrappers(&self) -> anyhow::Result<Vec<Wrapper>> {
        let mut wrappers = vec![
            Wrapper::own_aes("an own key", own_aes_key(self.session())?),
            Wrapper::own_rsa("an own RSA key", own_rsa_key(self.session())?),
        ];
        wrappers.extend(self.domain.map(|(name, key)| Wrapper::domain(name, key)));
        Ok(wrappers)
    }
}

fn code(result: &Result<(), Error>) -> String {
    match result {
        Ok(()) => "OK".to_owned(),
        Err(Error::Pkcs11(code, function)) => format!("{code:?} by {function:?}"),
        Err(other) => format!("{other:?}"),
    }
}

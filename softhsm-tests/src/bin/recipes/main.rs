//! What a ceremony does with tokens, done on real ones: each recipe from its beginning to its end, with what must fail in between.
//!
//! A program of its own, because a PKCS#11 module is loaded once by a process and finds its tokens by its environment.
//!
//! Usage: `recipes NAME MODULE`, with `SOFTHSM2_CONF` in the environment; its tokens are made there. Ends with a panic, in words,
//! where something is not as it must be.

#![forbid(unsafe_code)]

mod backup;
mod clone;
mod pins;
mod root;

use portcullis_hsm::{
    Error,
    domain::{Attempt, Verdict},
    offline_token::{OfflineToken, random_pin},
    pkcs11::{Module, Session},
    token::{TokenSelector, initialise_token},
};
use secrecy::SecretSlice;
use std::{env, path::Path, sync::Arc};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, module] = arguments.as_slice() else {
        panic!("usage: recipes NAME MODULE");
    };
    let module = Arc::new(Module::load(Path::new(module)).expect("the module"));
    match name.as_str() {
        "clone" => clone::run(&module),
        "interrupted" => clone::interrupted(&module),
        "backup" => backup::run(&module),
        "root" => root::run(&module),
        "weak" => root::weak(&module),
        "pins" => pins::run(&module),
        other => panic!("there is no recipe {other}"),
    }
}

/// A token with PINs that nobody chose.
struct Token {
    token: OfflineToken,
    officer: SecretSlice<u8>,
    user: SecretSlice<u8>,
}

impl Token {
    fn make(module: &Arc<Module>, label: &str) -> Self {
        let (officer, user) = (random_pin().expect("a PIN"), random_pin().expect("a PIN"));
        initialise_token(module, label, &officer, &user).expect("a new token");
        let selector = TokenSelector {
            label: Some(label.to_owned()),
            serial_number: None,
        };
        Self {
            token: OfflineToken::open(Arc::clone(module), &selector).expect("the token"),
            officer,
            user,
        }
    }

    fn as_user<T>(&mut self, deed: impl FnOnce(&mut Session) -> Result<T, Error>) -> Result<T, Error> {
        self.token.as_user(&self.user, deed)
    }

    fn as_officer<T>(&mut self, deed: impl FnOnce(&mut Session) -> Result<T, Error>) -> Result<T, Error> {
        self.token.as_officer(&self.officer, deed)
    }

    fn key_wrap(&self) -> u64 {
        self.token.key_wrap().expect("AES key wrap")
    }
}

/// Fails unless the token refused everything, of which there must be a lot.
#[track_caller]
fn all_refused(attempts: &[Attempt], at_least: usize) {
    let allowed: Vec<_> = attempts
        .iter()
        .filter(|one| one.verdict == Verdict::Allowed)
        .map(|one| one.what.as_str())
        .collect();
    assert!(allowed.is_empty(), "the token allowed: {}", allowed.join("; "));
    assert!(attempts.len() >= at_least, "only {} attempts were made", attempts.len());
}

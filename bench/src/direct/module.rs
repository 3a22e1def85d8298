//! The process that drives the module.

use super::{Proof, Question, session::Use};
use crate::{
    helper::Questions,
    operation::{Kind, Operation},
    sample::Sample,
    verify,
};
use cryptoki_sys::{CKA_ID, CKA_LABEL, CKA_VALUE_LEN};
use portcullis_hsm::{
    pkcs11::{Attribute, CallMechanism, Module, ObjectHandle, Session, SessionKind, SlotId, Template, UserType},
    public_key::read_public_key,
    template::{self, Extraction, Lifetime, Usage},
    token::{TokenSelector, find_token},
};
use secrecy::SecretSlice;
use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

/// Answers questions until there are no more; then destroys all keys that it made.
pub(crate) fn serve() -> io::Result<()> {
    let (pin, mut questions) = Questions::begin()?;
    let pin = SecretSlice::from(pin.to_vec());
    let mut token: Option<Token> = None;
    while let Some(question) = questions.next()? {
        match (question, &mut token) {
            (
                Question::Open {
                    module,
                    token_label,
                    key_label,
                },
                None,
            ) => {
                let opened = Token::open(&module, &token_label, key_label, &pin);
                questions.answer(opened.map(|(opened, description)| {
                    token = Some(opened);
                    description
                }))?;
            }
            (Question::Prepare { operation }, Some(token)) => questions.answer(token.prepare(operation))?,
            (
                Question::Run {
                    operation,
                    sessions,
                    warm_up,
                    time,
                },
                Some(token),
            ) => questions.answer(token.run(operation, sessions, warm_up, time))?,
            (Question::Open { .. }, Some(_)) => questions.answer::<()>(Err("the token is open already".into()))?,
            (_, None) => questions.answer::<()>(Err("no token is open".into()))?,
        }
    }
    match token {
        Some(token) => token.destroy_keys().map_err(io::Error::other),
        None => Ok(()),
    }
}

struct Token {
    module: Arc<Module>,
    slot: SlotId,
    // Keeps the login; makes and destroys the keys.
    keeper: Session,
    key_label: String,
    keys: HashMap<Operation, ObjectHandle>,
    made: Vec<ObjectHandle>,
}

impl Token {
    fn open(
        module: &Path,
        token_label: &str,
        key_label: String,
        pin: &SecretSlice<u8>,
    ) -> Result<(Self, String), String> {
        let module = Arc::new(Module::load(module).map_err(|error| error.to_string())?);
        let selector = TokenSelector {
            label: Some(token_label.to_owned()),
            serial_number: None,
        };
        let (slot, info) = find_token(&module, &selector).map_err(|error| error.to_string())?;
        let mut keeper = Session::open(&module, slot, SessionKind::ReadWrite).map_err(told)?;
        keeper.login(UserType::User, pin).map_err(told)?;
        let token = Self {
            module,
            slot,
            keeper,
            key_label,
            keys: HashMap::new(),
            made: Vec::new(),
        };
        let description = format!(
            "{} {}, firmware {}",
            info.manufacturer, info.model, info.firmware_version
        );
        Ok((token, description))
    }

    fn prepare(&mut self, operation: Operation) -> Result<Proof, String> {
        let mut public_key = Vec::new();
        if !self.keys.contains_key(&operation) {
            let (key, public) = self.make_key(operation)?;
            self.keys.insert(operation, key);
            if let Some(public) = public {
                public_key = read_public_key(&mut self.keeper, operation.key_type(), public)
                    .map_err(|error| error.to_string())?;
            }
        }
        let message = verify::MESSAGE;
        let mut session = self.session()?;
        let mut a_use = Use::new(operation, self.key(operation)?)?;
        let signature = a_use.perform(&mut session).map_err(told)?;
        a_use.check_with_token(&mut session, &signature)?;
        Ok(Proof {
            public_key: hex::encode(public_key),
            message: hex::encode(message),
            signature: hex::encode(signature),
        })
    }

    fn make_key(&mut self, operation: Operation) -> Result<(ObjectHandle, Option<ObjectHandle>), String> {
        let (usage, mechanism) = match operation.kind() {
            Kind::Sign(mechanism) => (
                Usage {
                    sign: true,
                    ..Usage::NONE
                },
                template::pkcs11_mechanism(mechanism),
            ),
            Kind::Encrypt(_) => (
                Usage {
                    encrypt: true,
                    decrypt: true,
                    ..Usage::NONE
                },
                cryptoki_sys::CKM_AES_GCM,
            ),
            Kind::Mac => (
                Usage {
                    sign: true,
                    verify: true,
                    ..Usage::NONE
                },
                cryptoki_sys::CKM_SHA256_HMAC,
            ),
            Kind::Create | Kind::Cold => return Err(format!("{operation} is not done directly")),
        };
        let key_type = operation.key_type();
        let named = |template: Template| {
            template
                .with(Attribute::bytes(CKA_LABEL, self.key_label.as_bytes()))
                .with(Attribute::bytes(CKA_ID, operation.word().as_bytes()))
        };
        let key = template::key(key_type, Lifetime::Token, Extraction::Forbidden, usage);
        let key = template::frozen(named(key), &[mechanism]);
        let generation = CallMechanism::Plain(template::generation_mechanism(key_type));
        match key_type.secret_length() {
            Some(length) => {
                let key = key.with(Attribute::number(CKA_VALUE_LEN, length as u64));
                let key = self.keeper.generate_key(generation, &key).map_err(told)?;
                self.made.push(key);
                Ok((key, None))
            }
            None => {
                let public = named(template::public_half(key_type, Lifetime::Token));
                let made = self.keeper.generate_key_pair(generation, &public, &key);
                let (public, private) = made.map_err(told)?;
                self.made.extend([public, private]);
                Ok((private, Some(public)))
            }
        }
    }

    fn run(&self, operation: Operation, sessions: usize, warm_up: Duration, time: Duration) -> Result<Sample, String> {
        let key = self.key(operation)?;
        let mut open = Vec::new();
        for _ in 0..sessions {
            open.push((self.session()?, Use::new(operation, key)?));
        }
        let barrier = Barrier::new(sessions);
        let mut all = Sample::new(time);
        thread::scope(|scope| {
            let threads: Vec<_> = open
                .into_iter()
                .map(|(session, a_use)| scope.spawn(|| perform_until_the_end(session, a_use, &barrier, warm_up, time)))
                .collect();
            for thread in threads {
                match thread.join() {
                    Ok(sample) => all.add(&sample),
                    Err(_) => return Err("a thread panicked".to_owned()),
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    fn key(&self, operation: Operation) -> Result<ObjectHandle, String> {
        self.keys
            .get(&operation)
            .copied()
            .ok_or_else(|| format!("{operation} has no key yet"))
    }

    fn session(&self) -> Result<Session, String> {
        Session::open(&self.module, self.slot, SessionKind::ReadOnly).map_err(told)
    }

    fn destroy_keys(mut self) -> Result<(), String> {
        let destroyed = self
            .made
            .iter()
            .map(|key| self.keeper.destroy_object(*key).map_err(told));
        // Each is tried, whatever became of the others.
        destroyed.fold(Ok(()), Result::and)
    }
}

fn perform_until_the_end(
    mut session: Session,
    mut a_use: Use,
    barrier: &Barrier,
    warm_up: Duration,
    time: Duration,
) -> Sample {
    let mut sample = Sample::new(time);
    barrier.wait();
    let begin = Instant::now() + warm_up;
    let end = begin + time;
    loop {
        let started = Instant::now();
        if started >= end {
            return sample;
        }
        let outcome = a_use.outcome(&mut session);
        let ended = Instant::now();
        if ended >= begin && ended < end {
            sample.count(outcome, ended - started);
        }
    }
}

pub(super) fn told(error: portcullis_hsm::pkcs11::CallError) -> String {
    error.to_string()
}

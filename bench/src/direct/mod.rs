//! The direct way: a process of its own that drives a PKCS#11 module as a program without a gateway would, with token objects,
//! one login, and as many sessions as give the most.

mod module;
mod session;

pub(crate) use module::serve;

use crate::{
    closed::Window,
    error::Error,
    helper::Helper,
    operation::{Kind, Operation},
    sample::Sample,
    verify,
};
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// A token that is driven directly.
pub struct DirectToken {
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// The token's label.
    pub token_label: String,
    /// The user's PIN.
    pub pin: SecretSlice<u8>,
}

/// The process that drives the module.
pub(crate) struct Direct {
    helper: Helper,
    /// What the token says of itself.
    pub(crate) description: String,
}

/// What that process is asked.
#[derive(Serialize, Deserialize)]
enum Question {
    /// Log in to the token; keys are to have this label.
    Open {
        module: PathBuf,
        token_label: String,
        key_label: String,
    },
    /// Make the operation's key, if there is none yet, and show that it works.
    Prepare { operation: Operation },
    /// Do the operation over and over.
    Run {
        operation: Operation,
        sessions: usize,
        warm_up: Duration,
        time: Duration,
    },
}

/// What a key did once: of signatures only software knows whether they are right.
#[derive(Serialize, Deserialize)]
struct Proof {
    /// SubjectPublicKeyInfo in DER, hexadecimal; empty for secret keys, whose results the process checks with the token.
    public_key: String,
    /// What was signed, and its signature, hexadecimal.
    message: String,
    signature: String,
}

impl Direct {
    /// Starts the process and logs in.
    pub(crate) async fn start(program: &Path, token: &DirectToken, key_label: &str) -> Result<Self, Error> {
        let pin = token.pin.expose_secret();
        let mut helper = Helper::start("the direct way", program, &[crate::HELPER, "direct"], pin).await?;
        let question = Question::Open {
            module: token.module.clone(),
            token_label: token.token_label.clone(),
            key_label: key_label.to_owned(),
        };
        let description = helper.ask(&question).await?;
        Ok(Self { helper, description })
    }

    /// Has a key made, used once, and the result checked.
    pub(crate) async fn prepare(&mut self, operation: Operation) -> Result<(), Error> {
        let proof: Proof = self.helper.ask(&Question::Prepare { operation }).await?;
        let Kind::Sign(mechanism) = operation.kind() else {
            return Ok(());
        };
        let wrong = |problem: &str| Error::WrongAnswer {
            operation: format!("{operation}, direct"),
            problem: problem.to_owned(),
        };
        let bytes = |text: &str| hex::decode(text).map_err(|_| wrong("not hexadecimal"));
        let (public_key, message, signature) = (
            bytes(&proof.public_key)?,
            bytes(&proof.message)?,
            bytes(&proof.signature)?,
        );
        if verify::signature_is_valid(mechanism, &public_key, &message, &signature) {
            Ok(())
        } else {
            Err(wrong("the token made a signature that is not valid"))
        }
    }

    /// Runs the closed loop with so many sessions, each with a thread of its own.
    pub(crate) async fn run(&mut self, operation: Operation, sessions: usize, window: Window) -> Result<Sample, Error> {
        let Window { warm_up, time } = window;
        let question = Question::Run {
            operation,
            sessions,
            warm_up,
            time,
        };
        self.helper.ask(&question).await
    }

    /// The number of sessions that gives the most: 1, 2, 4 … until twice in a row more sessions gave no more.
    pub(crate) async fn best_sessions(&mut self, operation: Operation, window: Window) -> Result<usize, Error> {
        let (mut best, mut most, mut in_vain) = (1, 0.0, 0);
        let mut sessions = 1;
        while sessions <= MOST_SESSIONS && in_vain < 2 {
            let sample = self.run(operation, sessions, window).await?;
            if let Some((reason, _)) = sample.failures.first_key_value()
                && sample.operations == 0
            {
                return Err(Error::Helper {
                    what: "the direct way",
                    problem: format!("{operation} with {sessions} sessions: {reason}"),
                });
            }
            if sample.rate() > most {
                (best, most, in_vain) = (sessions, sample.rate(), 0);
            } else {
                in_vain += 1;
            }
            sessions *= 2;
        }
        Ok(best)
    }

    /// Lets it destroy its keys and end.
    pub(crate) async fn end(self) -> Result<(), Error> {
        self.helper.end().await
    }
}

const MOST_SESSIONS: usize = 64;

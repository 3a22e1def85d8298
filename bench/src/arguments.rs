//! The command line of `portcullis bench`.

use crate::{
    direct::DirectToken,
    error::Error,
    operation::{Mode, Operation},
    pin,
    plan::{OpenPlan, Plan},
    through::Address,
};
use clap::{Args, Subcommand};
use portcullis_client::Endpoint;
use std::{path::PathBuf, time::Duration};

/// What `portcullis bench` takes.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// What to measure: rsa-2048, rsa-3072, rsa-4096, p256, ed25519, aes-gcm-1k, aes-gcm-16k, hmac, create-key, cold-key, or
    /// all of them [default: p256 and aes-gcm-1k]
    #[arg(value_name = "OPERATION", value_parser = selection)]
    operations: Vec<Selection>,
    /// How to ask the gateway; may be repeated [default: all three]
    #[arg(long = "mode", value_enum)]
    modes: Vec<Mode>,
    /// Closed loop: so many operations are asked for at once; may be repeated
    #[arg(long, value_name = "N", default_values_t = [1, 64], value_parser = count)]
    callers: Vec<usize>,
    /// Open loop as well: calls begin at this rate, whatever becomes of them; may be repeated
    #[arg(long = "rate", value_name = "PER_SECOND", value_parser = rate)]
    rates: Vec<f64>,
    /// Open loop as well, at rates from a tenth of what the closed loop came to until beyond it
    #[arg(long, conflicts_with = "rates")]
    sweep: bool,
    /// Draw latency against throughput of the open loop into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// How long each run is measured
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    time: Duration,
    /// How long each run warms up before
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    warm_up: Duration,
    /// How often each run is repeated
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count)]
    repeats: usize,
    /// How many connections the callers share, to each address
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    connections: usize,
    /// How many keys are used for the first time in each run of cold-key
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = count)]
    cold_keys: usize,
    /// The key ring for the keys; it is made if there is none of that name
    #[arg(long, value_name = "RING", default_value = "bench")]
    ring: String,
    /// Another address of the same gateway, to be measured beside the first
    #[arg(long, value_name = "ENDPOINT")]
    also: Option<Endpoint>,
    /// Do not measure the echo, which is what gRPC costs without a gateway
    #[arg(long)]
    no_echo: bool,
    /// Drive this PKCS#11 module directly as well, in a process of its own; it gets this program's environment
    #[arg(long, value_name = "FILE", requires = "direct_token")]
    direct_module: Option<PathBuf>,
    /// The label of the token that is driven directly. Keys are made on it, and destroyed at the end
    #[arg(long, value_name = "LABEL", requires = "direct_module")]
    direct_token: Option<String>,
    /// The file whose first line is the user PIN of that token [default: ask for it]
    #[arg(long, value_name = "FILE", requires = "direct_module")]
    direct_pin_file: Option<PathBuf>,
}

impl BenchArguments {
    /// What is to be measured. Asks for the PIN, where it has to be asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`] without one, [`Error::Usage`] where the words contradict each other.
    pub fn plan(&self, gateway: Address, deadline: Duration, program: PathBuf) -> Result<Plan, Error> {
        if self.plot.is_some() && self.open_plan().is_none() {
            return Err(Error::Usage(
                "--plot draws the open loop: give --sweep or --rate too".to_owned(),
            ));
        }
        let direct = match (&self.direct_module, &self.direct_token) {
            (Some(module), Some(token_label)) => Some(DirectToken {
                pin: pin::read(self.direct_pin_file.as_deref(), token_label)?,
                module: module.clone(),
                token_label: token_label.clone(),
            }),
            _ => None,
        };
        let also = self.also.clone().map(|endpoint| Address {
            endpoint,
            credentials: gateway.credentials.clone(),
        });
        Ok(Plan {
            operations: self.selected(),
            modes: match self.modes.as_slice() {
                [] => vec![Mode::Unary, Mode::Pipelined, Mode::Batch],
                modes => modes.to_vec(),
            },
            callers: self.callers.clone(),
            open: self.open_plan(),
            warm_up: self.warm_up,
            time: self.time,
            repeats: self.repeats,
            connections: self.connections,
            echo: !self.no_echo,
            cold_keys: self.cold_keys,
            addresses: [gateway].into_iter().chain(also).collect(),
            deadline,
            direct,
            ring: self.ring.clone(),
            program,
        })
    }

    /// Where the picture goes.
    pub fn plot(&self) -> Option<&PathBuf> {
        self.plot.as_ref()
    }

    fn open_plan(&self) -> Option<OpenPlan> {
        (self.sweep || !self.rates.is_empty()).then(|| OpenPlan {
            rates: self.rates.clone(),
        })
    }

    fn selected(&self) -> Vec<Operation> {
        if self.operations.iter().any(|one| matches!(one, Selection::All)) {
            return Operation::ALL.to_vec();
        }
        let named = self.operations.iter().filter_map(|one| match one {
            Selection::One(operation) => Some(*operation),
            Selection::All => None,
        });
        let named: Vec<Operation> = named.collect();
        if named.is_empty() {
            vec![Operation::P256, Operation::Gcm1k]
        } else {
            named
        }
    }
}

/// The processes that a measurement starts. Not for people.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Helper {
    /// Drives a PKCS#11 module
    Direct,
    /// Answers what was answered once
    Echo,
}

impl Helper {
    /// Answers the questions on standard input until there are no more.
    ///
    /// # Errors
    ///
    /// When the questions cannot be read or answered, or a key that was made could not be destroyed.
    pub fn serve(self) -> std::io::Result<()> {
        match self {
            Self::Direct => crate::direct::serve(),
            Self::Echo => crate::echo::serve(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Selection {
    All,
    One(Operation),
}

fn selection(text: &str) -> Result<Selection, String> {
    if text == "all" {
        return Ok(Selection::All);
    }
    let found = Operation::ALL.iter().find(|operation| operation.word() == text);
    found.map(|operation| Selection::One(*operation)).ok_or_else(|| {
        let words: Vec<&str> = Operation::ALL.iter().map(|operation| operation.word()).collect();
        format!("expected all, or one of {}", words.join(", "))
    })
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=100_000) => Ok(number),
        _ => Err("expected a number from 1 to 100000".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1.0..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected a number of calls a second, from 1 to 10000000".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("nothing can be measured in no time".to_owned()),
        Ok(time) if time > LONGEST_RUN => Err("a run may take an hour at most".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("expected a time as in 2s or 500ms: {error}")),
    }
}

const LONGEST_RUN: Duration = Duration::from_secs(3600);

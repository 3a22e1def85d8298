//! The environment: who the people are, and where the second medium is.
//!
//! Rehearsal and production differ in this file alone. It names keys and paths; there is no field for a secret.

mod parse;

use crate::{
    name::Name,
    problem::Problems,
    script::{FileHash, Script},
    token::Token,
};
use portcullis_provisioning::{
    custodian::{AgeRecipient, CustodianName},
    signing_key::PublicKey,
};
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};

/// Who and what a script is run with.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Whether it counts.
    pub class: Class,
    /// The directory on another medium to which the transcript is written too.
    pub second_medium: PathBuf,
    /// The bundle of the rehearsal, for production.
    pub rehearsal: Option<PathBuf>,
    /// The file with the provisioning records of the cluster so far.
    pub record: Option<PathBuf>,
    /// The backup of the domain, from a ceremony before this one.
    pub backup: Option<SharedBackup>,
    /// The tokens.
    pub tokens: Vec<Token>,
    /// The people.
    pub people: Vec<Person>,
    /// The hash of the file.
    pub hash: FileHash,
}

/// Whether a ceremony counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It is practised.
    Rehearsal,
    /// It counts.
    Production,
}

/// Somebody who takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What they are called.
    pub name: CustodianName,
    /// The seats that they have in the script.
    pub seats: Vec<Name>,
    /// The key whose signatures count as theirs.
    pub key: PublicKey,
    /// Where the private key usually is: on a medium that they bring.
    pub key_file: Option<PathBuf>,
    /// The recipient to which what is meant for them alone is encrypted.
    pub receives: Option<AgeRecipient>,
    /// Where the identity of that recipient usually is: on a medium that they bring.
    pub identity_file: Option<PathBuf>,
}

/// A backup of the domain, and the shares of the key under which it is wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedBackup {
    /// The backup.
    pub file: PathBuf,
    /// The description of the set; the encrypted shares are beside it.
    pub shares: PathBuf,
}

impl Environment {
    /// Reads an environment and holds it to everything that can be said of it alone.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        parse::parse(text)
    }

    /// Who takes part, and the hash of the file as words: what is printed with the plan.
    pub fn in_words(&self) -> Vec<String> {
        let mut lines = vec![
            String::new(),
            format!("A {}. Hash of the environment: {}", self.class, self.hash),
        ];
        lines.extend(self.hash.words().lines().into_iter().map(|line| format!("    {line}")));
        for token in &self.tokens {
            lines.push(format!(
                "    {}: {}, in {}",
                token.name,
                token.selector,
                token.module.display()
            ));
        }
        for person in &self.people {
            lines.push(format!(
                "    {}: {}, key {}",
                person.name,
                person.seats_in_words(),
                person.key.id()
            ));
        }
        lines
    }

    /// The person of this name.
    pub fn person(&self, name: &CustodianName) -> Option<&Person> {
        self.people.iter().find(|person| person.name == *name)
    }

    /// The token of this name.
    pub fn token(&self, name: &Name) -> Option<&Token> {
        self.tokens.iter().find(|token| token.name == *name)
    }

    /// Who has a seat.
    pub fn holders_of(&self, seat: &Name) -> impl Iterator<Item = &Person> {
        self.people.iter().filter(|person| person.seats.contains(seat))
    }
}

impl Person {
    /// Whether they are a custodian in this script.
    pub fn is_custodian(&self, script: &Script) -> bool {
        self.seats.iter().any(|seat| script.is_custodian(seat))
    }

    /// Their seats, as they are read.
    pub fn seats_in_words(&self) -> String {
        let seats: Vec<&str> = self.seats.iter().map(Name::as_str).collect();
        seats.join(", ")
    }
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rehearsal => "rehearsal",
            Self::Production => "production",
        })
    }
}

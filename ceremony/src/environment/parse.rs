//! Reads an environment, and says everything that is wrong with it at once.

use super::{Class, Environment, Person, SharedBackup};
use crate::{
    key_file::parse_public,
    name::Name,
    problem::{Findings, Problems},
    script::{FileHash, looks_secret},
    token::Token,
};
use portcullis_hsm::token::TokenSelector;
use portcullis_provisioning::custodian::{AgeRecipient, CustodianName};
use serde::Deserialize;
use std::{collections::BTreeSet, path::PathBuf};

pub(super) fn parse(text: &str) -> Result<Environment, Problems> {
    let raw: Raw = toml::from_str(text).map_err(|error| Problems::one("file", error.to_string().trim_end()))?;
    let mut findings = Findings::default();
    if raw.format != FORMAT {
        findings.add(
            "format",
            format!("\"{}\", expected \"{FORMAT}\"", raw.format.escape_default()),
        );
    }
    if let Some(what) = looks_secret(text) {
        findings.add(
            "file",
            format!(
                "something in it looks like {what}: secrets are typed during the ceremony, never written down here"
            ),
        );
    }
    if !raw.second_medium.is_absolute() {
        findings.add("second_medium", "expected a path from the root, such as /media/second");
    }
    if raw.class == Class::Rehearsal && raw.rehearsal.is_some() {
        findings.add("rehearsal", "a rehearsal does not name another one");
    }
    if raw.person.is_empty() {
        findings.add("person", "there is nobody");
    }
    let people: Vec<Option<Person>> = raw.person.into_iter().map(|raw| person(&mut findings, raw)).collect();
    let known: Vec<&Person> = people.iter().flatten().collect();
    for (place, one) in known.iter().enumerate() {
        for other in &known[..place] {
            let who = format!("person \"{}\"", one.name);
            if one.name.reads_like(&other.name) {
                findings.add(&who, "the name is there twice");
            }
            if one.key == other.key {
                findings.add(
                    &who,
                    format!(
                        "the key is also that of \"{}\": one person would count as two",
                        other.name
                    ),
                );
            }
            if one.receives.is_some() && one.receives == other.receives {
                findings.add(&who, format!("the recipient is also that of \"{}\"", other.name));
            }
        }
    }
    let tokens: Vec<Token> = raw.token.into_iter().map(|raw| token(&mut findings, raw)).collect();
    for (place, one) in tokens.iter().enumerate() {
        for other in &tokens[..place] {
            if one.name == other.name {
                findings.add(format!("token.{}", one.name), "the name is there twice");
            }
            if one.module == other.module && one.selector == other.selector {
                findings.add(
                    format!("token.{}", one.name),
                    format!("it is the token {} too", other.name),
                );
            }
        }
    }
    findings.finish(|| {
        Some(Environment {
            class: raw.class,
            second_medium: raw.second_medium,
            rehearsal: raw.rehearsal,
            record: raw.record,
            backup: raw
                .backup
                .map(|RawBackup { file, shares }| SharedBackup { file, shares }),
            tokens,
            people: people.into_iter().collect::<Option<_>>()?,
            hash: FileHash::of(text.as_bytes()),
        })
    })
}

fn token(findings: &mut Findings, raw: RawToken) -> Token {
    let place = format!("token.{}", raw.name);
    if !raw.module.is_absolute() {
        findings.add(format!("{place}.module"), "expected a path from the root");
    }
    if raw.label.is_none() && raw.serial.is_none() {
        findings.add(&place, "neither label nor serial says which token of the module it is");
    }
    Token {
        name: raw.name,
        module: raw.module,
        selector: TokenSelector {
            label: raw.label,
            serial_number: raw.serial,
        },
        officer_shares: raw.officer_shares,
        user_shares: raw.user_shares,
    }
}

fn person(findings: &mut Findings, raw: RawPerson) -> Option<Person> {
    let place = format!("person \"{}\"", raw.name);
    if raw.seats.is_empty() {
        findings.add(&place, "has no seat");
    }
    let mut seen = BTreeSet::new();
    for seat in &raw.seats {
        if !seen.insert(seat) {
            findings.add(&place, format!("has the seat {seat} twice"));
        }
    }
    let key = findings.take(&format!("{place}.key"), parse_public(&raw.key));
    Some(Person {
        name: raw.name,
        seats: raw.seats,
        key: key?,
        key_file: raw.key_file,
        receives: raw.receives,
        identity_file: raw.identity_file,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: String,
    class: Class,
    second_medium: PathBuf,
    rehearsal: Option<PathBuf>,
    record: Option<PathBuf>,
    backup: Option<RawBackup>,
    #[serde(default)]
    token: Vec<RawToken>,
    #[serde(default)]
    person: Vec<RawPerson>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    name: Name,
    module: PathBuf,
    label: Option<String>,
    serial: Option<String>,
    officer_shares: Option<PathBuf>,
    user_shares: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBackup {
    file: PathBuf,
    shares: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPerson {
    name: CustodianName,
    seats: Vec<Name>,
    key: String,
    key_file: Option<PathBuf>,
    receives: Option<AgeRecipient>,
    identity_file: Option<PathBuf>,
}

const FORMAT: &str = "ceremony-environment/1";

//! The HSM members.

use super::{
    MemberSettings,
    document::{Problems, Section},
};
use crate::{keys::name::is_id, pin::PinSource};
use portcullis_hsm::token::TokenSelector;
use std::{collections::HashSet, path::Path, time::Duration};

/// Reads every `[[member]]`.
pub(super) fn read_members(root: &mut Section<'_>, problems: &mut Problems<'_>) -> Vec<MemberSettings> {
    let mut members: Vec<MemberSettings> = Vec::new();
    let sections = root.sections("member", problems);
    if sections.is_empty() {
        problems.note(None, "member", "no [[member]] is configured; expected at least one");
    }
    let mut names = HashSet::new();
    for mut section in sections {
        let at = section.at();
        let name = section.required("name", problems, "a name of a-z, 0-9, - and _", |value| {
            let name = value.as_str()?;
            is_id(name).then(|| name.to_owned())
        });
        if let Some(name) = &name
            && !names.insert(name.clone())
        {
            problems.note(
                at,
                section.setting("name"),
                format!("\"{name}\" is used by another member"),
            );
        }
        let module = section.required_path("module", problems);
        let token = TokenSelector {
            label: section.text("token_label", problems),
            serial_number: section.text("token_serial_number", problems),
        };
        if token == TokenSelector::default() {
            problems.note(
                at,
                section.setting("token_label"),
                "neither token_label nor token_serial_number is given",
            );
        }
        let pin = read_pin_source(&mut section, problems);
        let sessions = section.number("sessions", problems, 1..=256, 4);
        let queue = section.number("queue", problems, 1..=65_536, 2048);
        let generation_sessions = section.number("generation_sessions", problems, 1..=256, 2);
        let generation_queue = section.number("generation_queue", problems, 1..=65_536, 256);
        let loaded_keys = section.number("loaded_keys", problems, 1..=1_000_000, 10_000);
        let tenth = (loaded_keys / 10).max(1);
        let ephemeral_share = section.number("ephemeral_share", problems, 1..=1_000_000, tenth);
        let weight = section.number("weight", problems, 1..=100, 1);
        let workers = section.number("workers", problems, 1..=32, 1);
        let environment = section.optional("environment", problems, "a table of texts", |value| {
            let entries = value.as_table()?.iter();
            entries
                .map(|(key, value)| Some((key.get_ref().to_string(), value.get_ref().as_str()?.to_owned())))
                .collect()
        });
        let write_only_in = section.paths("write_only_in", problems).unwrap_or_default();
        section.finish(problems);
        if let (Some(name), Some(module), Some(pin)) = (name, module, pin) {
            let environment = environment.unwrap_or_default();
            members.push(MemberSettings {
                name,
                module,
                token,
                pin,
                sessions,
                queue,
                generation_sessions,
                generation_queue,
                loaded_keys,
                ephemeral_share,
                weight,
                workers,
                environment,
                write_only_in,
            });
        }
    }
    members
}

/// Where a member's PIN comes from: exactly one source.
fn read_pin_source(section: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<PinSource> {
    let at = section.at();
    let given: Vec<_> = section
        .keys()
        .into_iter()
        .filter(|key| PIN_SOURCES.contains(&key.as_str()))
        .collect();
    let file = section.path("pin_file", problems).map(PinSource::File);
    let expected = "the name of a credential: letters, digits, dots, dashes and underscores";
    let credential = section.optional("pin_credential", problems, expected, |value| {
        let name = value.as_str()?;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let is_name = !name.is_empty() && !name.starts_with('.') && name.bytes().all(known);
        is_name.then(|| PinSource::Credential(name.to_owned()))
    });
    let words = section.texts("pin_command", problems);
    let has_timeout = section.keys().iter().any(|key| key == "pin_command_timeout");
    let timeout = section.duration("pin_command_timeout", problems, Duration::from_secs(10));
    if has_timeout && !given.iter().any(|key| key == "pin_command") {
        problems.note(
            at,
            section.setting("pin_command_timeout"),
            "is given without pin_command",
        );
    }
    let command = words.and_then(|words| {
        if words.first().is_some_and(|program| Path::new(program).is_absolute()) {
            return Some(PinSource::Command { words, timeout });
        }
        let message = "expected a program by its absolute path, and its arguments; no shell and no search path is used";
        problems.note(at, section.setting("pin_command"), message);
        None
    });
    match given.as_slice() {
        [_] => file.or(credential).or(command),
        [] => {
            let message = "is missing; expected pin_file, pin_credential or pin_command";
            problems.note(at, section.setting("pin_file"), message);
            None
        }
        several => {
            let message = format!("the PIN has several sources ({}); expected one", several.join(", "));
            problems.note(at, section.setting("pin_file"), message);
            None
        }
    }
}

const PIN_SOURCES: [&str; 3] = ["pin_file", "pin_credential", "pin_command"];

//! Where policies come from, and the grants of roles.

use super::document::{Problems, Section};
use crate::{
    identity::PrincipalPattern,
    policy::{Grant, Place, PolicySettings, Role},
};
use std::collections::HashSet;

/// Reads `[policy]` and its grants.
pub(super) fn read_policy(root: &mut Section<'_>, problems: &mut Problems<'_>) -> PolicySettings {
    let mut policy = root.section("policy", problems);
    let files = policy.texts("files", problems).unwrap_or_default();
    let mut settings = PolicySettings {
        files: files.iter().map(|file| problems.path(file)).collect(),
        grants: Vec::new(),
    };
    let mut names = HashSet::new();
    for mut section in policy.sections("grant", problems) {
        let at = section.at();
        let name = section.required("name", problems, "text", |value| {
            value.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
        });
        if let Some(name) = &name
            && !names.insert(name.clone())
        {
            problems.note(
                at,
                section.setting("name"),
                format!("\"{name}\" is used by another grant"),
            );
        }
        let role = section.required("role", problems, "the name of a role", |value| {
            value.as_str().map(Role::parse)
        });
        let role = match role {
            Some(Err(message)) => {
                problems.note(at, section.setting("role"), message);
                None
            }
            other => other.and_then(Result::ok),
        };
        let principals = read_each(&mut section, problems, "principals", PrincipalPattern::parse);
        // What is given and is none was noted as that.
        if principals.as_ref().is_none_or(|listed| listed.given == 0) {
            problems.note(at, section.setting("principals"), "names nobody; expected principals");
        }
        let rings = read_each(&mut section, problems, "rings", Place::parse_ring);
        let keys = read_each(&mut section, problems, "keys", Place::parse_key);
        let given: usize = [&rings, &keys].into_iter().flatten().map(|listed| listed.given).sum();
        let places = [rings, keys].into_iter().flatten().flat_map(|listed| listed.parsed);
        let places: Vec<_> = places.collect();
        if let Some(role) = role {
            match (role.needs_place(), given == 0) {
                (true, true) => {
                    let message = "neither rings nor keys are given, so the role is granted nowhere; expected rings = \
                                   [\"id\"] or [\"*\"], or keys = [\"ring/key\"]";
                    problems.note(at, section.setting("rings"), message);
                }
                (false, false) => {
                    let message = format!("the role {role} concerns the whole gateway: leave rings and keys out");
                    problems.note(at, section.setting("rings"), message);
                }
                _ => {}
            }
        }
        section.finish(problems);
        if let (Some(name), Some(role), Some(principals)) = (name, role, principals) {
            settings.grants.push(Grant {
                name,
                role,
                principals: principals.parsed,
                places,
            });
        }
    }
    policy.finish(problems);
    settings
}

/// What an array of texts says.
struct Listed<T> {
    parsed: Vec<T>,
    // How many texts there are, also those that say nothing.
    given: usize,
}

/// Reads an array of texts, each by `parse`, which says what is wrong; `None` if there is no array.
fn read_each<T>(
    section: &mut Section<'_>,
    problems: &mut Problems<'_>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Listed<T>> {
    let at = section.at();
    let setting = section.setting(key);
    let texts = section.texts(key, problems)?;
    let (mut parsed, given) = (Vec::new(), texts.len());
    for text in texts {
        match parse(&text) {
            Ok(one) => parsed.push(one),
            Err(message) => problems.note(at, setting.clone(), message),
        }
    }
    Some(Listed { parsed, given })
}

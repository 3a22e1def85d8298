//! From settings to policies that can decide: read, parsed, checked against the schema; everything that is wrong is said.

use super::{
    PolicySettings,
    role::has_slot,
    rule::Rule,
    vocabulary::{Kind, schema},
};
use crate::{identity::PrincipalPattern, keys::name::is_id};
use cedar_policy::{EntityUid, Policy, PolicyId, PolicySet, SlotId, ValidationMode, ValidationWarning, Validator};
use miette::Diagnostic;
use std::{
    collections::{HashMap, HashSet},
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// One thing that is wrong, or strange, in a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The file; `None` if it is in a grant.
    pub file: Option<PathBuf>,
    /// The line in the file, from 1, where that is known.
    pub line: Option<usize>,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(formatter, "{} line {line}: {}", file.display(), self.message),
            (Some(file), None) => write!(formatter, "{}: {}", file.display(), self.message),
            (None, _) => formatter.write_str(&self.message),
        }
    }
}

/// Why policies cannot be used. What was loaded before stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::list(problems))]
pub struct PolicyError {
    /// Everything that is wrong.
    pub problems: Vec<PolicyProblem>,
}

impl PolicyError {
    fn list(problems: &[PolicyProblem]) -> String {
        let noun = if problems.len() == 1 { "problem" } else { "problems" };
        let lines = problems.iter().map(|problem| format!("\n  {problem}"));
        format!("the policy has {} {noun}:{}", problems.len(), lines.collect::<String>())
    }
}

/// Policies that were read and checked.
#[derive(Debug)]
pub(super) struct Sources {
    /// The policies.
    pub(super) rules: Vec<Arc<Rule>>,
    /// What is allowed and strange.
    pub(super) warnings: Vec<PolicyProblem>,
}

/// Reads everything that the settings name.
pub(super) fn load(settings: &PolicySettings) -> Result<Sources, PolicyError> {
    let mut reading = Reading::default();
    for (number, file) in settings.files.iter().enumerate() {
        let before = reading.problems.len();
        match fs::read_to_string(file) {
            Ok(text) => reading.file(number, file, &text),
            Err(error) => reading.problem(Some(file), None, format!("cannot be read: {error}")),
        }
        reading.problems[before..].sort_by_key(|problem| problem.line);
    }
    for grant in &settings.grants {
        reading.grant(grant);
    }
    if reading.problems.is_empty() {
        Ok(Sources {
            rules: reading.rules,
            warnings: reading.warnings,
        })
    } else {
        Err(PolicyError {
            problems: reading.problems,
        })
    }
}

#[derive(Default)]
struct Reading {
    rules: Vec<Arc<Rule>>,
    names: HashSet<Arc<str>>,
    problems: Vec<PolicyProblem>,
    warnings: Vec<PolicyProblem>,
}

impl Reading {
    fn problem(&mut self, file: Option<&Path>, line: Option<usize>, message: impl Into<String>) {
        self.problems.push(PolicyProblem {
            file: file.map(Path::to_owned),
            line,
            message: message.into(),
        });
    }

    /// Reads a file of policies.
    fn file(&mut self, number: usize, file: &Path, text: &str) {
        let set: PolicySet = match text.parse() {
            Ok(set) => set,
            Err(errors) => {
                for error in errors.iter() {
                    self.problem(Some(file), line_of(text, error), told(error));
                }
                return;
            }
        };
        let places = Places::of(&set, text);
        for template in set.templates() {
            let slot = if has_slot(template, &SlotId::principal()) {
                "?principal"
            } else {
                "?resource"
            };
            let message =
                format!("{slot} is filled in by grants of roles alone: name whom or what the policy is about");
            self.problem(Some(file), places.line(template.id()), message);
        }
        let checked = Validator::new(schema().clone()).validate(&set, ValidationMode::Strict);
        let mut wrong = HashSet::new();
        for error in checked.validation_errors() {
            wrong.insert(error.policy_id());
            let line = line_of(text, error).or_else(|| places.line(error.policy_id()));
            self.problem(Some(file), line, told(error));
        }
        for warning in checked.validation_warnings() {
            let line = line_of(text, warning).or_else(|| places.line(warning.policy_id()));
            if matches!(warning, ValidationWarning::ImpossiblePolicy(_)) {
                // What is wrong with a policy is often also why it can never apply.
                if wrong.contains(warning.policy_id()) {
                    continue;
                }
                self.problem(
                    Some(file),
                    line,
                    "the policy can never apply: its head or its conditions contradict themselves",
                );
            } else {
                self.warnings.push(PolicyProblem {
                    file: Some(file.to_owned()),
                    line,
                    message: told(warning),
                });
            }
        }
        for (line, policy) in places.policies {
            for message in policy.entity_literals().iter().filter_map(wrong_name) {
                self.problem(Some(file), Some(line), message);
            }
            let name = match policy.annotation("id") {
                Some("") => {
                    self.problem(Some(file), Some(line), "@id is empty");
                    continue;
                }
                Some(name) => Arc::from(name),
                None => {
                    let short = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
                    Arc::from(format!("{short}:{line}"))
                }
            };
            if !self.names.insert(Arc::clone(&name)) {
                self.problem(
                    Some(file),
                    Some(line),
                    format!("the name \"{name}\" is used by another policy"),
                );
            }
            let id = PolicyId::new(format!("file {number} line {line} {}", policy.id()));
            self.rules.push(Arc::new(Rule::new(name, policy.new_id(id), None)));
        }
    }

    /// Fills in a role.
    fn grant(&mut self, grant: &super::Grant) {
        let name: Arc<str> = Arc::from(grant.name.as_str());
        if !self.names.insert(Arc::clone(&name)) {
            let message = format!("the name \"{name}\" is used by a policy and by a grant, or by two grants");
            self.problem(None, None, message);
        }
        for template in grant.role.templates() {
            for values in grant.values() {
                let id = PolicyId::new(format!("grant {name} {} {}", template.id(), self.rules.len()));
                match linked(template, &id, &values) {
                    Ok(policy) => {
                        let link = Some((template.clone(), values));
                        self.rules.push(Arc::new(Rule::new(Arc::clone(&name), policy, link)));
                    }
                    Err(message) => self.problem(None, None, format!("the grant \"{name}\": {message}")),
                }
            }
        }
    }
}

/// A template with its slots filled in. Whatever fills them is of the kinds for which a test checks each role.
fn linked(
    template: &cedar_policy::Template,
    id: &PolicyId,
    values: &HashMap<SlotId, EntityUid>,
) -> Result<Policy, String> {
    let mut set = PolicySet::new();
    set.add_template(template.clone()).map_err(|error| error.to_string())?;
    set.link(template.id().clone(), id.clone(), values.clone())
        .map_err(|error| error.to_string())?;
    // Invariant: it was linked under this id above.
    Ok(set.policy(id).expect("the linked policy is in its set").clone())
}

/// The static policies of a file, in its order, with their lines.
struct Places {
    policies: Vec<(usize, Policy)>,
    lines: HashMap<PolicyId, usize>,
}

impl Places {
    fn of(set: &PolicySet, text: &str) -> Self {
        // Cedar numbers the policies of a text from policy0, and keeps the words of each.
        let number = |id: &PolicyId| {
            AsRef::<str>::as_ref(id)
                .trim_start_matches("policy")
                .parse()
                .unwrap_or(usize::MAX)
        };
        let mut words: Vec<(usize, PolicyId, String)> = set
            .policies()
            .map(|policy| {
                (
                    number(policy.id()),
                    policy.id().clone(),
                    policy.to_cedar().unwrap_or_default(),
                )
            })
            .chain(
                set.templates()
                    .map(|template| (number(template.id()), template.id().clone(), template.to_cedar())),
            )
            .collect();
        words.sort_by_key(|(number, ..)| *number);
        let mut lines = HashMap::new();
        let mut policies = Vec::new();
        let mut after = 0;
        for (_, id, words) in words {
            let start = text[after..].find(&words).map_or(after, |found| after + found);
            after = (start + words.len()).min(text.len());
            let line = line_at(text, start);
            if let Some(policy) = set.policy(&id) {
                policies.push((line, policy.clone()));
            }
            lines.insert(id, line);
        }
        Self { policies, lines }
    }

    fn line(&self, id: &PolicyId) -> Option<usize> {
        self.lines.get(id).copied()
    }
}

/// What is wrong with an entity that a policy names, beyond what the schema can say.
fn wrong_name(entity: &EntityUid) -> Option<String> {
    let id = entity.id().unescaped();
    match Kind::of(entity)? {
        Kind::Principal => match PrincipalPattern::parse(id) {
            Ok(pattern) if pattern.is_exact() => None,
            Ok(_) => Some(format!(
                "Principal::\"{id}\" names one principal: write principal in Pattern::\"{id}\""
            )),
            Err(message) => Some(message),
        },
        Kind::Pattern => match PrincipalPattern::parse(id) {
            Ok(pattern) if pattern.is_exact() => Some(format!(
                "Pattern::\"{id}\" ends in no *: write principal == Principal::\"{id}\""
            )),
            Ok(_) => None,
            Err(message) => Some(message),
        },
        Kind::KeyRing if !is_id(id) => Some(format!("KeyRing::\"{id}\": \"{id}\" is no id of a ring")),
        Kind::Key if !id.split_once('/').is_some_and(|(ring, key)| is_id(ring) && is_id(key)) => Some(format!(
            "Key::\"{id}\": expected the ids of the ring and of the key, Key::\"ring/key\""
        )),
        Kind::EncryptionContext => Some("the encryption context is context.encryption_context".to_owned()),
        _ => None,
    }
}

/// The line that a diagnostic points at.
fn line_of(text: &str, diagnostic: &(impl Diagnostic + ?Sized)) -> Option<usize> {
    let first = diagnostic.labels()?.next()?;
    Some(line_at(text, first.offset()))
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

/// The words of a diagnostic, with its advice; policies are found by their lines, not by Cedar's numbers.
fn told(diagnostic: &(impl Diagnostic + ?Sized)) -> String {
    let message = diagnostic.to_string();
    let message = match message
        .strip_prefix("for policy `")
        .and_then(|rest| rest.split_once("`, "))
    {
        Some((_, rest)) => rest,
        None => &message,
    };
    match diagnostic.help() {
        Some(help) => format!("{message} ({help})"),
        None => message.to_owned(),
    }
}

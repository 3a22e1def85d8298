//! A script in words.

use super::{Action, CUSTODIANS, Need, OnFail, Permission, Script, Step};
use crate::name::Name;
use time::format_description::well_known::Rfc3339;

/// The whole script, line by line.
pub(super) fn plan(script: &Script) -> Vec<String> {
    let mut lines = vec![
        script.title.clone(),
        format!("A ceremony of kind {}. {}", script.kind, script.purpose),
        String::new(),
        format!("Hash of the script: {}", script.hash),
    ];
    lines.extend(
        script
            .hash
            .words()
            .lines()
            .into_iter()
            .map(|line| format!("    {line}")),
    );
    lines.push(format!(
        "May be held from {} until {}.",
        moment(script.window.from),
        moment(script.window.until)
    ));
    lines.push(
        match script.policy.software_tokens {
            Permission::Allowed => "Tokens that are software MAY be used in production.",
            Permission::Refused => "Production uses no token that is software.",
        }
        .to_owned(),
    );
    lines.push(
        match script.policy.rehearsal {
            Need::Required => "Production needs the bundle of a rehearsal of this very script.",
            Need::Optional => "Production needs no rehearsal.",
        }
        .to_owned(),
    );
    lines.push(String::new());
    lines.push("Who takes part:".to_owned());
    for role in &script.roles {
        lines.push(format!("    {}: {} ({})", role.id, role.kind, people(role.count)));
    }
    if let Some(quorum) = &script.quorum {
        lines.push(format!(
            "    custodians: {}; {} of them are needed",
            list(&quorum.of),
            quorum.need
        ));
        if !quorum.alternates.is_empty() {
            lines.push(format!("    alternates: {}", list(&quorum.alternates)));
        }
        if !quorum.exclude_roles.is_empty() {
            lines.push(format!("    no custodian may also be {}", list(&quorum.exclude_roles)));
        }
    }
    lines.push(String::new());
    let count = script.steps.len();
    for (place, step) in script.steps.iter().enumerate() {
        lines.push(format!(
            "{:>2} of {count}  {} ({})",
            place + 1,
            step_in_words(step),
            step.id
        ));
        if let Some(note) = &step.note {
            lines.push(format!("          {note}"));
        }
        if !step.sign_off.is_empty() {
            lines.push(format!("          Signed off by {}.", list(&step.sign_off)));
        }
        lines.push(format!("          {}", failure(step.on_fail)));
    }
    lines
}

/// What is done and by whom.
pub(super) fn step_in_words(step: &Step) -> String {
    let by = list(&step.by);
    let first = step.by.first().map_or("", Name::as_str);
    let second = step.by.get(1).map_or("", Name::as_str);
    match &step.action {
        Action::RollCall => "Everyone says that they are here, and signs.".to_owned(),
        Action::AttestTime { within } => format!(
            "{first} and {second} each hold the clock of this host against a clock of their own; they may differ by {within} s."
        ),
        Action::AttestHost { offline } => format!(
            "{by} lets the program record this host: its hash, the network, swap, core dumps and locked memory{}.",
            if *offline {
                "; every network interface but loopback must be down"
            } else {
                ""
            }
        ),
        Action::AttestHsm { on } => {
            format!("{by} lets the program ask the token {on} what it is and what it can do; nothing on it is changed.")
        }
        Action::ReadAloud { what } => format!("{first} reads {what} aloud as words; {second} types what is heard."),
        Action::MediaRegister { what } => format!("{by} types what is printed on the medium: {what}"),
        Action::Photo { what } => format!("{by} takes a picture and gives its file: {what}"),
        Action::SealBag { what } => format!("{by} seals a bag and types its number: {what}"),
        Action::Task { what } => format!("{by}: {what}"),
        Action::Token { on, deed } => deed.in_words(on, &by),
        Action::Record {
            cluster,
            activation,
            without,
        } => format!(
            "{by}: the provisioning record of cluster {cluster} is made of what this ceremony did{}, and every custodian who acts \
             signs it; {activation} of the custodians activate a root key.",
            match without.as_slice() {
                [] => String::new(),
                names => format!(", without {}", list(names)),
            }
        ),
        Action::SignOff => "Those named sign everything that was recorded so far.".to_owned(),
        Action::Close => "Everyone who is present signs the whole transcript.".to_owned(),
    }
}

fn failure(on_fail: OnFail) -> String {
    match on_fail {
        OnFail::Abort => "If it fails, the ceremony is aborted.".to_owned(),
        OnFail::Retry(1) => "If it fails, it is tried once more.".to_owned(),
        OnFail::Retry(count) => format!("If it fails, it is tried {count} times more."),
        OnFail::Exception => "If it fails, those present decide, and sign what they decide.".to_owned(),
    }
}

fn people(count: u8) -> String {
    match count {
        1 => "one person".to_owned(),
        count => format!("{count} people"),
    }
}

/// Names as they are read: `a`, `a and b`, `a, b and c`.
fn list(names: &[Name]) -> String {
    let names: Vec<&str> = names
        .iter()
        .map(|name| match name.as_str() {
            CUSTODIANS => "a quorum of the custodians",
            name => name,
        })
        .collect();
    match names.split_last() {
        None => "nobody".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

fn moment(at: time::OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

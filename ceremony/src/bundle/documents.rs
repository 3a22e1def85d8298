//! Documents that steps made: checked as whoever relies on them will check them.

use super::{
    ARTEFACTS, Fault,
    verify::{at_line, read},
};
use crate::{
    environment::Environment,
    name::Name,
    progress::{FINGERPRINT, Progress},
    script::Script,
    shares::SetDescription,
    transcript::{Event, Line},
};
use portcullis_hsm::domain::DomainBackup;
use portcullis_provisioning::{
    chain::Chain,
    custodian::Custodian,
    document::{DocumentKind, SignedDocument},
    join_request::JoinRequest,
    quorum::Roster,
};
use std::{collections::BTreeMap, path::Path};

/// Looks into every join request, provisioning record, backup and description of shares.
pub(super) fn documents(
    directory: &Path,
    script: &Script,
    environment: &Environment,
    lines: &[Line],
) -> Result<(), Fault> {
    let mut progress = Progress::new(script, environment);
    for Line { entry, .. } in lines {
        // It was replayed before.
        progress
            .apply(&entry.clone())
            .map_err(|what| at_line(entry.seq, what))?;
        let Event::Result {
            step, facts, artefacts, ..
        } = &entry.event
        else {
            continue;
        };
        let held = Held {
            progress: &progress,
            script,
            step,
            facts,
        };
        for name in artefacts.keys() {
            let bytes = read(directory, &format!("{ARTEFACTS}/{name}"))?;
            held.check(name, &bytes)
                .map_err(|what| at_line(entry.seq, format!("{ARTEFACTS}/{name}: {what}")))?;
        }
    }
    Ok(())
}

/// A result, and what it is held against.
struct Held<'a> {
    progress: &'a Progress<'a>,
    script: &'a Script,
    step: &'a Name,
    facts: &'a BTreeMap<String, String>,
}

impl Held<'_> {
    fn check(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let (Some((_, kind)), Some(opened)) = (name.rsplit_once('.'), self.progress.opened()) else {
            return Ok(());
        };
        let ceremony = opened.ceremony.to_string();
        match kind {
            "request" => self.request(text(bytes)?, &ceremony),
            "record" => self.record(text(bytes)?, &ceremony),
            "backup" => {
                let backup = DomainBackup::from_bytes(bytes).map_err(|error| error.to_string())?;
                if backup.fingerprint.to_string() != self.fact(FINGERPRINT) {
                    return Err("it is of another domain than the one of which the transcript speaks".to_owned());
                }
                Ok(())
            }
            "shares" => {
                let set: SetDescription = toml::from_str(text(bytes)?).map_err(|error| error.message().to_owned())?;
                let need = self.script.quorum.as_ref().map(|quorum| quorum.need);
                if Some(set.threshold.need()) != need {
                    return Err(format!("{} are needed, not as many as the script says", set.threshold));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn record(&self, text: &str, ceremony: &str) -> Result<(), String> {
        let chain = Chain::parse(text).map_err(|error| error.to_string())?;
        let last = chain.last();
        if last.record.ceremony != ceremony {
            return Err("its last record is of another ceremony".to_owned());
        }
        if hex::encode(last.digest) != self.fact("digest")
            || hex::encode(last.record.domain.fingerprint) != self.fact(FINGERPRINT)
        {
            return Err("its last record is not the one of which the transcript speaks".to_owned());
        }
        Ok(())
    }

    fn request(&self, text: &str, ceremony: &str) -> Result<(), String> {
        let document = SignedDocument::parse(DocumentKind::JoinRequest, text).map_err(|error| error.to_string())?;
        let request = JoinRequest::parse(document.document().as_bytes()).map_err(|error| error.to_string())?;
        if request.ceremony != ceremony {
            return Err("it is of another ceremony".to_owned());
        }
        if hex::encode(request.fingerprint()) != self.fact("key of the member")
            || request.member.token_serial_number != self.fact("serial number")
        {
            return Err("it is not the request of which the transcript speaks".to_owned());
        }
        let custodians = self.progress.acting_custodians();
        let custodians: Option<Vec<Custodian>> = custodians
            .into_iter()
            .map(|person| {
                Some(Custodian {
                    name: person.name.clone(),
                    signing_key: person.key.clone(),
                    age_recipient: person.receives.clone()?,
                })
            })
            .collect();
        let roster =
            Roster::new(custodians.ok_or("a custodian has no recipient")?).map_err(|error| error.to_string())?;
        let need = self.script.quorum.as_ref().map_or(0, |quorum| quorum.need);
        let threshold = roster.threshold(need.into()).map_err(|error| error.to_string())?;
        // Who leads the step asked for it, and does not count.
        let by = self
            .script
            .step(self.step)
            .map(|step| self.progress.people_of(&step.by));
        let requester = by.as_ref().and_then(|by| by.first());
        document
            .check_quorum("the custodians", &roster, threshold, requester)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn fact(&self, name: &str) -> &str {
        self.facts.get(name).map(String::as_str).unwrap_or_default()
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

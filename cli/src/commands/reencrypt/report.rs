//! What is said of a run.

use super::usage::{OlderVersion, Usage};
use crate::{
    console::{Console, Form},
    failure::{Exit, Failure},
};
use portcullis_client::envelope::VersionName;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};

/// What became of the files so far.
pub(super) struct Report {
    primary: VersionName,
    already: u64,
    reencrypted: BTreeMap<u32, u64>,
    skipped: Vec<Value>,
    failed: Vec<Value>,
    /// The files that are still under older versions.
    remaining: BTreeMap<u32, u64>,
    /// Files that failed before their version was known.
    unknown: u64,
    not_looked_at: usize,
    /// That of the file for which it is the largest.
    exit: Exit,
}

impl Report {
    pub(super) fn new(primary: VersionName) -> Self {
        Self {
            primary,
            already: 0,
            reencrypted: BTreeMap::new(),
            skipped: Vec::new(),
            failed: Vec::new(),
            remaining: BTreeMap::new(),
            unknown: 0,
            not_looked_at: 0,
            exit: Exit::Done,
        }
    }

    pub(super) fn already(&mut self) {
        self.already += 1;
    }

    pub(super) fn reencrypted(&mut self, before: &VersionName) {
        *self.reencrypted.entry(before.number()).or_default() += 1;
    }

    pub(super) fn skipped(&mut self, console: Console, path: &Path, code: &str, why: &str) {
        console.note(&format!("skipped {}: {why}", path.display()));
        self.skipped
            .push(json!({ "path": path.to_string_lossy(), "reason": code, "message": why }));
    }

    pub(super) fn failed(&mut self, console: Console, path: &Path, version: Option<&VersionName>, failure: Failure) {
        console.note(&format!("not re-encrypted {}: {failure}", path.display()));
        let mut document = failure.document()["error"].take();
        document["path"] = json!(path.to_string_lossy());
        self.failed.push(document);
        match version {
            Some(version) => *self.remaining.entry(version.number()).or_default() += 1,
            None => self.unknown += 1,
        }
        // Files are done in no order, and the exit code must not depend on that.
        let exit = failure.exit();
        if exit as u8 > self.exit as u8 {
            self.exit = exit;
        }
    }

    pub(super) fn not_looked_at(&mut self, files: usize) {
        self.not_looked_at += files;
    }

    /// What was done, what is left, and whether older versions are still used.
    pub(super) fn show(
        &self,
        console: Console,
        before: Usage,
        after: Usage,
        stopped: Option<&Failure>,
    ) -> Result<(), Failure> {
        let older = self.older_versions(&before, &after);
        let all_done = self.remaining.is_empty() && self.unknown == 0 && self.not_looked_at == 0;
        let mut lines = vec![format!(
            "re-encrypted {} under {}; {} under it before, {} skipped",
            files(self.reencrypted.values().sum()),
            self.primary,
            were(self.already),
            self.skipped.len()
        )];
        if all_done {
            lines.push("nothing that was given is under an older version".to_owned());
        }
        for (number, count) in &self.remaining {
            lines.push(format!("{} still under version {number}", are(*count)));
        }
        if self.unknown > 0 {
            lines.push(format!(
                "{} not be read: under which version is not known",
                could(self.unknown)
            ));
        }
        if self.not_looked_at > 0 {
            let count = self.not_looked_at as u64;
            lines.push(format!(
                "{} not looked at: the same command goes on with them",
                were(count)
            ));
        }
        lines.extend(older.iter().map(Older::line));
        let document = json!({
            "version": self.primary.as_str(),
            "reencrypted": self.reencrypted.values().sum::<u64>(),
            "already": self.already,
            "skipped": self.skipped,
            "failed": self.failed,
            "not_looked_at": self.not_looked_at,
            "remaining": self.remaining.iter().map(|(number, count)| {
                json!({ "version": number, "files": count })
            }).collect::<Vec<_>>(),
            "all_under_primary": all_done,
            "older_versions": older.iter().map(Older::document).collect::<Vec<_>>(),
        });
        match (stopped, console.form()) {
            // The failure itself is said behind this.
            (Some(_), Form::Text) => {
                lines.iter().for_each(|line| console.note(line));
                Ok(())
            }
            _ => console.result(&lines.join("\n"), &document),
        }
    }

    /// The end of a run that was not stopped.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    fn older_versions<'u>(&self, before: &Usage, after: &'u Usage) -> Vec<Older<'u>> {
        let seen = after.0.iter().map(|(number, version)| {
            let meanwhile = before
                .0
                .get(number)
                .and_then(|before| Some(version.uses?.saturating_sub(before.uses?)));
            Older {
                number: *number,
                version,
                meanwhile,
                own: self.reencrypted.get(number).copied().unwrap_or_default(),
            }
        });
        seen.collect()
    }
}

/// An older version, and how often it was used while the command ran.
struct Older<'u> {
    number: u32,
    version: &'u OlderVersion,
    meanwhile: Option<u64>,
    /// By this command: each file that it re-encrypted is one use.
    own: u64,
}

impl Older<'_> {
    /// Uses by others while the command ran.
    fn by_others(&self) -> Option<u64> {
        self.meanwhile.map(|uses| uses.saturating_sub(self.own))
    }

    fn line(&self) -> String {
        let (number, state) = (self.number, &self.version.state);
        let Some(uses) = self.version.uses else {
            return format!("version {number} is {state}");
        };
        let meanwhile = match self.by_others() {
            Some(0) => ", by nobody else while this ran".to_owned(),
            Some(uses) => format!(", {uses} of that by others while this ran"),
            None => String::new(),
        };
        format!(
            "version {number} is {state}, used {uses} times so far{meanwhile}; `portcullis key show` tells whether that grows"
        )
    }

    fn document(&self) -> Value {
        json!({
            "name": self.version.name,
            "state": self.version.state,
            "use_count": self.version.uses,
            "uses_meanwhile": self.meanwhile,
            "uses_by_others_meanwhile": self.by_others(),
        })
    }
}

fn files(count: u64) -> String {
    match count {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    }
}

fn were(count: u64) -> String {
    format!("{} {}", files(count), if count == 1 { "was" } else { "were" })
}

fn are(count: u64) -> String {
    format!("{} {}", files(count), if count == 1 { "is" } else { "are" })
}

fn could(count: u64) -> String {
    format!("{} could", files(count))
}

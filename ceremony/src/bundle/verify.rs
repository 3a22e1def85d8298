//! Verifying a bundle: offline, without an HSM, by whoever has it.

use super::{
    ARTEFACTS, ENVIRONMENT, MANIFEST, Manifest, REPORT_HTML, REPORT_MARKDOWN, SCRIPT, SIGNATURES, TRANSCRIPT,
    documents::documents, finish::envelopes,
};
use crate::{
    environment::{Class, Environment},
    lint::lint,
    name::Name,
    progress::{Outcome, Progress, Stage},
    report::Report,
    script::{FileHash, Script},
    transcript::{Event, Head, Line, Lines, Opened},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::Path,
};
use uuid::Uuid;

/// What a bundle that holds says.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The ceremony's id.
    pub ceremony: Uuid,
    /// Its script.
    pub script: Script,
    /// Whether it counted.
    pub class: Class,
    /// How it ended.
    pub outcome: Outcome,
    /// How many signatures it has.
    pub signatures: usize,
    /// How many exceptions there were.
    pub exceptions: u32,
    /// The hash of the last line of the transcript.
    pub head: Head,
    /// Milliseconds from the intent of each step to its result.
    pub durations: BTreeMap<Name, u64>,
    /// Whether the report says what the transcript says.
    pub report: ReportCheck,
}

/// What is known of a bundle's report. Nobody signs it: it holds only as far as it is made of the transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportCheck {
    /// It is, byte for byte, what this program makes of the transcript.
    Holds,
    /// It is something else. Another program took part in the ceremony, which may have written a report in words of its own.
    NotChecked,
}

/// The first thing that is wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// The line, from 1, where one is to blame.
    pub line: Option<u64>,
    /// What is wrong with it.
    pub what: String,
}

/// Checks everything in a bundle: the chain, every signature, who did what, every file.
pub fn verify(directory: &Path) -> Result<Verified, Fault> {
    let text = |name: &str| read_text(directory, name);
    let script = Script::parse(&text(SCRIPT)?).map_err(|problems| in_file(SCRIPT, problems))?;
    let environment = Environment::parse(&text(ENVIRONMENT)?).map_err(|problems| in_file(ENVIRONMENT, problems))?;
    lint(&script, &environment).map_err(|problems| in_file(ENVIRONMENT, problems))?;
    let manifest_text = text(MANIFEST)?;
    let manifest: Manifest = manifest_text.parse().map_err(|error| in_file(MANIFEST, error))?;

    let transcript = read(directory, TRANSCRIPT)?;
    let (lines, progress) = replay(&script, &environment, &transcript)?;
    let count = lines.len() as u64;
    let Stage::Ended(outcome) = *progress.stage() else {
        return Err(at_line(
            count + 1,
            format!("the transcript ends too early: {}", progress.expected()),
        ));
    };
    let head = lines.last().map_or(Head::START, |line| line.head);
    if (manifest.lines, manifest.head) != (count, head) {
        return Err(at_line(count, "it is not the last line that MANIFEST names".to_owned()));
    }

    files(directory, &manifest)?;
    artefacts(&manifest, &lines)?;
    documents(directory, &script, &environment, &lines)?;
    let signatures = envelopes(&environment, &lines);
    for (name, expected) in &signatures {
        let path = format!("{SIGNATURES}/{name}");
        if read(directory, &path)? != *expected {
            return Err(in_file(&path, "it is not the signature that stands in the transcript"));
        }
    }
    let in_manifest = manifest
        .files
        .keys()
        .filter(|path| path.starts_with(SIGNATURES))
        .count();
    if in_manifest != signatures.len() {
        return Err(in_file(
            SIGNATURES,
            "it has files that are no signatures of the transcript",
        ));
    }
    let opened = progress
        .opened()
        .ok_or_else(|| at_line(1, "the ceremony was never opened".to_owned()))?;
    let report = Report::new(&script, &environment, &lines).map_err(|what| in_file(REPORT_HTML, what))?;
    let report = check_report(directory, &report, by_this_version(opened, &lines))?;
    Ok(Verified {
        ceremony: opened.ceremony,
        class: opened.class,
        outcome,
        signatures: signatures.len(),
        exceptions: progress.exceptions(),
        head,
        durations: durations(&lines),
        report,
        script: script.clone(),
    })
}

/// Reads a transcript and holds it to the script; the first line that does not fit ends it.
pub(crate) fn replay<'a>(
    script: &'a Script,
    environment: &'a Environment,
    transcript: &[u8],
) -> Result<(Vec<Line>, Progress<'a>), Fault> {
    let mut progress = Progress::new(script, environment);
    let mut lines = Vec::new();
    for line in Lines::new(transcript) {
        let line = line.map_err(|fault| at_line(fault.line, fault.what))?;
        progress
            .apply(&line.entry)
            .map_err(|what| at_line(line.entry.seq, what))?;
        lines.push(line);
    }
    Ok((lines, progress))
}

/// How long the last attempt of each step took that had a result.
pub(crate) fn durations(lines: &[Line]) -> BTreeMap<Name, u64> {
    let mut begun = BTreeMap::new();
    let mut durations = BTreeMap::new();
    for Line { entry, .. } in lines {
        match &entry.event {
            Event::Intent { step, .. } => {
                begun.insert(step.clone(), entry.ms);
            }
            Event::Result { step, .. } => {
                if let Some(start) = begun.get(step) {
                    durations.insert(step.clone(), entry.ms.saturating_sub(*start));
                }
            }
            _ => {}
        }
    }
    durations
}

/// Every file that the manifest names is as it says, and there is no other.
fn files(directory: &Path, manifest: &Manifest) -> Result<(), Fault> {
    for (path, hash) in &manifest.files {
        if FileHash::of(&read(directory, path)?) != *hash {
            return Err(in_file(path, "it is not the file that MANIFEST names"));
        }
    }
    for name in [SCRIPT, ENVIRONMENT, TRANSCRIPT, REPORT_HTML, REPORT_MARKDOWN] {
        if !manifest.files.contains_key(name) {
            return Err(in_file(MANIFEST, format!("it does not name {name}")));
        }
    }
    let mut found = BTreeSet::new();
    list(directory, "", &mut found).map_err(|error| in_file(".", error))?;
    found.remove(MANIFEST);
    match found.iter().find(|path| !manifest.files.contains_key(*path)) {
        Some(path) => Err(in_file(path, "MANIFEST does not name it")),
        None => Ok(()),
    }
}

fn list(directory: &Path, prefix: &str, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        // A symbolic link is listed as what it is, and named by no manifest.
        if entry.file_type()?.is_dir() && prefix.is_empty() {
            list(&entry.path(), &format!("{path}/"), found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

/// The files that steps made are those that the transcript names.
fn artefacts(manifest: &Manifest, lines: &[Line]) -> Result<(), Fault> {
    let mut named = BTreeMap::new();
    for Line { entry, .. } in lines {
        if let Event::Result { artefacts, .. } | Event::Aborted { artefacts, .. } = &entry.event {
            for (name, hash) in artefacts {
                let path = format!("{ARTEFACTS}/{name}");
                if manifest.files.get(&path) != Some(hash) {
                    return Err(at_line(entry.seq, format!("{path} is not the file of which it speaks")));
                }
                named.insert(path, *hash);
            }
        }
    }
    let mut in_bundle = manifest.files.keys().filter(|path| path.starts_with(ARTEFACTS));
    match in_bundle.find(|path| !named.contains_key(*path)) {
        Some(path) => Err(in_file(path, "no line of the transcript speaks of it")),
        None => Ok(()),
    }
}

/// Holds the report against one that is made anew. MANIFEST does not vouch for it: whoever changes the one can change the other.
fn check_report(directory: &Path, report: &Report, by_this_version: bool) -> Result<ReportCheck, Fault> {
    for (name, made) in [(REPORT_HTML, report.html()), (REPORT_MARKDOWN, report.markdown())] {
        let made = made.map_err(|what| in_file(name, what))?;
        if read(directory, name)? != made.as_bytes() {
            if by_this_version {
                return Err(in_file(name, "it is not the report of the transcript"));
            }
            return Ok(ReportCheck::NotChecked);
        }
    }
    Ok(ReportCheck::Holds)
}

/// Whether one program of this version held the ceremony from its beginning to its end, by what was signed.
fn by_this_version(opened: &Opened, lines: &[Line]) -> bool {
    let by_another = |line: &Line| matches!(&line.entry.event, Event::Resumed { tool, .. } if *tool != opened.tool);
    opened.version == env!("CARGO_PKG_VERSION") && !lines.iter().any(by_another)
}

pub(super) fn read(directory: &Path, name: &str) -> Result<Vec<u8>, Fault> {
    fs::read(directory.join(name)).map_err(|error| in_file(name, format!("it cannot be read: {error}")))
}

fn read_text(directory: &Path, name: &str) -> Result<String, Fault> {
    String::from_utf8(read(directory, name)?).map_err(|_| in_file(name, "it is not UTF-8"))
}

fn in_file(file: &str, what: impl fmt::Display) -> Fault {
    Fault {
        file: file.to_owned(),
        line: None,
        what: what.to_string(),
    }
}

pub(super) fn at_line(line: u64, what: String) -> Fault {
    Fault {
        file: TRANSCRIPT.to_owned(),
        line: Some(line),
        what,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}, line {line}: {}", self.file, self.what),
            None => write!(formatter, "{}: {}", self.file, self.what),
        }
    }
}

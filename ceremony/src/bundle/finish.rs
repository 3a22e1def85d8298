//! What is made when a ceremony is over.

use super::{
    ARTEFACTS, Bundle, ENVIRONMENT, MANIFEST, Manifest, REPORT_HTML, REPORT_MARKDOWN, SCRIPT, SIGNATURES, TRANSCRIPT,
    sync_directory, write_new,
};
use crate::{
    environment::Environment,
    report::Report,
    script::{FileHash, Script},
    transcript::{Event, Head, Line, Opened, Signing, envelope},
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

impl Bundle {
    /// Writes signatures, report and manifest, and copies all of it to the second medium. Done again, it does the same.
    pub fn finish(&self, script: &Script, environment: &Environment, lines: &[Line]) -> io::Result<()> {
        let report = Report::new(script, environment, lines).map_err(io::Error::other)?;
        self.drop_unnamed(lines)?;
        let signatures = envelopes(environment, lines);
        renew_directory(&self.directory.join(SIGNATURES))?;
        for (name, content) in &signatures {
            write_new(&self.directory.join(SIGNATURES).join(name), content)?;
        }
        renew(
            &self.directory.join(REPORT_HTML),
            report.html().map_err(io::Error::other)?.as_bytes(),
        )?;
        renew(
            &self.directory.join(REPORT_MARKDOWN),
            report.markdown().map_err(io::Error::other)?.as_bytes(),
        )?;
        let manifest = Manifest {
            lines: lines.len() as u64,
            head: lines.last().map_or(Head::START, |line| line.head),
            files: self.files()?,
        };
        renew(&self.directory.join(MANIFEST), manifest.to_string().as_bytes())?;
        for directory in [ARTEFACTS, SIGNATURES] {
            renew_directory(&self.second.join(directory))?;
        }
        for path in manifest.files.keys().map(String::as_str).chain([MANIFEST]) {
            if path != TRANSCRIPT {
                renew(&self.second.join(path), &fs::read(self.directory.join(path))?)?;
            }
        }
        Ok(())
    }

    /// Takes away what an attempt had made that never had a result: no line speaks of it.
    fn drop_unnamed(&self, lines: &[Line]) -> io::Result<()> {
        let named = |name: &str| {
            lines.iter().any(|line| match &line.entry.event {
                Event::Result { artefacts, .. } | Event::Aborted { artefacts, .. } => artefacts.contains_key(name),
                _ => false,
            })
        };
        for entry in fs::read_dir(self.directory.join(ARTEFACTS))? {
            let entry = entry?;
            if !named(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn files(&self) -> io::Result<BTreeMap<String, FileHash>> {
        let mut files = BTreeMap::new();
        let single = [SCRIPT, ENVIRONMENT, TRANSCRIPT, REPORT_HTML, REPORT_MARKDOWN].map(str::to_owned);
        let mut paths = Vec::from(single);
        for directory in [ARTEFACTS, SIGNATURES] {
            for entry in fs::read_dir(self.directory.join(directory))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                paths.push(format!("{directory}/{name}"));
            }
        }
        for path in paths {
            let content = fs::read(self.directory.join(&path))?;
            files.insert(path, FileHash::of(&content));
        }
        Ok(files)
    }
}

/// The signatures of a transcript, by the names of their files.
pub(super) fn envelopes(environment: &Environment, lines: &[Line]) -> BTreeMap<String, Vec<u8>> {
    let opened: Option<&Opened> = lines.iter().find_map(|line| match &line.entry.event {
        Event::Opened(opened) => Some(opened.as_ref()),
        _ => None,
    });
    let mut files = BTreeMap::new();
    for Line { entry, .. } in lines {
        let Event::Signed {
            person,
            statement,
            signature,
        } = &entry.event
        else {
            continue;
        };
        let (Some(opened), Some(known)) = (opened, environment.person(person)) else {
            continue;
        };
        let signing = Signing {
            ceremony: opened.ceremony,
            sequence: entry.seq,
            head: entry.prev,
            person,
            seats: &known.seats,
            statement,
        };
        // Invariant: texts, which JSON can hold.
        let mut json =
            serde_json::to_vec_pretty(&envelope(signing, &known.key, signature)).expect("an envelope is JSON");
        json.push(b'\n');
        files.insert(format!("{:06}.json", entry.seq), json);
    }
    files
}

/// Writes a file, also where an interrupted run left one.
fn renew(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = PathBuf::from(path);
    temporary.add_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write_new(&temporary, content)?;
    fs::rename(&temporary, path)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Makes a directory of ours, also where an interrupted run left one; what is in it is replaced file by file.
fn renew_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for entry in fs::read_dir(path)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

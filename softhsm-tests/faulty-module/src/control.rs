//! The control file as the module sees it.

use crate::{
    CONTROL_FILE,
    rule::{Control, LIMIT_OF_RULES, Rule},
};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// The file, and its rules as they were read last.
#[derive(Debug)]
pub(crate) struct ControlFile {
    path: PathBuf,
    last: Mutex<Option<(Stamp, Arc<[Rule]>)>>,
}

/// Tells one state of a file from the next: a file that was renamed into its place has another inode.
type Stamp = (u64, i64, i64, u64);

impl ControlFile {
    /// In a directory.
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self {
            path: directory.join(CONTROL_FILE),
            last: Mutex::new(None),
        }
    }

    /// All that it says now.
    pub(crate) fn read(&self) -> Result<Control, String> {
        let failed = |why: String| format!("the control file {} cannot be used: {why}", self.path.display());
        let text = fs::read_to_string(&self.path).map_err(|error| failed(error.to_string()))?;
        let control: Control = toml::from_str(&text).map_err(|error| failed(error.to_string()))?;
        match control.rule.iter().find(|rule| rule.number >= LIMIT_OF_RULES) {
            Some(rule) => Err(failed(format!("rule {} is not below {LIMIT_OF_RULES}", rule.number))),
            None => Ok(control),
        }
    }

    /// The rules of this moment. Costs a look at the file's metadata while nothing changed.
    pub(crate) fn rules(&self) -> Result<Arc<[Rule]>, String> {
        let stamp = self
            .stamp()
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        let mut last = self.last.lock().unwrap_or_else(|lock| lock.into_inner());
        if let Some((of, rules)) = &*last
            && *of == stamp
        {
            return Ok(Arc::clone(rules));
        }
        let rules: Arc<[Rule]> = self.read()?.rule.into();
        *last = Some((stamp, Arc::clone(&rules)));
        Ok(rules)
    }

    /// Whether a rule is there.
    pub(crate) fn has(&self, number: usize) -> bool {
        self.rules()
            .is_ok_and(|rules| rules.iter().any(|rule| rule.number == number && rule.is_current()))
    }

    fn stamp(&self) -> io::Result<Stamp> {
        let metadata = fs::metadata(&self.path)?;
        Ok((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
    }
}

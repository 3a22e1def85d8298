//! Messages for people: to a file, or to standard error. Never to standard output, which is the host's.

use serde::Deserialize;
use std::{
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

/// Where messages go, and which.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogSettings {
    /// The least important that is written.
    pub level: Level,
    /// The file; standard error where there is none.
    pub file: Option<PathBuf>,
}

/// How important a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is written.
    Off,
    /// What keeps the module from working.
    #[default]
    Error,
    /// What was tried again, and what a call was refused for.
    Warn,
    /// Each call that failed.
    Debug,
}

impl LogSettings {
    /// Writes a line, as one write. A log that cannot be written changes nothing for the host.
    pub fn write(&self, level: Level, message: &str) {
        if level > self.level || self.level == Level::Off {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let pid = std::process::id();
        // One line is one message, whatever it quotes.
        let message: String = message
            .chars()
            .map(|one| if one.is_control() { ' ' } else { one })
            .collect();
        match &self.file {
            Some(path) => {
                let line = format!("{}.{:03} [{pid}] {message}\n", now.as_secs(), now.subsec_millis());
                if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
                    drop(file.write_all(line.as_bytes()));
                }
            }
            None => drop(std::io::stderr().write_all(format!("portcullis-pkcs11: {message}\n").as_bytes())),
        }
    }
}

//! Messages for people: to the system's log, to a file, or to standard error. Never to standard output, which is the host's.

use serde::Deserialize;
use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

/// Where messages go, and which.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogSettings {
    /// The least important that is written.
    pub level: Level,
    /// Where to.
    pub destination: Destination,
}

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Destination {
    /// Standard error.
    #[default]
    StandardError,
    /// A file, to whose end they are written.
    File(PathBuf),
    /// The socket of the system's log. The C library's own way to it is the host's, and is left alone.
    Syslog(PathBuf),
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
        match &self.destination {
            Destination::File(path) => {
                let line = format!("{}.{:03} [{pid}] {message}\n", now.as_secs(), now.subsec_millis());
                if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
                    drop(file.write_all(line.as_bytes()));
                }
            }
            Destination::Syslog(path) => {
                // RFC 3164, section 4.1, as it is written on the machine itself: the log adds the time and the host.
                let line = format!(
                    "<{}>portcullis-pkcs11[{pid}]: {message}",
                    FACILITY_USER + level.severity()
                );
                if let Ok(socket) = UnixDatagram::unbound()
                    && socket.set_nonblocking(true).is_ok()
                {
                    drop(socket.send_to(line.as_bytes(), path));
                }
            }
            Destination::StandardError => {
                drop(std::io::stderr().write_all(format!("portcullis-pkcs11: {message}\n").as_bytes()))
            }
        }
    }
}

impl Level {
    fn severity(self) -> u8 {
        match self {
            Self::Off | Self::Error => 3,
            Self::Warn => 4,
            Self::Debug => 7,
        }
    }
}

/// The socket of the system's log.
pub const SYSLOG: &str = "/dev/log";
const FACILITY_USER: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_log_gets_one_datagram_for_each_message_that_is_important_enough() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let log = UnixDatagram::bind(&path).expect("a socket");
        log.set_nonblocking(true).expect("it does not wait");
        let settings = LogSettings {
            level: Level::Warn,
            destination: Destination::Syslog(path),
        };
        settings.write(Level::Debug, "not important");
        settings.write(Level::Warn, "one\nline");
        let mut buffer = [0; 200];
        let length = log.recv(&mut buffer).expect("a message");
        let expected = format!("<12>portcullis-pkcs11[{}]: one line", std::process::id());
        assert_eq!(buffer[..length], *expected.as_bytes());
        assert!(log.recv(&mut buffer).is_err(), "there is one message");
    }
}

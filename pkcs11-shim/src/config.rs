//! The configuration: one TOML file.
//!
//! It is the file that [`VARIABLE`] names, else the user's (`$XDG_CONFIG_HOME` or `~/.config`, `portcullis/pkcs11.toml`), else
//! [`SYSTEM_FILE`]. The first one that exists is read, and nothing of another. Nothing in it is a secret.

use crate::{
    gateway::Endpoint,
    log::{Destination, Level, LogSettings, SYSLOG},
};
use serde::Deserialize;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// The environment variable that names the file.
pub const VARIABLE: &str = "PORTCULLIS_PKCS11_CONFIG";

/// The system's file.
pub const SYSTEM_FILE: &str = "/etc/portcullis/pkcs11.toml";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the gateway listens.
    pub endpoint: Endpoint,
    /// The client's certificate, its key and the gateway's authorities, for an `https` endpoint.
    pub credentials: Option<CredentialFiles>,
    /// The rings that are shown as tokens, in this order; where absent, all that the caller may see.
    pub rings: Option<Vec<String>>,
    /// What `C_Login` asks for.
    pub pin: PinMode,
    /// How long a call may take, with everything that is tried again.
    pub timeout: Duration,
    /// How long the opening of a connection may take.
    pub connect_timeout: Duration,
    /// How old the list of a token's objects may be when it is searched.
    pub refresh: Duration,
    /// How many connections there are at most: so many calls are under way at once.
    pub connections: usize,
    /// Whether callers may have secrets of their own: brought or derived ones, which are kept and used here and in no HSM.
    pub own_secrets: bool,
    /// What keys that are generated through this module may do beside what their templates ask for by name.
    pub new_keys: NewKeys,
    /// Where messages go.
    pub log: LogSettings,
}

/// The files of a client certificate, in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialFiles {
    /// The client's certificate, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
    /// The authorities that may issue the gateway's certificate.
    pub trust_bundle: PathBuf,
}

/// What a PIN is to the module. Who the caller is, its certificate or process says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinMode {
    /// Any PIN will do, and none is needed: `CKF_LOGIN_REQUIRED` is not set.
    Ignored,
    /// The content of a file, without the end of its line. Private objects are hidden without it.
    Required(PathBuf),
}

/// What a key that is generated through this module is permitted beside the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewKeys {
    /// RSA without padding, for signing keys: callers that pad themselves need it.
    pub raw_rsa: bool,
    /// PKCS#1 v1.5 decryption, for decrypting keys.
    pub rsa_pkcs1_decryption: bool,
    /// AES-GCM with nonces that callers choose, for AES keys that encrypt.
    pub aes_gcm: bool,
}

/// Why there is no configuration. Says which file, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// None of the files exists.
    #[error("there is no configuration: expected one of {}", .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    Missing(Vec<PathBuf>),
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file does not say what it should.
    #[error("{}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
}

impl Config {
    /// Finds and reads the file.
    pub fn load() -> Result<Self, ConfigError> {
        let places = places();
        for path in &places {
            match fs::read_to_string(path) {
                Ok(text) => {
                    return Self::parse(&text).map_err(|message| ConfigError::Content {
                        path: path.clone(),
                        message,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(ConfigError::Unreadable {
                        path: path.clone(),
                        source,
                    });
                }
            }
        }
        Err(ConfigError::Missing(places))
    }

    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Document = toml::from_str(text).map_err(|error| error.to_string())?;
        let endpoint: Endpoint = document.endpoint.parse()?;
        if endpoint.is_https() && document.credentials.is_none() {
            return Err("credentials: expected certificate, private_key and trust_bundle for an https endpoint".into());
        }
        if let Some(rings) = &document.rings {
            let wrong = rings.iter().find(|ring| !is_ring(ring));
            if let Some(wrong) = wrong {
                return Err(format!(
                    "rings: expected ids of key rings (a-z, 0-9, - and _), found {wrong:?}"
                ));
            }
            let twice = rings.iter().enumerate().find(|(at, ring)| rings[..*at].contains(ring));
            if let Some((_, ring)) = twice {
                return Err(format!("rings: {ring} stands there twice"));
            }
        }
        let pin = match (document.pin.mode, document.pin.file) {
            (Mode::Ignored, None) => PinMode::Ignored,
            (Mode::Required, Some(file)) => PinMode::Required(file),
            (Mode::Ignored, Some(_)) => return Err("pin.file: a PIN that is ignored has no file".into()),
            (Mode::Required, None) => return Err("pin.file: expected the file with the PIN, found none".into()),
        };
        if !(1..=MOST_CONNECTIONS).contains(&document.connections) {
            let found = document.connections;
            return Err(format!("connections: expected 1 to {MOST_CONNECTIONS}, found {found}"));
        }
        Ok(Self {
            endpoint,
            credentials: document.credentials,
            rings: document.rings,
            pin,
            timeout: duration("timeout", &document.timeout)?,
            connect_timeout: duration("connect_timeout", &document.connect_timeout)?,
            refresh: duration("refresh", &document.refresh)?,
            connections: document.connections,
            own_secrets: document.own_secrets,
            new_keys: document.new_keys,
            log: LogSettings {
                level: document.log.level,
                destination: match (document.log.file, document.log.syslog) {
                    (None, false) => Destination::StandardError,
                    (Some(file), false) => Destination::File(file),
                    (None, true) => Destination::Syslog(SYSLOG.into()),
                    (Some(_), true) => return Err("log: expected a file or syslog, found both".into()),
                },
            },
        })
    }
}

/// Where the file may be, in the order in which it is looked for.
pub fn places() -> Vec<PathBuf> {
    if let Some(path) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return vec![path.into()];
    }
    let user = env::var_os("XDG_CONFIG_HOME")
        .filter(|path| Path::new(path).is_absolute())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    let user = user.map(|directory| directory.join("portcullis/pkcs11.toml"));
    user.into_iter().chain([SYSTEM_FILE.into()]).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    endpoint: String,
    credentials: Option<CredentialFiles>,
    rings: Option<Vec<String>>,
    #[serde(default)]
    pin: Pin,
    #[serde(default = "default_timeout")]
    timeout: String,
    #[serde(default = "default_connect_timeout")]
    connect_timeout: String,
    #[serde(default = "default_refresh")]
    refresh: String,
    #[serde(default = "default_connections")]
    connections: usize,
    #[serde(default = "default_own_secrets")]
    own_secrets: bool,
    #[serde(default)]
    new_keys: NewKeys,
    #[serde(default)]
    log: Log,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Pin {
    mode: Mode,
    file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Ignored,
    Required,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Log {
    level: Level,
    file: Option<PathBuf>,
    syslog: bool,
}

fn default_timeout() -> String {
    "10s".into()
}

fn default_connect_timeout() -> String {
    "3s".into()
}

fn default_refresh() -> String {
    "2s".into()
}

fn default_own_secrets() -> bool {
    true
}

fn default_connections() -> usize {
    8
}

fn duration(name: &str, text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > LONGEST => Err(format!("{name}: expected at most {LONGEST:?}, found {text:?}")),
        Ok(duration) if duration.is_zero() => Err(format!("{name}: expected more than nothing, found {text:?}")),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!(
            "{name}: expected a duration such as \"250ms\", found {text:?}: {error}"
        )),
    }
}

fn is_ring(text: &str) -> bool {
    let first = text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
    let rest = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-' || one == '_';
    first && text.len() <= 63 && text.chars().all(rest)
}

/// Everything is finite: a host must not hang for ever because of a file.
const LONGEST: Duration = Duration::from_secs(3600);

/// As many as the record of descriptors has room for.
pub(crate) const MOST_CONNECTIONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "endpoint = \"unix:/run/portcullis/portcullis.sock\"\n";

    #[test]
    fn the_least_file_has_the_defaults() {
        let config = Config::parse(LEAST).expect("a configuration");
        assert_eq!(config.pin, PinMode::Ignored);
        assert_eq!(
            (config.timeout, config.refresh),
            (Duration::from_secs(10), Duration::from_secs(2))
        );
        assert_eq!((config.connections, config.rings), (8, None));
        assert_eq!(config.new_keys, NewKeys::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("", "endpoint"),
            ("endpoint = \"http://gateway:1\"", "https"),
            ("endpoint = \"https://gateway:8443\"", "credentials"),
            ("endpoint = \"unix:/s\"\nring = [\"a\"]", "ring"),
            ("endpoint = \"unix:/s\"\nrings = [\"A b\"]", "rings"),
            ("endpoint = \"unix:/s\"\nrings = [\"a\", \"a\"]", "twice"),
            ("endpoint = \"unix:/s\"\ntimeout = \"0s\"", "timeout"),
            ("endpoint = \"unix:/s\"\ntimeout = \"10 days\"", "timeout"),
            ("endpoint = \"unix:/s\"\nconnections = 0", "connections"),
            ("endpoint = \"unix:/s\"\npin.mode = \"required\"", "pin.file"),
            ("endpoint = \"unix:/s\"\npin.file = \"/f\"", "pin.file"),
            ("endpoint = \"unix:/s\"\nlog.level = \"loud\"", "loud"),
            ("endpoint = \"unix:/s\"\nlog = { file = \"/f\", syslog = true }", "both"),
        ] {
            let error = Config::parse(text).expect_err(text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn the_sample_in_the_documentation_has_the_defaults() {
        let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pkcs11.md")).expect("the page");
        let sample = page
            .split("```toml\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .expect("the sample");
        let sample = Config::parse(sample).expect("a configuration");
        let least = Config::parse(LEAST).expect("a configuration");
        assert_eq!(
            Config {
                endpoint: least.endpoint.clone(),
                rings: None,
                credentials: None,
                ..sample
            },
            least
        );
    }
}

//! The configuration file.
//!
//! ```toml
//! current = "production"
//!
//! [context.production]
//! endpoint = "https://gateway.example.org:7443"
//! cert = "me.pem"
//! key_file = "me.key"
//! ca = "ca.pem"
//! ```
//!
//! What is not known is refused. Paths count from the file's directory.

use super::{Context, ContextName};
use crate::{failure::Failure, output::write_file};
use portcullis_client::Endpoint;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};
use toml_edit::{DocumentMut, Item, Table, value};

/// Where the configuration file is.
#[derive(Debug, Clone)]
pub(crate) struct ContextFile {
    path: PathBuf,
    /// Whether somebody named it: then it must be there.
    is_named: bool,
}

/// What the configuration file says.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The context that is used where none is named.
    pub(crate) current: Option<ContextName>,
    #[serde(default, rename = "context")]
    pub(crate) all: BTreeMap<ContextName, Context>,
}

impl ContextFile {
    /// `PORTCULLIS_CONFIG`, or `portcullis/config.toml` in the configuration directory of the XDG base directories.
    /// `None` where the environment names no place for it.
    pub(crate) fn find() -> Option<Self> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        Self::among(set("PORTCULLIS_CONFIG"), set("XDG_CONFIG_HOME"), set("HOME"))
    }

    fn among(named: Option<OsString>, config: Option<OsString>, home: Option<OsString>) -> Option<Self> {
        if let Some(path) = named {
            return Some(Self {
                path: path.into(),
                is_named: true,
            });
        }
        // The specification ignores relative directories.
        let directory = config.map(PathBuf::from).filter(|path| path.is_absolute());
        let directory = directory.or_else(|| home.map(|home| PathBuf::from(home).join(".config")));
        Some(Self {
            path: directory?.join("portcullis").join("config.toml"),
            is_named: false,
        })
    }

    /// The same where there must be one.
    pub(crate) fn require() -> Result<Self, Failure> {
        Self::find().ok_or_else(|| {
            Failure::Usage("there is no place for contexts: set HOME, XDG_CONFIG_HOME or PORTCULLIS_CONFIG".to_owned())
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it. A file that nobody named and that is not there has no contexts.
    pub(crate) fn read(&self) -> Result<Contexts, Failure> {
        match self.text()? {
            Some(text) => self.parse(&text),
            None if self.is_named => Err(Failure::Usage(format!(
                "there is no file {}, which PORTCULLIS_CONFIG names; `portcullis context set` makes it",
                self.path.display()
            ))),
            None => Ok(Contexts::default()),
        }
    }

    /// Changes it, comments and order kept, and makes it if it is not there. Nothing is written that could not be read again.
    pub(crate) fn change(&self, change: impl FnOnce(&mut DocumentMut)) -> Result<Contexts, Failure> {
        let text = self.text()?.unwrap_or_default();
        self.parse(&text)?;
        let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
            Failure::Usage(format!("{}: {}", self.path.display(), error.message()))
        })?;
        change(&mut document);
        let text = document.to_string();
        let contexts = self.parse(&text)?;
        if let Some(directory) = self.path.parent().filter(|path| !path.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(|source| Failure::Output {
                path: directory.to_owned(),
                source,
            })?;
        }
        write_file(&self.path, text.as_bytes())?;
        Ok(contexts)
    }

    fn text(&self) -> Result<Option<String>, Failure> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Failure::Input {
                what: self.path.display().to_string(),
                source,
            }),
        }
    }

    fn parse(&self, text: &str) -> Result<Contexts, Failure> {
        let mut contexts: Contexts = toml::from_str(text).map_err(|error| {
            let at = error.span().map(|span| line_of(text, span.start));
            self.wrong(at, error.message())
        })?;
        if let Some(current) = &contexts.current
            && !contexts.all.contains_key(current)
        {
            let line = text.lines().position(|line| line.trim_start().starts_with("current"));
            let found = format!("current: there is no context {current}; {}", told(&contexts));
            return Err(self.wrong(line.map(|at| at + 1), &found));
        }
        let directory = self.path.parent().unwrap_or_else(|| Path::new(""));
        for context in contexts.all.values_mut() {
            *context = context.counted_from(directory);
        }
        Ok(contexts)
    }

    fn wrong(&self, line: Option<usize>, what: &str) -> Failure {
        let file = self.path.display();
        Failure::Usage(match line {
            Some(line) => format!("{file}, line {line}: {what}"),
            None => format!("{file}: {what}"),
        })
    }
}

impl Contexts {
    /// The context of a name.
    pub(crate) fn named(&self, name: &ContextName, file: &ContextFile) -> Result<&Context, Failure> {
        self.all.get(name).ok_or_else(|| {
            Failure::Usage(format!(
                "{}: there is no context {name}; {}",
                file.path.display(),
                told(self)
            ))
        })
    }
}

impl Context {
    /// The same with paths that count from a directory.
    fn counted_from(&self, directory: &Path) -> Self {
        let from = |path: &Option<PathBuf>| path.as_ref().map(|path| directory.join(path));
        Self {
            endpoint: self.endpoint.as_ref().map(|endpoint| match socket_of(endpoint) {
                Some(socket) => Endpoint::unix(directory.join(socket)),
                None => endpoint.clone(),
            }),
            cert: from(&self.cert),
            key_file: from(&self.key_file),
            ca: from(&self.ca),
        }
    }

    /// Writes what is given into the document, and leaves the rest of the context as it is.
    pub(crate) fn write(&self, name: &ContextName, document: &mut DocumentMut) -> io::Result<()> {
        let here = env::current_dir()?;
        let absolute = self.counted_from(&here);
        let contexts = document.entry("context").or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let endpoint = absolute.endpoint.map(|endpoint| endpoint.to_string());
        let text = |path: Option<PathBuf>| path.map(|path| path.to_string_lossy().into_owned());
        for (field, given) in [
            ("endpoint", endpoint),
            ("cert", text(absolute.cert)),
            ("key_file", text(absolute.key_file)),
            ("ca", text(absolute.ca)),
        ] {
            if let Some(given) = given {
                contexts[name.as_str()].or_insert(toml_edit::table())[field] = value(given);
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            endpoint: Option<EndpointText>,
            cert: Option<PathBuf>,
            key_file: Option<PathBuf>,
            ca: Option<PathBuf>,
        }
        let fields = Fields::deserialize(deserializer)?;
        Ok(Self {
            endpoint: fields.endpoint.map(|endpoint| endpoint.0),
            cert: fields.cert,
            key_file: fields.key_file,
            ca: fields.ca,
        })
    }
}

struct EndpointText(Endpoint);

impl<'de> Deserialize<'de> for EndpointText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map(Self)
            .map_err(D::Error::custom)
    }
}

/// The path of a Unix endpoint.
fn socket_of(endpoint: &Endpoint) -> Option<PathBuf> {
    endpoint.to_string().strip_prefix("unix:").map(PathBuf::from)
}

/// The line of a place in a text, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn told(contexts: &Contexts) -> String {
    let names: Vec<&str> = contexts.all.keys().map(ContextName::as_str).collect();
    if names.is_empty() {
        "there are none; `portcullis context set NAME --endpoint …` makes one".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, ContextFile) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.toml");
        fs::write(&path, text).expect("the file");
        (directory, ContextFile { path, is_named: false })
    }

    fn said(text: &str) -> String {
        let (directory, file) = file(text);
        let said = file.read().expect_err(text).to_string();
        said.replace(&format!("{}/", directory.path().display()), "")
    }

    #[test]
    fn the_file_is_where_it_should_be() {
        let among = |named: &str, config: &str, home: &str| {
            let set = |text: &str| Some(OsString::from(text)).filter(|text| !text.is_empty());
            ContextFile::among(set(named), set(config), set(home)).map(|file| file.path)
        };
        for (named, config, home, path) in [
            ("a.toml", "/c", "/h", "a.toml"),
            ("", "/c", "/h", "/c/portcullis/config.toml"),
            ("", "relative", "/h", "/h/.config/portcullis/config.toml"),
            ("", "", "/h", "/h/.config/portcullis/config.toml"),
        ] {
            assert_eq!(among(named, config, home).expect(path), PathBuf::from(path));
        }
        assert!(among("", "", "").is_none());
    }

    #[test]
    fn paths_count_from_the_file() {
        let (directory, file) = file(
            "current = \"a\"\n[context.a]\nendpoint = \"unix:api.sock\"\ncert = \"me.pem\"\nca = \"/etc/ca.pem\"\n",
        );
        let contexts = file.read().expect("contexts");
        let a = &contexts.all[&"a".parse().expect("a name")];
        let here = directory.path();
        assert_eq!(a.endpoint, Some(Endpoint::unix(here.join("api.sock"))));
        assert_eq!(a.cert, Some(here.join("me.pem")));
        assert_eq!(a.ca, Some("/etc/ca.pem".into()));
        assert_eq!(a.key_file, None);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expected) in [
            (
                "current = \"a\"\n[context.a]\ncolour = \"blue\"\n",
                "config.toml, line 3: unknown field `colour`, expected one of `endpoint`, `cert`, `key_file`, `ca`",
            ),
            (
                "\n[context.a]\nendpoint = \"http://a:1\"\n",
                "config.toml, line 3: http:// is not possible: the gateway has no plaintext listener; use \
                 https://HOST:PORT or unix:PATH",
            ),
            (
                "# words\ncurrent = \"b\"\n[context.a]\n",
                "config.toml, line 2: current: there is no context b; there are: a",
            ),
        ] {
            assert_eq!(said(text), expected);
        }
        assert!(said("current = 1\n").starts_with("config.toml, line 1: "));
        assert!(said("[context.\"a b\"]\n").starts_with("config.toml, line 1: a context's name is"));
        assert!(said("current = \n").starts_with("config.toml, line 1: "));
    }

    #[test]
    fn a_change_keeps_comments_and_what_is_not_named() {
        let before = "# mine\n[context.a]\nendpoint = \"unix:/a.sock\" # here\ncert = \"/me.pem\"\n";
        let (_directory, file) = file(before);
        let given = Context {
            endpoint: Some("https://gateway.example:1".parse().expect("an endpoint")),
            ..Context::default()
        };
        let name: ContextName = "a".parse().expect("a name");
        file.change(|document| given.write(&name, document).expect("written"))
            .expect("changed");
        let text = fs::read_to_string(&file.path).expect("the file");
        assert!(
            text.starts_with("# mine\n[context.a]\nendpoint = \"https://gateway.example:1\""),
            "{text}"
        );
        assert!(text.contains("cert = \"/me.pem\""), "{text}");
        let other: ContextName = "b".parse().expect("a name");
        let contexts = file
            .change(|document| given.write(&other, document).expect("written"))
            .expect("changed");
        assert_eq!(contexts.all.len(), 2);
        assert!(!fs::read_to_string(&file.path).expect("the file").contains("[context]"));
    }

    #[test]
    fn a_named_file_must_be_there() {
        let missing = |is_named| {
            ContextFile {
                path: "/nowhere/config.toml".into(),
                is_named,
            }
            .read()
        };
        assert_eq!(missing(false).expect("nothing"), Contexts::default());
        assert!(missing(true).is_err_and(|failure| failure.to_string().contains("/nowhere/config.toml")));
    }
}

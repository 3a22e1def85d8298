//! A TOML document read table by table: every problem is noted with its place, and reading goes on.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line in the file, from 1; `None` where something is missing altogether.
    pub line: Option<usize>,
    /// The setting, for example `member[2].pin_file`.
    pub setting: String,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.setting.is_empty()) {
            (Some(line), false) => write!(formatter, "line {line}: {}: {}", self.setting, self.message),
            (Some(line), true) => write!(formatter, "line {line}: {}", self.message),
            (None, false) => write!(formatter, "{}: {}", self.setting, self.message),
            (None, true) => formatter.write_str(&self.message),
        }
    }
}

/// The problems found so far, in a document whose lines they name.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    text: &'a str,
    base: &'a Path,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    /// No problem yet; relative paths in the document start at `base`.
    pub(super) fn new(text: &'a str, base: &'a Path) -> Self {
        Self {
            text,
            base,
            found: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, at: Option<usize>, setting: impl Into<String>, message: impl Into<String>) {
        let line = at.map(|offset| 1 + self.text[..offset.min(self.text.len())].matches('\n').count());
        self.found.push(Problem {
            line,
            setting: setting.into(),
            message: message.into(),
        });
    }

    /// A path of the document: relative ones start at its base.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }

    pub(super) fn into_found(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        self.found
    }

    /// Where relative paths in the document start.
    pub(super) fn base(&self) -> &'a Path {
        self.base
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// A table being read. Each setting is taken once; what is left at the end is unknown.
pub(super) struct Section<'d> {
    path: String,
    at: Option<usize>,
    entries: Vec<(String, &'d Spanned<DeValue<'d>>, usize)>,
}

impl<'d> Section<'d> {
    pub(super) fn new(path: impl Into<String>, at: Option<usize>, table: &'d DeTable<'d>) -> Self {
        let entries = table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), value, key.span().start))
            .collect();
        Self {
            path: path.into(),
            at,
            entries,
        }
    }

    /// The full name of a setting.
    pub(super) fn setting(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Where the table starts in the document.
    pub(super) fn at(&self) -> Option<usize> {
        self.at
    }

    /// A table inside this one; an empty one if it is absent.
    pub(super) fn section(&mut self, key: &str, problems: &mut Problems<'_>) -> Section<'d> {
        let path = self.setting(key);
        match self.take(key) {
            None => Section {
                path,
                at: None,
                entries: Vec::new(),
            },
            Some(value) => match value.get_ref().as_table() {
                Some(table) => Section::new(path, Some(value.span().start), table),
                None => {
                    problems.note(Some(value.span().start), path.clone(), wrong_type("a table", value));
                    Section {
                        path,
                        at: None,
                        entries: Vec::new(),
                    }
                }
            },
        }
    }

    /// The tables of an array, `[[key]]` in the document.
    pub(super) fn sections(&mut self, key: &str, problems: &mut Problems<'_>) -> Vec<Section<'d>> {
        let path = self.setting(key);
        let Some(value) = self.take(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            problems.note(
                Some(value.span().start),
                path.clone(),
                wrong_type(&format!("tables [[{path}]]"), value),
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let path = format!("{path}[{}]", index + 1);
            match element.get_ref().as_table() {
                Some(table) => sections.push(Section::new(path, Some(element.span().start), table)),
                None => problems.note(Some(element.span().start), path, wrong_type("a table", element)),
            }
        }
        sections
    }

    /// A value that `parse` turns into what is wanted; `default` if it is absent.
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        problems: &mut Problems<'_>,
        expected: &str,
        parse: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> Option<T> {
        let setting = self.setting(key);
        let value = self.take(key)?;
        let parsed = parse(value.get_ref());
        if parsed.is_none() {
            let message = if key.starts_with(ABOUT_PINS) {
                format!("expected {expected}; what was found is not shown, because it may be the PIN itself")
            } else {
                wrong_type(expected, value)
            };
            problems.note(Some(value.span().start), setting, message);
        }
        parsed
    }

    /// A value that must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        problems: &mut Problems<'_>,
        expected: &str,
        parse: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> Option<T> {
        if self.entries.iter().any(|(name, ..)| name == key) {
            return self.optional(key, problems, expected, parse);
        }
        problems.note(self.at, self.setting(key), format!("is missing; expected {expected}"));
        None
    }

    pub(super) fn required_path(&mut self, key: &str, problems: &mut Problems<'_>) -> Option<PathBuf> {
        let base = problems.base.to_owned();
        self.required(key, problems, "a path as text", |value| {
            Some(base.join(non_empty(value)?))
        })
    }

    /// `true` or `false`.
    pub(super) fn truth(&mut self, key: &str, problems: &mut Problems<'_>, default: bool) -> bool {
        self.optional(key, problems, "true or false", |value| value.as_bool())
            .unwrap_or(default)
    }

    /// Permissions as octal text.
    pub(super) fn mode(&mut self, key: &str, problems: &mut Problems<'_>, default: u32) -> u32 {
        let expected = "permissions as octal text, such as \"0660\"";
        self.optional(key, problems, expected, |value| {
            u32::from_str_radix(value.as_str()?, 8)
                .ok()
                .filter(|mode| *mode <= 0o777)
        })
        .unwrap_or(default)
    }

    pub(super) fn text(&mut self, key: &str, problems: &mut Problems<'_>) -> Option<String> {
        self.optional(key, problems, "text", |value| non_empty(value).map(str::to_owned))
    }

    pub(super) fn texts(&mut self, key: &str, problems: &mut Problems<'_>) -> Option<Vec<String>> {
        self.optional(key, problems, "an array of texts", |value| {
            value
                .as_array()?
                .iter()
                .map(|one| non_empty(one.get_ref()).map(str::to_owned))
                .collect()
        })
    }

    /// An array of paths.
    pub(super) fn paths(&mut self, key: &str, problems: &mut Problems<'_>) -> Option<Vec<PathBuf>> {
        let base = problems.base.to_owned();
        self.optional(key, problems, "an array of paths as text", |value| {
            value
                .as_array()?
                .iter()
                .map(|one| Some(base.join(non_empty(one.get_ref())?)))
                .collect()
        })
    }

    /// A path, if it is there.
    pub(super) fn path(&mut self, key: &str, problems: &mut Problems<'_>) -> Option<PathBuf> {
        let base = problems.base.to_owned();
        self.optional(key, problems, "a path as text", |value| {
            Some(base.join(non_empty(value)?))
        })
    }

    /// The names of the settings that nobody took yet.
    pub(super) fn keys(&self) -> Vec<String> {
        self.entries.iter().map(|(key, ..)| key.clone()).collect()
    }

    /// A whole number in a range.
    pub(super) fn number(
        &mut self,
        key: &str,
        problems: &mut Problems<'_>,
        range: std::ops::RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let parse = |value: &DeValue<'_>| {
            let integer = value.as_integer()?;
            u32::from_str_radix(integer.as_str(), integer.radix())
                .ok()
                .filter(|number| range.contains(number))
        };
        self.optional(key, problems, &expected, parse).unwrap_or(default)
    }

    /// A duration as text, such as "250ms" or "1m 30s".
    pub(super) fn duration(&mut self, key: &str, problems: &mut Problems<'_>, default: Duration) -> Duration {
        self.optional(
            key,
            problems,
            "a duration as text, such as \"250ms\" or \"10s\", of at most 100 years",
            |value| {
                humantime::parse_duration(value.as_str()?)
                    .ok()
                    .filter(|duration| !duration.is_zero() && *duration <= LONGEST_DURATION)
            },
        )
        .unwrap_or(default)
    }

    /// A size in bytes as text, such as "64KiB".
    pub(super) fn size(&mut self, key: &str, problems: &mut Problems<'_>, max: usize, default: usize) -> usize {
        let expected = format!("a size as text, such as \"64KiB\", of at most {max} bytes");
        self.optional(key, problems, &expected, |value| {
            parse_size(value.as_str()?).filter(|size| *size <= max)
        })
        .unwrap_or(default)
    }

    pub(super) fn required_address(&mut self, key: &str, problems: &mut Problems<'_>) -> Option<SocketAddr> {
        self.optional(
            key,
            problems,
            "an address and port as text, such as \"127.0.0.1:7443\"",
            |value| value.as_str()?.parse().ok(),
        )
    }

    /// Notes every setting that nobody took.
    pub(super) fn finish(self, problems: &mut Problems<'_>) {
        for (key, _, at) in &self.entries {
            problems.note(Some(*at), self.setting(key), "is not a known setting");
        }
    }

    fn take(&mut self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        let index = self.entries.iter().position(|(name, ..)| name == key)?;
        Some(self.entries.remove(index).1)
    }
}

fn non_empty<'v>(value: &'v DeValue<'_>) -> Option<&'v str> {
    value.as_str().filter(|text| !text.is_empty())
}

fn parse_size(text: &str) -> Option<usize> {
    let digits = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let factor: usize = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    text[..digits]
        .parse::<usize>()
        .ok()?
        .checked_mul(factor)
        .filter(|size| *size > 0)
}

/// How the names of settings begin that say where a PIN is.
const ABOUT_PINS: &str = "pin_";

fn wrong_type(expected: &str, found: &Spanned<DeValue<'_>>) -> String {
    let shown = match found.get_ref() {
        DeValue::String(text) => format!("\"{text}\""),
        DeValue::Integer(number) => number.as_str().to_owned(),
        other => format!("a value of type {}", other.type_str()),
    };
    format!("expected {expected}, found {shown}")
}

/// Times that are further away cannot all be counted.
const LONGEST_DURATION: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

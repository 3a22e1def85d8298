//! Reads a gateway's metrics as Prometheus does.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

/// What one reading brought.
pub struct Scrape {
    text: String,
}

impl Scrape {
    /// Reads the metrics on a Unix socket.
    #[track_caller]
    pub fn of(socket: &Path) -> Self {
        let (head, text) = Self::get(socket, "GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Self { text }
    }

    /// Sends a request as it is; returns the head of the answer and its body.
    #[track_caller]
    pub fn get(socket: &Path, request: &str) -> (String, String) {
        let mut stream = UnixStream::connect(socket).expect("a gateway that serves its metrics");
        stream.set_read_timeout(Some(crate::SHORT)).expect("a limit");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer that ends");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer with a head");
        (head.to_owned(), body.to_owned())
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The metrics with their types.
    pub fn families(&self) -> BTreeMap<String, String> {
        let types = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types
            .map(|line| line.split_once(' ').expect("a name and a type"))
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .collect()
    }

    /// The names of all series, as queries use them.
    pub fn names(&self) -> BTreeSet<String> {
        self.series().map(|(name, ..)| name.to_owned()).collect()
    }

    /// The names of all labels of a metric, without `le`.
    pub fn labels(&self, family: &str) -> BTreeSet<String> {
        self.series()
            .filter(|(name, ..)| {
                let suffix = name.strip_prefix(family);
                suffix.is_some_and(|suffix| ["", "_bucket", "_sum", "_count"].contains(&suffix))
            })
            .flat_map(|(_, labels, _)| labels.into_keys())
            .filter(|label| label != "le")
            .collect()
    }

    /// The sum of the series of a name that have these labels; `None` where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let values: Vec<f64> = self
            .series()
            .filter(|(found, with, _)| {
                *found == name
                    && labels
                        .iter()
                        .all(|(label, value)| with.get(*label).is_some_and(|has| has == value))
            })
            .map(|(.., value)| value)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    fn series(&self) -> impl Iterator<Item = (&str, BTreeMap<String, String>, f64)> {
        let lines = self
            .text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            (name, read_labels(labels), value.parse().expect("a number"))
        })
    }
}

/// Reads `a="1",b="2"}`. No value here holds a quotation mark.
fn read_labels(text: &str) -> BTreeMap<String, String> {
    let pairs = text.trim_end_matches('}').split_terminator("\",");
    pairs
        .filter_map(|pair| pair.trim_end_matches('"').split_once("=\""))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

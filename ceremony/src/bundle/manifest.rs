//! The list of a bundle's files, with their hashes.

use crate::{script::FileHash, transcript::Head};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// What a bundle consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// How many lines the transcript has.
    pub lines: u64,
    /// The hash of the last one.
    pub head: Head,
    /// Every file but the manifest, by its path in the bundle.
    pub files: BTreeMap<String, FileHash>,
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ManifestError {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl FromStr for Manifest {
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<Self, ManifestError> {
        let refused = |line, what| ManifestError { line, what };
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(refused(1, "it is not the first line of a manifest"));
        }
        let head = lines
            .next()
            .and_then(|line| line.strip_prefix("head "))
            .and_then(|line| line.split_once(' '))
            .and_then(|(count, head)| Some((count.parse().ok()?, Head::parse(head)?)));
        let (count, head) = head.ok_or(refused(2, "expected head, the number of lines and a hash"))?;
        let mut files = BTreeMap::new();
        for (place, line) in lines.enumerate() {
            let file = line
                .split_once("  ")
                .and_then(|(hash, path)| Some((path, FileHash::parse(hash)?)))
                .filter(|(path, _)| is_plain(path));
            let (path, hash) = file.ok_or(refused(place + 3, "expected a hash, two spaces and a path"))?;
            files.insert(path.to_owned(), hash);
        }
        let manifest = Self {
            lines: count,
            head,
            files,
        };
        // One manifest has one form: sorted, without repetitions.
        let same = manifest.to_string();
        if same != text {
            let line = 1 + same
                .lines()
                .zip(text.lines())
                .take_while(|(one, other)| one == other)
                .count();
            return Err(refused(
                line,
                "it is not in its place, or not in the form of a manifest",
            ));
        }
        Ok(manifest)
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{TITLE}")?;
        writeln!(formatter, "head {} {}", self.lines, self.head)?;
        for (path, hash) in &self.files {
            writeln!(formatter, "{hash}  {path}")?;
        }
        Ok(())
    }
}

/// Whether a path stays in the bundle: a file, or a file in a directory.
fn is_plain(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let plain = |part: &&str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    parts.len() <= 2 && parts.iter().all(plain)
}

const TITLE: &str = "portcullis ceremony bundle 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_one_form() {
        let files = ["env.toml", "artefacts/a.jpg"].map(|path| (path.to_owned(), FileHash::of(path.as_bytes())));
        let manifest = Manifest {
            lines: 7,
            head: Head::after(b"line"),
            files: files.into(),
        };
        let text = manifest.to_string();
        assert_eq!(text.parse::<Manifest>().expect("a manifest"), manifest);
        let (first, rest) = text.split_at(text.find("artefacts").expect("a file"));
        for wrong in [
            text.replace("head 7", "head 07"),
            text.replace("artefacts/", "../"),
            text.replace("artefacts/", "/"),
            text.replace('\n', "\r\n"),
            format!("{text}\n"),
            format!("{text}{}", text.lines().last().expect("a line")),
            format!("{first}./{rest}"),
        ] {
            assert!(wrong.parse::<Manifest>().is_err(), "{wrong}");
        }
    }
}

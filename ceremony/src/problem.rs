//! What is wrong with a script or an environment.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place in the file: `step.gen.by`, `quorum.need`.
    pub place: String,
    /// What was expected and what was found.
    pub what: String,
}

/// Everything that is wrong; at least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// Collects problems.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Problem>);

impl Findings {
    pub(crate) fn add(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem {
            place: place.into(),
            what: what.into(),
        });
    }

    /// Notes a problem if there is one.
    pub(crate) fn take<T, E: fmt::Display>(&mut self, place: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(place, error.to_string())).ok()
    }

    /// What was to be made, if nothing was wrong.
    pub(crate) fn finish<T>(self, made: impl FnOnce() -> Option<T>) -> Result<T, Problems> {
        if !self.0.is_empty() {
            return Err(Problems(self.0));
        }
        made().ok_or_else(|| Problems::one("file", "it is not complete"))
    }
}

impl Problems {
    pub(crate) fn one(place: &str, what: impl Into<String>) -> Self {
        Self(vec![Problem {
            place: place.to_owned(),
            what: what.into(),
        }])
    }

    /// Each of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.what)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        formatter.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Problems {}

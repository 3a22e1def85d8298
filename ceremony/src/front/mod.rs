//! Where questions are put and answers come from: a terminal with people before it, or a program at a descriptor.

mod dialogue;
mod terminal;

pub use dialogue::Dialogue;
pub use terminal::Terminal;

use crate::transcript::FrontKind;
use std::io;
use zeroize::Zeroizing;

/// Puts questions.
pub trait Front {
    /// What it is: it stands in the transcript.
    fn kind(&self) -> FrontKind;

    /// Shows which step comes now.
    fn scene(&mut self, scene: &Scene) -> io::Result<()>;

    /// Says something.
    fn say(&mut self, text: &str) -> io::Result<()>;

    /// Puts a question; `None` when nobody can answer any more.
    fn ask(&mut self, question: &Question) -> io::Result<Option<String>>;

    /// Puts a question whose answer nobody may see; `None` when nobody can answer any more.
    fn ask_secret(&mut self, question: &Question) -> io::Result<Option<Zeroizing<String>>>;
}

/// A step, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// Its place, from 1.
    pub number: usize,
    /// How many there are.
    pub count: usize,
    /// Its name.
    pub id: String,
    /// What is done, and by whom.
    pub words: String,
    /// What else people should know.
    pub note: Option<String>,
    /// Who does it, by name.
    pub by: Vec<String>,
    /// The how many-th time.
    pub attempt: u32,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Names it for programs: the same question has the same id in every run.
    pub id: String,
    /// Who answers.
    pub who: String,
    /// What is asked.
    pub prompt: String,
    /// The answers that are possible, if they are few.
    pub choices: &'static [&'static str],
}

/// What can be typed instead of any answer that is not secret.
pub const WISHES: [(&str, &str); 4] = [
    (
        "!exception",
        "something did not go by the script: record it, and decide",
    ),
    ("!pause", "leave it here; `resume` goes on"),
    ("!postpone", "end it without its purpose, to hold it another time"),
    ("!abort", "end it without its purpose"),
];

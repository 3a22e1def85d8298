//! A program that answers: questions as lines of JSON, answers as lines.

use super::{Front, Question, Scene};
use crate::transcript::FrontKind;
use serde_json::{Value, json};
use std::io::{self, BufRead, Write};
use zeroize::Zeroizing;

/// Writes `{"scene": …}`, `{"say": …}` and `{"ask": …}`, a line each; reads a line for each `ask`.
#[derive(Debug)]
pub struct Dialogue<R, W> {
    answers: R,
    questions: W,
}

impl<R: BufRead, W: Write> Dialogue<R, W> {
    /// Between these two.
    pub fn new(answers: R, questions: W) -> Self {
        Self { answers, questions }
    }

    fn write(&mut self, message: &Value) -> io::Result<()> {
        writeln!(self.questions, "{message}")?;
        self.questions.flush()
    }

    fn put(&mut self, question: &Question, secret: bool) -> io::Result<Option<Zeroizing<String>>> {
        self.write(&json!({
            "ask": question.id,
            "who": question.who,
            "prompt": question.prompt,
            "choices": question.choices,
            "secret": secret,
        }))?;
        let mut line = Zeroizing::new(String::new());
        let read = self.answers.read_line(&mut line)?;
        Ok((read > 0).then(|| Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned())))
    }
}

impl<R: BufRead, W: Write> Front for Dialogue<R, W> {
    fn kind(&self) -> FrontKind {
        FrontKind::Descriptor
    }

    fn scene(&mut self, scene: &Scene) -> io::Result<()> {
        self.write(&json!({ "scene": scene.id, "number": scene.number, "count": scene.count, "words": scene.words }))
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.write(&json!({ "say": text }))
    }

    fn ask(&mut self, question: &Question) -> io::Result<Option<String>> {
        Ok(self.put(question, false)?.map(|answer| answer.trim().to_owned()))
    }

    fn ask_secret(&mut self, question: &Question) -> io::Result<Option<Zeroizing<String>>> {
        self.put(question, true)
    }
}

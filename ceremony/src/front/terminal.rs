//! People at a terminal: one step at a time.

use super::{Front, Question, Scene, WISHES};
use crate::transcript::FrontKind;
use std::io::{self, BufRead, IsTerminal, Write};
use zeroize::Zeroizing;

/// Standard input and output. Secrets are read from the terminal itself, without an echo.
#[derive(Debug, Default)]
pub struct Terminal {
    explained: bool,
}

impl Front for Terminal {
    fn kind(&self) -> FrontKind {
        FrontKind::Terminal
    }

    fn scene(&mut self, scene: &Scene) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let done = (scene.number - 1) * BAR / scene.count.max(1);
        writeln!(out)?;
        writeln!(out, "{}", "─".repeat(WIDTH))?;
        writeln!(
            out,
            "{}{}  step {} of {}: {}{}",
            "■".repeat(done),
            "□".repeat(BAR - done),
            scene.number,
            scene.count,
            scene.id,
            match scene.attempt {
                1 => String::new(),
                attempt => format!(", attempt {attempt}"),
            }
        )?;
        writeln!(out)?;
        paragraph(&mut out, &scene.words)?;
        if let Some(note) = &scene.note {
            paragraph(&mut out, note)?;
        }
        if !scene.by.is_empty() {
            paragraph(&mut out, &format!("Now: {}", scene.by.join(", ")))?;
        }
        if !self.explained {
            self.explained = true;
            writeln!(out)?;
            writeln!(out, "  At every question that is not secret you may also type")?;
            for (wish, meaning) in WISHES {
                writeln!(out, "    {wish:<12} {meaning}")?;
            }
        }
        out.flush()
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for line in text.lines() {
            if line.starts_with(' ') {
                // Words to read aloud keep their lines.
                writeln!(out, "  {line}")?;
            } else {
                paragraph(&mut out, line)?;
            }
        }
        out.flush()
    }

    fn ask(&mut self, question: &Question) -> io::Result<Option<String>> {
        prompt(question)?;
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line)?;
        Ok((read > 0).then(|| line.trim().to_owned()))
    }

    fn ask_secret(&mut self, question: &Question) -> io::Result<Option<Zeroizing<String>>> {
        prompt(question)?;
        if !io::stdin().is_terminal() {
            return Err(io::Error::other(
                "a secret is typed at a terminal; programs use --dialogue",
            ));
        }
        rpassword::read_password().map(|secret| Some(Zeroizing::new(secret)))
    }
}

fn prompt(question: &Question) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out)?;
    paragraph(&mut out, &format!("{}: {}", question.who, question.prompt))?;
    match question.choices {
        [] => write!(out, "  > ")?,
        choices => write!(out, "  ({}) > ", choices.join(" / "))?,
    }
    out.flush()
}

/// Writes a text with two spaces before each line, broken between words.
fn paragraph(out: &mut impl Write, text: &str) -> io::Result<()> {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH - 2 {
            writeln!(out, "  {line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "  {line}")
}

/// Fits the narrowest terminals.
const WIDTH: usize = 78;
const BAR: usize = 12;

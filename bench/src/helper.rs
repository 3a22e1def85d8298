//! The processes beside the one that measures: one drives a PKCS#11 module directly, one is the echo.
//!
//! Each is the same program again. It is asked by lines of JSON on its standard input and answers each by a line on its
//! standard output. When its input ends it cleans up and ends, so it never outlives the measurement.

use crate::error::Error;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::fd::AsFd,
    path::Path,
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use zeroize::Zeroizing;

/// A running helper.
pub(crate) struct Helper {
    what: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<tokio::io::BufReader<ChildStdout>>,
}

/// What a helper answers to a question.
#[derive(Serialize, Deserialize)]
enum Answer<A> {
    Done(A),
    Failed(String),
}

impl Helper {
    /// Starts the program again with some words, which must not be secret. A secret goes to its standard input, before all questions.
    ///
    /// Ctrl-C on the terminal does not reach it: the measurement ends it, so that it can clean up.
    pub(crate) async fn start(
        what: &'static str,
        program: &Path,
        words: &[&str],
        secret: &[u8],
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Helper {
            what,
            problem: format!("cannot be started: {error}"),
        };
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let length = u16::try_from(secret.len()).map_err(|_| failed(io::ErrorKind::FileTooLarge.into()))?;
        input.write_all(&length.to_be_bytes()).await.map_err(failed)?;
        input.write_all(secret).await.map_err(failed)?;
        Ok(Self {
            what,
            child,
            input: Some(input),
            output: tokio::io::BufReader::new(output).lines(),
        })
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask<Q: Serialize, A: DeserializeOwned>(&mut self, question: &Q) -> Result<A, Error> {
        let answer = match self.exchange(question).await {
            Ok(Answer::Done(answer)) => return Ok(answer),
            Ok(Answer::Failed(problem)) => problem,
            Err(error) => format!("its process does not answer: {error}"),
        };
        Err(Error::Helper {
            what: self.what,
            problem: answer,
        })
    }

    async fn exchange<Q: Serialize, A: DeserializeOwned>(&mut self, question: &Q) -> io::Result<Answer<A>> {
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(&line).await?;
        let answer = self.output.next_line().await?;
        let answer = answer.ok_or_else(|| io::Error::other("it has ended"))?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// Lets it clean up, and waits until it has ended.
    pub(crate) async fn end(mut self) -> Result<(), Error> {
        drop(self.input.take());
        let problem = match timeout(CLEANING, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => return Ok(()),
            Ok(Ok(status)) => format!("ended with {status}"),
            Ok(Err(error)) => format!("cannot be waited for: {error}"),
            Err(_) => format!("did not end within {CLEANING:?}"),
        };
        Err(Error::Helper {
            what: self.what,
            problem,
        })
    }
}

/// The other side: what the helper's process reads and writes.
pub(crate) struct Questions {
    input: BufReader<File>,
}

impl Questions {
    /// The secret, and what comes after it.
    ///
    /// The secret is read without a buffer, which would keep a copy.
    pub(crate) fn begin() -> io::Result<(Zeroizing<Vec<u8>>, Self)> {
        let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut length = [0; 2];
        io::Read::read_exact(&mut input, &mut length)?;
        let mut secret = Zeroizing::new(vec![0; u16::from_be_bytes(length).into()]);
        io::Read::read_exact(&mut input, &mut secret)?;
        let input = BufReader::new(input);
        Ok((secret, Self { input }))
    }

    /// The next question; `None` when there are no more.
    pub(crate) fn next<Q: DeserializeOwned>(&mut self) -> io::Result<Option<Q>> {
        let mut line = String::new();
        match self.input.read_line(&mut line)? {
            0 => Ok(None),
            _ => Ok(Some(serde_json::from_str(&line)?)),
        }
    }

    /// Answers the last question.
    pub(crate) fn answer<A: Serialize>(&mut self, answer: Result<A, String>) -> io::Result<()> {
        let answer = match answer {
            Ok(answer) => Answer::Done(answer),
            Err(problem) => Answer::Failed(problem),
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        let mut output = io::stdout().lock();
        output.write_all(&line)?;
        output.flush()
    }
}

/// How long a helper may take to end what it does and to destroy its keys.
const CLEANING: Duration = Duration::from_secs(60);

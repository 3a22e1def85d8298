//! Progress of what takes longer than a second, on a terminal alone.

use crate::console::Console;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

/// How far something is. Nothing is shown before a second has passed, and nothing is left when it ends.
pub(crate) struct Progress {
    bar: ProgressBar,
    shown: Shown,
    begun: Instant,
    unit: Unit,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Files,
}

enum Shown {
    /// Nobody looks.
    Never,
    /// It has not taken long enough.
    Later,
    Now,
}

impl Progress {
    /// Of something that ends at a total, if that is known.
    pub(crate) fn new(console: Console, unit: Unit, total: Option<u64>) -> Self {
        Self {
            bar: ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden()),
            shown: if console.is_watched() {
                Shown::Later
            } else {
                Shown::Never
            },
            begun: Instant::now(),
            unit,
        }
    }

    pub(crate) fn advance(&mut self, by: u64) {
        self.bar.inc(by);
        if matches!(self.shown, Shown::Later) && self.begun.elapsed() >= PATIENCE {
            self.shown = Shown::Now;
            self.bar.set_style(self.unit.style(self.bar.length()));
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Lets something else be said on standard error.
    pub(crate) fn aside(&self, say: impl FnOnce()) {
        self.bar.suspend(say);
    }

    /// A reader whose bytes count.
    pub(crate) fn reading<R>(self, source: R) -> Watched<R> {
        Watched { source, progress: self }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Something that is waited for, and nobody knows how long. It is shown while the caller awaits; dropping it takes that away.
pub(crate) struct Waiting(ProgressBar);

impl Waiting {
    pub(crate) fn new(console: Console, what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(ProgressStyle::with_template(WAITING).unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(what.to_owned());
        if console.is_watched() {
            let shown = bar.clone();
            tokio::spawn(async move {
                tokio::time::sleep(PATIENCE).await;
                if !shown.is_finished() {
                    shown.set_draw_target(ProgressDrawTarget::stderr());
                    shown.enable_steady_tick(TICK);
                }
            });
        }
        Self(bar)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Unit {
    fn template(self, total: Option<u64>) -> &'static str {
        match (self, total) {
            (Self::Bytes, Some(_)) => "{bar:32} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            (Self::Bytes, None) => "{bytes}, {bytes_per_sec}",
            (Self::Files, Some(_)) => "{bar:32} {pos} of {len} files, {per_sec}, {eta} left",
            (Self::Files, None) => "{pos} files, {per_sec}",
        }
    }

    fn style(self, total: Option<u64>) -> ProgressStyle {
        // Only a template that is not well formed is refused; a test reads all of them.
        ProgressStyle::with_template(self.template(total)).unwrap_or_else(|_| ProgressStyle::default_bar())
    }
}

/// A reader whose bytes are progress.
pub(crate) struct Watched<R> {
    source: R,
    progress: Progress,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.progress.advance(length as u64);
        Ok(length)
    }
}

const PATIENCE: Duration = Duration::from_secs(1);

const TICK: Duration = Duration::from_millis(120);

const WAITING: &str = "{spinner} {msg}, {elapsed}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Form;
    use clap::ColorChoice;

    #[test]
    fn every_template_is_one() {
        assert!(ProgressStyle::with_template(WAITING).is_ok());
        for unit in [Unit::Bytes, Unit::Files] {
            for total in [None, Some(1)] {
                assert!(
                    ProgressStyle::with_template(unit.template(total)).is_ok(),
                    "{unit:?} {total:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_read_is_counted_and_not_changed() {
        let progress = Progress::new(Console::new(Form::Json, ColorChoice::Never), Unit::Bytes, Some(5));
        let mut reader = progress.reading(&b"12345"[..]);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).expect("read");
        assert_eq!((read.as_slice(), reader.progress.bar.position()), (&b"12345"[..], 5));
    }
}

//! Colours, where they help and are wanted.

use clap::ColorChoice;

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(bool);

impl Paint {
    /// No colours.
    pub(crate) const PLAIN: Self = Self(false);

    /// Colours if they are wanted always, or if this goes to a terminal and nothing says otherwise.
    pub(crate) fn new(choice: ColorChoice, is_terminal: bool) -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self::decide(
            choice,
            is_terminal,
            // https://no-color.org
            set("NO_COLOR").is_some() || set("TERM").is_some_and(|term| term == "dumb"),
        )
    }

    fn decide(choice: ColorChoice, is_terminal: bool, unwanted: bool) -> Self {
        Self(match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => is_terminal && !unwanted,
        })
    }

    /// The head of a column, or the name of a value.
    pub(crate) fn head(self, text: &str) -> String {
        self.with(BOLD, text)
    }

    /// What introduces a failure.
    pub(crate) fn failure(self, text: &str) -> String {
        self.with(BOLD_RED, text)
    }

    /// What introduces advice.
    pub(crate) fn advice(self, text: &str) -> String {
        self.with(BOLD_CYAN, text)
    }

    /// The state of something: by its word it is good, on its way, or bad.
    pub(crate) fn state(self, text: &str) -> String {
        match text {
            "ready" | "active" => self.with(GREEN, text),
            "stopped" | "fenced" | "down" | "compromised" | "destroy-scheduled" | "destroying" | "destroyed" => {
                self.with(RED, text)
            }
            "-" => text.to_owned(),
            _ => self.with(YELLOW, text),
        }
    }

    fn with(self, colour: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

// Select graphic rendition (ECMA-48).
const BOLD: &str = "1";
const BOLD_RED: &str = "1;31";
const BOLD_CYAN: &str = "1;36";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_unless_somebody_says_otherwise() {
        for (choice, is_terminal, unwanted, coloured) in [
            (ColorChoice::Auto, true, false, true),
            (ColorChoice::Auto, true, true, false),
            (ColorChoice::Auto, false, false, false),
            (ColorChoice::Always, false, true, true),
            (ColorChoice::Never, true, false, false),
        ] {
            let paint = Paint::decide(choice, is_terminal, unwanted);
            assert_eq!(paint.head("x") != "x", coloured, "{choice:?} {is_terminal} {unwanted}");
        }
    }

    #[test]
    fn a_colour_ends_with_its_text() {
        let paint = Paint::decide(ColorChoice::Always, false, false);
        assert_eq!(paint.state("ready"), "\x1b[32mready\x1b[0m");
        assert_eq!(paint.state("-"), "-");
    }
}

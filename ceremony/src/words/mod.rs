//! Bytes as words that are spoken and typed back.
//!
//! The words are the PGP word list (Patrick Juola and Philip Zimmermann, 1995): 256 words of two syllables for bytes in
//! even places and 256 of three for bytes in odd places, so that a word left out or two that changed places are noticed. They
//! are chosen to sound different from each other.

use std::fmt;

/// Bytes in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(Vec<&'static str>);

/// Why words that were typed are not those that were read aloud.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsDiffer {
    /// Too few or too many.
    #[error("{found} words were typed, {expected} were read aloud")]
    Count {
        /// How many there are.
        expected: usize,
        /// How many were typed.
        found: usize,
    },
    /// A word is another. Counted from 1.
    #[error("word {place} is not the one that was read aloud: read it again, and type all of them")]
    Word {
        /// Which.
        place: usize,
    },
}

impl Words {
    /// The words of these bytes, one each.
    pub fn of(bytes: &[u8]) -> Self {
        Self(
            bytes
                .iter()
                .zip([EVEN, ODD].into_iter().cycle())
                .map(|(byte, column)| word(*byte, column))
                .collect(),
        )
    }

    /// Holds what was typed against them. Spaces, line ends, hyphens between words and capitals do not matter.
    pub fn compare(&self, typed: &str) -> Result<(), WordsDiffer> {
        let typed: Vec<String> = typed
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        if typed.len() != self.0.len() {
            return Err(WordsDiffer::Count {
                expected: self.0.len(),
                found: typed.len(),
            });
        }
        match self.0.iter().zip(&typed).position(|(word, typed)| word != typed) {
            Some(place) => Err(WordsDiffer::Word { place: place + 1 }),
            None => Ok(()),
        }
    }

    /// In lines of four, as they are read aloud.
    pub fn lines(&self) -> Vec<String> {
        self.0.chunks(4).map(|words| words.join(" ")).collect()
    }
}

impl fmt::Display for Words {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join(" "))
    }
}

fn word(byte: u8, column: usize) -> &'static str {
    LIST.lines()
        .nth(usize::from(byte))
        .and_then(|line| line.split(' ').nth(column))
        // Invariant: the list has 256 lines of two words; a test reads them all.
        .expect("the list has a word for every byte")
}

/// A line for each byte: its word in an even place, its word in an odd place.
const LIST: &str = include_str!("list.txt");
const EVEN: usize = 0;
const ODD: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_byte_has_two_words_of_its_own() {
        let bytes: Vec<u8> = (0..=255).flat_map(|byte| [byte, byte]).collect();
        let words = Words::of(&bytes);
        assert_eq!(words.0.iter().collect::<BTreeSet<_>>().len(), 512);
        assert!(words.0.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase())));
    }

    #[test]
    fn known_bytes_have_their_published_words() {
        // The example of the list's own description.
        let bytes = hex::decode("e58294f2e9a227486e8b061b31cc528fd7fa3f19").expect("hexadecimal");
        assert_eq!(
            Words::of(&bytes).to_string(),
            "topmost istanbul pluto vagabond treadmill pacific brackish dictator goldfish medusa afflict bravado \
             chatter revolver dupont midsummer stopwatch whimsical cowbell bottomless"
        );
    }

    #[test]
    fn what_was_typed_is_compared_as_words() {
        let words = Words::of(&[0, 1, 2]);
        words.compare(" Aardvark\nadviser  accrue ").expect("the same words");
        assert_eq!(
            words.compare("aardvark accrue adviser"),
            Err(WordsDiffer::Word { place: 2 })
        );
        assert_eq!(
            words.compare("aardvark adviser"),
            Err(WordsDiffer::Count { expected: 3, found: 2 })
        );
    }
}

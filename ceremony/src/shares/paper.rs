//! A share on paper: numbered rows of five groups of four characters, which are typed in again.
//!
//! The last group of a row is a check of the row and its number, so that a mistake is named by its row; the share has a check of its
//! own. Nothing is ever corrected: people look again at what is printed.

use super::{Share, ShareError};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// What is wrong with a share that was typed in. Rows and groups count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaperError {
    /// A line does not begin with its number.
    #[error("line {0} does not begin with the number of its row and a colon")]
    NoNumber(usize),
    /// A row is not where it belongs, or is missing.
    #[error("row {expected} is expected, row {found} was typed: rows are left out or changed places")]
    Order {
        /// The number that is next.
        expected: usize,
        /// The number that was typed.
        found: usize,
    },
    /// A row has too few or too many groups.
    #[error("row {row} has {found} groups, expected 5")]
    Groups {
        /// Which row.
        row: usize,
        /// How many there are.
        found: usize,
    },
    /// A group has too few or too many characters.
    #[error("group {group} of row {row} has {found} characters, expected 4")]
    Length {
        /// Which row.
        row: usize,
        /// Which group.
        group: usize,
        /// How many there are.
        found: usize,
    },
    /// A character that is never printed.
    #[error(
        "group {group} of row {row} has the character {found:?}, which is never printed: 1, b, i and o are not used"
    )]
    Character {
        /// Which row.
        row: usize,
        /// Which group.
        group: usize,
        /// The character.
        found: char,
    },
    /// A row does not agree with its check.
    #[error("row {0} is not what was printed: its last group does not fit the others; read it again")]
    Check(usize),
    /// Every row is right, and they are no share: rows of two papers, or some are missing at the end.
    #[error("the rows are right, but are not one whole share: {0}")]
    Share(ShareError),
}

impl Share {
    /// The share as rows to print. As secret as the share.
    pub fn to_paper(&self) -> Zeroizing<String> {
        let bytes = self.to_bytes();
        let mut text = Zeroizing::new(String::with_capacity(32 * bytes.len().div_ceil(ROW_BYTES)));
        for (place, chunk) in bytes.chunks(ROW_BYTES).enumerate() {
            let row = place + 1;
            // Filled up with what no share ends with: its length is told by the first row that has it.
            let mut content = Zeroizing::new([0; ROW_BYTES]);
            content[..chunk.len()].copy_from_slice(chunk);
            let length = chunk.len();
            text.push_str(&format!("{row}:"));
            let symbols = Zeroizing::new(symbols(&content));
            for group in symbols.chunks(GROUP) {
                text.push(' ');
                text.extend(group.iter().map(|symbol| char::from(ALPHABET[usize::from(*symbol)])));
            }
            text.push(' ');
            text.extend(check(row, length, &content).map(|symbol| char::from(ALPHABET[usize::from(symbol)])));
            text.push('\n');
        }
        text
    }

    /// Reads what was typed. Capitals, further spaces and empty lines do not matter.
    pub fn from_paper(typed: &str) -> Result<Self, PaperError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(typed.len()));
        let lines = typed.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        for (place, (line, text)) in lines.enumerate() {
            let expected = place + 1;
            let (number, groups) = text.split_once(':').ok_or(PaperError::NoNumber(line + 1))?;
            let found: usize = number.trim().parse().map_err(|_| PaperError::NoNumber(line + 1))?;
            if found != expected {
                return Err(PaperError::Order { expected, found });
            }
            let (content, length) = read_row(found, groups)?;
            bytes.extend_from_slice(&content[..length]);
        }
        Self::from_bytes(&bytes).map_err(PaperError::Share)
    }
}

/// A row's bytes, and how many of them count.
fn read_row(row: usize, groups: &str) -> Result<(Zeroizing<[u8; ROW_BYTES]>, usize), PaperError> {
    let groups: Vec<&str> = groups.split_whitespace().collect();
    if groups.len() != GROUPS {
        return Err(PaperError::Groups {
            row,
            found: groups.len(),
        });
    }
    let mut symbols = Zeroizing::new(Vec::with_capacity(GROUPS * GROUP));
    for (group, text) in (1..).zip(&groups) {
        let length = text.chars().count();
        if length != GROUP {
            return Err(PaperError::Length {
                row,
                group,
                found: length,
            });
        }
        for found in text.chars() {
            let lower = found.to_ascii_lowercase();
            let symbol = ALPHABET.iter().position(|one| char::from(*one) == lower);
            let symbol = symbol.and_then(|symbol| u8::try_from(symbol).ok());
            symbols.push(symbol.ok_or(PaperError::Character { row, group, found })?);
        }
    }
    let (content, found) = symbols.split_at(SYMBOLS);
    let content = bytes(content);
    let length = (1..=ROW_BYTES)
        .rev()
        .find(|length| check(row, *length, &content) == found);
    match length {
        Some(length) => Ok((content, length)),
        None => Err(PaperError::Check(row)),
    }
}

/// Twenty bits over the row's number, how many of its bytes count, and all of them.
fn check(row: usize, length: usize, content: &[u8; ROW_BYTES]) -> [u8; GROUP] {
    let digest = Sha256::new_with_prefix(CHECK)
        .chain_update((row as u64).to_be_bytes())
        .chain_update((length as u64).to_be_bytes())
        .chain_update(content)
        .finalize();
    let bits = u32::from_be_bytes([0, digest[0], digest[1], digest[2]]) >> 4;
    std::array::from_fn(|at| (bits >> (15 - 5 * at) & 31) as u8)
}

/// Five bits a symbol.
fn symbols(content: &[u8; ROW_BYTES]) -> [u8; SYMBOLS] {
    std::array::from_fn(|at| {
        let bit = 5 * at;
        let pair = u16::from_be_bytes([content[bit / 8], content.get(bit / 8 + 1).copied().unwrap_or(0)]);
        (pair >> (11 - bit % 8) & 31) as u8
    })
}

/// The bytes of sixteen symbols.
fn bytes(symbols: &[u8]) -> Zeroizing<[u8; ROW_BYTES]> {
    let mut bytes = Zeroizing::new([0; ROW_BYTES]);
    for (at, symbol) in symbols.iter().enumerate() {
        for bit in 0..5 {
            let place = 5 * at + bit;
            bytes[place / 8] |= (symbol >> (4 - bit) & 1) << (7 - place % 8);
        }
    }
    bytes
}

/// The alphabet of Bech32 (BIP 173): no characters that are mistaken for each other.
const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const ROW_BYTES: usize = 10;
const SYMBOLS: usize = 16;
const GROUP: usize = 4;
const GROUPS: usize = 5;
const CHECK: &[u8] = b"portcullis share row v1\0";

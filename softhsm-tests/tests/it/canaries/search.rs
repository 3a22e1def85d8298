//! Looking for bytes in whatever form they may have been written.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use prost::bytes::Bytes;
use std::collections::{BTreeSet, HashMap};

/// Something that is looked for.
#[derive(Clone)]
pub(super) struct Canary {
    /// In words, for the message of a test that fails.
    pub(super) what: String,
    /// Its bytes; random enough that it is nowhere by chance.
    pub(super) value: Vec<u8>,
}

/// A search for some canaries, each cut into pieces so that a part of it is found too, each piece in every form.
pub(super) struct Search {
    patterns: Vec<Pattern>,
    // By their first bytes.
    beginnings: HashMap<[u8; BEGINNING], Vec<usize>>,
    // Of the first two bytes, so that most of what is searched costs next to nothing.
    possible: Vec<bool>,
}

struct Pattern {
    bytes: Vec<u8>,
    canary: String,
    form: &'static str,
}

impl Search {
    /// Prepares a search.
    pub(super) fn new<'c>(canaries: impl IntoIterator<Item = &'c Canary>) -> Self {
        let mut search = Self {
            patterns: Vec::new(),
            beginnings: HashMap::new(),
            possible: vec![false; 1 << 16],
        };
        for canary in canaries {
            for piece in pieces(&canary.value) {
                for (form, bytes) in forms(piece) {
                    search.add(Pattern {
                        bytes,
                        canary: canary.what.clone(),
                        form,
                    });
                }
            }
        }
        search
    }

    fn add(&mut self, pattern: Pattern) {
        let beginning: [u8; BEGINNING] = pattern.bytes[..BEGINNING].try_into().expect("a long pattern");
        self.possible[first_two(&beginning)] = true;
        self.beginnings.entry(beginning).or_default().push(self.patterns.len());
        self.patterns.push(pattern);
    }

    /// What is found in some bytes, and in which form.
    pub(super) fn find(&self, haystack: &[u8]) -> BTreeSet<(String, &'static str)> {
        let mut found = BTreeSet::new();
        for (at, window) in haystack.windows(BEGINNING).enumerate() {
            if !self.possible[first_two(window)] {
                continue;
            }
            let beginning: [u8; BEGINNING] = window.try_into().expect("a window");
            for pattern in self.beginnings.get(&beginning).into_iter().flatten() {
                let pattern = &self.patterns[*pattern];
                if haystack[at..].starts_with(&pattern.bytes) {
                    found.insert((pattern.canary.clone(), pattern.form));
                }
            }
        }
        found
    }

    /// The longest of what is looked for.
    pub(super) fn longest(&self) -> usize {
        let lengths = self.patterns.iter().map(|pattern| pattern.bytes.len());
        lengths.max().unwrap_or_default()
    }
}

/// Parts of a value: all of a short one, some of a long one, the first and the last among them.
fn pieces(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    assert!(value.len() >= PIECE, "{} bytes may be there by chance", value.len());
    let last = value.len() - PIECE;
    let step = PIECE.max(last / 8);
    (0..last).step_by(step).chain([last]).map(|at| &value[at..at + PIECE])
}

/// The forms in which programs show bytes.
fn forms(piece: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let numbers = |between: &str| {
        let numbers: Vec<_> = piece.iter().map(u8::to_string).collect();
        numbers.join(between).into_bytes()
    };
    let debug = format!("{:?}", Bytes::copy_from_slice(piece));
    let debug = debug.trim_start_matches("b\"").trim_end_matches('"');
    let mut forms = vec![
        ("as it is", piece.to_vec()),
        ("in hexadecimal", hex::encode(piece).into_bytes()),
        ("in hexadecimal capitals", hex::encode_upper(piece).into_bytes()),
        ("as a list", numbers(", ")),
        ("as a dense list", numbers(",")),
        ("as a list over lines", numbers(",\n    ")),
        ("escaped", debug.as_bytes().to_vec()),
    ];
    for shift in 0..3 {
        forms.push(("in base64", base64(&STANDARD_NO_PAD, shift, piece)));
        forms.push(("in base64 for URLs", base64(&URL_SAFE_NO_PAD, shift, piece)));
    }
    forms
}

/// The characters that only the piece decides when so many bytes are before it.
fn base64(engine: &impl Engine, shift: usize, piece: &[u8]) -> Vec<u8> {
    let text = engine.encode([&[0; 3][..shift], piece].concat());
    let first = (shift * 8).div_ceil(6);
    let end = (shift + piece.len()) * 8 / 6;
    text.as_bytes()[first..end].to_vec()
}

fn first_two(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

const PIECE: usize = 12;
const BEGINNING: usize = 8;

#[test]
fn a_canary_is_found_in_every_form_and_in_part_and_a_stranger_is_not() {
    let canary = |what: &str, first: u8| Canary {
        what: what.to_owned(),
        value: (0..32).map(|at: u8| first.wrapping_add(at.wrapping_mul(37))).collect(),
    };
    let (planted, stranger) = (canary("planted", 0xf7), canary("stranger", 0x11));
    let search = Search::new([&planted, &stranger]);
    let bytes = planted.value.as_slice();
    let list = format!("{bytes:?}");
    for (form, shown) in [
        ("as it is", bytes.to_vec()),
        ("as it is", bytes[..PIECE].to_vec()),
        ("as it is", bytes[bytes.len() - PIECE..].to_vec()),
        ("in hexadecimal", hex::encode(bytes).into_bytes()),
        ("in hexadecimal capitals", hex::encode_upper(bytes).into_bytes()),
        ("as a list", list.clone().into_bytes()),
        ("as a dense list", list.replace(' ', "").into_bytes()),
        ("as a list over lines", format!("{bytes:#?}").into_bytes()),
        ("escaped", format!("{:?}", Bytes::copy_from_slice(bytes)).into_bytes()),
        ("in base64", STANDARD_NO_PAD.encode(bytes).into_bytes()),
        ("in base64", STANDARD_NO_PAD.encode([&[7], bytes].concat()).into_bytes()),
        (
            "in base64",
            STANDARD_NO_PAD.encode([&[7, 8], bytes].concat()).into_bytes(),
        ),
        ("in base64 for URLs", URL_SAFE_NO_PAD.encode(bytes).into_bytes()),
    ] {
        let around = [b"before it ".as_slice(), &shown, b" and after it"].concat();
        let found = search.find(&around);
        assert!(found.contains(&("planted".to_owned(), form)), "{form}: {found:?}");
        assert!(found.iter().all(|(what, _)| what == "planted"), "{form}: {found:?}");
    }
    assert!(search.find(&[0x55; 5000]).is_empty());
}

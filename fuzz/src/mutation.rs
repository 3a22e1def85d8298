//! Inputs made out of valid samples by a few changes.

mod wire;

pub use wire::FieldEdit;

use proptest::{
    prelude::*,
    sample::{Index, select},
};

/// One change of some bytes.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Another byte in its place.
    Set(Index, u8),
    /// One bit is another.
    Flip(Index, u8),
    /// Bytes are put in.
    Insert(Index, Vec<u8>),
    /// Bytes are taken out.
    Remove(Index, usize),
    /// Nothing follows.
    Cut(Index),
    /// A part is put elsewhere once more.
    Copy(Index, usize, Index),
    /// A number (big-endian, so many bytes) in its place: limits, and where lengths go wrong.
    Number(Index, usize, u64),
    /// A part of another sample is put in.
    Splice(Index, Index, usize, Index),
    /// A field of a protobuf message is another, where the bytes are such a message after a first line or a length.
    Field(Index, FieldEdit),
    /// A line is taken out.
    RemoveLine(Index),
    /// A line is put elsewhere once more.
    CopyLine(Index, Index),
}

impl Edit {
    /// Makes the change.
    pub fn apply(&self, bytes: &mut Vec<u8>, samples: &[Vec<u8>]) {
        // Where something can be put in there is one place more than bytes.
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        match self {
            Self::Insert(at, new) => insert(bytes, place(at, bytes), new),
            Self::Splice(which, from, length, at) => {
                let other = which.get(samples);
                let part = part(other, from, *length).to_vec();
                insert(bytes, place(at, bytes), &part);
            }
            _ if bytes.is_empty() => {}
            Self::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << (bit % 8);
            }
            Self::Remove(at, length) => {
                let at = at.index(bytes.len());
                let end = (at + length).min(bytes.len());
                bytes.drain(at..end);
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Copy(from, length, at) => {
                let part = part(bytes, from, *length).to_vec();
                insert(bytes, place(at, bytes), &part);
            }
            Self::Number(at, width, number) => {
                let at = at.index(bytes.len());
                let number = &number.to_be_bytes()[8 - width..];
                let width = number.len().min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            Self::Field(which, edit) => change_field(bytes, which, edit),
            Self::RemoveLine(which) => {
                let lines = lines(bytes);
                let removed = which.index(lines.len());
                let kept = (0..).zip(&lines).filter(|(number, _)| *number != removed);
                *bytes = kept.flat_map(|(_, line)| line.iter().copied()).collect();
            }
            Self::CopyLine(which, to) => {
                let mut lines = lines(bytes);
                let line = *which.get(&lines);
                lines.insert(to.index(lines.len() + 1), line);
                *bytes = lines.concat();
            }
        }
    }
}

/// Samples with one to six changes each, and the changes that made them.
pub fn mutants(samples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let made = (any::<Index>(), prop::collection::vec(edit(), 1..6));
    made.prop_map(move |(which, edits)| {
        let mut bytes = which.get(&samples).clone();
        for edit in edits {
            edit.apply(&mut bytes, &samples);
        }
        bytes
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    let few = || prop_oneof![4 => 1..9_usize, 1 => 1..200_usize];
    prop_oneof![
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        1 => (at(), any::<u8>()).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, new)| Edit::Insert(at, new)),
        1 => (at(), few()).prop_map(|(at, length)| Edit::Remove(at, length)),
        1 => at().prop_map(Edit::Cut),
        1 => (at(), few(), at()).prop_map(|(from, length, to)| Edit::Copy(from, length, to)),
        1 => (at(), select(&[1, 2, 4, 8][..]), number()).prop_map(|(at, width, number)| Edit::Number(at, width, number)),
        1 => (at(), at(), few(), at()).prop_map(|(which, from, length, to)| Edit::Splice(which, from, length, to)),
        4 => (at(), field_edit()).prop_map(|(which, edit)| Edit::Field(which, edit)),
        1 => at().prop_map(Edit::RemoveLine),
        1 => (at(), at()).prop_map(|(which, to)| Edit::CopyLine(which, to)),
    ]
}

fn field_edit() -> impl Strategy<Value = FieldEdit> {
    prop_oneof![
        Just(FieldEdit::Remove),
        Just(FieldEdit::Repeat),
        Just(FieldEdit::Empty),
        number().prop_map(FieldEdit::Number),
        any::<u8>().prop_map(FieldEdit::Flip),
        (1..24_u32).prop_map(FieldEdit::Tag),
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        select(
            &[
                0,
                1,
                0x7f,
                0x80,
                0xff,
                0x7fff,
                0xffff,
                0x7fff_ffff,
                0xffff_ffff,
                u64::MAX
            ][..]
        ),
        0..300_u64,
        any::<u64>(),
    ]
}

/// The message starts after a line that says what it is, or after four bytes of its length.
fn change_field(bytes: &mut Vec<u8>, which: &Index, edit: &FieldEdit) {
    let line = bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
    let frame = bytes
        .first_chunk::<4>()
        .filter(|head| u32::from_be_bytes(**head) as usize == bytes.len() - 4);
    let Some(start) = frame.map(|_| 4).or(line) else { return };
    let Some(mut fields) = wire::parse(&bytes[start..], 4) else {
        return;
    };
    let number = which.index(wire::count(&fields));
    wire::change(&mut fields, number, edit);
    bytes.truncate(start);
    bytes.extend(wire::encode(&fields));
    if start == 4 {
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    bytes.splice(at..at, new.iter().copied());
}

fn part<'b>(bytes: &'b [u8], from: &Index, length: usize) -> &'b [u8] {
    if bytes.is_empty() {
        return bytes;
    }
    let from = from.index(bytes.len());
    &bytes[from..(from + length).min(bytes.len())]
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').collect()
}

//! Protobuf messages as their fields, so that a change does not only break their lengths.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// A field of a message.
#[derive(Debug, Clone)]
pub(super) struct Field {
    tag: u32,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Number(u64),
    Four([u8; 4]),
    Eight([u8; 8]),
    Bytes(Vec<u8>),
    /// Bytes that can be read as a message.
    Message(Vec<Field>),
}

/// A change of one field.
#[derive(Debug, Clone)]
pub enum FieldEdit {
    /// It is taken out.
    Remove,
    /// It is there once more.
    Repeat,
    /// A number in its place; for bytes, so many of them.
    Number(u64),
    /// One byte of it is another.
    Flip(u8),
    /// It becomes another field of the message.
    Tag(u32),
    /// Nothing in its place.
    Empty,
}

/// The fields of a message; `None` if it is none, or has none.
pub(super) fn parse(mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes).ok()?;
        let value = match wire_type {
            WireType::Varint => Value::Number(decode_varint(&mut bytes).ok()?),
            WireType::ThirtyTwoBit => Value::Four(fixed(&mut bytes)?),
            WireType::SixtyFourBit => Value::Eight(fixed(&mut bytes)?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                let inner = if depth > 0 { parse(content, depth - 1) } else { None };
                inner.map_or_else(|| Value::Bytes(content.to_vec()), Value::Message)
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        fields.push(Field { tag, value });
    }
    (!fields.is_empty()).then_some(fields)
}

fn fixed<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (value, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*value)
}

/// The bytes of a message.
pub(super) fn encode(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Field { tag, value } in fields {
        let mut delimited = |content: &[u8]| {
            encode_key(*tag, WireType::LengthDelimited, &mut bytes);
            encode_varint(content.len() as u64, &mut bytes);
            bytes.extend_from_slice(content);
        };
        match value {
            Value::Bytes(content) => delimited(content),
            Value::Message(fields) => delimited(&encode(fields)),
            Value::Number(number) => {
                encode_key(*tag, WireType::Varint, &mut bytes);
                encode_varint(*number, &mut bytes);
            }
            Value::Four(value) => {
                encode_key(*tag, WireType::ThirtyTwoBit, &mut bytes);
                bytes.extend_from_slice(value);
            }
            Value::Eight(value) => {
                encode_key(*tag, WireType::SixtyFourBit, &mut bytes);
                bytes.extend_from_slice(value);
            }
        }
    }
    bytes
}

/// How many fields there are, those of inner messages too.
pub(super) fn count(fields: &[Field]) -> usize {
    let inner = fields.iter().map(|field| match &field.value {
        Value::Message(fields) => count(fields),
        _ => 0,
    });
    fields.len() + inner.sum::<usize>()
}

/// Changes one of them, by its number.
pub(super) fn change(fields: &mut Vec<Field>, mut number: usize, edit: &FieldEdit) {
    for at in 0..fields.len() {
        if number == 0 {
            return change_at(fields, at, edit);
        }
        number -= 1;
        if let Value::Message(inner) = &mut fields[at].value {
            let within = count(inner);
            if number < within {
                return change(inner, number, edit);
            }
            number -= within;
        }
    }
}

fn change_at(fields: &mut Vec<Field>, at: usize, edit: &FieldEdit) {
    let value = &mut fields[at].value;
    match (edit, value) {
        (FieldEdit::Remove, _) => drop(fields.remove(at)),
        (FieldEdit::Repeat, _) => fields.insert(at, fields[at].clone()),
        (FieldEdit::Tag(tag), _) => fields[at].tag = (*tag).max(1),
        (FieldEdit::Number(number), Value::Number(value)) => *value = *number,
        (FieldEdit::Number(number), Value::Four(value)) => *value = (*number as u32).to_le_bytes(),
        (FieldEdit::Number(number), Value::Eight(value)) => *value = number.to_le_bytes(),
        (FieldEdit::Number(number), value) => {
            let mut content = content(value);
            content.resize((*number % 300) as usize, b'a');
            *value = Value::Bytes(content);
        }
        (FieldEdit::Flip(_) | FieldEdit::Empty, Value::Number(number)) => *number ^= 1,
        (FieldEdit::Flip(byte), Value::Four(value)) => value[0] ^= byte,
        (FieldEdit::Flip(byte), Value::Eight(value)) => value[0] ^= byte,
        (FieldEdit::Flip(byte), value) => {
            let mut content = content(value);
            let length = content.len().max(1);
            if let Some(one) = content.get_mut(usize::from(*byte) % length) {
                *one ^= byte;
            }
            *value = Value::Bytes(content);
        }
        (FieldEdit::Empty, Value::Four(value)) => *value = [0; 4],
        (FieldEdit::Empty, Value::Eight(value)) => *value = [0; 8],
        (FieldEdit::Empty, value) => *value = Value::Bytes(Vec::new()),
    }
}

fn content(value: &Value) -> Vec<u8> {
    match value {
        Value::Bytes(content) => content.clone(),
        Value::Message(fields) => encode(fields),
        _ => Vec::new(),
    }
}

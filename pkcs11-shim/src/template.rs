//! Templates: attributes as a caller gives them.

use crate::error::{Error, Result};
use cryptoki_sys::*;
use zeroize::Zeroizing;

/// The attributes that a caller gave, with owned values.
#[derive(Default)]
pub(crate) struct Template(Vec<(CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)>);

impl Template {
    /// From pairs of type and value; a type that stands there twice is inconsistent.
    pub(crate) fn new(attributes: Vec<(CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)>) -> Result<Self> {
        for (at, (kind, _)) in attributes.iter().enumerate() {
            if attributes[..at].iter().any(|(other, _)| other == kind) {
                return Err(Error::new(
                    CKR_TEMPLATE_INCONSISTENT,
                    format!("the attribute {kind:#x} stands there twice"),
                ));
            }
        }
        Ok(Self(attributes))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (CK_ATTRIBUTE_TYPE, &[u8])> {
        self.0.iter().map(|(kind, value)| (*kind, value.as_slice()))
    }

    pub(crate) fn bytes(&self, kind: CK_ATTRIBUTE_TYPE) -> Option<&[u8]> {
        self.iter().find(|(one, _)| *one == kind).map(|(_, value)| value)
    }

    /// A Boolean attribute.
    pub(crate) fn flag(&self, kind: CK_ATTRIBUTE_TYPE) -> Result<Option<bool>> {
        match self.bytes(kind) {
            None => Ok(None),
            Some([value]) => Ok(Some(*value != CK_FALSE)),
            Some(_) => Err(wrong(kind)),
        }
    }

    /// A number.
    pub(crate) fn number(&self, kind: CK_ATTRIBUTE_TYPE) -> Result<Option<CK_ULONG>> {
        let number = |bytes: &[u8]| bytes.try_into().map(CK_ULONG::from_ne_bytes).map_err(|_| wrong(kind));
        self.bytes(kind).map(number).transpose()
    }

    /// A list of numbers.
    pub(crate) fn numbers(&self, kind: CK_ATTRIBUTE_TYPE) -> Result<Option<Vec<CK_ULONG>>> {
        let Some(bytes) = self.bytes(kind) else {
            return Ok(None);
        };
        let (numbers, rest) = bytes.as_chunks::<{ size_of::<CK_ULONG>() }>();
        match rest {
            [] => Ok(Some(
                numbers.iter().map(|bytes| CK_ULONG::from_ne_bytes(*bytes)).collect(),
            )),
            _ => Err(wrong(kind)),
        }
    }

    /// Text, in UTF-8 without control characters.
    pub(crate) fn text(&self, kind: CK_ATTRIBUTE_TYPE) -> Result<Option<&str>> {
        let text = |bytes| {
            std::str::from_utf8(bytes)
                .ok()
                .filter(|text| !text.chars().any(char::is_control))
        };
        self.bytes(kind)
            .map(|bytes| text(bytes).ok_or_else(|| wrong(kind)))
            .transpose()
    }

    /// Fails unless everything in it is of one of these types.
    pub(crate) fn has_only(&self, known: &[CK_ATTRIBUTE_TYPE]) -> Result<()> {
        match self.iter().find(|(kind, _)| !known.contains(kind)) {
            None => Ok(()),
            Some((kind, _)) => Err(Error::new(
                CKR_ATTRIBUTE_TYPE_INVALID,
                format!("the attribute {kind:#x} is not known here"),
            )),
        }
    }
}

fn wrong(kind: CK_ATTRIBUTE_TYPE) -> Error {
    Error::new(
        CKR_ATTRIBUTE_VALUE_INVALID,
        format!("the attribute {kind:#x} has a value of a wrong form"),
    )
}

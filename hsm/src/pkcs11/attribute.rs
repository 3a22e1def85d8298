use cryptoki_sys::{CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_BBOOL, CK_FALSE, CK_MECHANISM_TYPE, CK_TRUE, CK_ULONG};
use std::{ffi::c_void, fmt};
use zeroize::Zeroizing;

/// One attribute with its value (PKCS#11 3.0 section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    kind: CK_ATTRIBUTE_TYPE,
    value: Value,
}

#[derive(Clone, PartialEq, Eq)]
enum Value {
    Flag(CK_BBOOL),
    Number(CK_ULONG),
    Bytes(Vec<u8>),
    Secret(Zeroizing<Vec<u8>>),
    Mechanisms(Vec<CK_MECHANISM_TYPE>),
    Attributes(Template),
}

impl Attribute {
    /// A `CK_BBOOL` attribute.
    pub fn flag(kind: CK_ATTRIBUTE_TYPE, value: bool) -> Self {
        Self {
            kind,
            value: Value::Flag(if value { CK_TRUE } else { CK_FALSE }),
        }
    }

    /// A `CK_ULONG` attribute.
    pub fn number(kind: CK_ATTRIBUTE_TYPE, value: CK_ULONG) -> Self {
        Self {
            kind,
            value: Value::Number(value),
        }
    }

    /// A byte array or string attribute.
    pub fn bytes(kind: CK_ATTRIBUTE_TYPE, value: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            value: Value::Bytes(value.into()),
        }
    }

    /// A byte array that is secret, such as `CKA_VALUE`: it is wiped when dropped and not shown.
    pub fn secret(kind: CK_ATTRIBUTE_TYPE, value: &[u8]) -> Self {
        Self {
            kind,
            value: Value::Secret(Zeroizing::new(value.to_vec())),
        }
    }

    /// A list of mechanism types, such as `CKA_ALLOWED_MECHANISMS`.
    pub fn mechanisms(kind: CK_ATTRIBUTE_TYPE, value: impl Into<Vec<CK_MECHANISM_TYPE>>) -> Self {
        Self {
            kind,
            value: Value::Mechanisms(value.into()),
        }
    }

    /// An attribute array, such as `CKA_UNWRAP_TEMPLATE`.
    pub fn attributes(kind: CK_ATTRIBUTE_TYPE, value: Template) -> Self {
        Self {
            kind,
            value: Value::Attributes(value),
        }
    }

    /// The attribute's type.
    pub fn kind(&self) -> CK_ATTRIBUTE_TYPE {
        self.kind
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => fmt::Debug::fmt(flag, formatter),
            Self::Number(number) => fmt::Debug::fmt(number, formatter),
            Self::Bytes(bytes) => fmt::Debug::fmt(bytes, formatter),
            Self::Secret(_) => formatter.write_str("(secret)"),
            Self::Mechanisms(list) => fmt::Debug::fmt(list, formatter),
            Self::Attributes(inner) => fmt::Debug::fmt(inner, formatter),
        }
    }
}

/// An ordered list of attributes.
///
/// The order matters on some tokens: SoftHSM2 applies attributes one by one, so `CKA_MODIFIABLE` false comes last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template(Vec<Attribute>);

impl Template {
    /// A template with these attributes, in this order.
    pub fn new(attributes: impl Into<Vec<Attribute>>) -> Self {
        Self(attributes.into())
    }

    /// The same template with one attribute set: replaced where it stands, or added at the end.
    #[must_use]
    pub fn with(mut self, attribute: Attribute) -> Self {
        match self.0.iter_mut().find(|present| present.kind == attribute.kind) {
            Some(present) => *present = attribute,
            None => self.0.push(attribute),
        }
        self
    }

    /// The same template without one attribute.
    #[must_use]
    pub fn without(mut self, kind: CK_ATTRIBUTE_TYPE) -> Self {
        self.0.retain(|attribute| attribute.kind != kind);
        self
    }

    /// The attributes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Attribute> {
        self.0.iter()
    }

    /// Lends the template to `body` as the array that a C function expects.
    pub(crate) fn lend<R>(&self, body: impl FnOnce(*mut CK_ATTRIBUTE, CK_ULONG) -> R) -> R {
        let mut lent = Lent::default();
        lent.fill(self);
        body(lent.attributes.as_mut_ptr(), lent.attributes.len() as CK_ULONG)
    }
}

/// C attributes that point into a `Template`, and the arrays of nested templates that they point to.
#[derive(Default)]
struct Lent {
    attributes: Vec<CK_ATTRIBUTE>,
    nested: Vec<Lent>,
}

impl Lent {
    fn fill(&mut self, template: &Template) {
        for attribute in &template.0 {
            let (value, length) = match &attribute.value {
                Value::Flag(flag) => (std::ptr::from_ref(flag).cast::<c_void>(), size_of::<CK_BBOOL>()),
                Value::Number(number) => (std::ptr::from_ref(number).cast(), size_of::<CK_ULONG>()),
                Value::Bytes(bytes) => (bytes.as_ptr().cast(), bytes.len()),
                Value::Secret(bytes) => (bytes.as_ptr().cast(), bytes.len()),
                Value::Mechanisms(list) => (list.as_ptr().cast(), size_of_val(list.as_slice())),
                Value::Attributes(inner) => {
                    let mut lent = Self::default();
                    lent.fill(inner);
                    // The inner array lives on the heap, so moving `lent` does not move what is pointed to.
                    let array = (lent.attributes.as_ptr().cast(), size_of_val(lent.attributes.as_slice()));
                    self.nested.push(lent);
                    array
                }
            };
            self.attributes.push(CK_ATTRIBUTE {
                type_: attribute.kind,
                // PKCS#11 declares the value as mutable for output templates; modules do not write input templates.
                pValue: value.cast_mut(),
                ulValueLen: length as CK_ULONG,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki_sys::{CKA_LABEL, CKA_MODIFIABLE, CKA_SENSITIVE, CKA_UNWRAP_TEMPLATE};

    #[test]
    fn with_replaces_in_place_and_keeps_the_order() {
        let template = Template::new([
            Attribute::flag(CKA_SENSITIVE, true),
            Attribute::flag(CKA_MODIFIABLE, false),
        ])
        .with(Attribute::flag(CKA_SENSITIVE, false));
        let kinds: Vec<_> = template.iter().map(Attribute::kind).collect();
        assert_eq!(kinds, [CKA_SENSITIVE, CKA_MODIFIABLE]);
        assert_eq!(template.iter().next(), Some(&Attribute::flag(CKA_SENSITIVE, false)));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let attribute = Attribute::secret(CKA_LABEL, &[171; 4]);
        assert!(!format!("{attribute:?}").contains("171"));
    }

    #[test]
    fn lent_attributes_carry_lengths_in_bytes() {
        let inner = Template::new([Attribute::flag(CKA_SENSITIVE, true)]);
        let template = Template::new([
            Attribute::bytes(CKA_LABEL, *b"abc"),
            Attribute::attributes(CKA_UNWRAP_TEMPLATE, inner),
        ]);
        let lengths = template.lend(|attributes, count| {
            // SAFETY: `lend` passes an array of `count` attributes that lives during the call.
            let lent = unsafe { std::slice::from_raw_parts(attributes, count as usize) };
            lent.iter()
                .map(|attribute| attribute.ulValueLen as usize)
                .collect::<Vec<_>>()
        });
        assert_eq!(lengths, [3, size_of::<CK_ATTRIBUTE>()]);
    }
}

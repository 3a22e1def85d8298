//! A certificate's subject as text, so that different subjects never give one text.
//!
//! The form is that of RFC 4514: the most specific part first, attributes by their short name or their number. It is stricter
//! where a reader could be deceived: control and invisible characters, and `*`, which policies give a meaning, are escaped; a
//! value of another kind than text is shown as the hexadecimal digits of its encoding.

use x509_cert::{
    attr::{AttributeTypeAndValue, AttributeValue},
    der::{
        Encode, Tag, Tagged,
        asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef},
    },
    name::Name,
};

/// The text of a subject.
///
/// UTF8String, PrintableString and IA5String are one kind of text, as RFC 5280, section 7.1 compares them; case and spaces
/// are not folded.
pub(super) fn subject_text(subject: &Name) -> String {
    let mut parts: Vec<String> = subject
        .iter_rdn()
        .map(|part| part.iter().map(attribute_text).collect::<Vec<_>>().join("+"))
        .collect();
    parts.reverse();
    parts.join(",")
}

fn attribute_text(attribute: &AttributeTypeAndValue) -> String {
    let oid = attribute.oid.to_string();
    let mut text = match SHORT_NAMES.iter().find(|(number, _)| *number == oid) {
        Some((_, name)) => (*name).to_owned(),
        None => oid,
    };
    text.push('=');
    push_value(&mut text, &attribute.value);
    text
}

fn push_value(text: &mut String, value: &AttributeValue) {
    let Some(words) = words(value) else {
        text.push('#');
        text.push_str(&hex::encode(value.to_der().unwrap_or_default()));
        return;
    };
    let last = words.chars().count().saturating_sub(1);
    for (place, character) in words.chars().enumerate() {
        let at_an_end = place == 0 || place == last;
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => {
                text.push('\\');
                text.push(character);
            }
            '#' if place == 0 => text.push_str("\\#"),
            ' ' if at_an_end => text.push_str("\\ "),
            _ if is_deceptive(character) => {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    text.push_str(&format!("\\{byte:02X}"));
                }
            }
            _ => text.push(character),
        }
    }
}

fn words(value: &AttributeValue) -> Option<String> {
    match value.tag() {
        Tag::Utf8String => value
            .decode_as::<Utf8StringRef<'_>>()
            .ok()
            .map(|one| one.as_str().to_owned()),
        Tag::PrintableString => value
            .decode_as::<PrintableStringRef<'_>>()
            .ok()
            .map(|one| one.as_str().to_owned()),
        Tag::Ia5String => value
            .decode_as::<Ia5StringRef<'_>>()
            .ok()
            .map(|one| one.as_str().to_owned()),
        _ => None,
    }
}

/// Characters that are not seen, or that turn the direction of what is.
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || character == '*'
        || (character.is_whitespace() && character != ' ')
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// RFC 4514, section 3, and the address that many authorities put into names.
const SHORT_NAMES: [(&str, &str); 11] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("2.5.4.5", "serialNumber"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::str::FromStr;
    use x509_cert::{
        der::{
            Any, Decode,
            asn1::{ObjectIdentifier, SetOfVec},
        },
        name::RelativeDistinguishedName,
    };

    fn name(parts: &[&[(&str, Tag, &str)]]) -> Name {
        let parts = parts.iter().map(|attributes| {
            let attributes = attributes.iter().map(|(oid, tag, value)| AttributeTypeAndValue {
                oid: ObjectIdentifier::new_unwrap(oid),
                value: Any::new(*tag, value.as_bytes()).expect("a value"),
            });
            RelativeDistinguishedName::from(SetOfVec::try_from(attributes.collect::<Vec<_>>()).expect("a set"))
        });
        let sequence = x509_cert::name::RdnSequence::from(parts.collect::<Vec<_>>());
        Name::from_der(&sequence.to_der().expect("DER")).expect("a name")
    }

    const CN: &str = "2.5.4.3";
    const O: &str = "2.5.4.10";
    const TEXT: Tag = Tag::Utf8String;

    #[test]
    fn names_are_written_the_specific_part_first() {
        let subject = name(&[
            &[("2.5.4.6", Tag::PrintableString, "CH")],
            &[(O, TEXT, "Example")],
            &[(CN, TEXT, "pay")],
        ]);
        assert_eq!(subject_text(&subject), "CN=pay,O=Example,C=CH");
    }

    #[test]
    fn a_value_cannot_pass_for_structure() {
        let several = name(&[&[(O, TEXT, "Example")], &[(CN, TEXT, "pay")]]);
        let one = name(&[&[(CN, TEXT, "pay,O=Example")]]);
        assert_eq!(subject_text(&one), "CN=pay\\,O\\=Example");
        assert_ne!(subject_text(&several), subject_text(&one));
        for (value, shown) in [
            (" a ", "CN=\\ a\\ "),
            (" ", "CN=\\ "),
            ("#0c01", "CN=\\#0c01"),
            ("a\\,b", "CN=a\\\\\\,b"),
            ("a\0", "CN=a\\00"),
            ("pay*", "CN=pay\\2A"),
            ("a\u{202e}b", "CN=a\\E2\\80\\AEb"),
            ("ä", "CN=ä"),
        ] {
            assert_eq!(subject_text(&name(&[&[(CN, TEXT, value)]])), shown);
        }
        let hidden = name(&[&[(CN, Tag::TeletexString, "pay")]]);
        assert_eq!(subject_text(&hidden), "CN=#1403706179");
        let unknown = name(&[&[("1.2.3.4", TEXT, "x")]]);
        assert_eq!(subject_text(&unknown), "1.2.3.4=x");
    }

    fn any_name() -> impl Strategy<Value = Vec<Vec<(usize, String)>>> {
        let attribute = (0..3_usize, r#"[ab ,+=\\#*\x00\u{202e}"<>;0-9A-F]{0,6}"#);
        proptest::collection::vec(proptest::collection::vec(attribute, 1..3), 1..3)
    }

    proptest! {
        #[test]
        fn different_names_have_different_texts(one in any_name(), other in any_name()) {
            let built = |parts: &Vec<Vec<(usize, String)>>| {
                let parts: Vec<Vec<(&str, Tag, &str)>> = parts
                    .iter()
                    .map(|part| {
                        let attributes = part.iter();
                        attributes.map(|(oid, value)| ([CN, O, "1.2.3"][*oid], TEXT, value.as_str())).collect()
                    })
                    .collect();
                // A set holds each of its elements once.
                let unique = parts.iter().all(|part| (1..part.len()).all(|i| !part[..i].contains(&part[i])));
                unique.then(|| name(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>()))
            };
            if let (Some(one), Some(other)) = (built(&one), built(&other)) {
                prop_assert_eq!(one == other, subject_text(&one) == subject_text(&other));
            }
        }
    }

    #[test]
    fn the_text_of_an_ordinary_name_is_that_of_rfc_4514() {
        let subject = Name::from_str("CN=pay,O=Example,C=CH").expect("a name");
        assert_eq!(subject_text(&subject), "CN=pay,O=Example,C=CH");
    }
}

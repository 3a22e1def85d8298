//! SPIFFE ids, as the SPIFFE-ID standard (section 2) writes them.

use std::fmt;

/// A SPIFFE id that names a workload: `spiffe://trust-domain/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpiffeId {
    text: String,
    trust_domain: usize,
}

impl SpiffeId {
    /// Reads an id; says what is wrong with it. Nothing is normalised: two texts are two ids.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or("it does not begin with spiffe:// in lower case")?;
        if text.len() > LONGEST {
            return Err("it is longer than 2048 bytes");
        }
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        check_trust_domain(domain)?;
        if path.is_empty() {
            return Err("it names a whole trust domain, not a workload: it has no path");
        }
        for segment in path.split('/').skip(1) {
            match segment {
                "" => return Err("its path has an empty segment or ends with a slash"),
                "." | ".." => return Err("its path has a segment . or .."),
                _ if segment.bytes().all(is_path_byte) => {}
                _ => return Err("its path has another character than letters, digits, dots, dashes and underscores"),
            }
        }
        Ok(Self {
            text: text.to_owned(),
            trust_domain: domain.len(),
        })
    }

    /// Whether a URI means to be a SPIFFE id, well written or not.
    pub fn is_meant(uri: &str) -> bool {
        uri.get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
    }

    /// The trust domain, without the scheme.
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..][..self.trust_domain]
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Checks a trust domain's name; says what is wrong with it.
pub fn check_trust_domain(name: &str) -> Result<(), &'static str> {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    match name {
        "" => Err("its trust domain is empty"),
        _ if name.len() > 255 => Err("its trust domain is longer than 255 bytes"),
        _ if name.bytes().all(known) => Ok(()),
        _ => {
            Err("its trust domain has another character than lower-case letters, digits, dots, dashes and underscores")
        }
    }
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_".contains(&byte)
}

const SCHEME: &str = "spiffe://";
const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_workloads_are_read_and_nothing_else() {
        let id = SpiffeId::parse("spiffe://example.org/ns/pay-1/sa_2.x").expect("an id");
        assert_eq!(id.trust_domain(), "example.org");
        for wrong in [
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/./a",
            "spiffe://example.org/a/..",
            "spiffe://example.org/a%2Fb",
            "spiffe://example.org/a b",
            "spiffe://example.org/a?b",
            "spiffe://example.org/a#b",
            "spiffe://example.org/ä",
            "spiffe://example.org/a*",
            "spiffe://Example.org/a",
            "spiffe://example.org:443/a",
            "spiffe://me@example.org/a",
            "spiffe:///a",
            "SPIFFE://example.org/a",
            "spiffe:/example.org/a",
            "https://example.org/a",
        ] {
            assert!(SpiffeId::parse(wrong).is_err(), "{wrong}");
        }
        let (long, longer) = ("a".repeat(2048 - 21), "a".repeat(2048 - 20));
        assert!(SpiffeId::parse(&format!("spiffe://example.org/{long}")).is_ok());
        assert!(SpiffeId::parse(&format!("spiffe://example.org/{longer}")).is_err());
        assert!(SpiffeId::parse(&format!("spiffe://{}/a", "a".repeat(256))).is_err());
    }

    #[test]
    fn what_means_to_be_an_id_is_known_also_when_it_is_badly_written() {
        for (uri, meant) in [
            ("spiffe://a/b", true),
            ("SPIFFE://a/b", true),
            ("spiffe:a", true),
            ("https://spiffe:", false),
            ("spiff", false),
        ] {
            assert_eq!(SpiffeId::is_meant(uri), meant, "{uri}");
        }
    }
}

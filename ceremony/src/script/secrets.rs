//! Secrets that somebody wrote where none belongs.

/// Why a text looks like one that holds a secret, if it does. PINs have stood in scripts of ceremonies before.
pub(crate) fn looks_secret(text: &str) -> Option<&'static str> {
    if text.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    if text.to_ascii_uppercase().contains("AGE-SECRET-KEY-") {
        return Some("an age identity");
    }
    let words: Vec<String> = text
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')' | '"' | '\''))
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    for (place, word) in words.iter().enumerate() {
        let (name, value) = match word.split_once([':', '=']) {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), None),
        };
        if !SECRET_NAMES.contains(&name) {
            continue;
        }
        let follows = match value {
            Some("") => words.get(place + 1).map(String::as_str),
            Some(value) => Some(value),
            None => match words.get(place + 1).map(String::as_str) {
                Some("is" | "=" | ":") => words.get(place + 2).map(String::as_str),
                Some(next) if next.trim_end_matches('.').bytes().all(|byte| byte.is_ascii_digit()) => Some(next),
                _ => None,
            },
        };
        if follows.is_some_and(|value| value.bytes().any(|byte| byte.is_ascii_digit())) {
            return Some("a PIN, password or passphrase");
        }
    }
    None
}

const SECRET_NAMES: [&str; 8] = [
    "pin",
    "so-pin",
    "user-pin",
    "puk",
    "password",
    "passphrase",
    "passcode",
    "secret",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_seen_and_words_about_secrets_are_not() {
        for bad in [
            "the PIN is 123456",
            "PIN: 4711",
            "use pin=00000000 here",
            "PIN 123456.",
            "(SO-PIN 87654321)",
            "password: hunter2",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "age-secret-key-1qqqq",
        ] {
            assert!(looks_secret(bad).is_some(), "{bad}");
        }
        for good in [
            "Each custodian types the PIN of the card.",
            "Share 3 is not used: no secret is written here.",
            "The PIN is in the envelope.",
            "Put all 5 shares into bags.",
        ] {
            assert_eq!(looks_secret(good), None, "{good}");
        }
    }
}

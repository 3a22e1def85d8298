//! What a call is about.

use crate::audit::Entry;

/// What a call is about: as its caller named it, and what that turned out to be. Each is said once, so that nothing that is
/// looked up on the way takes its place.
#[derive(Debug, Default)]
pub(super) struct Subject {
    named: Option<String>,
    found: Option<String>,
}

impl Subject {
    /// As the caller named it.
    pub(super) fn names(&mut self, named: String) {
        debug_assert!(self.named.is_none(), "named twice: {:?} and {named}", self.named);
        self.named.get_or_insert(named);
    }

    /// The caller's words; empty before they are understood.
    pub(super) fn named(&self) -> &str {
        self.named.as_deref().unwrap_or_default()
    }

    /// What it turned out to be.
    pub(super) fn finds(&mut self, found: String) {
        debug_assert!(self.found.is_none(), "found twice: {:?} and {found}", self.found);
        self.found.get_or_insert(found);
    }

    /// Puts it into an audit entry. The caller's words stand there too where the resource does not begin with them.
    pub(super) fn describe(&self, entry: &mut Entry) {
        let named = self.named();
        let found = self.found.as_deref().unwrap_or(named);
        found.clone_into(&mut entry.resource);
        entry.named = (!found.starts_with(named)).then(|| named.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(subject: &Subject) -> (String, Option<String>) {
        let mut entry = Entry::gateway("test", "OK");
        subject.describe(&mut entry);
        (entry.resource, entry.named)
    }

    #[test]
    fn an_entry_has_what_was_found_and_an_alias_that_was_named() {
        let mut subject = Subject::default();
        assert_eq!(described(&subject), (String::new(), None));
        let alias = "keyRings/r/aliases/current".to_owned();
        subject.names(alias.clone());
        assert_eq!(described(&subject), (alias.clone(), None));
        let version = "keyRings/r/keys/k/versions/2".to_owned();
        subject.finds(version.clone());
        assert_eq!(described(&subject), (version.clone(), Some(alias)));
        let mut direct = Subject::default();
        direct.names("keyRings/r/keys/k".to_owned());
        direct.finds(version.clone());
        assert_eq!(described(&direct), (version, None));
    }
}

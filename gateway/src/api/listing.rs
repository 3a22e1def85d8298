//! Pages of lists (AIP-158): by name, so that they stay right while things are made and removed.

use super::{ApiError, convert::short_hash};

/// A page size within its limits: 100 when none is given, at most 1000 whatever is given.
pub(super) fn page_size(size: i32) -> Result<u32, ApiError> {
    match u32::try_from(size) {
        Ok(0) => Ok(100),
        Ok(size) => Ok(size.min(LARGEST_PAGE)),
        Err(_) => Err(ApiError::field(
            "page_size",
            format!("expected no negative number, found {size}"),
        )),
    }
}

/// Which list a page is of: a token for one is none for another, or for another filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct List<'a> {
    /// The kind of list.
    pub(super) kind: &'static str,
    /// What it is a list of.
    pub(super) parent: &'a str,
    /// What it leaves out.
    pub(super) filter: &'a str,
}

impl List<'_> {
    /// Where the next page starts. It holds nothing secret, and policy is asked again with each page.
    pub(super) fn token(&self, last: &[u8]) -> String {
        hex::encode([self.start().as_bytes(), last].concat())
    }

    /// Where a page starts; `None` for the first.
    pub(super) fn read_token(&self, token: &str) -> Result<Option<Vec<u8>>, ApiError> {
        if token.is_empty() {
            return Ok(None);
        }
        let bytes = hex::decode(token).unwrap_or_default();
        match bytes.strip_prefix(self.start().as_bytes()) {
            Some(last) => Ok(Some(last.to_vec())),
            None => Err(ApiError::field(
                "page_token",
                "it is not the next_page_token of such a list with this filter",
            )),
        }
    }

    fn start(&self) -> String {
        let hash = short_hash([self.kind, self.parent, self.filter]);
        format!("2/{hash}/")
    }
}

/// So many things are looked at for one page of a filtered list, so that a filter that fits nothing costs no more than a
/// page of a few thousand.
pub(super) const LOOKED_AT_FOR_A_PAGE: u32 = 5000;
pub(super) const LARGEST_PAGE: u32 = 1000;

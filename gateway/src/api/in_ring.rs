//! Documents of a ring by name: recipients, import jobs, objects.

use super::{ApiError, Reason};
use crate::keys::{document::Document, name::Id};

/// `keyRings/{ring}/{collection}/{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InRing {
    /// The ring.
    pub(super) ring: Id,
    /// The id.
    pub(super) id: Id,
    collection: &'static str,
}

impl InRing {
    /// A name of a kind of document.
    pub(super) fn new<D: Document>(ring: Id, id: Id) -> Self {
        Self {
            ring,
            id,
            collection: D::COLLECTION,
        }
    }

    /// Reads a name.
    pub(super) fn parse<D: Document>(text: &str) -> Result<Self, ApiError> {
        match text.split('/').collect::<Vec<_>>().as_slice() {
            ["keyRings", ring, collection, id] if *collection == D::COLLECTION => {
                Ok(Self::new::<D>(Id::parse(ring)?, Id::parse(id)?))
            }
            _ => {
                let found: String = text.chars().take(100).collect();
                let message = format!("\"{found}\" is not a name: keyRings/{{ring}}/{}/{{id}}", D::COLLECTION);
                Err(ApiError::new(Reason::InvalidName, message))
            }
        }
    }
}

impl std::fmt::Display for InRing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "keyRings/{}/{}/{}", self.ring, self.collection, self.id)
    }
}

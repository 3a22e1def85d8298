//! How what belongs to a ring is made, changed, deleted and listed: aliases, recipients and objects alike.
//!
//! A repetition of the same request gets the answer of the first; what is only checked (`validate_only`) is answered as the
//! request itself would be; and whoever was asked whether the change is allowed was asked about what is changed: if it is
//! another by then, the caller reads it again.

use super::{
    ApiError,
    call::Call,
    in_ring::InRing,
    listing::{List, page_size},
};
use crate::{
    audit::Details,
    keys::{
        change::{Mode, Terms},
        document::{Document, DocumentError, Stored},
        name::Id,
    },
};
use std::sync::Arc;

/// A document that was wanted.
pub(super) enum Made<D> {
    /// It is there.
    Stored(Stored<D>),
    /// It could be made, and was only to be checked.
    Planned(D),
}

/// A document that is to be changed or deleted.
pub(super) enum Current<D> {
    /// It is there, in the revision that the caller knows.
    Ready(Stored<D>),
    /// The same request made its change before.
    Repeated,
}

/// A page of documents.
pub(super) struct Listed<D> {
    pub(super) found: Vec<Stored<D>>,
    pub(super) next_page_token: String,
    pub(super) unauthentic: Vec<String>,
}

/// A document that must be there.
pub(super) async fn find<D: Document>(call: &Call, name: &InRing) -> Result<Stored<D>, ApiError> {
    let documents = &call.gateway().documents;
    let found = documents
        .find::<D>(&name.ring, name.id.as_str(), call.deadline())
        .await?;
    Ok(found.ok_or_else(|| DocumentError::Missing(name.to_string()))?)
}

/// Makes a document, after the call was authorised for it.
pub(super) async fn create<D: Document>(
    call: &mut Call,
    name: &InRing,
    wanted: D,
    terms: Terms,
    details: Details,
) -> Result<Made<D>, ApiError> {
    call.note_details(details);
    let gateway = Arc::clone(call.gateway());
    gateway.directory.ring(&name.ring, terms.deadline).await?;
    let documents = &gateway.documents;
    let (ring, id) = (&name.ring, name.id.as_str());
    // Looked for first: what the same request makes meanwhile is then seen as its own.
    let exists = documents.find::<D>(ring, id, terms.deadline).await?.is_some();
    if documents.is_repetition(terms.once.as_ref(), terms.deadline).await? {
        return Ok(Made::Stored(find(call, name).await?));
    }
    if exists {
        return Err(ApiError::already_exists(name.to_string()));
    }
    if terms.mode == Mode::Check {
        return Ok(Made::Planned(wanted));
    }
    call.intend().await?;
    let made = documents.create(ring, id, &wanted, terms.once, terms.deadline).await?;
    Ok(Made::Stored(made))
}

/// The document that a change is about, if it is the one that the caller knows.
pub(super) async fn current<D: Document>(call: &Call, name: &InRing, terms: &Terms) -> Result<Current<D>, ApiError> {
    let documents = &call.gateway().documents;
    if documents.is_repetition(terms.once.as_ref(), terms.deadline).await? {
        return Ok(Current::Repeated);
    }
    let found = find::<D>(call, name).await?;
    if terms.expected.is_some_and(|expected| expected != found.revision) {
        return Err(DocumentError::Stale(name.to_string()).into());
    }
    Ok(Current::Ready(found))
}

/// Replaces the content of a document that is [`Current::Ready`].
pub(super) async fn replace<D: Document>(
    call: &mut Call,
    name: &InRing,
    found: Stored<D>,
    next: D,
    terms: Terms,
    details: Details,
) -> Result<Stored<D>, ApiError> {
    call.note_details(details);
    if terms.mode == Mode::Check {
        return Ok(Stored { content: next, ..found });
    }
    call.intend().await?;
    let documents = Arc::clone(&call.gateway().documents);
    let (revision, change) = (Some(found.revision), |_: Stored<D>| Ok::<_, DocumentError>(next));
    let changed = documents.update(
        &name.ring,
        name.id.as_str(),
        revision,
        terms.once,
        terms.deadline,
        change,
    );
    Ok(changed.await?)
}

/// Deletes a document that is [`Current::Ready`].
pub(super) async fn delete<D: Document>(
    call: &mut Call,
    name: &InRing,
    found: Stored<D>,
    terms: Terms,
    details: Details,
) -> Result<(), ApiError> {
    call.note_details(details);
    if terms.mode == Mode::Check {
        return Ok(());
    }
    call.intend().await?;
    let documents = Arc::clone(&call.gateway().documents);
    let (id, revision) = (name.id.as_str(), Some(found.revision));
    documents
        .delete::<D>(&name.ring, id, revision, terms.once, terms.deadline)
        .await?;
    Ok(())
}

/// A page of a ring's documents of a kind.
pub(super) async fn list<D: Document>(
    call: &Call,
    ring: &Id,
    page_token: &str,
    size: i32,
) -> Result<Listed<D>, ApiError> {
    let parent = format!("keyRings/{ring}");
    let list = List::of(call, D::COLLECTION, &parent, "");
    let after = list.read_token(page_token)?;
    let limit = page_size(size)?;
    let gateway = call.gateway();
    gateway.directory.ring(ring, call.deadline()).await?;
    let page = gateway
        .documents
        .list::<D>(ring, after.as_deref(), limit, call.deadline())
        .await?;
    call.charge(page.found.len());
    Ok(Listed {
        found: page.found,
        next_page_token: list.next(page.next)?,
        unauthentic: page.unauthentic,
    })
}

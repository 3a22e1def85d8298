//! Object management (PKCS#11 3.0, section 5.7).

use super::memory;
use crate::{
    creation,
    error::{Error, Result},
    library,
    object::Attribute,
    session::{Next, begin, step},
    storage,
    token::lock,
};
use cryptoki_sys::*;
use std::{ptr, slice};

/// # Safety
///
/// As for [`memory::template`]; `object` is null or points to a place for a handle.
pub(super) unsafe fn create(
    session: CK_SESSION_HANDLE,
    template: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
    object: CK_OBJECT_HANDLE_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let (template, place) = unsafe { (memory::template(template, count)?, memory::place(object)?) };
    *place = creation::create(&library, &session, &token, &template)?;
    Ok(())
}

/// # Safety
///
/// As for [`memory::template`]; `copy` is null or points to a place for a handle.
pub(super) unsafe fn copy(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
    copy: CK_OBJECT_HANDLE_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let (template, place) = unsafe { (memory::template(template, count)?, memory::place(copy)?) };
    let object = library.object(&token, object)?;
    *place = creation::copy(&library, &session, &token, &object, &template)?;
    Ok(())
}

/// # Safety
///
/// None is needed.
pub(super) unsafe fn destroy(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    let object = library.object(&token, object)?;
    storage::destroy(&library, &session, &token, &object)
}

/// # Safety
///
/// `size` is null or points to a place for a number.
pub(super) unsafe fn size(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, size: CK_ULONG_PTR) -> Result<()> {
    let library = library::current()?;
    let (_, token) = library.session(session)?;
    let object = library.object(&token, object)?;
    // SAFETY: by the caller's promise.
    *unsafe { memory::place(size) }? = object.size() as CK_ULONG;
    Ok(())
}

/// # Safety
///
/// `template` is null or points to `count` attributes that nobody else uses, each of whose values is null or points to room for so many
/// bytes as it says.
pub(super) unsafe fn attributes(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
) -> Result<()> {
    let library = library::current()?;
    let (_, token) = library.session(session)?;
    let object = library.object(&token, object)?;
    if template.is_null() || count == 0 {
        return Err(CKR_ARGUMENTS_BAD.into());
    }
    // SAFETY: not null, and exclusive and so long by the caller's promise.
    let template = unsafe { slice::from_raw_parts_mut(template, usize::try_from(count).unwrap_or(0)) };
    // All are looked at, whatever is wrong with one.
    let mut wrong = None;
    for wanted in template {
        let (length, code) = match object.attribute(wanted.type_) {
            Attribute::Value(value) if wanted.pValue.is_null() => (value.len() as CK_ULONG, None),
            Attribute::Value(value) if wanted.ulValueLen < value.len() as CK_ULONG => {
                (CK_UNAVAILABLE_INFORMATION, Some(CKR_BUFFER_TOO_SMALL))
            }
            Attribute::Value(value) => {
                // SAFETY: there is room for so many bytes by the caller's promise, and the value is the module's own.
                unsafe { ptr::copy_nonoverlapping(value.as_ptr(), wanted.pValue.cast(), value.len()) };
                (value.len() as CK_ULONG, None)
            }
            Attribute::Sensitive => (CK_UNAVAILABLE_INFORMATION, Some(CKR_ATTRIBUTE_SENSITIVE)),
            Attribute::Absent => (CK_UNAVAILABLE_INFORMATION, Some(CKR_ATTRIBUTE_TYPE_INVALID)),
        };
        wanted.ulValueLen = length;
        wrong = wrong.or(code);
    }
    wrong.map_or(Ok(()), |code| Err(code.into()))
}

/// # Safety
///
/// As for [`memory::template`].
pub(super) unsafe fn set_attributes(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    let object = library.object(&token, object)?;
    // SAFETY: by the caller's promise.
    let template = unsafe { memory::template(template, count) }?;
    storage::rename(&library, &session, &token, &object, &template)
}

/// # Safety
///
/// As for [`memory::template`].
pub(super) unsafe fn find_init(session: CK_SESSION_HANDLE, template: CK_ATTRIBUTE_PTR, count: CK_ULONG) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let template = unsafe { memory::template(template, count) }?;
    begin(&mut session.active().find, || {
        token.refresh(&library.pool, &library.objects, library.config.refresh)?;
        let objects = lock(&library.objects);
        let shows_private = library.shows_private(&token);
        let all = token.stored().into_iter().chain(objects.of_sessions(token.slot));
        let mut found: Vec<_> = all
            .filter(|handle| {
                objects
                    .find(token.slot, *handle)
                    .is_ok_and(|object| (shows_private || !object.is_private()) && object.matches(&template))
            })
            .collect();
        // They are handed out from the end.
        found.reverse();
        Ok(found)
    })
}

/// # Safety
///
/// `count` is null or points to a place for a number; `objects` is null or points to room for `most` handles.
pub(super) unsafe fn find(
    session: CK_SESSION_HANDLE,
    objects: CK_OBJECT_HANDLE_PTR,
    most: CK_ULONG,
    count: CK_ULONG_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let count = unsafe { memory::place(count) }?;
    if objects.is_null() && most > 0 {
        return Err(CKR_ARGUMENTS_BAD.into());
    }
    // The search stays active until its end is asked for.
    step(&mut session.active().find, |found| {
        let given = found.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let rest = found.len() - given;
        for (at, handle) in found.drain(rest..).rev().enumerate() {
            // SAFETY: there is room for `most` handles by the caller's promise, and no more are given.
            unsafe { objects.add(at).write(handle) };
        }
        *count = given as CK_ULONG;
        Ok(Next::Active)
    })
}

/// # Safety
///
/// None is needed.
pub(super) unsafe fn find_final(session: CK_SESSION_HANDLE) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    let ended = session.active().find.take();
    ended
        .map(drop)
        .ok_or_else(|| Error::from(CKR_OPERATION_NOT_INITIALIZED))
}

//! Whether a token refused what was tried on it, or failed.

use crate::{
    Error,
    pkcs11::{Attribute, CallResult, ObjectHandle, Session, Template},
    return_code::Class,
};
use cryptoki_sys::CKA_TOKEN;

/// Whether the token did it. A code that says nothing about the deed, such as that of a lost login or of a failing token, is no
/// refusal: nothing was tried then.
pub(crate) fn was_allowed<T>(tried: CallResult<T>) -> Result<bool, Error> {
    match tried {
        Ok(_) => Ok(true),
        Err(error) if error.code.class() == Class::CallerFault => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the token lets an object be copied.
pub(crate) fn lets_copy(session: &mut Session, object: ObjectHandle) -> Result<bool, Error> {
    was_allowed(copy_and_destroy(session, object, &Template::default()))
}

/// Copies an object, if the token lets it be, and destroys the copy at once.
///
/// First as an object that would go with its session whatever happens. Some tokens refuse that alone, because it changes an
/// attribute of an object that cannot be modified; so a copy as the template says is tried then.
pub(crate) fn copy_and_destroy(session: &mut Session, object: ObjectHandle, template: &Template) -> CallResult<()> {
    let in_session = template.clone().with(Attribute::flag(CKA_TOKEN, false));
    let copy = match session.copy_object(object, &in_session) {
        Ok(copy) => copy,
        Err(_) => session.copy_object(object, template)?,
    };
    session.destroy_object(copy)
}

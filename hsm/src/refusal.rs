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

/// Whether the token lets an object be copied. The copy is destroyed at once, and would go with its session.
pub(crate) fn lets_copy(session: &mut Session, object: ObjectHandle) -> Result<bool, Error> {
    match session.copy_object(object, &in_session(Template::default())) {
        Ok(copy) => {
            session.destroy_object(copy)?;
            Ok(true)
        }
        Err(error) => was_allowed::<()>(Err(error)),
    }
}

/// The template of a copy that does not outlive its session, whatever the original is.
pub(crate) fn in_session(template: Template) -> Template {
    template.with(Attribute::flag(CKA_TOKEN, false))
}

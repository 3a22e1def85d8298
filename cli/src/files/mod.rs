//! Files that are written whole or not at all, and trees of files.
//!
//! - `new_file`: a file without a name, which takes one when it is complete.
//! - `replacement`: a file in the place of another, with what people expect to stay.
//! - `walk`: the files under paths, without following links.

mod new_file;
mod replacement;
mod walk;

pub(crate) use new_file::{NewFile, is_left_over};
pub(crate) use replacement::{Original, Unreplaceable};
pub(crate) use walk::{Found, Place, walk};

//! Repairs of what a token lost: a session, the login, a key's handle.

use super::process::end_process;
use crate::{Error, member::Member, return_code::Class};

/// Runs something, and again after a repair as long as an error says that one can help. Each kind of loss is repaired once: a
/// token that was reset may have lost all three.
///
/// The next attempt must bring another session, if the last one saw an error. A key whose handle was lost is forgotten by then, and
/// is loaded again.
pub(super) fn with_repairs<T>(
    member: &Member,
    is_worth: impl Fn(Class) -> bool,
    mut attempt: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut repaired = Vec::new();
    loop {
        let error = match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let class = error.class();
        match class {
            Class::SessionLost | Class::LoginLost | Class::HandleLost => {}
            Class::CallerFault | Class::Busy | Class::MemberFault | Class::Fatal => return Err(error),
        }
        if repaired.contains(&class) || !is_worth(class) {
            return Err(error);
        }
        if class == Class::LoginLost {
            if !member.repairs_login() {
                end_process("the token lost the login: another process logs in");
            }
            member.log_in_again()?;
        }
        repaired.push(class);
    }
}

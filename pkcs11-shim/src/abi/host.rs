//! What the process around the module is asked for: signals and descriptors.

use std::{mem::MaybeUninit, os::fd::RawFd, ptr};

/// Does something that may write to a socket whose other end is gone, without the signal that comes of it.
///
/// Rust's runtime ignores SIGPIPE in programs, not in a library. The signal is directed at the thread that writes, so it is held back
/// in this thread alone, and one that was not there before is taken away. What the host does about the signal stays as it is.
pub(crate) fn without_sigpipe<T>(work: impl FnOnce() -> T) -> T {
    struct Held {
        before: libc::sigset_t,
        was_pending: bool,
    }
    impl Drop for Held {
        fn drop(&mut self) {
            if !self.was_pending && is_pending() {
                let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
                // SAFETY: the set and the time live through the call; no information is asked for.
                unsafe { libc::sigtimedwait(&sigpipe(), ptr::null_mut(), &now) };
            }
            // SAFETY: the set is what the first call wrote.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
        }
    }
    let was_pending = is_pending();
    let mut before = MaybeUninit::zeroed();
    // SAFETY: both sets live through the call, which writes the second one.
    let before = unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &sigpipe(), before.as_mut_ptr());
        before.assume_init()
    };
    let _held = Held { before, was_pending };
    work()
}

/// Closes a descriptor that a forked child has from its parent, and of which nothing in the child is ever used or dropped.
pub(crate) fn close_inherited(descriptor: RawFd) {
    // SAFETY: the object that owned it was forgotten by the caller, so nobody closes it again or uses it.
    unsafe { libc::close(descriptor) };
}

fn sigpipe() -> libc::sigset_t {
    let mut set = MaybeUninit::zeroed();
    // SAFETY: the set is written by the first call before the second one changes it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

fn is_pending() -> bool {
    let mut set = MaybeUninit::zeroed();
    // SAFETY: the set is written by the first call before the second one reads it.
    unsafe { libc::sigpending(set.as_mut_ptr()) == 0 && libc::sigismember(set.as_ptr(), libc::SIGPIPE) == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::unix::net::UnixStream};

    #[test]
    fn a_write_to_a_closed_socket_leaves_no_signal_behind() {
        // The test's runtime ignores the signal; held back, it is pending nevertheless where it is not ignored.
        let (mut near, far) = UnixStream::pair().expect("a pair");
        drop(far);
        let error = without_sigpipe(|| near.write_all(b"x").expect_err("nobody reads"));
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        assert!(!is_pending());
    }
}

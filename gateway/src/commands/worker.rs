//! `portcullisd hsm-worker`: the process in which a member's PKCS#11 module runs.

use anyhow::Result;
use portcullis_hsm::worker;

/// Serves the socket that is its standard input until that closes.
pub(crate) fn run() -> Result<()> {
    // No time and no colour: the gateway repeats the lines in its own log.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .init();
    Ok(worker::run(worker::socket_from_stdin()?)?)
}

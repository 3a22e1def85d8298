//! `portcullisd principal`: who the holder of a client certificate is.

use super::console::say;
use anyhow::{Context, Result};
use clap::Args;
use portcullis_gateway::{config::Settings, listener::TlsState};
use std::{io::stdout, path::PathBuf};

/// Whose certificate, and who judges it.
#[derive(Debug, Args)]
pub(crate) struct PrincipalArguments {
    /// The configuration whose authorities and revocation lists judge the certificate.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The client's certificate, with the intermediate ones that the client sends, PEM.
    #[arg(value_name = "CERTIFICATE")]
    certificate: PathBuf,
}

/// Prints the principal, as policies and the audit log name it.
pub(crate) fn run(arguments: &PrincipalArguments) -> Result<()> {
    let settings = Settings::load(&arguments.config)?;
    let tls = settings
        .tls
        .with_context(|| format!("{} has no [listen.tls]", arguments.config.display()))?;
    let principal = TlsState::read(&tls)
        .and_then(|state| state.principal_in(&arguments.certificate))
        .map_err(|problems| {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            anyhow::Error::msg(problems.join("\n"))
        })?;
    say(&mut stdout(), principal.as_str());
    Ok(())
}

//! `portcullisd config`: looks at a configuration.

use super::{ConfigFile, console::say};
use anyhow::Result;
use clap::Subcommand;
use portcullis_gateway::{
    config::{ConfigError, Settings},
    listener::TlsState,
    policy::Policy,
    provisioning::Acceptance,
};
use std::path::Path;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Reads a configuration and says everything that is wrong with it.
    Check(ConfigFile),
}

/// Runs one of them.
pub(crate) fn run(command: &ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::Check(ConfigFile { config }) => check(config),
    }
}

fn check(path: &Path) -> Result<()> {
    let settings = Settings::load(path)?;
    if let Some(tls) = &settings.tls {
        TlsState::read(tls).map_err(|problems| ConfigError::Invalid {
            path: path.to_owned(),
            problems,
        })?;
    }
    // What a start would refuse is no good configuration.
    Acceptance::check(&settings, &settings.state_directory)?;
    let (members, policies) = (settings.members.len(), Policy::load(&settings.policy)?.len());
    say(
        &mut std::io::stdout(),
        &format!("{} is valid: {members} members, {policies} policies", path.display()),
    );
    Ok(())
}

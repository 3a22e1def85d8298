//! `portcullisd serve`: the gateway, its log and its signals.

use super::{ConfigFile, console::say, runtime};
use anyhow::{Context, Result};
use portcullis_gateway::{
    config::{LogSettings, Settings},
    server,
};
use portcullis_hsm::worker::hardening;
use std::io::IsTerminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Serves until it is told to stop.
pub(crate) fn run(ConfigFile { config }: &ConfigFile) -> Result<()> {
    let settings = Settings::load(config)?;
    start_log(&settings.log)?;
    runtime()?.block_on(run_gateway(settings))
}

/// Serves these settings until SIGTERM or SIGINT.
pub(crate) async fn run_gateway(settings: Settings) -> Result<()> {
    for missing in hardening::harden() {
        tracing::warn!(missing, "the gateway lacks a protection");
    }
    hardening::raise_descriptor_limit();
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be handled")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::warn!(
                "SIGHUP: only the audit log is reopened; restart the gateway for a new configuration or certificate"
            );
        }
    });
    tokio::spawn({
        let stop = stop.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
            stop.cancel();
        }
    });
    server::serve(settings, stop, |ready| say(&mut std::io::stdout(), &ready.to_string())).await?;
    Ok(())
}

/// Starts the process's own log, to standard error.
pub(crate) fn start_log(settings: &LogSettings) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.filter).context("the log filter is not valid")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if settings.json {
        log.json().init();
    } else {
        log.init();
    }
    Ok(())
}

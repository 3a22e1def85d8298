//! `portcullisd serve`: the gateway, its log and its signals.

use super::{ConfigFile, console::say, runtime};
use anyhow::{Context, Result};
use portcullis_gateway::{
    config::{LogSettings, Settings},
    reload::{Configuration, Reloading, SetFilter},
    server,
};
use portcullis_hsm::worker::hardening;
use std::io::IsTerminal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Serves until it is told to stop.
pub(crate) fn run(ConfigFile { config }: &ConfigFile) -> Result<()> {
    let configuration = Configuration::new(config);
    let settings = configuration.load()?;
    let set_filter = start_log(&settings.log)?;
    runtime()?.block_on(run_gateway(settings, configuration, set_filter))
}

/// Serves these settings until SIGTERM or SIGINT; SIGHUP asks for a reload.
pub(crate) async fn run_gateway(settings: Settings, configuration: Configuration, set_filter: SetFilter) -> Result<()> {
    for missing in hardening::harden() {
        tracing::warn!(missing, "the gateway lacks a protection");
    }
    hardening::raise_descriptor_limit();
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be handled")?;
    // One word waits at most: a reload that has not begun sees everything.
    let (ask, asked) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let _ = ask.try_send(());
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
    let reloading = Reloading {
        configuration,
        set_filter,
        asked,
    };
    server::serve(settings, reloading, stop, |ready| {
        say(&mut std::io::stdout(), &ready.to_string());
    })
    .await?;
    Ok(())
}

/// Starts the process's own log, to standard error; returns what changes its filter.
pub(crate) fn start_log(settings: &LogSettings) -> Result<SetFilter> {
    let filter = EnvFilter::try_new(&settings.filter).context("the log filter is not valid")?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines = if settings.json {
        lines.json().boxed()
    } else {
        lines.boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(Box::new(move |filter| {
        let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    }))
}

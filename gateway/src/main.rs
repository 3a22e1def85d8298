//! `portcullisd`: the Portcullis gateway.

#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use portcullis_gateway::{
    config::{LogSettings, Settings},
    dev::{self, DevOptions},
    listener::ListenError,
    server::{self, ServeError},
};
use portcullis_hsm::worker::{self, hardening};
use std::{
    io::{IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// A signing and encryption gateway in front of a cluster of PKCS#11 HSMs.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM or SIGINT; prints one line beginning with `ready` when it does.
    Serve(ConfigFile),
    /// Looks at a configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Makes a development cluster of three SoftHSM2 members, if there is none yet, and serves it.
    Dev(DevArguments),
    /// The process in which a member's PKCS#11 module runs. Started by the gateway, not by people.
    #[command(hide = true)]
    HsmWorker {
        /// The member's name, for lists of processes.
        member: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Reads a configuration and says everything that is wrong with it.
    Check(ConfigFile),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration; see docs/portcullis.toml for every setting.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct DevArguments {
    /// Where everything is kept; a second start uses it again.
    #[arg(long, value_name = "DIRECTORY", default_value = ".portcullis-dev")]
    state: PathBuf,
    /// Where mTLS listens this time [default: as the cluster's configuration says, 127.0.0.1:7443 in a new one]. With
    /// --prepare-only it is written to a new cluster's configuration.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The SoftHSM2 module; looked for where distributions put it.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Makes the cluster and ends.
    #[arg(long)]
    prepare_only: bool,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::HsmWorker { member: _ } => run_worker(),
        Command::Serve(ConfigFile { config }) => serve(&config),
        Command::Config(ConfigCommand::Check(ConfigFile { config })) => check(&config),
        Command::Dev(arguments) => run_dev(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&mut std::io::stderr(), &format!("portcullisd: {}", told_once(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run_worker() -> Result<()> {
    // No time and no colour: the gateway repeats the lines in its own log.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .init();
    Ok(worker::run(worker::socket_from_stdin()?)?)
}

fn check(path: &Path) -> Result<()> {
    let settings = Settings::load(path)?;
    let (members, rules) = (settings.members.len(), settings.rules.len());
    say(
        &mut std::io::stdout(),
        &format!("{} is valid: {members} members, {rules} policy rules", path.display()),
    );
    Ok(())
}

fn serve(path: &Path) -> Result<()> {
    let settings = Settings::load(path)?;
    start_log(&settings.log)?;
    runtime()?.block_on(run_gateway(settings))
}

fn run_dev(arguments: DevArguments) -> Result<()> {
    let new_cluster_address = match arguments.listen {
        // An address for this run alone is not kept.
        Some(listen) if arguments.prepare_only => listen,
        _ => DEVELOPMENT_ADDRESS,
    };
    let options = DevOptions {
        state: arguments.state,
        listen: new_cluster_address,
        module: arguments.module,
    };
    start_log(&LogSettings {
        filter: "warn".to_owned(),
        json: false,
    })?;
    let progress = |line: &str| say(&mut std::io::stderr(), line);
    runtime()?.block_on(async {
        let config = dev::prepare(&options, progress).await?;
        if arguments.prepare_only {
            return Ok(());
        }
        let mut settings = Settings::load(&config)?;
        if let (Some(listen), Some(tls)) = (arguments.listen, &mut settings.tls) {
            tls.address = listen;
        }
        run_gateway(settings).await.map_err(|error| match error.downcast_ref() {
            Some(ServeError::Listen(ListenError::Tcp { .. })) => error.context("choose another address with --listen"),
            _ => error,
        })
    })
}

async fn run_gateway(settings: Settings) -> Result<()> {
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
            tracing::warn!("SIGHUP: nothing is reloaded; restart the gateway for a new configuration or certificate");
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

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")
}

fn start_log(settings: &LogSettings) -> Result<()> {
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

const DEVELOPMENT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7443);

/// An error and its causes, without those whose words the one before holds already.
fn told_once(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// Prints a line. A reader that went away is no reason to stop.
fn say(to: &mut dyn Write, line: &str) {
    let _ = writeln!(to, "{line}").and_then(|()| to.flush());
}

//! `portcullisd dev`: a development cluster, of SoftHSM2 members unless another module is named.

use super::{console::say, runtime, serve};
use anyhow::Result;
use clap::Args;
use portcullis_gateway::{
    config::{LogSettings, Settings},
    dev::{self, DevOptions},
    listener::ListenError,
    reload::Configuration,
    server::ServeError,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct DevArguments {
    /// Where everything is kept; a second start uses it again.
    #[arg(long, value_name = "DIRECTORY", default_value = ".portcullis-dev")]
    state: PathBuf,
    /// Where mTLS listens this time [default: as the cluster's configuration says, 127.0.0.1:7443 in a new one]. With
    /// --prepare-only it is written to a new cluster's configuration.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The PKCS#11 module; SoftHSM2's is looked for where distributions put it.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// A variable for the workers of a module that is not SoftHSM2, which finds an uninitialised token by it; {member} in the
    /// value stands for the member's directory.
    #[arg(long = "environment", value_name = "NAME=VALUE", requires = "module", value_parser = variable)]
    environment: Vec<(String, String)>,
    /// Makes the cluster and ends.
    #[arg(long)]
    prepare_only: bool,
}

/// Makes the cluster, if there is none yet, and serves it.
pub(crate) fn run(arguments: DevArguments) -> Result<()> {
    let new_cluster_address = match arguments.listen {
        // An address for this run alone is not kept.
        Some(listen) if arguments.prepare_only => listen,
        _ => DEVELOPMENT_ADDRESS,
    };
    let options = DevOptions {
        state: arguments.state,
        listen: new_cluster_address,
        module: arguments.module,
        environment: arguments.environment,
    };
    let set_filter = serve::start_log(&LogSettings {
        filter: LOG_FILTER.to_owned(),
        json: false,
    })?;
    let progress = |line: &str| say(&mut std::io::stderr(), line);
    runtime()?.block_on(async {
        let config = dev::prepare(&options, progress).await?;
        if arguments.prepare_only {
            return Ok(());
        }
        let configuration = Configuration::new(&config).adjusted(move |settings: &mut Settings| {
            if let (Some(listen), Some(tls)) = (arguments.listen, &mut settings.tls) {
                tls.address = listen;
            }
            settings.log.filter = LOG_FILTER.to_owned();
        });
        let settings = configuration.load()?;
        serve::run_gateway(settings, configuration, set_filter)
            .await
            .map_err(|error| match error.downcast_ref() {
                Some(ServeError::Listen(ListenError::Tcp { .. })) => {
                    error.context("choose another address with --listen")
                }
                _ => error,
            })
    })
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

const DEVELOPMENT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7443);
const LOG_FILTER: &str = "warn";

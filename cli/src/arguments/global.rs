//! What every command takes.

use super::value::timeout;
use crate::console::Form;
use clap::Args;
use portcullis_client::Endpoint;
use std::{path::PathBuf, time::Duration};

#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArguments {
    /// Print results and errors as JSON; bytes are base64
    #[arg(long, global = true)]
    json: bool,
    /// Where the gateway listens: unix:PATH or https://HOST:PORT
    #[arg(long, global = true, value_name = "ENDPOINT", env = "PORTCULLIS_ENDPOINT")]
    pub(crate) endpoint: Option<Endpoint>,
    /// The client's certificate chain, in PEM; for https endpoints
    #[arg(long, global = true, value_name = "FILE", env = "PORTCULLIS_CERT")]
    pub(crate) cert: Option<PathBuf>,
    /// The client's private key, in PEM; for https endpoints
    #[arg(long, global = true, value_name = "FILE", env = "PORTCULLIS_KEY_FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The authorities that may issue the gateway's certificate, in PEM; for https endpoints
    #[arg(long, global = true, value_name = "FILE", env = "PORTCULLIS_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// How long one call may take, as in 30s or 500ms
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub(crate) timeout: Duration,
}

impl GlobalArguments {
    pub(crate) fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }
}

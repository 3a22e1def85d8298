//! What every command takes.

use super::value::timeout;
use crate::{
    console::{Console, Form},
    context::{Context, ContextName, Sources},
    failure::Failure,
};
use clap::{Args, ColorChoice};
use portcullis_client::Endpoint;
use std::{env, fmt, path::PathBuf, str::FromStr, time::Duration};

#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArguments {
    /// Print results and errors as JSON; bytes are base64
    #[arg(long, global = true)]
    json: bool,
    /// Whether to use colours; NO_COLOR switches them off too
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
    /// The context of the configuration file to use [env: PORTCULLIS_CONTEXT] [default: the file's current one]
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<ContextName>,
    /// Where the gateway listens: unix:PATH or https://HOST:PORT [env: PORTCULLIS_ENDPOINT]
    #[arg(long, global = true, value_name = "ENDPOINT")]
    endpoint: Option<Endpoint>,
    /// The client's certificate chain, in PEM; for https endpoints [env: PORTCULLIS_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The client's private key, in PEM; for https endpoints [env: PORTCULLIS_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The authorities that may issue the gateway's certificate, in PEM; for https endpoints [env: PORTCULLIS_CA]
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How long one call may take, as in 30s or 500ms
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub(crate) timeout: Duration,
}

impl GlobalArguments {
    pub(crate) fn console(&self) -> Console {
        Console::new(self.form(), self.color)
    }

    pub(super) fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }

    /// What the command line alone says of the connection.
    pub(crate) fn given(&self) -> Context {
        Context {
            endpoint: self.endpoint.clone(),
            cert: self.cert.clone(),
            key_file: self.key_file.clone(),
            ca: self.ca.clone(),
        }
    }

    /// What the command line and the environment say of the connection.
    pub(crate) fn sources(&self) -> Result<Sources, Failure> {
        Ok(Sources {
            options: self.given(),
            option: self.context.clone(),
            variables: Context {
                endpoint: variable("PORTCULLIS_ENDPOINT")?,
                cert: variable("PORTCULLIS_CERT")?,
                key_file: variable("PORTCULLIS_KEY_FILE")?,
                ca: variable("PORTCULLIS_CA")?,
            },
            variable: variable("PORTCULLIS_CONTEXT")?,
        })
    }
}

/// The value of a variable; one that is empty is not set.
fn variable<T: FromStr<Err: fmt::Display>>(name: &str) -> Result<Option<T>, Failure> {
    match env::var(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(Failure::Usage(format!("{name}: {error}"))),
        },
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Failure::Usage(format!("{name}: expected UTF-8"))),
    }
}

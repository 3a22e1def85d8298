//! The connection to the gateway.

use crate::{arguments::GlobalArguments, failure::Failure};
use portcullis_client::{Client, Credentials, Endpoint};

/// Connects as the command line, the environment and the configuration file say.
pub(crate) async fn connect(global: &GlobalArguments) -> Result<Client, Failure> {
    let (endpoint, credentials) = gateway(global)?;
    Ok(Client::connect(endpoint, credentials)
        .await?
        .with_deadline(global.timeout))
}

/// Where the gateway is, and who connects.
pub(crate) fn gateway(global: &GlobalArguments) -> Result<(Endpoint, Option<Credentials>), Failure> {
    let chosen = global.sources()?.choose()?;
    let (endpoint, _) = chosen.endpoint.ok_or_else(|| {
        Failure::Usage(
            "no endpoint: give --endpoint or set PORTCULLIS_ENDPOINT, to unix:PATH or https://HOST:PORT, or use a context \
             (`portcullis context --help`)"
                .to_owned(),
        )
    })?;
    let parts = [
        ("--cert", chosen.cert),
        ("--key-file", chosen.key_file),
        ("--ca", chosen.ca),
    ];
    let missing: Vec<_> = parts
        .iter()
        .filter(|(_, part)| part.is_none())
        .map(|(name, _)| *name)
        .collect();
    let credentials = match parts.map(|(_, part)| part.map(|(path, _)| path)) {
        [Some(cert), Some(key_file), Some(ca)] => Some(Credentials::new(cert, key_file, ca)),
        // Where none is given, the client knows whether it needs them.
        [None, None, None] => None,
        _ if endpoint.to_string().starts_with("unix:") => None,
        _ => {
            return Err(Failure::Usage(format!(
                "{} missing: an https endpoint needs --cert, --key-file and --ca, from options, variables or a context",
                missing.join(" and ") + if missing.len() == 1 { " is" } else { " are" }
            )));
        }
    };
    Ok((endpoint, credentials))
}

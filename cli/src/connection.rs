//! The connection to the gateway.

use crate::{arguments::GlobalArguments, failure::Failure};
use portcullis_client::{Client, Credentials, Endpoint};

/// Connects as the command line and the environment say.
pub(crate) async fn connect(global: &GlobalArguments) -> Result<Client, Failure> {
    let (endpoint, credentials) = gateway(global)?;
    Ok(Client::connect(endpoint, credentials)
        .await?
        .with_deadline(global.timeout))
}

/// Where the gateway is, and who connects.
pub(crate) fn gateway(global: &GlobalArguments) -> Result<(Endpoint, Option<Credentials>), Failure> {
    let endpoint = global.endpoint.clone().ok_or_else(|| {
        Failure::Usage(
            "no endpoint: give --endpoint or set PORTCULLIS_ENDPOINT, to unix:PATH or https://HOST:PORT".to_owned(),
        )
    })?;
    let credentials = match (&global.cert, &global.key_file, &global.ca) {
        (Some(cert), Some(key_file), Some(ca)) => Some(Credentials::new(cert, key_file, ca)),
        _ => None,
    };
    Ok((endpoint, credentials))
}

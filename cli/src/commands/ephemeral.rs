//! `portcullis ephemeral`.

use super::{
    change::{Change, period},
    delivery::Delivery,
};
use crate::{
    arguments::EphemeralCommand,
    console::Console,
    document,
    failure::{Exit, Failure},
    name::MAX_TOKEN_BYTES,
    output::{Destination, write_file},
    table::time,
    uses::RequestedUses,
    words::word,
};
use portcullis_client::{
    Client,
    v1::{CreateEphemeralKeyRequest, EphemeralKey, KeyType, RenewEphemeralKeyRequest, RevokeEphemeralKeysRequest},
};
use serde_json::json;

pub(crate) async fn run(client: &Client, console: Console, command: EphemeralCommand) -> Result<Exit, Failure> {
    match command {
        EphemeralCommand::Create {
            ring,
            key_type,
            uses,
            lifetime,
            out,
            public_out,
        } => {
            let uses = RequestedUses::new(uses.purpose, &uses.mechanisms);
            let request = CreateEphemeralKeyRequest {
                parent: ring.to_string(),
                r#type: key_type as i32,
                purpose: uses.purpose as i32,
                permitted_uses: uses.permitted,
                lifetime: lifetime.map(period),
                exportable: false,
            };
            let key = client.keys().create_ephemeral_key(request).await?.into_inner();
            if let Some(Destination::File(path)) = &public_out {
                write_file(path, super::pem("PUBLIC KEY", &key.public_key).as_bytes())?;
            }
            told(console, &key, &out, "made")
        }
        EphemeralCommand::Renew { input, lifetime, out } => {
            let request = RenewEphemeralKeyRequest {
                token: input.read(MAX_TOKEN_BYTES, "more than any token")?.into(),
                lifetime: lifetime.map(period),
            };
            let key = client.keys().renew_ephemeral_key(request).await?.into_inner();
            told(console, &key, &out, "renewed")
        }
        EphemeralCommand::Revoke {
            ring,
            principal,
            not_before,
            request_id,
        } => {
            let change = Change::new(request_id);
            let request = RevokeEphemeralKeysRequest {
                parent: ring.to_string(),
                principal: principal.clone(),
                not_before: not_before.map(Into::into),
                request_id: change.request_id(),
            };
            let answer = client
                .keys()
                .revoke_ephemeral_keys(request)
                .await
                .map_err(change.failed())?;
            let before = time(answer.into_inner().not_before);
            console.result(
                &format!("revoked the ephemeral keys of {principal} in {ring} from before {before}"),
                &json!({ "key_ring": ring.to_string(), "principal": principal, "not_before": before }),
            )?;
            Ok(Exit::Done)
        }
    }
}

/// Writes the token. It is as good as the key to its owner, so it is never printed beside other things.
fn told(console: Console, key: &EphemeralKey, out: &Destination, done: &str) -> Result<Exit, Failure> {
    let delivery = Delivery::binary("token", &key.token);
    let said = |path: &std::path::Path| {
        let (key_type, expires) = (word::<KeyType>(key.r#type), time(key.expire_time));
        format!(
            "{done} an ephemeral key ({key_type}) that is good until {expires}; its name is token:{}",
            path.display()
        )
    };
    delivery.to(Some(out), console, said, document::ephemeral_key(key))
}

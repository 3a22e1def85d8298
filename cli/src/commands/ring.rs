//! `portcullis ring`.

use super::{
    change::{Change, mask, period},
    listing::{Listing, PAGE_SIZE},
};
use crate::{
    arguments::{CreationArguments, LabelArguments, RingCommand, UpdateArguments},
    console::Console,
    document,
    failure::{Exit, Failure},
    name::RingName,
    table::{fields, labels, last_part, time, window},
};
use portcullis_client::{
    Client,
    v1::{
        CreateKeyRingRequest, GetJsonWebKeySetRequest, GetKeyRingRequest, KeyRing, ListKeyRingsRequest,
        UpdateKeyRingRequest,
    },
};
use serde_json::Value;
use std::time::Duration;

pub(crate) async fn run(client: &Client, console: Console, command: RingCommand) -> Result<Exit, Failure> {
    match command {
        RingCommand::Create {
            ring,
            least_destroy_window,
            creation,
        } => create(client, console, &ring, least_destroy_window, &creation).await,
        RingCommand::List => list(client, console).await,
        RingCommand::Show { ring } => show(client, console, &ring).await,
        RingCommand::Update { ring, labels, update } => change(client, console, &ring, &labels, &update).await,
        RingCommand::Jwks { ring } => jwks(client, console, &ring).await,
    }
}

async fn create(
    client: &Client,
    console: Console,
    ring: &RingName,
    least_destroy_window: Option<Duration>,
    creation: &CreationArguments,
) -> Result<Exit, Failure> {
    let change = Change::from(&creation.change);
    let request = CreateKeyRingRequest {
        key_ring_id: ring.id().to_owned(),
        key_ring: Some(KeyRing {
            labels: creation.labels()?,
            least_destroy_window: least_destroy_window.map(period),
            ..Default::default()
        }),
        request_id: change.request_id(),
        validate_only: change.validate_only,
    };
    let made = client.keys().create_key_ring(request).await.map_err(change.failed())?;
    let made = made.into_inner();
    console.result(
        &change.outcome(|| format!("created {}", made.name)),
        &document::ring(&made),
    )?;
    Ok(Exit::Done)
}

async fn list(client: &Client, console: Console) -> Result<Exit, Failure> {
    let rings = Listing::read(async |page_token| {
        let request = ListKeyRingsRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = client.keys().list_key_rings(request).await?.into_inner();
        Ok(Listing {
            items: page.key_rings,
            unauthentic: page.unauthentic,
            next_page_token: page.next_page_token,
        })
    });
    rings.await?.show(
        console,
        "key_rings",
        &[
            ("RING", |ring| last_part(&ring.name)),
            ("CREATED", |ring| time(ring.create_time)),
            ("LABELS", |ring| labels(&ring.labels)),
        ],
        document::ring,
    )?;
    Ok(Exit::Done)
}

async fn show(client: &Client, console: Console, ring: &RingName) -> Result<Exit, Failure> {
    let request = GetKeyRingRequest { name: ring.to_string() };
    let ring = client.keys().get_key_ring(request).await?.into_inner();
    let text = fields(
        console.paint(),
        &[
            ("name", ring.name.clone()),
            ("uid", ring.uid.clone()),
            ("labels", labels(&ring.labels)),
            ("least destroy window", window(ring.least_destroy_window)),
            ("created", time(ring.create_time)),
            ("etag", ring.etag.clone()),
        ],
    );
    console.result(&text, &document::ring(&ring))?;
    Ok(Exit::Done)
}

async fn change(
    client: &Client,
    console: Console,
    ring: &RingName,
    labels: &LabelArguments,
    update: &UpdateArguments,
) -> Result<Exit, Failure> {
    let change = Change::from(update);
    let (labels, paths) = labels.changes()?;
    let request = UpdateKeyRingRequest {
        key_ring: Some(KeyRing {
            name: ring.to_string(),
            labels,
            etag: change.etag.clone(),
            ..Default::default()
        }),
        update_mask: mask(paths)?,
        request_id: change.request_id(),
        validate_only: change.validate_only,
    };
    let changed = client.keys().update_key_ring(request).await.map_err(change.failed())?;
    let changed = changed.into_inner();
    console.result(
        &change.outcome(|| format!("changed {}", changed.name)),
        &document::ring(&changed),
    )?;
    Ok(Exit::Done)
}

/// The set is a document of its own form, so it is printed as it is in both forms.
async fn jwks(client: &Client, console: Console, ring: &RingName) -> Result<Exit, Failure> {
    let request = GetJsonWebKeySetRequest {
        parent: ring.to_string(),
    };
    let json = client.keys().get_json_web_key_set(request).await?.into_inner().json;
    let set: Value = serde_json::from_str(&json)
        .map_err(|error| Failure::Internal(format!("the gateway's JWK set is no JSON: {error}")))?;
    console.result(&json, &set)?;
    Ok(Exit::Done)
}

//! `portcullis ring`.

use crate::{
    arguments::{CreationArguments, RingCommand},
    console::Console,
    document,
    failure::{Exit, Failure},
    name::RingName,
    table::Table,
};
use portcullis_client::{
    Client, Status,
    v1::{CreateKeyRingRequest, KeyRing, ListKeyRingsRequest},
};
use serde_json::json;
use uuid::Uuid;

pub(crate) async fn run(client: &Client, console: Console, command: RingCommand) -> Result<Exit, Failure> {
    match command {
        RingCommand::Create { ring, creation } => create(client, console, &ring, &creation).await,
        RingCommand::List => list(client, console).await,
    }
}

async fn create(
    client: &Client,
    console: Console,
    ring: &RingName,
    creation: &CreationArguments,
) -> Result<Exit, Failure> {
    let request_id = creation.request_id.unwrap_or_else(Uuid::now_v7);
    let request = CreateKeyRingRequest {
        key_ring_id: ring.id().to_owned(),
        key_ring: Some(KeyRing {
            labels: creation.labels()?,
            ..Default::default()
        }),
        request_id: request_id.to_string(),
        validate_only: creation.validate_only,
    };
    let answer = client
        .keys()
        .create_key_ring(request)
        .await
        .map_err(repeatable(request_id))?
        .into_inner();
    let text = if creation.validate_only {
        format!("{ring} can be created; nothing was")
    } else {
        format!("created {}", answer.name)
    };
    console.result(&text, &document::ring(&answer))?;
    Ok(Exit::Done)
}

async fn list(client: &Client, console: Console) -> Result<Exit, Failure> {
    let mut rings = Vec::new();
    let mut unauthentic = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListKeyRingsRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = client.keys().list_key_rings(request).await?.into_inner();
        rings.extend(page.key_rings);
        unauthentic.extend(page.unauthentic);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut table = Table::new(&["RING", "CREATED", "LABELS"]);
    for ring in &rings {
        table.row([
            ring.name.trim_start_matches("keyRings/").to_owned(),
            ring.create_time.map(|time| time.to_string()).unwrap_or_default(),
            labels(ring.labels.iter()),
        ]);
    }
    let documents: Vec<_> = rings.iter().map(document::ring).collect();
    console.result(
        &table.text(),
        &json!({ "key_rings": documents, "unauthentic": unauthentic }),
    )?;
    note_unauthentic(console, &unauthentic);
    Ok(Exit::Done)
}

/// Warns of records that the gateway refuses to use.
pub(crate) fn note_unauthentic(console: Console, names: &[String]) {
    for name in names {
        console.note(&format!(
            "the stored record of {name} failed its authentication, so the gateway does not use it; somebody may have \
             changed the database: tell the operator"
        ));
    }
}

/// The failure of a creation that can be repeated by its request id.
pub(crate) fn repeatable(request_id: Uuid) -> impl FnOnce(Status) -> Failure {
    move |status| Failure::Gateway {
        error: Box::new(status.into()),
        repeatable: Some(request_id),
    }
}

/// Labels in one line, sorted.
pub(crate) fn labels<'a>(labels: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let mut pairs: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
    pairs.sort();
    pairs.join(" ")
}

/// The largest page that the gateway gives.
pub(crate) const PAGE_SIZE: i32 = 1000;

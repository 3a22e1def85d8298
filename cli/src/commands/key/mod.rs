//! `portcullis key`.

mod export;
mod import;
mod material;
mod shown;
mod state;

use super::{
    change::{Change, mask, period},
    delivery::Delivery,
    listing::{Listing, PAGE_SIZE},
};
use crate::{
    arguments::{
        CreateKeyArguments, KeyCommand, PublicArguments, RotateArguments, UpdateArguments, UpdateKeyArguments,
    },
    console::Console,
    document,
    failure::{Exit, Failure},
    name::{KeyName, KeyTarget, RingName},
    progress::Waiting,
    table::{labels, last_part, time},
    uses::{RequestedUses, purpose_word},
    words::word,
};
use portcullis_client::{
    Client,
    v1::{
        CreateKeyRequest, GetKeyRequest, GetKeyVersionRequest, GetPublicKeyRequest, Key, KeyOrigin, KeyProtection,
        KeyType, KeyVersionState, ListKeyVersionsRequest, ListKeysRequest, PublicKeyFormat, RotateKeyRequest,
        SetPrimaryVersionRequest, UpdateKeyRequest,
    },
};
use serde_json::json;
use shown::{key_text, note_single_replica, uses_text, version_text};
use std::num::NonZeroU32;

pub(crate) use material::{certificates_in, public_key_in};

pub(crate) async fn run(client: &Client, console: Console, command: KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Create(arguments) => create(client, console, *arguments).await,
        KeyCommand::List { ring, filter } => list(client, console, &ring, filter).await,
        KeyCommand::Show { key } => show(client, console, &key).await,
        KeyCommand::Update(arguments) => update(client, console, &arguments).await,
        KeyCommand::Versions { key, filter } => versions(client, console, &key, filter).await,
        KeyCommand::Rotate(arguments) => rotate(client, console, arguments).await,
        KeyCommand::SetPrimary { key, version, update } => set_primary(client, console, &key, version, &update).await,
        KeyCommand::State(arguments) => {
            state::change(client, console, &arguments.version, arguments.verb, &arguments.why).await
        }
        KeyCommand::Destroy(arguments) => state::destroy(client, console, &arguments).await,
        KeyCommand::Restore { version, why } => state::restore(client, console, &version, &why).await,
        KeyCommand::Public(arguments) => public(client, console, &arguments).await,
        KeyCommand::Import(arguments) => import::run(client, console, &arguments).await,
        KeyCommand::Export(arguments) => export::run(client, console, &arguments).await,
    }
}

async fn create(client: &Client, console: Console, arguments: CreateKeyArguments) -> Result<Exit, Failure> {
    let change = Change::from(&arguments.creation.change);
    let uses = RequestedUses::new(arguments.uses.purpose, &arguments.uses.mechanisms);
    let request = CreateKeyRequest {
        parent: arguments.key.ring().to_string(),
        key_id: arguments.key.id().to_owned(),
        key: Some(Key {
            r#type: arguments.key_type as i32,
            purpose: uses.purpose as i32,
            permitted_uses: uses.permitted,
            protection: arguments.protection.unwrap_or(KeyProtection::Unspecified) as i32,
            exportable: arguments.exportable,
            labels: arguments.creation.labels()?,
            destroy_window: arguments.destroy_window.map(period),
            ..Default::default()
        }),
        allow_single_replica: arguments.place.allow_single_replica,
        member: arguments.place.member,
        request_id: change.request_id(),
        validate_only: change.validate_only,
        import_only: arguments.import_only,
        pre_active: arguments.pre_active,
    };
    let waiting = Waiting::new(console, "generating a key");
    let made = client.keys().create_key(request).await.map_err(change.failed());
    drop(waiting);
    let key = made?.into_inner();
    let text = change.outcome(|| {
        format!(
            "created {} ({}, {}; {})",
            key.name,
            word::<KeyType>(key.r#type),
            word::<KeyProtection>(key.protection),
            uses_text(&key)
        )
    });
    console.result(&text, &document::key(&key))?;
    note_single_replica(console, key.primary.as_ref());
    if arguments.import_only && !change.validate_only {
        console.note("it waits for its key material, which `portcullis key import` brings");
    }
    Ok(Exit::Done)
}

async fn list(client: &Client, console: Console, ring: &RingName, filter: String) -> Result<Exit, Failure> {
    let keys = Listing::read(async |page_token| {
        let request = ListKeysRequest {
            parent: ring.to_string(),
            page_size: PAGE_SIZE,
            page_token,
            filter: filter.clone(),
            with_versions: false,
        };
        let page = client.keys().list_keys(request).await?.into_inner();
        Ok(Listing {
            items: page.keys,
            unauthentic: page.unauthentic,
            next_page_token: page.next_page_token,
        })
    });
    keys.await?.show(
        console,
        "keys",
        &[
            ("KEY", |key| last_part(&key.name)),
            ("TYPE", |key| word::<KeyType>(key.r#type)),
            ("PURPOSE", |key| purpose_word(key.purpose)),
            ("PROTECTION", |key| word::<KeyProtection>(key.protection)),
            ("VERSION", |key| key.primary_version.to_string()),
            ("STATE", |key| {
                let primary = key.primary.as_ref();
                primary
                    .map(|version| word::<KeyVersionState>(version.state))
                    .unwrap_or_default()
            }),
            ("LABELS", |key| labels(&key.labels)),
        ],
        document::key,
    )?;
    Ok(Exit::Done)
}

async fn versions(client: &Client, console: Console, key: &KeyName, filter: String) -> Result<Exit, Failure> {
    let versions = Listing::read(async |page_token| {
        let request = ListKeyVersionsRequest {
            parent: key.to_string(),
            page_size: PAGE_SIZE,
            page_token,
            filter: filter.clone(),
        };
        let page = client.keys().list_key_versions(request).await?.into_inner();
        Ok(Listing {
            items: page.versions,
            unauthentic: Vec::new(),
            next_page_token: page.next_page_token,
        })
    });
    versions.await?.show(
        console,
        "versions",
        &[
            ("VERSION", |version| version.version.to_string()),
            ("STATE", |version| word::<KeyVersionState>(version.state)),
            ("ORIGIN", |version| word::<KeyOrigin>(version.origin)),
            ("CREATED", |version| time(version.create_time)),
            ("DESTRUCTION", |version| time(version.destroy_time)),
            ("REASON", |version| version.state_reason.clone()),
        ],
        document::version,
    )?;
    Ok(Exit::Done)
}

async fn show(client: &Client, console: Console, target: &KeyTarget) -> Result<Exit, Failure> {
    let name = target.to_string();
    if let KeyTarget::Version(_) = target {
        let version = client.keys().get_key_version(GetKeyVersionRequest { name }).await?;
        let version = version.into_inner();
        console.result(&version_text(console.paint(), &version), &document::version(&version))?;
        note_single_replica(console, Some(&version));
        return Ok(Exit::Done);
    }
    let key = client.keys().get_key(GetKeyRequest { name }).await?.into_inner();
    console.result(&key_text(console.paint(), &key), &document::key(&key))?;
    note_single_replica(console, key.primary.as_ref());
    Ok(Exit::Done)
}

async fn update(client: &Client, console: Console, arguments: &UpdateKeyArguments) -> Result<Exit, Failure> {
    let change = Change::from(&arguments.update);
    let (labels, mut paths) = arguments.labels.changes()?;
    paths.extend(arguments.destroy_window.map(|_| "destroy_window".to_owned()));
    let request = UpdateKeyRequest {
        key: Some(Key {
            name: arguments.key.to_string(),
            labels,
            destroy_window: arguments.destroy_window.map(period),
            etag: change.etag.clone(),
            ..Default::default()
        }),
        update_mask: mask(paths)?,
        request_id: change.request_id(),
        validate_only: change.validate_only,
    };
    let changed = client.keys().update_key(request).await.map_err(change.failed())?;
    let key = changed.into_inner();
    console.result(
        &change.outcome(|| format!("changed {}", key.name)),
        &document::key(&key),
    )?;
    Ok(Exit::Done)
}

async fn rotate(client: &Client, console: Console, arguments: RotateArguments) -> Result<Exit, Failure> {
    let change = Change::from(&arguments.update);
    let request = RotateKeyRequest {
        name: arguments.key.to_string(),
        etag: change.etag.clone(),
        request_id: change.request_id(),
        validate_only: change.validate_only,
        allow_single_replica: arguments.place.allow_single_replica,
        member: arguments.place.member,
        pre_active: arguments.pre_active,
    };
    let waiting = Waiting::new(console, "generating a key");
    let rotated = client.keys().rotate_key(request).await.map_err(change.failed());
    drop(waiting);
    let key = rotated?.into_inner();
    let text = change.outcome(|| {
        if arguments.pre_active {
            format!(
                "made a version of {}; its primary version is still {}",
                key.name, key.primary_version
            )
        } else {
            format!("rotated {}: its primary version is {}", key.name, key.primary_version)
        }
    });
    console.result(&text, &document::key(&key))?;
    note_single_replica(console, key.primary.as_ref());
    Ok(Exit::Done)
}

async fn set_primary(
    client: &Client,
    console: Console,
    key: &KeyName,
    version: NonZeroU32,
    update: &UpdateArguments,
) -> Result<Exit, Failure> {
    let change = Change::from(update);
    let request = SetPrimaryVersionRequest {
        name: key.to_string(),
        version: version.get(),
        etag: change.etag.clone(),
        request_id: change.request_id(),
        validate_only: change.validate_only,
    };
    let changed = client
        .keys()
        .set_primary_version(request)
        .await
        .map_err(change.failed())?;
    let key = changed.into_inner();
    let text = change.outcome(|| format!("the primary version of {} is {}", key.name, key.primary_version));
    console.result(&text, &document::key(&key))?;
    Ok(Exit::Done)
}

async fn public(client: &Client, console: Console, arguments: &PublicArguments) -> Result<Exit, Failure> {
    let request = GetPublicKeyRequest {
        name: arguments.key.to_string(),
        format: arguments.format as i32,
    };
    let public = client.keys().get_public_key(request).await?.into_inner();
    let document = json!({
        "name": public.name,
        "type": word::<KeyType>(public.r#type),
        "state": word::<KeyVersionState>(public.state),
        "format": word::<PublicKeyFormat>(public.format),
    });
    let text = String::from_utf8_lossy(&public.public_key);
    let delivery = match arguments.format {
        PublicKeyFormat::Der => Delivery::binary("public_key", &public.public_key),
        _ => Delivery::text("public_key", &text),
    };
    delivery.to(
        arguments.out.as_ref(),
        console,
        |path| format!("wrote the public key of {} to {}", public.name, path.display()),
        document,
    )
}

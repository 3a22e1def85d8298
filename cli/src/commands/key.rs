//! `portcullis key`.

use super::ring::{PAGE_SIZE, labels, note_unauthentic, repeatable};
use crate::{
    arguments::{CreateKeyArguments, KeyCommand, PublicArguments},
    console::Console,
    document,
    failure::{Exit, Failure},
    name::{KeyTarget, RingName},
    output::{Destination, write_file},
    table::{Table, fields},
    uses::{RequestedUses, purpose_word},
    words::word,
};
use portcullis_client::{
    Client,
    v1::{
        CreateKeyRequest, GetKeyRequest, GetKeyVersionRequest, GetPublicKeyRequest, Key, KeyOperation, KeyOrigin,
        KeyProtection, KeyType, KeyVersion, KeyVersionState, ListKeysRequest, Mechanism, PublicKeyFormat,
    },
};
use serde_json::json;
use uuid::Uuid;

pub(crate) async fn run(client: &Client, console: Console, command: KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Create(arguments) => create(client, console, *arguments).await,
        KeyCommand::List { ring } => list(client, console, &ring).await,
        KeyCommand::Show { key } => show(client, console, &key).await,
        KeyCommand::Public(arguments) => public(client, console, &arguments).await,
    }
}

async fn create(client: &Client, console: Console, arguments: CreateKeyArguments) -> Result<Exit, Failure> {
    let request_id = arguments.creation.request_id.unwrap_or_else(Uuid::now_v7);
    let uses = RequestedUses::new(arguments.purpose, &arguments.mechanisms);
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
            ..Default::default()
        }),
        allow_single_replica: arguments.allow_single_replica,
        member: arguments.member.unwrap_or_default(),
        request_id: request_id.to_string(),
        validate_only: arguments.creation.validate_only,
        ..Default::default()
    };
    let key = client
        .keys()
        .create_key(request)
        .await
        .map_err(repeatable(request_id))?
        .into_inner();
    let text = if arguments.creation.validate_only {
        format!("{} can be created; nothing was", arguments.key)
    } else {
        let protection = word::<KeyProtection>(key.protection);
        format!(
            "created {} ({}, {protection}; {})",
            key.name,
            word::<KeyType>(key.r#type),
            uses_text(&key)
        )
    };
    console.result(&text, &document::key(&key))?;
    if let Some(version) = &key.primary {
        note_single_replica(console, version);
    }
    Ok(Exit::Done)
}

async fn list(client: &Client, console: Console, ring: &RingName) -> Result<Exit, Failure> {
    let mut keys = Vec::new();
    let mut unauthentic = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListKeysRequest {
            parent: ring.to_string(),
            page_size: PAGE_SIZE,
            page_token,
            ..Default::default()
        };
        let page = client.keys().list_keys(request).await?.into_inner();
        keys.extend(page.keys);
        unauthentic.extend(page.unauthentic);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut table = Table::new(&["KEY", "TYPE", "PURPOSE", "PROTECTION", "VERSION", "STATE", "LABELS"]);
    let prefix = format!("{ring}/keys/");
    for key in &keys {
        let id = key.name.strip_prefix(&prefix).unwrap_or(&key.name);
        table.row([
            id.to_owned(),
            word::<KeyType>(key.r#type),
            purpose_word(key.purpose),
            word::<KeyProtection>(key.protection),
            key.primary_version.to_string(),
            key.primary
                .as_ref()
                .map(|version| word::<KeyVersionState>(version.state))
                .unwrap_or_default(),
            labels(key.labels.iter()),
        ]);
    }
    let documents: Vec<_> = keys.iter().map(document::key).collect();
    console.result(&table.text(), &json!({ "keys": documents, "unauthentic": unauthentic }))?;
    note_unauthentic(console, &unauthentic);
    Ok(Exit::Done)
}

async fn show(client: &Client, console: Console, target: &KeyTarget) -> Result<Exit, Failure> {
    let name = target.to_string();
    if target.version().is_some() {
        let version = client
            .keys()
            .get_key_version(GetKeyVersionRequest { name })
            .await?
            .into_inner();
        console.result(&version_text(&version), &document::version(&version))?;
        note_single_replica(console, &version);
        return Ok(Exit::Done);
    }
    let key = client.keys().get_key(GetKeyRequest { name }).await?.into_inner();
    let primary = key
        .primary
        .as_ref()
        .map(|version| format!("\n\nprimary version\n{}", version_text(version)));
    console.result(&(key_text(&key) + &primary.unwrap_or_default()), &document::key(&key))?;
    if let Some(version) = &key.primary {
        note_single_replica(console, version);
    }
    Ok(Exit::Done)
}

async fn public(client: &Client, console: Console, arguments: &PublicArguments) -> Result<Exit, Failure> {
    let request = GetPublicKeyRequest {
        name: arguments.key.to_string(),
        format: arguments.format as i32,
    };
    let public = client.keys().get_public_key(request).await?.into_inner();
    let mut document = json!({
        "name": public.name,
        "type": word::<KeyType>(public.r#type),
        "state": word::<KeyVersionState>(public.state),
        "format": word::<PublicKeyFormat>(public.format),
    });
    match &arguments.out {
        Some(Destination::File(path)) => {
            write_file(path, &public.public_key)?;
            document["out"] = json!(path.to_string_lossy());
            console.result(
                &format!("wrote the public key of {} to {}", public.name, path.display()),
                &document,
            )?;
        }
        Some(Destination::StandardOutput) | None => {
            let text = String::from_utf8_lossy(&public.public_key);
            if arguments.format == PublicKeyFormat::Der {
                document["public_key"] = json!(document::base64(&public.public_key));
                console.bytes(&public.public_key, &document)?;
            } else {
                document["public_key"] = json!(text);
                console.result(text.trim_end(), &document)?;
            }
        }
    }
    Ok(Exit::Done)
}

fn key_text(key: &Key) -> String {
    fields(&[
        ("name", key.name.clone()),
        ("uid", key.uid.clone()),
        ("type", word::<KeyType>(key.r#type)),
        ("purpose", purpose_word(key.purpose)),
        ("uses", uses_text(key)),
        ("protection", word::<KeyProtection>(key.protection)),
        ("exportable", if key.exportable { "yes" } else { "no" }.to_owned()),
        ("labels", labels(key.labels.iter())),
        (
            "created",
            key.create_time.map(|time| time.to_string()).unwrap_or_default(),
        ),
    ])
}

fn version_text(version: &KeyVersion) -> String {
    fields(&[
        ("name", version.name.clone()),
        ("state", word::<KeyVersionState>(version.state)),
        ("reason", version.state_reason.clone()),
        ("origin", word::<KeyOrigin>(version.origin)),
        ("domain epoch", version.domain_epoch.to_string()),
        ("members", version.members.join(" ")),
        (
            "created",
            version.create_time.map(|time| time.to_string()).unwrap_or_default(),
        ),
        (
            "activated",
            version.activation_time.map(|time| time.to_string()).unwrap_or_default(),
        ),
        (
            "deactivated",
            version
                .deactivation_time
                .map(|time| time.to_string())
                .unwrap_or_default(),
        ),
        (
            "compromised",
            version.compromise_time.map(|time| time.to_string()).unwrap_or_default(),
        ),
        (
            "destruction",
            version.destroy_time.map(|time| time.to_string()).unwrap_or_default(),
        ),
        (
            "use count",
            version.use_count.map(|count| count.to_string()).unwrap_or_default(),
        ),
    ])
}

/// The permitted uses in one line: each operation with its mechanisms.
fn uses_text(key: &Key) -> String {
    let mut operations: Vec<(i32, Vec<String>)> = Vec::new();
    for permitted in &key.permitted_uses {
        let mechanism = word::<Mechanism>(permitted.mechanism);
        match operations
            .iter_mut()
            .find(|(operation, _)| *operation == permitted.operation)
        {
            Some((_, mechanisms)) => mechanisms.push(mechanism),
            None => operations.push((permitted.operation, vec![mechanism])),
        }
    }
    let texts: Vec<String> = operations
        .iter()
        .map(|(operation, mechanisms)| format!("{}: {}", word::<KeyOperation>(*operation), mechanisms.join(", ")))
        .collect();
    texts.join("; ")
}

fn note_single_replica(console: Console, version: &KeyVersion) {
    if version.single_replica {
        let member = version
            .members
            .first()
            .map_or("one member", |name| name.trim_start_matches("members/"));
        console.note(&format!(
            "this key lives on {member} alone: it is unavailable while that is, and dies with it"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_client::v1::PermittedUse;

    #[test]
    fn uses_are_grouped_by_operation() {
        let used = |operation: KeyOperation, mechanism: Mechanism| PermittedUse {
            operation: operation as i32,
            mechanism: mechanism as i32,
        };
        let key = Key {
            permitted_uses: vec![
                used(KeyOperation::Sign, Mechanism::RsaPkcs1Sha256),
                used(KeyOperation::Decrypt, Mechanism::RsaOaepSha256),
                used(KeyOperation::Sign, Mechanism::RsaPssSha256),
            ],
            ..Default::default()
        };
        assert_eq!(
            uses_text(&key),
            "sign: rsa-pkcs1-sha256, rsa-pss-sha256; decrypt: rsa-oaep-sha256"
        );
    }
}

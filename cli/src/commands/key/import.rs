//! `portcullis key import`.

use super::material::{KeyMaterial, wrap};
use crate::{
    arguments::ImportArguments,
    commands::{change::Change, import_job},
    console::Console,
    document,
    failure::{Exit, Failure},
    words::word,
};
use bytes::Bytes;
use portcullis_client::{
    Client,
    v1::{
        GetImportJobRequest, GetKeyRequest, ImportKeyVersionRequest, ImportMethod, KeyOrigin, KeyType, KeyVersionState,
    },
};
use prost_types::Duration;

pub(super) async fn run(client: &Client, console: Console, arguments: &ImportArguments) -> Result<Exit, Failure> {
    let change = Change::from(&arguments.change);
    let request = ImportKeyVersionRequest {
        parent: arguments.key.to_string(),
        request_id: change.request_id(),
        validate_only: change.validate_only,
        allow_single_replica: arguments.place.allow_single_replica,
        member: arguments.place.member.clone(),
        ..material(client, arguments).await?
    };
    let imported = client
        .keys()
        .import_key_version(request)
        .await
        .map_err(change.failed())?;
    let version = imported.into_inner();
    let text = change.outcome(|| {
        format!(
            "imported {} ({}, {})",
            version.name,
            word::<KeyOrigin>(version.origin),
            word::<KeyVersionState>(version.state)
        )
    });
    console.result(&text, &document::version(&version))?;
    super::note_single_replica(console, Some(&version));
    Ok(Exit::Done)
}

/// The part of the request that brings the key.
async fn material(client: &Client, arguments: &ImportArguments) -> Result<ImportKeyVersionRequest, Failure> {
    let public_key = match &arguments.public_key {
        Some(file) => super::public_key_in(file)?,
        None => Vec::new(),
    };
    if let Some(job) = &arguments.import_job {
        let request = GetImportJobRequest { name: job.to_string() };
        let job = client.keys().get_import_job(request).await?.into_inner();
        return Ok(ImportKeyVersionRequest {
            method: job.method,
            import_job: job.name,
            wrapped_key: arguments.input.read(MAX_BYTES, "the longest wrapped key")?.into(),
            public_key: public_key.into(),
            ..Default::default()
        });
    }
    if let Some(unwrapping_key) = &arguments.unwrapping_key {
        return Ok(ImportKeyVersionRequest {
            method: ImportMethod::AesKwp as i32,
            unwrapping_key: unwrapping_key.to_string(),
            wrapped_key: arguments.input.read(MAX_BYTES, "the longest wrapped key")?.into(),
            public_key: public_key.into(),
            ..Default::default()
        });
    }
    let request = GetKeyRequest {
        name: arguments.key.to_string(),
    };
    let key_type = client.keys().get_key(request).await?.into_inner().r#type();
    let material = read(arguments, key_type)?;
    let given = public_key;
    let public_key = if given.is_empty() {
        material.public_key.clone()
    } else {
        given
    };
    if arguments.clear {
        return Ok(ImportKeyVersionRequest {
            method: ImportMethod::Clear as i32,
            // Wiped when the request is dropped.
            wrapped_key: Bytes::from_owner(material.value),
            public_key: public_key.into(),
            ..Default::default()
        });
    }
    // The job is used up by this import, so nobody needs it for long. Its own request id: this is another change.
    let job = import_job::create(
        client,
        arguments.key.ring(),
        None,
        None,
        Some(JOB_LIFETIME),
        &Change::new(None),
    )
    .await?;
    Ok(ImportKeyVersionRequest {
        method: job.method,
        wrapped_key: wrap(&material.value, &job)?.into(),
        import_job: job.name,
        public_key: public_key.into(),
        ..Default::default()
    })
}

fn read(arguments: &ImportArguments, key_type: KeyType) -> Result<KeyMaterial, Failure> {
    let bytes = arguments.input.read_secret(MAX_BYTES, "the longest key")?;
    KeyMaterial::read(&bytes, key_type, arguments.encoding)
        .map_err(|found| Failure::Usage(format!("{}: {found}", arguments.input)))
}

/// No key that the gateway has is longer in any form.
const MAX_BYTES: usize = 64 * 1024;

const JOB_LIFETIME: Duration = Duration { seconds: 600, nanos: 0 };

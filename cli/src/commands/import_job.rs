//! `portcullis import-job`.

use super::{change::Change, delivery::Delivery};
use crate::{
    arguments::ImportJobCommand,
    console::Console,
    document,
    failure::{Exit, Failure},
    name::RingName,
    table::{fields, time},
    words::word,
};
use portcullis_client::{
    Client, Error,
    v1::{CreateImportJobRequest, GetImportJobRequest, ImportJob, ImportMethod, KeyType},
};
use prost_types::Duration;

pub(crate) async fn run(client: &Client, console: Console, command: ImportJobCommand) -> Result<Exit, Failure> {
    match command {
        ImportJobCommand::Create {
            ring,
            method,
            key_type,
            lifetime,
            out,
            change,
        } => {
            let change = Change::from(&change);
            let lifetime = lifetime.map(super::change::period);
            let job = create(client, &ring, method, key_type, lifetime, &change).await?;
            let pem = public_key_in_pem(&job);
            let delivery = Delivery::text("public_key_pem", &pem);
            let (name, method) = (&job.name, word::<ImportMethod>(job.method));
            delivery.to(
                out.as_ref(),
                console,
                |path| change.outcome(|| format!("created {name} ({method}), its public key in {}", path.display())),
                document::import_job(&job),
            )
        }
        ImportJobCommand::Show { job } => {
            let request = GetImportJobRequest { name: job.to_string() };
            let job = client.keys().get_import_job(request).await?.into_inner();
            console.result(&job_text(console, &job), &document::import_job(&job))?;
            Ok(Exit::Done)
        }
    }
}

/// Creates an import job. Without a method it is the one with SHA-256, or that with SHA-1 where the HSMs have no other: OAEP
/// does not rest on its hash's resistance against collisions.
pub(super) async fn create(
    client: &Client,
    ring: &RingName,
    method: Option<ImportMethod>,
    key_type: Option<KeyType>,
    lifetime: Option<Duration>,
    change: &Change,
) -> Result<ImportJob, Failure> {
    let request = |method: ImportMethod| CreateImportJobRequest {
        parent: ring.to_string(),
        method: method as i32,
        wrapping_key_type: key_type.unwrap_or(KeyType::Unspecified) as i32,
        request_id: change.request_id(),
        validate_only: change.validate_only,
        lifetime,
    };
    let first = request(method.unwrap_or(ImportMethod::RsaOaepSha256AesKwp));
    let answer = match client.keys().create_import_job(first).await {
        Err(status) if method.is_none() && is_unsupported(status.clone().into()) => {
            client
                .keys()
                .create_import_job(request(ImportMethod::RsaOaepSha1AesKwp))
                .await
        }
        answer => answer,
    };
    Ok(answer.map_err(change.failed())?.into_inner())
}

fn is_unsupported(error: Error) -> bool {
    error.fault().and_then(|fault| fault.reason()) == Some("MECHANISM_UNSUPPORTED")
}

fn job_text(console: Console, job: &ImportJob) -> String {
    let text = fields(
        console.paint(),
        &[
            ("name", job.name.clone()),
            ("method", word::<ImportMethod>(job.method)),
            ("type", word::<KeyType>(job.wrapping_key_type)),
            ("created", time(job.create_time)),
            ("expires", time(job.expire_time)),
            ("imported", job.imported_version.clone()),
        ],
    );
    format!("{text}\n\n{}", public_key_in_pem(job).trim_end())
}

/// RFC 7468.
fn public_key_in_pem(job: &ImportJob) -> String {
    super::pem("PUBLIC KEY", &job.public_key)
}

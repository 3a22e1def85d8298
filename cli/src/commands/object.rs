//! `portcullis object`.

use super::{
    change::{Change, mask},
    delivery::Delivery,
    key::certificates_in,
    listing::{Listing, PAGE_SIZE},
};
use crate::{
    arguments::{ContentArguments, ObjectCommand},
    console::Console,
    document,
    failure::{Exit, Failure},
    output::Destination,
    table::{fields, last_part, time},
};
use portcullis_client::{
    Client,
    v1::{
        CreateObjectRequest, DataObject, DeleteObjectRequest, GetObjectRequest, ListObjectsRequest, StoredObject,
        UpdateObjectRequest, stored_object::Content,
    },
};

pub(crate) async fn run(client: &Client, console: Console, command: ObjectCommand) -> Result<Exit, Failure> {
    match command {
        ObjectCommand::Create {
            object,
            content,
            change,
        } => {
            let change = Change::from(&change);
            let (content, _) = read(&content)?;
            let request = CreateObjectRequest {
                parent: object.ring().to_string(),
                object_id: object.id().to_owned(),
                object: Some(content),
                request_id: change.request_id(),
                validate_only: change.validate_only,
            };
            let made = client.objects().create_object(request).await.map_err(change.failed())?;
            let made = made.into_inner();
            let text = change.outcome(|| format!("created {} ({})", made.name, kind(&made)));
            console.result(&text, &document::object(&made))?;
        }
        ObjectCommand::Get { object, out } => {
            let request = GetObjectRequest {
                name: object.to_string(),
            };
            let object = client.objects().get_object(request).await?.into_inner();
            return get(console, &object, out.as_ref());
        }
        ObjectCommand::List { ring, filter } => {
            let objects = Listing::read(async |page_token| {
                let request = ListObjectsRequest {
                    parent: ring.to_string(),
                    page_size: PAGE_SIZE,
                    page_token,
                    filter: filter.clone(),
                };
                let page = client.objects().list_objects(request).await?.into_inner();
                Ok(Listing {
                    items: page.objects,
                    unauthentic: page.unauthentic,
                    next_page_token: page.next_page_token,
                })
            });
            objects.await?.show(
                console,
                "objects",
                &[
                    ("OBJECT", |object| last_part(&object.name)),
                    ("KIND", |object| kind(object).to_owned()),
                    ("BYTES", |object| content_of(object).len().to_string()),
                    ("LABEL", |object| String::from_utf8_lossy(&object.label).into_owned()),
                    ("ID", |object| hex::encode(&object.object_id)),
                    ("KEY", |object| object.key.clone()),
                    ("CHANGED", |object| time(object.update_time)),
                ],
                document::object,
            )?;
        }
        ObjectCommand::Update {
            object,
            content,
            update,
        } => {
            let change = Change::from(&update);
            let (content, paths) = read(&content)?;
            let request = UpdateObjectRequest {
                object: Some(StoredObject {
                    name: object.to_string(),
                    etag: change.etag.clone(),
                    ..content
                }),
                update_mask: mask(paths)?,
                request_id: change.request_id(),
                validate_only: change.validate_only,
            };
            let changed = client.objects().update_object(request).await.map_err(change.failed())?;
            let changed = changed.into_inner();
            let text = change.outcome(|| format!("changed {}", changed.name));
            console.result(&text, &document::object(&changed))?;
        }
        ObjectCommand::Delete { object, update } => {
            let change = Change::from(&update);
            let request = DeleteObjectRequest {
                name: object.to_string(),
                etag: change.etag.clone(),
                request_id: change.request_id(),
                validate_only: change.validate_only,
            };
            client.objects().delete_object(request).await.map_err(change.failed())?;
            change.told_deleted(console, &object.to_string())?;
        }
    }
    Ok(Exit::Done)
}

fn get(console: Console, object: &StoredObject, out: Option<&Destination>) -> Result<Exit, Failure> {
    let known = document::object(object);
    let Some(out) = out else {
        let text = fields(
            console.paint(),
            &[
                ("name", object.name.clone()),
                ("uid", object.uid.clone()),
                ("kind", kind(object).to_owned()),
                ("bytes", content_of(object).len().to_string()),
                ("chain", object.chain.len().to_string()),
                ("label", String::from_utf8_lossy(&object.label).into_owned()),
                ("id", hex::encode(&object.object_id)),
                ("key", object.key.clone()),
                ("created", time(object.create_time)),
                ("changed", time(object.update_time)),
                ("etag", object.etag.clone()),
            ],
        );
        console.result(&text, &known)?;
        return Ok(Exit::Done);
    };
    let certificates;
    let delivery = match &object.content {
        Some(Content::Certificate(certificate)) => {
            let all = std::iter::once(certificate).chain(&object.chain);
            certificates = all.map(|one| super::pem("CERTIFICATE", one)).collect::<String>();
            Delivery::text("certificate_pem", &certificates)
        }
        _ => Delivery::binary("value", content_of(object)),
    };
    let said = |path: &std::path::Path| format!("wrote {} ({}) to {}", object.name, kind(object), path.display());
    delivery.to(Some(out), console, said, known)
}

/// What an object shall hold, and the fields that are said.
fn read(arguments: &ContentArguments) -> Result<(StoredObject, Vec<String>), Failure> {
    let mut object = StoredObject::default();
    let mut paths = Vec::new();
    let mut says = |path: &str| paths.push(path.to_owned());
    if let Some(file) = &arguments.certificate {
        let mut certificates = certificates_in(file)?.into_iter();
        object.content = certificates.next().map(|first| Content::Certificate(first.into()));
        object.chain = certificates.map(Into::into).collect();
        says("certificate");
        says("chain");
    }
    if let Some(file) = &arguments.data {
        object.content = Some(Content::Data(DataObject {
            application: arguments.application.clone().unwrap_or_default(),
            oid: arguments
                .oid
                .as_ref()
                .map(|oid| oid.0.clone())
                .unwrap_or_default()
                .into(),
            value: file.read(MAX_DATA_BYTES, "the most that an object holds")?.into(),
        }));
        says("data");
    }
    if let Some(label) = &arguments.label {
        object.label = label.clone().into_bytes().into();
        says("label");
    }
    if let Some(id) = &arguments.object_id {
        object.object_id = id.0.clone().into();
        says("object_id");
    }
    if let Some(key) = &arguments.key {
        object.key = key.to_string();
        says("key");
    }
    Ok((object, paths))
}

fn kind(object: &StoredObject) -> &'static str {
    match &object.content {
        Some(Content::Certificate(_)) => "certificate",
        Some(Content::Data(_)) => "data",
        None => "unknown",
    }
}

fn content_of(object: &StoredObject) -> &[u8] {
    match &object.content {
        Some(Content::Certificate(certificate)) => certificate,
        Some(Content::Data(data)) => &data.value,
        None => &[],
    }
}

const MAX_DATA_BYTES: usize = 64 * 1024;

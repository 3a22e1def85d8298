//! `ObjectService`: certificates and data objects of a ring.

use super::{
    Api, ApiError,
    call::{Call, Second},
    changing::{paths, ring_of, terms, to_the_end, unknown_path},
    convert,
    documents::{self, Current, Made},
    in_ring::InRing,
    listing::{LOOKED_AT_FOR_A_PAGE, List, page_size},
    lookup::{find_second_key, find_version},
};
use crate::{
    audit::Details,
    keys::{
        document::Stored,
        name::{Id, KeyOrVersionName},
        object::{Content, ObjectFilter, StoredObject},
    },
    policy::{Action, Circumstances, Resource},
};
use portcullis_proto::v1::{self, object_service_server::ObjectService, stored_object};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl ObjectService for Api {
    async fn create_object(
        &self,
        request: Request<v1::CreateObjectRequest>,
    ) -> Result<Response<v1::StoredObject>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::CreateObject, request)?;
        to_the_end(async move {
            let result = create(&mut call, request).await;
            call.conclude_change(result).await
        })
        .await
    }

    async fn get_object(&self, request: Request<v1::GetObjectRequest>) -> Result<Response<v1::StoredObject>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::ReadObject, request)?;
        let result = get(&mut call, request).await;
        call.conclude(result).await
    }

    async fn list_objects(
        &self,
        request: Request<v1::ListObjectsRequest>,
    ) -> Result<Response<v1::ListObjectsResponse>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::ReadObject, request)?;
        let result = list(&mut call, request).await;
        call.conclude(result).await
    }

    async fn update_object(
        &self,
        request: Request<v1::UpdateObjectRequest>,
    ) -> Result<Response<v1::StoredObject>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::UpdateObject, request)?;
        to_the_end(async move {
            let result = update(&mut call, request).await;
            call.conclude_change(result).await
        })
        .await
    }

    async fn delete_object(
        &self,
        request: Request<v1::DeleteObjectRequest>,
    ) -> Result<Response<v1::DeleteObjectResponse>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::DeleteObject, request)?;
        to_the_end(async move {
            let result = delete(&mut call, request).await;
            call.conclude_change(result).await
        })
        .await
    }
}

async fn create(call: &mut Call, request: v1::CreateObjectRequest) -> Result<v1::StoredObject, ApiError> {
    let name = InRing::new::<StoredObject>(ring_of(&request.parent)?, Id::parse(&request.object_id)?);
    call.names(name.to_string());
    call.authorise_ring(&name.ring, Circumstances::NONE)?;
    let terms = terms(call, "", &request.request_id, request.validate_only, &request)?;
    let wanted = request.object.ok_or_else(|| ApiError::missing("object"))?;
    let object = StoredObject {
        label: wanted.label.to_vec(),
        object_id: wanted.object_id.to_vec(),
        key: key_in(&name.ring, &wanted.key)?,
        content: content(wanted.content, &wanted.chain)?,
    };
    check(call, &name.ring, &object).await?;
    let details = details(&name.ring, &object);
    match documents::create(call, &name, object, terms, details).await? {
        Made::Stored(made) => Ok(shown(&name.ring, made)),
        Made::Planned(object) => Ok(described(&name.ring, name.id.as_str(), object)),
    }
}

async fn get(call: &mut Call, request: v1::GetObjectRequest) -> Result<v1::StoredObject, ApiError> {
    let name = named(call, &request.name)?;
    call.authorise_ring(&name.ring, Circumstances::NONE)?;
    let found = documents::find(call, &name).await?;
    Ok(shown(&name.ring, found))
}

async fn list(call: &mut Call, request: v1::ListObjectsRequest) -> Result<v1::ListObjectsResponse, ApiError> {
    let ring = ring_of(&request.parent)?;
    call.names(format!("keyRings/{ring}/objects"));
    call.authorise_ring(&ring, Circumstances::NONE)?;
    let filter = ObjectFilter::parse(&request.filter, &format!("keyRings/{ring}/keys/"))
        .map_err(|error| ApiError::field("filter", error))?;
    let list = List::of(call, "objects", &request.parent, &request.filter);
    let mut after = list.read_token(&request.page_token)?;
    let limit = page_size(request.page_size)? as usize;
    let gateway = Arc::clone(call.gateway());
    gateway.directory.ring(&ring, call.deadline()).await?;
    let mut response = v1::ListObjectsResponse::default();
    let (mut looked_at, mut size) = (0, 0);
    loop {
        let page = gateway
            .documents
            .list::<StoredObject>(&ring, after.as_deref(), PIECE, call.deadline())
            .await?;
        looked_at += PIECE;
        call.charge(page.found.len());
        response.unauthentic.extend(page.unauthentic);
        let last = page.found.last().map(|object| object.id.clone());
        for object in page.found {
            let id = object.id.clone();
            if filter.passes(&object.content) {
                size += object.content.size();
                response.objects.push(shown(&ring, object));
            }
            let full = response.objects.len() == limit || size >= LARGEST_PAGE_BYTES;
            if full && (page.next.is_some() || last.as_ref() != Some(&id)) {
                response.next_page_token = list.token(id.as_bytes())?;
                return Ok(response);
            }
        }
        match page.next {
            Some(next) if looked_at < LOOKED_AT_FOR_A_PAGE => after = Some(next),
            next => {
                response.next_page_token = list.next(next)?;
                return Ok(response);
            }
        }
    }
}

async fn update(call: &mut Call, request: v1::UpdateObjectRequest) -> Result<v1::StoredObject, ApiError> {
    let wanted = request.object.clone().ok_or_else(|| ApiError::missing("object"))?;
    let name = named(call, &wanted.name)?;
    call.authorise_ring(&name.ring, Circumstances::NONE)?;
    let terms = terms(call, &wanted.etag, &request.request_id, request.validate_only, &request)?;
    let paths = paths(request.update_mask)?;
    let changed = match documents::current::<StoredObject>(call, &name, &terms).await? {
        Current::Repeated => documents::find(call, &name).await?,
        Current::Ready(found) => {
            let next = changed(&name.ring, found.content.clone(), wanted, &paths)?;
            check(call, &name.ring, &next).await?;
            let details = details(&name.ring, &next);
            documents::replace(call, &name, found, next, terms, details).await?
        }
    };
    Ok(shown(&name.ring, changed))
}

async fn delete(call: &mut Call, request: v1::DeleteObjectRequest) -> Result<v1::DeleteObjectResponse, ApiError> {
    let name = named(call, &request.name)?;
    call.authorise_ring(&name.ring, Circumstances::NONE)?;
    let terms = terms(
        call,
        &request.etag,
        &request.request_id,
        request.validate_only,
        &request,
    )?;
    if let Current::Ready(found) = documents::current::<StoredObject>(call, &name, &terms).await? {
        let details = details(&name.ring, &found.content);
        documents::delete(call, &name, found, terms, details).await?;
    }
    Ok(v1::DeleteObjectResponse {})
}

/// The object that a call is about.
fn named(call: &mut Call, text: &str) -> Result<InRing, ApiError> {
    let name = InRing::parse::<StoredObject>(text)?;
    call.names(name.to_string());
    Ok(name)
}

/// What an update makes of an object.
fn changed(
    ring: &Id,
    mut object: StoredObject,
    wanted: v1::StoredObject,
    paths: &[String],
) -> Result<StoredObject, ApiError> {
    for path in paths {
        match (path.as_str(), &mut object.content, &wanted.content) {
            ("label", ..) => object.label = wanted.label.to_vec(),
            ("object_id", ..) => object.object_id = wanted.object_id.to_vec(),
            ("key", ..) => object.key = key_in(ring, &wanted.key)?,
            (
                "certificate",
                Content::Certificate { certificate, .. },
                Some(stored_object::Content::Certificate(der)),
            ) => *certificate = der.to_vec(),
            ("chain", Content::Certificate { chain, .. }, _) => {
                *chain = wanted.chain.iter().map(|one| one.to_vec()).collect();
            }
            ("data", Content::Data { .. }, Some(stored_object::Content::Data(_))) => {
                object.content = content(wanted.content.clone(), &[])?;
            }
            ("certificate" | "chain", Content::Data { .. }, _) => {
                let message =
                    format!("a data object stays one, and has no {path}: create another object for a certificate");
                return Err(ApiError::field("update_mask", message));
            }
            ("data", Content::Certificate { .. }, _) => {
                let message = "a certificate stays one, and has no data: create another object for data";
                return Err(ApiError::field("update_mask", message));
            }
            ("certificate" | "data", ..) => {
                return Err(ApiError::field(
                    "object",
                    format!("update_mask names {path}, and the object has none: set it, or leave it out of the mask"),
                ));
            }
            (path, ..) => {
                return Err(unknown_path(path, "label, object_id, key, certificate, chain or data"));
            }
        }
    }
    Ok(object)
}

/// The content of a new object.
fn content(content: Option<stored_object::Content>, chain: &[prost::bytes::Bytes]) -> Result<Content, ApiError> {
    match content {
        None => Err(ApiError::field(
            "object.content",
            "expected a certificate or data, found neither",
        )),
        Some(stored_object::Content::Certificate(certificate)) => Ok(Content::Certificate {
            certificate: certificate.to_vec(),
            chain: chain.iter().map(|one| one.to_vec()).collect(),
        }),
        Some(stored_object::Content::Data(_)) if !chain.is_empty() => Err(ApiError::field(
            "object.chain",
            "a chain belongs to a certificate, and the content is data: leave it out",
        )),
        Some(stored_object::Content::Data(data)) => Ok(Content::Data {
            application: data.application,
            oid: data.oid.to_vec(),
            value: data.value.to_vec(),
        }),
    }
}

/// The key or version of the ring to which an object belongs, as it is kept: without the ring.
fn key_in(ring: &Id, named: &str) -> Result<String, ApiError> {
    if named.is_empty() {
        return Ok(String::new());
    }
    let name = KeyOrVersionName::parse(named)?;
    if name.key.ring != *ring {
        return Err(ApiError::field(
            "object.key",
            format!("expected a key of keyRings/{ring}, found {name}"),
        ));
    }
    Ok(match name.version {
        None => name.key.key.to_string(),
        Some(number) => format!("{}/versions/{number}", name.key.key),
    })
}

/// Checks an object by itself, and a certificate against the key that it names. What a key's public half is, and whether there is
/// such a key, is told to those who may read it.
async fn check(call: &mut Call, ring: &Id, object: &StoredObject) -> Result<(), ApiError> {
    object
        .check()
        .map_err(|(field, message)| ApiError::field(field, message))?;
    if object.key.is_empty() {
        return Ok(());
    }
    let named = key_of(ring, object);
    let name = KeyOrVersionName::parse(&named)?;
    let second = Second {
        action: Action::ReadKey,
        named: &named,
    };
    let record = find_second_key(call, second, &name.key).await?;
    let primary = name.version.is_none_or(|number| number == record.key.primary_version);
    call.authorise_also(
        second,
        named.clone(),
        Resource::Key(record.facts()),
        Circumstances::about_version(primary),
    )?;
    let version = find_version(&record, name.version)?;
    let public_key = version.public_key();
    if let Some(certified) = object.certified_key()
        && !public_key.is_empty()
        && certified != public_key
    {
        return Err(ApiError::field(
            "object.key",
            format!("the certificate is not one of the public key of {name}: name the version that it is of, or none"),
        ));
    }
    Ok(())
}

/// What the audit log says of an object.
fn details(ring: &Id, object: &StoredObject) -> Details {
    let (kind, content) = match &object.content {
        Content::Certificate { certificate, .. } => ("certificate", certificate),
        Content::Data { value, .. } => ("data", value),
    };
    Details::Object {
        kind,
        label: hex::encode(&object.label),
        object_id: hex::encode(&object.object_id),
        key: key_of(ring, object),
        content_sha256: hex::encode(Sha256::digest(content)),
    }
}

/// The key or version to which an object belongs; empty if to none.
fn key_of(ring: &Id, object: &StoredObject) -> String {
    match object.key.as_str() {
        "" => String::new(),
        key => format!("keyRings/{ring}/keys/{key}"),
    }
}

fn shown(ring: &Id, object: Stored<StoredObject>) -> v1::StoredObject {
    v1::StoredObject {
        uid: object.uid.to_string(),
        create_time: Some(convert::timestamp(object.created)),
        update_time: Some(convert::timestamp(object.updated)),
        etag: object.revision.to_string(),
        ..described(ring, &object.id, object.content)
    }
}

fn described(ring: &Id, id: &str, object: StoredObject) -> v1::StoredObject {
    let key = key_of(ring, &object);
    let (content, chain) = match object.content {
        Content::Certificate { certificate, chain } => (stored_object::Content::Certificate(certificate.into()), chain),
        Content::Data {
            application,
            oid,
            value,
        } => {
            let data = v1::DataObject {
                application,
                oid: oid.into(),
                value: value.into(),
            };
            (stored_object::Content::Data(data), Vec::new())
        }
    };
    v1::StoredObject {
        name: format!("keyRings/{ring}/objects/{id}"),
        label: object.label.into(),
        object_id: object.object_id.into(),
        key,
        content: Some(content),
        chain: chain.into_iter().map(Into::into).collect(),
        ..v1::StoredObject::default()
    }
}

/// How many objects are read at once: each may have 200 KiB.
const PIECE: u32 = 16;
const LARGEST_PAGE_BYTES: usize = 2 * 1024 * 1024;

//! `KeyService`: rings, keys and public keys.

use super::{Api, ApiError, Gateway, Reason, call::Call, convert, lookup::find_key, not_available::not_available};
use crate::{
    crypto::checksum,
    keys::{
        creation::WantedKey,
        directory::{KeyRecord, VersionRecord},
        name::{Id, KeyName, KeyOrVersionName, KeyRingName},
        purpose,
        record::Protection,
    },
    policy::{Action, Circumstances, KeyFacts, Resource},
    store::Idempotency,
};
use portcullis_proto::v1::{self, key_service_server::KeyService};
use prost::Message;
use sha2::{Digest, Sha256};
use spki::der::pem::{LineEnding, encode_string};
use std::{collections::BTreeMap, sync::Arc};
use tonic::{Request, Response, Status};
use uuid::Uuid;

#[tonic::async_trait]
impl KeyService for Api {
    async fn create_key_ring(
        &self,
        request: Request<v1::CreateKeyRingRequest>,
    ) -> Result<Response<v1::KeyRing>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::CreateKeyRing, request)?;
        to_the_end(async move {
            let result = create_key_ring(&mut call, request).await;
            call.conclude_change(result).await
        })
        .await
    }

    async fn get_key_ring(&self, request: Request<v1::GetKeyRingRequest>) -> Result<Response<v1::KeyRing>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::ReadKeyRing, request)?;
        let result = async {
            let KeyRingName(id) = KeyRingName::parse(&request.name)?;
            call.authorise_ring(request.name, &id)?;
            Ok(convert::ring(&self.0.directory.ring(&id, call.deadline()).await?))
        };
        let result = result.await;
        call.conclude(result)
    }

    async fn list_key_rings(
        &self,
        request: Request<v1::ListKeyRingsRequest>,
    ) -> Result<Response<v1::ListKeyRingsResponse>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::ReadKeyRing, request)?;
        let result = list_key_rings(&mut call, request).await;
        call.conclude(result)
    }

    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Result<Response<v1::Key>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::CreateKey, request)?;
        to_the_end(async move {
            let result = create_key(&mut call, request).await;
            call.conclude_change(result).await
        })
        .await
    }

    async fn get_key(&self, request: Request<v1::GetKeyRequest>) -> Result<Response<v1::Key>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::ReadKey, request)?;
        let result = async {
            let name = KeyName::parse(&request.name)?;
            let record = find_key(&mut call, &name).await?;
            call.authorise_key(request.name, record.facts(), Circumstances::default())?;
            Ok(convert::key(&record))
        };
        let result = result.await;
        call.conclude(result)
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Result<Response<v1::ListKeysResponse>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::ReadKey, request)?;
        let result = list_keys(&mut call, request).await;
        call.conclude(result)
    }

    async fn get_public_key(
        &self,
        request: Request<v1::GetPublicKeyRequest>,
    ) -> Result<Response<v1::PublicKey>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::ReadKey, request)?;
        let result = get_public_key(&mut call, request).await;
        call.conclude(result)
    }

    async fn get_key_version(
        &self,
        request: Request<v1::GetKeyVersionRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::ReadKey, request)?;
        let result = async {
            let name = KeyOrVersionName::parse(&request.name)?;
            let record = find_key(&mut call, &name.key).await?;
            call.authorise_key(request.name, record.facts(), Circumstances::default())?;
            if name.version.is_none() {
                return Err(ApiError::new(
                    Reason::InvalidName,
                    "expected the name of a version, found that of a key",
                ));
            }
            let version = find_version(&record, name.version)?;
            Ok(convert::version(&record, version))
        };
        let result = result.await;
        call.conclude(result)
    }

    not_available! {
        update_key_ring(v1::UpdateKeyRingRequest) -> v1::KeyRing;
        update_key(v1::UpdateKeyRequest) -> v1::Key;
        rotate_key(v1::RotateKeyRequest) -> v1::Key;
        set_primary_version(v1::SetPrimaryVersionRequest) -> v1::Key;
        list_key_versions(v1::ListKeyVersionsRequest) -> v1::ListKeyVersionsResponse;
        activate_key_version(v1::ChangeKeyVersionStateRequest) -> v1::KeyVersion;
        disable_key_version(v1::ChangeKeyVersionStateRequest) -> v1::KeyVersion;
        enable_key_version(v1::ChangeKeyVersionStateRequest) -> v1::KeyVersion;
        deactivate_key_version(v1::ChangeKeyVersionStateRequest) -> v1::KeyVersion;
        mark_key_version_compromised(v1::ChangeKeyVersionStateRequest) -> v1::KeyVersion;
        schedule_key_version_destruction(v1::ScheduleKeyVersionDestructionRequest) -> v1::KeyVersion;
        cancel_key_version_destruction(v1::ChangeKeyVersionStateRequest) -> v1::KeyVersion;
        get_json_web_key_set(v1::GetJsonWebKeySetRequest) -> v1::JsonWebKeySet;
        create_alias(v1::CreateAliasRequest) -> v1::Alias;
        update_alias(v1::UpdateAliasRequest) -> v1::Alias;
        delete_alias(v1::DeleteAliasRequest) -> v1::DeleteAliasResponse;
        list_aliases(v1::ListAliasesRequest) -> v1::ListAliasesResponse;
        create_import_job(v1::CreateImportJobRequest) -> v1::ImportJob;
        get_import_job(v1::GetImportJobRequest) -> v1::ImportJob;
        import_key_version(v1::ImportKeyVersionRequest) -> v1::KeyVersion;
        export_key_version(v1::ExportKeyVersionRequest) -> v1::ExportKeyVersionResponse;
        create_ephemeral_key(v1::CreateEphemeralKeyRequest) -> v1::EphemeralKey;
        renew_ephemeral_key(v1::RenewEphemeralKeyRequest) -> v1::EphemeralKey;
        revoke_ephemeral_keys(v1::RevokeEphemeralKeysRequest) -> v1::RevokeEphemeralKeysResponse;
    }
}

/// Runs a change to its end, even when its caller goes away: between the commit and the audit entry nothing may stop it.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<Response<T>, Status>> + Send + 'static,
) -> Result<Response<T>, Status> {
    // A panic in the change has written its audit entry when its call was dropped.
    tokio::spawn(change).await.unwrap_or_else(|_| {
        let error = ApiError::new(
            Reason::Internal,
            "the change was interrupted by a mistake in the gateway",
        );
        Err(error.into_status(&Uuid::now_v7().to_string()))
    })
}

async fn create_key_ring(call: &mut Call, request: v1::CreateKeyRingRequest) -> Result<v1::KeyRing, ApiError> {
    let id = Id::parse(&request.key_ring_id)?;
    call.authorise_ring(format!("keyRings/{id}"), &id)?;
    let once = once(call, &request.request_id, &request)?;
    let labels = convert::labels(request.key_ring.unwrap_or_default().labels)?;
    let gateway = Arc::clone(call.gateway());
    if request.validate_only {
        gateway
            .creation
            .validate_ring(&id, once.as_ref(), call.deadline())
            .await?;
        return Ok(v1::KeyRing {
            name: format!("keyRings/{id}"),
            labels: labels.into_iter().collect(),
            ..v1::KeyRing::default()
        });
    }
    call.intend().await?;
    Ok(convert::ring(
        &gateway.creation.ring(&id, labels, once, call.deadline()).await?,
    ))
}

async fn list_key_rings(
    call: &mut Call,
    request: v1::ListKeyRingsRequest,
) -> Result<v1::ListKeyRingsResponse, ApiError> {
    call.authorise_list("keyRings")?;
    let after = read_page_token(&request.page_token, "")?;
    let limit = page_size(request.page_size)?;
    let gateway = Arc::clone(call.gateway());
    let page = gateway
        .directory
        .rings(after.as_deref(), limit, call.deadline())
        .await?;
    // The rings that the caller may read, of those on the page.
    let may_read_ring = |ring: &Id| call.may(Action::ReadKeyRing, Resource::KeyRing(ring));
    let may_read = |name: &str| KeyRingName::parse(name).is_ok_and(|ring| may_read_ring(&ring.0));
    Ok(v1::ListKeyRingsResponse {
        key_rings: page
            .found
            .iter()
            .filter(|ring| may_read_ring(&ring.id))
            .map(convert::ring)
            .collect(),
        next_page_token: page.next.map(|id| page_token("", &id)).unwrap_or_default(),
        unauthentic: page.unauthentic.into_iter().filter(|name| may_read(name)).collect(),
    })
}

async fn create_key(call: &mut Call, request: v1::CreateKeyRequest) -> Result<v1::Key, ApiError> {
    let KeyRingName(ring) = KeyRingName::parse(&request.parent)?;
    let name = KeyName {
        key: Id::parse(&request.key_id)?,
        ring,
    };
    call.concerns(name.to_string());
    call.require_chance(call.action(), &name.to_string())?;
    let wanted = wanted_key(name, &request)?;
    call.authorise_key(wanted.name.to_string(), facts(&wanted), Circumstances::default())?;
    let once = once(call, &request.request_id, &request)?;
    let gateway = Arc::clone(call.gateway());
    let wanted = on_member(wanted, &gateway, &request.member)?;
    if request.validate_only {
        gateway
            .creation
            .validate_key(&wanted, once.as_ref(), call.deadline())
            .await?;
        return Ok(v1::Key {
            name: wanted.name.to_string(),
            r#type: wanted.key_type.number().into(),
            purpose: wanted.purpose as i32,
            permitted_uses: wanted
                .uses
                .iter()
                .map(|one| v1::PermittedUse {
                    operation: one.operation.number().into(),
                    mechanism: one.mechanism.number().into(),
                })
                .collect(),
            protection: wanted.protection as i32,
            exportable: wanted.exportable,
            labels: wanted.labels.into_iter().collect(),
            ..v1::Key::default()
        });
    }
    call.intend().await?;
    Ok(convert::key(
        &*gateway.creation.key(wanted, once, call.deadline()).await?,
    ))
}

/// What the caller wants, checked as far as that is possible without an HSM.
fn wanted_key(name: KeyName, request: &v1::CreateKeyRequest) -> Result<WantedKey, ApiError> {
    let key = request
        .key
        .clone()
        .ok_or_else(|| ApiError::field("key", "is missing"))?;
    let key_type = convert::key_type(key.r#type)?;
    let listed = convert::permitted_uses(&key.permitted_uses)?;
    let (purpose, uses) = purpose::resolve(key_type, convert::purpose(key.purpose)?, listed)
        .map_err(|error| ApiError::new(Reason::AlgorithmMismatch, error.to_string()))?;
    let protection = convert::protection(key.protection)?;
    match protection {
        Protection::Resident if !request.allow_single_replica => {
            let message = "a RESIDENT key lives on one member and has no failover: accept that with \
                           allow_single_replica, or choose WRAPPED";
            Err(ApiError::new(Reason::SingleReplicaNotAccepted, message))
        }
        Protection::Resident if key.exportable => {
            Err(ApiError::field("key.exportable", "a RESIDENT key is never exportable"))
        }
        Protection::Wrapped if !request.member.is_empty() => Err(ApiError::field(
            "member",
            "a WRAPPED key lives on no member: leave it out, or choose RESIDENT",
        )),
        _ => Ok(()),
    }?;
    Ok(WantedKey {
        name,
        key_type,
        purpose,
        uses,
        protection,
        exportable: key.exportable,
        labels: convert::labels(key.labels)?,
        member: None,
    })
}

/// What a policy may know of a key that is to be made.
fn facts(wanted: &WantedKey) -> KeyFacts<'_> {
    KeyFacts {
        name: &wanted.name,
        labels: &wanted.labels,
        purpose: wanted.purpose,
        key_type: wanted.key_type,
        protection: wanted.protection,
        exportable: wanted.exportable,
    }
}

/// The wanted key, on the member that the caller named, if any.
fn on_member(wanted: WantedKey, gateway: &Gateway, named: &str) -> Result<WantedKey, ApiError> {
    let member = match named.strip_prefix("members/").unwrap_or(named) {
        "" => None,
        member => Some(
            gateway
                .cluster
                .member(member)
                .ok_or_else(|| ApiError::new(Reason::MemberNotFound, format!("there is no member {member}")))?,
        ),
    };
    Ok(WantedKey { member, ..wanted })
}

async fn list_keys(call: &mut Call, request: v1::ListKeysRequest) -> Result<v1::ListKeysResponse, ApiError> {
    let KeyRingName(ring) = KeyRingName::parse(&request.parent)?;
    call.authorise_ring(request.parent, &ring)?;
    if !request.filter.is_empty() {
        return Err(ApiError::new(
            Reason::MethodNotAvailable,
            "this gateway does not filter lists yet",
        ));
    }
    let after = read_page_token(&request.page_token, ring.as_str())?;
    let limit = page_size(request.page_size)?;
    let directory = Arc::clone(&call.gateway().directory);
    let page = directory.keys(&ring, after.as_deref(), limit, call.deadline()).await?;
    Ok(v1::ListKeysResponse {
        keys: page
            .found
            .iter()
            .filter(|record| call.may(Action::ReadKey, Resource::Key(record.facts())))
            .map(|record| convert::key(record))
            .collect(),
        next_page_token: page.next.map(|id| page_token(ring.as_str(), &id)).unwrap_or_default(),
        unauthentic: page.unauthentic,
    })
}

async fn get_public_key(call: &mut Call, request: v1::GetPublicKeyRequest) -> Result<v1::PublicKey, ApiError> {
    let name = KeyOrVersionName::parse(&request.name)?;
    let record = find_key(call, &name.key).await?;
    call.authorise_key(request.name, record.facts(), Circumstances::default())?;
    let version = find_version(&record, name.version)?;
    let key_type = version.token.key_type;
    if !key_type.is_asymmetric() {
        let message = format!("{} is of type {key_type} and has no public half", record.key.name);
        return Err(ApiError::new(Reason::AlgorithmMismatch, message));
    }
    let der = &version.token.public_key;
    let (format, public_key) = match v1::PublicKeyFormat::try_from(request.format) {
        Ok(v1::PublicKeyFormat::Unspecified | v1::PublicKeyFormat::Pem) => {
            let pem = encode_string("PUBLIC KEY", LineEnding::LF, der)
                .map_err(|error| ApiError::new(Reason::Internal, format!("the public key has no PEM form: {error}")))?;
            (v1::PublicKeyFormat::Pem, pem.into_bytes())
        }
        Ok(v1::PublicKeyFormat::Der) => (v1::PublicKeyFormat::Der, der.clone()),
        Ok(v1::PublicKeyFormat::Jwk) => {
            return Err(ApiError::new(
                Reason::MethodNotAvailable,
                "this gateway does not write JSON web keys yet",
            ));
        }
        Err(_) => {
            return Err(ApiError::field(
                "format",
                format!("expected a format, found {}", request.format),
            ));
        }
    };
    Ok(v1::PublicKey {
        name: record.key.name.version(version.row.number),
        r#type: key_type.number().into(),
        state: version.row.state as i32,
        format: format.into(),
        public_key_crc32c: checksum::crc32c(&public_key),
        public_key: public_key.into(),
    })
}

/// The version that a name means.
pub(super) fn find_version(record: &KeyRecord, number: Option<u32>) -> Result<&VersionRecord, ApiError> {
    match number {
        None => Ok(record.primary()),
        Some(number) => record.version(number).ok_or_else(|| {
            let name = record.key.name.version(number);
            ApiError::new(Reason::KeyVersionNotFound, format!("{name} does not exist")).with("version", name)
        }),
    }
}

/// The caller's promise to recognise a repetition; the hash covers the whole request.
fn once(call: &Call, request_id: &str, request: &impl Repeatable) -> Result<Option<Idempotency>, ApiError> {
    Ok(convert::request_id(request_id)?.map(|request_id| Idempotency {
        principal: call.principal().to_owned(),
        request_id,
        request_hash: request_hash(request),
    }))
}

/// A hash of the request that is the same for the same content: protobuf maps have no order of their own, so the maps are
/// written sorted and apart.
fn request_hash<T: Repeatable>(request: &T) -> [u8; 32] {
    let (labels, rest) = request.apart();
    let mut hash = Sha256::new_with_prefix(T::NAME);
    for (key, value) in labels {
        for part in [key, value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.update([0xff]);
    hash.update(rest.encode_to_vec());
    hash.finalize().into()
}

/// A change that a caller may repeat with the same request id.
trait Repeatable: Message {
    /// Tells kinds of request apart.
    const NAME: &'static str;

    /// The request's map, sorted, and the request without it.
    fn apart(&self) -> (BTreeMap<String, String>, Self)
    where
        Self: Sized;
}

impl Repeatable for v1::CreateKeyRingRequest {
    const NAME: &'static str = "CreateKeyRing";

    fn apart(&self) -> (BTreeMap<String, String>, Self) {
        let mut rest = self.clone();
        let labels = rest
            .key_ring
            .as_mut()
            .map(|ring| std::mem::take(&mut ring.labels))
            .unwrap_or_default();
        (labels.into_iter().collect(), rest)
    }
}

impl Repeatable for v1::CreateKeyRequest {
    const NAME: &'static str = "CreateKey";

    fn apart(&self) -> (BTreeMap<String, String>, Self) {
        let mut rest = self.clone();
        let labels = rest
            .key
            .as_mut()
            .map(|key| std::mem::take(&mut key.labels))
            .unwrap_or_default();
        (labels.into_iter().collect(), rest)
    }
}

/// A page size within its limits: 100 when none is given, at most 1000 whatever is given (AIP-158).
fn page_size(size: i32) -> Result<u32, ApiError> {
    match u32::try_from(size) {
        Ok(0) => Ok(100),
        Ok(size) => Ok(size.min(1000)),
        Err(_) => Err(ApiError::field(
            "page_size",
            format!("expected no negative number, found {size}"),
        )),
    }
}

/// Where the next page starts. It holds nothing secret, and policy is asked again with each page.
fn page_token(ring: &str, last: &[u8]) -> String {
    hex::encode([b"1/", ring.as_bytes(), b"/", last].concat())
}

fn read_page_token(token: &str, ring: &str) -> Result<Option<Vec<u8>>, ApiError> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = hex::decode(token).unwrap_or_default();
    let start = [b"1/", ring.as_bytes(), b"/"].concat();
    match bytes.strip_prefix(start.as_slice()) {
        Some(last) => Ok(Some(last.to_vec())),
        None => Err(ApiError::field(
            "page_token",
            "it is not the next_page_token of such a list",
        )),
    }
}

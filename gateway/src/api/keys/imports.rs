//! Import jobs, and key material that is imported.

use super::keys::{member, require_consent};
use crate::{
    api::{
        ApiError, Gateway, Reason,
        call::{Call, Second},
        changing::{once, ring_of, terms},
        convert, documents,
        in_ring::InRing,
        lookup::{find_key, find_second_key, find_version, second_version_named},
        target::{Asked, Wish, decide},
    },
    audit::Details,
    cluster::{
        core::Needs,
        operation::{Key, KeySpecification},
        transfer::{Material, MaterialProtection},
    },
    crypto::checksum::crc32c,
    keys::{
        change::Terms,
        document::{DocumentError, Stored, name_of},
        import::Target,
        import_job::ImportJob,
        name::{Id, KeyName},
        record::{micros, now},
    },
    policy::{Action, Circumstances, Resource},
    store::Idempotency,
};
use portcullis_hsm::{
    algorithm::{Family, KeyType, Mechanism, Operation, PermittedUse, PermittedUses},
    key_token::Storage,
};
use portcullis_proto::v1;
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;
use zeroize::Zeroizing;

/// How key material arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Wrapped for an import job.
    Job(Mechanism),
    /// Wrapped for a key of both sides.
    AesKwp,
    Clear,
}

impl Method {
    /// The mechanism by which the key material is wrapped on its way.
    fn mechanism(self) -> Option<Mechanism> {
        match self {
            Self::Job(mechanism) => Some(mechanism),
            Self::AesKwp => Some(Mechanism::AesKwp),
            Self::Clear => None,
        }
    }

    /// The name, as the API has it.
    fn name(self) -> &'static str {
        match self {
            Self::Job(Mechanism::RsaOaepSha1) => "RSA_OAEP_SHA1_AES_KWP",
            Self::Job(_) => "RSA_OAEP_SHA256_AES_KWP",
            Self::AesKwp => "AES_KWP",
            Self::Clear => "CLEAR",
        }
    }

    fn read(number: i32) -> Result<Self, ApiError> {
        match v1::ImportMethod::try_from(number) {
            Ok(v1::ImportMethod::RsaOaepSha1AesKwp) => Ok(Self::Job(Mechanism::RsaOaepSha1)),
            Ok(v1::ImportMethod::RsaOaepSha256AesKwp) => Ok(Self::Job(Mechanism::RsaOaepSha256)),
            Ok(v1::ImportMethod::AesKwp) => Ok(Self::AesKwp),
            Ok(v1::ImportMethod::Clear) => Ok(Self::Clear),
            _ => Err(ApiError::field(
                "method",
                format!("expected an ImportMethod, found {number}"),
            )),
        }
    }
}

pub(super) async fn create_job(
    call: &mut Call,
    request: v1::CreateImportJobRequest,
) -> Result<v1::ImportJob, ApiError> {
    let ring = ring_of(&request.parent)?;
    call.names(format!("keyRings/{ring}/importJobs"));
    let method = Method::read(request.method);
    let mechanism = method.as_ref().ok().and_then(|method| method.mechanism());
    call.authorise_ring(&ring, Circumstances::moving_by(mechanism))?;
    let method = method?;
    let Method::Job(mechanism) = method else {
        return Err(ApiError::field(
            "method",
            "expected RSA_OAEP_SHA1_AES_KWP or RSA_OAEP_SHA256_AES_KWP: the other methods need no import job",
        ));
    };
    let key_type = match request.wrapping_key_type {
        0 => KeyType::Rsa3072,
        number => convert::key_type(number)?,
    };
    if !matches!(key_type.family(), Family::Rsa(_)) {
        return Err(ApiError::field(
            "wrapping_key_type",
            format!("expected an RSA type, found {key_type}"),
        ));
    }
    let lifetime = match request.lifetime {
        None => USUAL_LIFETIME,
        Some(lifetime) => convert::duration("lifetime", lifetime)?,
    };
    if lifetime.is_zero() || lifetime > LONGEST_LIFETIME {
        return Err(ApiError::field(
            "lifetime",
            format!(
                "expected more than nothing and at most 7 days, found {} s",
                lifetime.as_secs()
            ),
        ));
    }
    let once = once(call, &request.request_id, &request)?;
    call.note_check_only(request.validate_only);
    call.note_mechanism(mechanism);
    let gateway = Arc::clone(call.gateway());
    gateway.directory.ring(&ring, call.deadline()).await?;
    let id = job_id(once.as_ref())?;
    call.finds(name_of::<ImportJob>(ring.as_str(), id.as_str()));
    let expires = now() + lifetime;
    let details = |public_key: Option<&[u8]>| Details::ImportJob {
        method: method.name(),
        wrapping_key_type: key_type.name(),
        expires: convert::text_time(expires).unwrap_or_default(),
        public_key_sha256: public_key.map(|key| hex::encode(Sha256::digest(key))),
    };
    call.note_details(details(None));
    if gateway.documents.is_repetition(once.as_ref(), call.deadline()).await? {
        let job = documents::find(call, &InRing::new::<ImportJob>(ring.clone(), id)).await?;
        return Ok(shown(&ring, &job));
    }
    // Invariant: the use fits each RSA type, which was checked above.
    let uses = PermittedUses::new(key_type, [PermittedUse::new(Operation::Unwrap, mechanism)])
        .expect("an RSA key can unwrap by OAEP");
    let specification = KeySpecification {
        uid: Uuid::now_v7(),
        version: 1,
        key_type,
        uses,
        storage: Storage::Sealed,
        making: None,
    };
    if request.validate_only {
        gateway.cluster.require_storage(specification.storage)?;
        gateway.cluster.choose(&Needs {
            uses: vec![(Operation::Unwrap, mechanism)],
            generates: Some(key_type),
            only: None,
        })?;
        return Ok(v1::ImportJob {
            name: name_of::<ImportJob>(ring.as_str(), id.as_str()),
            method: request.method,
            wrapping_key_type: key_type.number().into(),
            ..v1::ImportJob::default()
        });
    }
    call.intend().await?;
    let (token, member) = gateway.cluster.generate(&specification, None, call.errand()).await?;
    call.note_member(member);
    let job = ImportJob {
        mechanism,
        token,
        expires: micros(expires),
        used_for: String::new(),
    };
    let made = gateway
        .documents
        .create(&ring, id.as_str(), &job, once, call.deadline())
        .await?;
    let public_key = made.content.key().map(|key| key.public_key);
    call.note_details(details(public_key.as_deref()));
    Ok(shown(&ring, &made))
}

pub(super) async fn get_job(call: &mut Call, request: v1::GetImportJobRequest) -> Result<v1::ImportJob, ApiError> {
    let name = InRing::parse::<ImportJob>(&request.name)?;
    call.names(name.to_string());
    call.require_chance(call.action(), call.named())?;
    let job = documents::find::<ImportJob>(call, &name).await;
    let mechanism = job.as_ref().ok().map(|job| job.content.mechanism);
    call.authorise_ring(&name.ring, Circumstances::moving_by(mechanism))?;
    Ok(shown(&name.ring, &job?))
}

pub(super) async fn import_version(
    call: &mut Call,
    request: v1::ImportKeyVersionRequest,
) -> Result<v1::KeyVersion, ApiError> {
    let name = KeyName::parse(&request.parent)?;
    call.names(name.to_string());
    let record = find_key(call, &name).await?;
    let method = Method::read(request.method);
    let mechanism = method.as_ref().ok().and_then(|method| method.mechanism());
    let circumstances = Circumstances::moving_by(mechanism);
    call.authorise_key(record.facts(), circumstances)?;
    let method = method?;
    if method == Method::Clear {
        let (action, named) = (Action::ImportClearKey, name.to_string());
        let second = Second { action, named: &named };
        call.authorise_also(second, named.clone(), Resource::Key(record.facts()), circumstances)?;
    }
    if let Some(mechanism) = mechanism {
        call.note_mechanism(mechanism);
    }
    check_payload(&request)?;
    require_consent(record.key.protection, request.allow_single_replica, &request.member)?;
    let terms = import_terms(call, &request)?;
    let gateway = Arc::clone(call.gateway());
    let member = member(&gateway, &request.member)?;
    let repeated = gateway.imports.repeated(&name, terms.once.as_ref(), call.deadline());
    if let Some((record, number)) = repeated.await? {
        call.finds(name.version(number));
        return Ok(convert::version(&record, find_version(&record, Some(number))?));
    }
    let target = Target::of(&record);
    let version_name = name.version(target.number());
    call.finds(version_name.clone());
    let (protection, job, unwrapping) = match method {
        Method::Clear => (MaterialProtection::Clear, None, None),
        Method::AesKwp => {
            let (unwrapping, key) = unwrapping_key(call, &request.unwrapping_key).await?;
            let protection = MaterialProtection::WrappedFor(key, Mechanism::AesKwp);
            (protection, None, Some(unwrapping))
        }
        Method::Job(mechanism) => {
            let job = InRing::parse::<ImportJob>(&request.import_job)?;
            let found = usable_job(call, &name.ring, &job, mechanism).await?;
            let key = Key::new(found.content.token.clone(), None);
            (MaterialProtection::WrappedFor(key, mechanism), Some(job), None)
        }
    };
    let details = |public_key: Option<&[u8]>| Details::Import {
        method: method.name(),
        import_job: job.as_ref().map(ToString::to_string),
        unwrapping_key: unwrapping.clone(),
        // Of a key that comes in clear nothing is told, not even what could be compared with a guess.
        wrapped_key_sha256: (method != Method::Clear).then(|| hex::encode(Sha256::digest(&request.wrapped_key))),
        public_key_sha256: public_key
            .filter(|key| !key.is_empty())
            .map(|key| hex::encode(Sha256::digest(key))),
    };
    call.note_details(details(None));
    let material = Material {
        protection,
        bytes: Zeroizing::new(request.wrapped_key.to_vec()),
        public_key: request.public_key.to_vec(),
    };
    if !request.validate_only {
        call.intend().await?;
        if let Some(job) = &job {
            take_job(&gateway, job, &version_name, &terms).await?;
        }
    }
    let validate_only = request.validate_only;
    // The change is not undone once it is made, so what it was unwrapped by is looked at before.
    let uses = call.take_uses();
    let still_permitted = async {
        for version in &uses {
            version.require_before_commit(&gateway.directory).await?;
        }
        Ok(())
    };
    let imported = gateway
        .imports
        .version(&name, target, material, member, terms.clone(), still_permitted)
        .await;
    if let (Err(_), Some(job), false) = (&imported, &job, validate_only) {
        give_back_job(&gateway, job, &terms).await;
    }
    let (record, number) = imported?;
    if validate_only {
        return Ok(v1::KeyVersion {
            name: version_name,
            version: number,
            ..v1::KeyVersion::default()
        });
    }
    let version = find_version(&record, Some(number))?;
    call.note_details(details(Some(version.public_key())));
    Ok(convert::version(&record, version))
}

/// What accompanies an import. A repetition is recognised without the key material itself: by its digest.
fn import_terms(call: &mut Call, request: &v1::ImportKeyVersionRequest) -> Result<Terms, ApiError> {
    let digest = Sha256::digest(&request.wrapped_key).to_vec();
    let recognised = v1::ImportKeyVersionRequest {
        wrapped_key: digest.into(),
        ..request.clone()
    };
    terms(call, "", &request.request_id, request.validate_only, &recognised)
}

fn check_payload(request: &v1::ImportKeyVersionRequest) -> Result<(), ApiError> {
    for (field, length) in [
        ("wrapped_key", request.wrapped_key.len()),
        ("public_key", request.public_key.len()),
    ] {
        if length > LONGEST_MATERIAL {
            let message = format!("{field} has {length} bytes; at most {LONGEST_MATERIAL} were expected");
            return Err(ApiError::new(Reason::PayloadTooLarge, message));
        }
    }
    if request.wrapped_key.is_empty() {
        return Err(ApiError::missing("wrapped_key"));
    }
    match request.wrapped_key_crc32c {
        Some(expected) if expected != crc32c(&request.wrapped_key) => Err(ApiError::new(
            Reason::ChecksumMismatch,
            "wrapped_key does not have the CRC32C that came with it: it was garbled on the way, send it again",
        )),
        _ => Ok(()),
    }
}

/// The key under which both sides wrap, and its version's name, if the caller may import by it.
async fn unwrapping_key(call: &mut Call, named: &str) -> Result<(String, Key), ApiError> {
    let second = Second {
        action: Action::ImportKey,
        named,
    };
    let name = second_version_named(call, second).await?;
    let record = find_second_key(call, second, &name.key).await?;
    let wish = Wish::new(&record, Operation::Unwrap, Mechanism::AesKwp.number().into()).with_version(name.version);
    let target = decide(call, Asked::Second(second), &record, wish)?.target()?;
    let material = target.material(call, "")?;
    target.version.uses.note();
    Ok((target.name(), material.handle.clone()))
}

/// A job of the key's ring that is of the method, in time and not used.
async fn usable_job(
    call: &Call,
    ring: &Id,
    name: &InRing,
    mechanism: Mechanism,
) -> Result<Stored<ImportJob>, ApiError> {
    if name.ring != *ring {
        return Err(ApiError::field(
            "import_job",
            format!("expected an import job of keyRings/{ring}, found {name}"),
        ));
    }
    let job = documents::find::<ImportJob>(call, name).await?;
    if job.content.mechanism != mechanism {
        let message = format!(
            "expected the method of {name}, which unwraps by {}, found one that unwraps by {mechanism}",
            job.content.mechanism
        );
        return Err(ApiError::field("method", message));
    }
    require_usable(&job, name)?;
    Ok(job)
}

fn require_usable(job: &Stored<ImportJob>, name: &InRing) -> Result<(), ApiError> {
    if job.content.is_expired(now()) {
        let message = format!("{name} has expired: create another");
        return Err(ApiError::new(Reason::ImportJobExpired, message));
    }
    if !job.content.used_for.is_empty() {
        let message = format!("{name} was used for {}: create another", job.content.used_for);
        return Err(ApiError::new(Reason::ImportJobUsed, message));
    }
    Ok(())
}

/// Takes a job for one import, so that no other takes it.
async fn take_job(gateway: &Gateway, name: &InRing, version: &str, terms: &Terms) -> Result<(), ApiError> {
    let take = |job: Stored<ImportJob>| {
        require_usable(&job, name)?;
        Ok::<_, ApiError>(ImportJob {
            used_for: version.to_owned(),
            ..job.content
        })
    };
    gateway
        .documents
        .update(&name.ring, name.id.as_str(), None, None, terms.deadline, take)
        .await?;
    Ok(())
}

/// Gives a job back whose import failed. If that fails too, the job stays used, which is safe.
async fn give_back_job(gateway: &Gateway, name: &InRing, terms: &Terms) {
    let give_back = |job: Stored<ImportJob>| {
        Ok::<_, DocumentError>(ImportJob {
            used_for: String::new(),
            ..job.content
        })
    };
    let given_back = gateway
        .documents
        .update(&name.ring, name.id.as_str(), None, None, terms.deadline, give_back)
        .await;
    if let Err(error) = given_back {
        tracing::warn!(%error, job = %name, "an import failed, and its job stays used");
    }
}

/// The id of a new job: drawn, or the same for the same request.
fn job_id(once: Option<&Idempotency>) -> Result<Id, ApiError> {
    let uuid = match once {
        None => Uuid::now_v7(),
        Some(once) => {
            let digest = Sha256::new_with_prefix(once.request_id.as_bytes())
                .chain_update(&once.principal)
                .finalize();
            // Invariant: a SHA-256 digest has more than 16 bytes.
            Uuid::from_bytes(digest[..16].try_into().expect("16 bytes"))
        }
    };
    Ok(Id::parse(&uuid.to_string())?)
}

fn shown(ring: &Id, job: &Stored<ImportJob>) -> v1::ImportJob {
    let key = job.content.key();
    v1::ImportJob {
        name: name_of::<ImportJob>(ring.as_str(), &job.id),
        method: match job.content.mechanism {
            Mechanism::RsaOaepSha1 => v1::ImportMethod::RsaOaepSha1AesKwp,
            _ => v1::ImportMethod::RsaOaepSha256AesKwp,
        }
        .into(),
        wrapping_key_type: key.as_ref().map_or(0, |key| key.key_type.number().into()),
        public_key: key.map(|key| key.public_key).unwrap_or_default().into(),
        create_time: Some(convert::timestamp(job.created)),
        expire_time: crate::keys::record::from_micros(job.content.expires).map(convert::timestamp),
        imported_version: job.content.used_for.clone(),
    }
}

const USUAL_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const LONGEST_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// More than any key has: RSA-4096 in PKCS#8 and its wrapping.
const LONGEST_MATERIAL: usize = 8 * 1024;

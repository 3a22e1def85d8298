//! Encryption under symmetric keys: AES-GCM in the gateway's format, and the AES modes that keys permit by name.

use super::{
    super::{
        ApiError, Reason,
        call::Call,
        lookup::find_given,
        target::{Asked, Decided, Target, Wish, authorise, decide},
    },
    CryptoRequest,
    payload::{GivenData, Plaintext, outgoing, require_length, verify_associated_data, verify_checksum},
};
use crate::{
    cluster::key_use::{GcmCiphertext, GcmKey},
    crypto::{
        checksum::crc32c,
        ciphertext::{Authenticated, Ciphertext, Header, OVERHEAD, Suite, TAG_LENGTH},
    },
    keys::directory::{KeyRecord, VersionRecord},
    policy::Action,
};
use portcullis_hsm::{
    algorithm::{Mechanism, Operation},
    member::Mode,
    template::{AES_BLOCK, iv_length},
};
use portcullis_proto::v1;

impl CryptoRequest for v1::EncryptRequest {
    type Response = v1::EncryptResponse;

    fn action(&self) -> Action {
        Action::Encrypt
    }

    async fn run(self, call: &mut Call) -> Result<Self::Response, ApiError> {
        let plaintext = Plaintext::from(self.plaintext);
        let (record, number) = find_given(call, &self.name, &self.key_token).await?;
        let given = GivenData::from(self.authenticated);
        let nothing_given = given.is_nothing();
        let authenticated = given.read(call)?;
        call.note_context(&authenticated);
        let wish = Wish::new(&record, Operation::Encrypt, self.mechanism)
            .with_version(number)
            .authenticating(&authenticated);
        let target = authorise(call, &record, wish)?;
        let (version, mechanism) = (target.version, target.mechanism);
        call.note_check_only(self.dry_run);
        require_length("plaintext", &plaintext, call.gateway().limits().payload)?;
        let mut response = v1::EncryptResponse {
            name: target.name(),
            mechanism: mechanism.number().into(),
            verified_plaintext_crc32c: verify_checksum("plaintext", &plaintext, self.plaintext_crc32c)?,
            verified_associated_data_crc32c: verify_associated_data(
                "associated_data",
                &authenticated,
                self.associated_data_crc32c,
            )?,
            ..v1::EncryptResponse::default()
        };
        require_vector(mechanism, &self.initialization_vector)?;
        if mechanism != Mechanism::AesGcm {
            require_bare(mechanism, nothing_given, &authenticated)?;
            if works_on_blocks(mechanism) && !plaintext.len().is_multiple_of(AES_BLOCK) {
                return Err(ApiError::field(
                    "plaintext",
                    format!(
                        "{mechanism} encrypts whole blocks of {AES_BLOCK} bytes, found {} bytes",
                        plaintext.len()
                    ),
                ));
            }
        }
        let material = target.material(call, "")?;
        if self.dry_run {
            return Ok(response);
        }
        // What the nonces of a caller are nobody knows here: if it draws them, they repeat as soon.
        if matches!(mechanism, Mechanism::AesGcm | Mechanism::AesGcmCallerIv) {
            target.count_encryption(call).await?;
        } else {
            version.uses.note();
        }
        let (cluster, errand) = (&call.gateway().cluster, call.errand());
        let (ciphertext, member) = if mechanism == Mechanism::AesGcm {
            let header = header(&record, version)?;
            let key = GcmKey {
                key: &material.handle,
                before_nonce: &header.to_bytes(),
                after_nonce: &authenticated.to_bytes(),
            };
            let (encrypted, member) = cluster.encrypt(key, &plaintext, errand).await?;
            (header.assemble(&encrypted.nonce, &encrypted.ciphertext), member)
        } else {
            let mode = Mode {
                mechanism,
                iv: &self.initialization_vector,
                associated_data: bare_data(&authenticated),
            };
            let (encrypted, member) = cluster.encrypt_bare(&material.handle, mode, &plaintext, errand).await?;
            response.initialization_vector = encrypted.nonce.into();
            (encrypted.ciphertext, member)
        };
        call.note_member(member);
        response.ciphertext_crc32c = crc32c(&ciphertext);
        response.ciphertext = ciphertext.into();
        Ok(response)
    }
}

impl CryptoRequest for v1::DecryptRequest {
    type Response = v1::DecryptResponse;

    fn action(&self) -> Action {
        Action::Decrypt
    }

    async fn run(self, call: &mut Call) -> Result<Self::Response, ApiError> {
        let (record, number) = find_given(call, &self.name, &self.key_token).await?;
        let given = GivenData::from(self.authenticated);
        let nothing_given = given.is_nothing();
        let authenticated = given.read(call)?;
        call.note_context(&authenticated);
        let wish = Wish::new(&record, Operation::Decrypt, self.mechanism).authenticating(&authenticated);
        // Only the gateway's own format says which version it needs.
        let parts = match wish.mechanism() {
            Some(Mechanism::AesGcm) => Ciphertext::parse(&self.ciphertext),
            _ => None,
        };
        let wish = wish.with_version(version_meant(&record, number, parts));
        let decided = decide(call, Asked::Own, &record, wish)?;
        let mechanism = decided.mechanism();
        call.note_check_only(self.dry_run);
        require_length(
            "ciphertext",
            &self.ciphertext,
            call.gateway().limits().payload + OVERHEAD,
        )?;
        let verified_ciphertext_crc32c = verify_checksum("ciphertext", &self.ciphertext, self.ciphertext_crc32c)?;
        let verified_associated_data_crc32c =
            verify_associated_data("associated_data", &authenticated, self.associated_data_crc32c)?;
        let (target, opened) = if mechanism == Mechanism::AesGcm {
            if !self.initialization_vector.is_empty() {
                return Err(ApiError::field(
                    "initialization_vector",
                    "AES_GCM has it in the ciphertext: leave it out",
                ));
            }
            let (target, parts) = opened_by(decided, &record, number, parts)?;
            (target, Opened::Gcm(parts))
        } else {
            require_bare(mechanism, nothing_given, &authenticated)?;
            let expected = iv_length(mechanism).unwrap_or_default();
            let found = self.initialization_vector.len();
            if found != expected {
                return Err(ApiError::field(
                    "initialization_vector",
                    format!("expected {expected} bytes with {mechanism}, found {found}"),
                ));
            }
            let target = decided.target()?;
            if !may_be_bare_ciphertext(mechanism, self.ciphertext.len()) {
                return Err(ApiError::decryption_failed());
            }
            (target, Opened::Bare)
        };
        let version = target.version;
        let material = target.material(call, &self.break_glass_reason)?;
        let mut response = v1::DecryptResponse {
            name: target.name(),
            used_primary: version.row.number == record.key.primary_version,
            mechanism: mechanism.number().into(),
            verified_ciphertext_crc32c,
            verified_associated_data_crc32c,
            ..v1::DecryptResponse::default()
        };
        if self.dry_run {
            return Ok(response);
        }
        version.uses.note();
        let (cluster, errand) = (&call.gateway().cluster, call.errand());
        let (plaintext, member) = match opened {
            Opened::Gcm(parts) => {
                let key = GcmKey {
                    key: &material.handle,
                    before_nonce: &parts.header.to_bytes(),
                    after_nonce: &authenticated.to_bytes(),
                };
                let ciphertext = GcmCiphertext {
                    nonce: parts.nonce,
                    sealed: parts.sealed,
                };
                cluster.decrypt(key, ciphertext, errand).await?
            }
            Opened::Bare => {
                let mode = Mode {
                    mechanism,
                    iv: &self.initialization_vector,
                    associated_data: bare_data(&authenticated),
                };
                cluster
                    .decrypt_bare(&material.handle, mode, &self.ciphertext, errand)
                    .await?
            }
        };
        call.note_member(member);
        response.plaintext_crc32c = crc32c(&plaintext);
        response.plaintext = outgoing(plaintext);
        Ok(response)
    }
}

/// What is decrypted.
enum Opened<'c> {
    Gcm(Ciphertext<'c>),
    Bare,
}

/// The number of the version that a decryption is about: the one that the caller names, else the one that the ciphertext needs.
pub(super) fn version_meant(record: &KeyRecord, number: Option<u32>, parts: Option<Ciphertext<'_>>) -> Option<u32> {
    let header = parts
        .map(|parts| parts.header)
        .filter(|header| header.key_uid == record.key.uid);
    number.or(header.map(|header| header.version))
}

/// The version that a ciphertext in the gateway's format needs, which must be the one that was decided on. A ciphertext of another
/// key or version, or of none, is as wrong as a broken one.
pub(super) fn opened_by<'r, 'a, 'c>(
    decided: Decided<'r, 'a>,
    record: &KeyRecord,
    number: Option<u32>,
    parts: Option<Ciphertext<'c>>,
) -> Result<(Target<'r, 'a>, Ciphertext<'c>), ApiError> {
    let wrong = ApiError::decryption_failed;
    let parts = parts.ok_or_else(wrong)?;
    if version_meant(record, number, Some(parts)) != Some(parts.header.version) {
        return Err(wrong());
    }
    let target = decided.target().map_err(|_| wrong())?;
    if header(record, target.version)? != parts.header {
        return Err(wrong());
    }
    Ok((target, parts))
}

/// The head of a version's ciphertexts in the gateway's format.
pub(super) fn header(record: &KeyRecord, version: &VersionRecord) -> Result<Header, ApiError> {
    let suite = Suite::of(record.profile.key_type)
        .ok_or_else(|| ApiError::new(Reason::Internal, "a key that permits AES_GCM is no AES key"))?;
    Ok(Header {
        key_uid: record.key.uid,
        version: version.row.number,
        suite,
    })
}

/// Refuses an initialisation vector of the caller's where the mechanism draws its own, and the lack of one where it does not.
fn require_vector(mechanism: Mechanism, given: &[u8]) -> Result<(), ApiError> {
    let expected = match mechanism.takes_callers_iv() {
        true => iv_length(mechanism).unwrap_or_default(),
        false => 0,
    };
    let found = given.len();
    match (found == expected, expected) {
        (true, _) => Ok(()),
        (false, 0) => Err(ApiError::field(
            "initialization_vector",
            format!("the HSM draws it with {mechanism}: leave it out"),
        )),
        (false, _) => Err(ApiError::field(
            "initialization_vector",
            format!("expected {expected} bytes with {mechanism}, found {found}"),
        )),
    }
}

/// Refuses mechanisms that are not for Encrypt and Decrypt, and associated data that nothing would authenticate.
fn require_bare(mechanism: Mechanism, nothing_given: bool, authenticated: &Authenticated) -> Result<(), ApiError> {
    if iv_length(mechanism).is_none() {
        let message = format!("{mechanism} decrypts by AsymmetricDecrypt");
        return Err(ApiError::new(Reason::AlgorithmMismatch, message));
    }
    match (mechanism, authenticated) {
        _ if nothing_given => return Ok(()),
        (Mechanism::AesGcmCallerIv, Authenticated::Data(_)) => return Ok(()),
        (Mechanism::AesGcmCallerIv, Authenticated::Context(_)) => {
            return Err(ApiError::field(
                "encryption_context",
                format!("{mechanism} has no form for it: give associated_data, or choose AES_GCM"),
            ));
        }
        _ => {}
    }
    Err(ApiError::field(
        "associated_data",
        format!(
            "{mechanism} authenticates nothing, so it takes neither associated data nor an encryption context: leave them out, or choose AES_GCM"
        ),
    ))
}

/// What is authenticated as it is.
fn bare_data(authenticated: &Authenticated) -> &[u8] {
    match authenticated {
        Authenticated::Data(data) => data,
        Authenticated::Context(_) => &[],
    }
}

fn works_on_blocks(mechanism: Mechanism) -> bool {
    matches!(
        mechanism,
        Mechanism::AesCbc | Mechanism::AesCbcCallerIv | Mechanism::AesEcb
    )
}

fn may_be_bare_ciphertext(mechanism: Mechanism, length: usize) -> bool {
    match mechanism {
        Mechanism::AesCtr => true,
        Mechanism::AesGcmCallerIv => length >= TAG_LENGTH,
        Mechanism::AesCbcPad | Mechanism::AesCbcPadCallerIv => length > 0 && length.is_multiple_of(AES_BLOCK),
        _ => length.is_multiple_of(AES_BLOCK),
    }
}

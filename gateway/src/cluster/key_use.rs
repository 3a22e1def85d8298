//! The use of keys on the cluster's members: each operation with its types, over `Cluster::execute`.
//!
//! A member that has not loaded a key gets its token with the second try; where an operation takes two keys, it then gets both.

use super::{
    attempt::{Check, SendToken},
    core::{Errand, MemberIndex, Needs},
    error::ClusterError,
    operation::{ByMember, Key, bytes},
    shell::Cluster,
};
use crate::crypto::signature::{self, Encoding, Input, VerifyError};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation},
    member::Mode,
    worker::protocol::{
        Agree, DataKey, Decrypt, DecryptAsymmetric, DecryptBare, Encrypt, EncryptBare, Encrypted, GenerateDataKey,
        KeyWithData, Random, ReEncrypt, ReplyBody, RequestBody, Sign, VerifyMac,
    },
};
use std::sync::{Arc, OnceLock};
use zeroize::Zeroizing;

/// Bytes that are wiped when they are dropped, with the member that gave them.
pub type SecretByMember = ByMember<Zeroizing<Vec<u8>>>;

/// What verifies a key's signatures.
#[derive(Debug, Clone, Copy)]
pub struct PublicKey<'a> {
    /// What the key is.
    pub key_type: KeyType,
    /// SubjectPublicKeyInfo in DER.
    pub info: &'a [u8],
}

/// A key for AES-GCM with the associated data: the nonce stands between its parts, and is drawn by the member to encrypt.
#[derive(Debug, Clone, Copy)]
pub struct GcmKey<'a> {
    /// The key.
    pub key: &'a Key,
    /// The associated data before the nonce.
    pub before_nonce: &'a [u8],
    /// The associated data after the nonce.
    pub after_nonce: &'a [u8],
}

/// A ciphertext of AES-GCM.
#[derive(Debug, Clone, Copy)]
pub struct GcmCiphertext<'a> {
    /// The 12-byte nonce.
    pub nonce: &'a [u8],
    /// The encrypted bytes and the tag.
    pub sealed: &'a [u8],
}

/// Whether a data key is seen outside the member that drew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Its plaintext comes with it.
    Plaintext,
    /// It stays inside.
    Sealed,
}

impl PublicKey<'_> {
    /// Whether a signature over a digest, or over a message where the mechanism takes that, is right; ECDSA's in the form in which
    /// HSMs sign.
    fn accepts(&self, mechanism: Mechanism, data: &[u8], signature: &[u8]) -> Result<bool, VerifyError> {
        let input = match mechanism.signature_hash() {
            Some(_) => Input::Digest(data),
            None => Input::Message(data),
        };
        let PublicKey { key_type, info } = *self;
        signature::verify(key_type, mechanism, info, input, signature, Encoding::P1363)
    }
}

impl GcmKey<'_> {
    fn message(&self, token: SendToken) -> KeyWithData {
        KeyWithData {
            key: self.key.message(token),
            before_nonce: self.before_nonce.to_vec(),
            after_nonce: self.after_nonce.to_vec(),
        }
    }
}

impl Cluster {
    /// Signs a digest, or a message where the mechanism takes that; ECDSA gives r and s (IEEE P1363).
    ///
    /// The first signature by a key that a worker has loaded, and a share of those that follow, is verified with the public key
    /// before it is returned. A member whose signature is wrong is fenced, and another one signs.
    pub async fn sign(
        self: &Arc<Self>,
        key: &Key,
        mechanism: Mechanism,
        data: &[u8],
        public_key: PublicKey<'_>,
        errand: impl Into<Errand>,
    ) -> ByMember<Vec<u8>> {
        // That a signature cannot be checked is not the member's fault: it must not be fenced for it.
        let unverifiable = OnceLock::new();
        let is_right = |reply: &ReplyBody| match reply {
            ReplyBody::Bytes(signature) => public_key
                .accepts(mechanism, data, signature)
                .inspect_err(|error| _ = unverifiable.set(*error))
                .ok(),
            _ => Some(false),
        };
        let check = Check {
            key: key.digest(),
            complaint: "it made a signature that the key's public half does not verify",
            is_right: &is_right,
        };
        let signature = self
            .sign_or_mac(key, Operation::Sign, mechanism, data, errand, Some(check))
            .await?;
        match unverifiable.into_inner() {
            Some(error) => Err(ClusterError::Unverifiable(error)),
            None => Ok(signature),
        }
    }

    /// Makes a message authentication code.
    pub async fn mac(
        self: &Arc<Self>,
        key: &Key,
        mechanism: Mechanism,
        data: &[u8],
        errand: impl Into<Errand>,
    ) -> ByMember<Vec<u8>> {
        self.sign_or_mac(key, Operation::MacSign, mechanism, data, errand, None)
            .await
    }

    async fn sign_or_mac(
        self: &Arc<Self>,
        key: &Key,
        operation: Operation,
        mechanism: Mechanism,
        data: &[u8],
        errand: impl Into<Errand>,
        check: Option<Check<'_>>,
    ) -> ByMember<Vec<u8>> {
        let body = |token| {
            RequestBody::Sign(Sign {
                key: key.message(token),
                operation: operation.number().into(),
                mechanism: mechanism.number().into(),
                data: data.to_vec(),
            })
        };
        let needs = key.needs(operation, mechanism);
        bytes(self.execute_checked(&needs, errand, body, check).await?)
    }

    /// Says whether a message authentication code is right.
    pub async fn verify_mac(
        self: &Arc<Self>,
        key: &Key,
        mechanism: Mechanism,
        data: &[u8],
        mac: &[u8],
        errand: impl Into<Errand>,
    ) -> ByMember<bool> {
        let body = |token| {
            RequestBody::VerifyMac(VerifyMac {
                key: key.message(token),
                mechanism: mechanism.number().into(),
                data: data.to_vec(),
                mac: mac.to_vec(),
            })
        };
        match self
            .execute(&key.needs(Operation::MacVerify, mechanism), errand, body)
            .await?
        {
            (ReplyBody::Verdict(valid), member) => Ok((valid, member)),
            _ => Err(ClusterError::Protocol),
        }
    }

    /// Encrypts by AES-GCM.
    pub async fn encrypt(
        self: &Arc<Self>,
        key: GcmKey<'_>,
        plaintext: &[u8],
        errand: impl Into<Errand>,
    ) -> ByMember<Encrypted> {
        let body = |token| {
            RequestBody::Encrypt(Encrypt {
                key: key.key.message(token),
                before_nonce: key.before_nonce.to_vec(),
                after_nonce: key.after_nonce.to_vec(),
                plaintext: plaintext.to_vec(),
            })
        };
        let needs = key.key.needs(Operation::Encrypt, Mechanism::AesGcm);
        encrypted(self.execute(&needs, errand, body).await?)
    }

    /// Decrypts AES-GCM.
    pub async fn decrypt(
        self: &Arc<Self>,
        key: GcmKey<'_>,
        ciphertext: GcmCiphertext<'_>,
        errand: impl Into<Errand>,
    ) -> SecretByMember {
        let body = |token| {
            RequestBody::Decrypt(Decrypt {
                key: key.key.message(token),
                before_nonce: key.before_nonce.to_vec(),
                after_nonce: key.after_nonce.to_vec(),
                nonce: ciphertext.nonce.to_vec(),
                ciphertext: ciphertext.sealed.to_vec(),
            })
        };
        let needs = key.key.needs(Operation::Decrypt, Mechanism::AesGcm);
        secret(self.execute(&needs, errand, body).await?)
    }

    /// Draws a data key of so many bytes and encrypts it by AES-GCM, in one step on one member.
    pub async fn generate_data_key(
        self: &Arc<Self>,
        key: GcmKey<'_>,
        length: u32,
        release: Release,
        errand: impl Into<Errand>,
    ) -> ByMember<(Encrypted, Option<Zeroizing<Vec<u8>>>)> {
        let body = |token| {
            RequestBody::GenerateDataKey(GenerateDataKey {
                with: key.message(token),
                length,
                reveal: release == Release::Plaintext,
            })
        };
        let needs = key.key.needs(Operation::Encrypt, Mechanism::AesGcm);
        match self.execute(&needs, errand, body).await? {
            (ReplyBody::DataKey(DataKey { encrypted, plaintext }), member)
                if plaintext.is_some() == (release == Release::Plaintext) =>
            {
                Ok(((encrypted, plaintext.map(|secret| secret.into_bytes())), member))
            }
            _ => Err(ClusterError::Protocol),
        }
    }

    /// Decrypts AES-GCM with one key and encrypts with another, in one step on one member.
    pub async fn re_encrypt(
        self: &Arc<Self>,
        source: GcmKey<'_>,
        ciphertext: GcmCiphertext<'_>,
        destination: GcmKey<'_>,
        errand: impl Into<Errand>,
    ) -> ByMember<Encrypted> {
        let body = |token| {
            RequestBody::ReEncrypt(ReEncrypt {
                source: source.message(token),
                nonce: ciphertext.nonce.to_vec(),
                ciphertext: ciphertext.sealed.to_vec(),
                destination: destination.message(token),
            })
        };
        let needs = Needs {
            uses: vec![
                (Operation::Decrypt, Mechanism::AesGcm),
                (Operation::Encrypt, Mechanism::AesGcm),
            ],
            generates: None,
            only: self.in_common(source.key, destination.key)?,
        };
        encrypted(self.execute(&needs, errand, body).await?)
    }

    /// The members that hold both keys; `None` where each member can.
    fn in_common(&self, first: &Key, second: &Key) -> Result<Option<Vec<MemberIndex>>, ClusterError> {
        let (Some(some), Some(others)) = (first.only(), second.only()) else {
            return Ok(first.only().or(second.only()).map(<[_]>::to_vec));
        };
        let common: Vec<_> = some.iter().copied().filter(|one| others.contains(one)).collect();
        if !common.is_empty() {
            return Ok(Some(common));
        }
        let mut members: Vec<_> = some
            .iter()
            .chain(others)
            .map(|one| self.name(*one).to_string())
            .collect();
        members.sort_unstable();
        members.dedup();
        Err(ClusterError::Unsupported {
            what: "one step with two resident keys that no member holds together".to_owned(),
            members,
        })
    }

    /// Encrypts in an AES mode whose result is its ciphertext alone, under the caller's initialisation vector or one that the member
    /// draws.
    pub async fn encrypt_bare(
        self: &Arc<Self>,
        key: &Key,
        mode: Mode<'_>,
        plaintext: &[u8],
        errand: impl Into<Errand>,
    ) -> ByMember<Encrypted> {
        let body = |token| {
            RequestBody::EncryptBare(EncryptBare {
                key: key.message(token),
                mechanism: mode.mechanism.number().into(),
                plaintext: plaintext.to_vec(),
                iv: mode.iv.to_vec(),
                associated_data: mode.associated_data.to_vec(),
            })
        };
        let needs = key.needs(Operation::Encrypt, mode.mechanism);
        encrypted(self.execute(&needs, errand, body).await?)
    }

    /// Decrypts in an AES mode whose ciphertext stands alone.
    pub async fn decrypt_bare(
        self: &Arc<Self>,
        key: &Key,
        mode: Mode<'_>,
        ciphertext: &[u8],
        errand: impl Into<Errand>,
    ) -> SecretByMember {
        let body = |token| {
            RequestBody::DecryptBare(DecryptBare {
                key: key.message(token),
                mechanism: mode.mechanism.number().into(),
                iv: mode.iv.to_vec(),
                ciphertext: ciphertext.to_vec(),
                associated_data: mode.associated_data.to_vec(),
            })
        };
        let needs = key.needs(Operation::Decrypt, mode.mechanism);
        secret(self.execute(&needs, errand, body).await?)
    }

    /// Decrypts what was encrypted to an RSA public key; the ciphertext is as long as the modulus.
    pub async fn decrypt_asymmetric(
        self: &Arc<Self>,
        key: &Key,
        mechanism: Mechanism,
        ciphertext: &[u8],
        errand: impl Into<Errand>,
    ) -> SecretByMember {
        let body = |token| {
            RequestBody::DecryptAsymmetric(DecryptAsymmetric {
                key: key.message(token),
                mechanism: mechanism.number().into(),
                ciphertext: ciphertext.to_vec(),
            })
        };
        let needs = key.needs(Operation::Decrypt, mechanism);
        secret(self.execute(&needs, errand, body).await?)
    }

    /// Agrees on a secret with a peer, whose uncompressed point is known to be on the key's curve.
    pub async fn agree(self: &Arc<Self>, key: &Key, peer_point: &[u8], errand: impl Into<Errand>) -> SecretByMember {
        let body = |token| {
            RequestBody::Agree(Agree {
                key: key.message(token),
                peer_point: peer_point.to_vec(),
            })
        };
        let needs = key.needs(Operation::Derive, Mechanism::Ecdh);
        secret(self.execute(&needs, errand, body).await?)
    }

    /// Random bytes from a member's generator.
    pub async fn random(self: &Arc<Self>, length: u32, errand: impl Into<Errand>) -> SecretByMember {
        let body = |_| RequestBody::Random(Random { length });
        secret(self.execute(&Needs::default(), errand, body).await?)
    }
}

fn secret((reply, member): (ReplyBody, MemberIndex)) -> SecretByMember {
    match reply {
        ReplyBody::Secret(secret) => Ok((secret.into_bytes(), member)),
        _ => Err(ClusterError::Protocol),
    }
}

fn encrypted((reply, member): (ReplyBody, MemberIndex)) -> ByMember<Encrypted> {
    match reply {
        ReplyBody::Encrypted(encrypted) => Ok((encrypted, member)),
        _ => Err(ClusterError::Protocol),
    }
}

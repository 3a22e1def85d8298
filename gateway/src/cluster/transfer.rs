//! Import, export and ephemeral keys.

use super::{
    core::{Errand, MemberIndex, Needs},
    operation::{ByMember, Key, KeySpecification, bytes},
    shell::Cluster,
};
use portcullis_hsm::{
    algorithm::{Mechanism, Operation},
    key_token::Storage,
    worker::protocol::{
        RequestBody,
        transfer::{Export, GenerateEphemeral, Import, RenewEphemeral},
    },
};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// Key material that is to be imported.
pub struct Material {
    /// How it is protected.
    pub protection: MaterialProtection,
    /// The wrapped key, or the clear value.
    pub bytes: Zeroizing<Vec<u8>>,
    /// SubjectPublicKeyInfo in DER, where the caller gave it.
    pub public_key: Vec<u8>,
}

/// How key material is protected on its way.
#[derive(Debug, Clone)]
pub enum MaterialProtection {
    /// Wrapped for a key of this domain: OAEP means the layout of `CKM_RSA_AES_KEY_WRAP`.
    WrappedFor(Key, Mechanism),
    /// Not at all.
    Clear,
}

/// For whom a key is wrapped.
#[derive(Debug, Clone, Copy)]
pub enum ExportTo<'a> {
    /// A wrapping key of this domain.
    WrappingKey(&'a Key),
    /// An RSA public key: SubjectPublicKeyInfo in DER.
    Recipient(&'a [u8]),
}

/// Whose an ephemeral key is, and for how long: times in microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy)]
pub struct Tenure<'a> {
    /// The principal.
    pub owner: &'a str,
    /// The id of the key ring.
    pub ring: &'a str,
    /// When it begins.
    pub created: u64,
    /// When it ends.
    pub expires: u64,
}

impl Material {
    /// What a member needs to import this as a key; on this member, if one is named.
    pub fn needs(&self, key: &KeySpecification, on: Option<MemberIndex>) -> Needs {
        let needs = Needs {
            uses: key.uses(),
            only: on.map(|member| vec![member]),
            generates: None,
        };
        match &self.protection {
            MaterialProtection::Clear => needs,
            MaterialProtection::WrappedFor(by, mechanism) => {
                let unwrapping = by.needs(Operation::Unwrap, *mechanism);
                Needs {
                    uses: [needs.uses, unwrapping.uses].concat(),
                    // A resident key on one member cannot unwrap what shall live on another: no member then has all it takes.
                    only: match (needs.only, unwrapping.only) {
                        (Some(on), Some(holders)) => Some(on.into_iter().filter(|one| holders.contains(one)).collect()),
                        (on, holders) => on.or(holders),
                    },
                    generates: None,
                }
            }
        }
    }
}

impl Cluster {
    /// Imports a key and returns its token. A resident key is made on `on`, or adopted there if it was made before.
    pub async fn import(
        self: &Arc<Self>,
        key: &KeySpecification,
        material: &Material,
        on: Option<MemberIndex>,
        errand: impl Into<Errand>,
    ) -> ByMember<Vec<u8>> {
        self.require_storage(key.storage)?;
        let needs = material.needs(key, on);
        let body = |token| {
            let (unwrapping_key, mechanism) = match &material.protection {
                MaterialProtection::WrappedFor(by, mechanism) => (Some(by.message(token)), mechanism.number()),
                MaterialProtection::Clear => (None, 0),
            };
            let import = Import {
                key: key.message(),
                public_key: material.public_key.clone(),
                unwrapping_key,
                mechanism: mechanism.into(),
                material: material.bytes.to_vec(),
            };
            match key.storage {
                Storage::Resident => RequestBody::ImportResident(import),
                _ => RequestBody::ImportWrapped(import),
            }
        };
        bytes(self.execute(&needs, errand, body).await?)
    }

    /// Wraps a portable key for somebody.
    pub async fn export(
        self: &Arc<Self>,
        key: &Key,
        to: ExportTo<'_>,
        mechanism: Mechanism,
        errand: impl Into<Errand>,
    ) -> ByMember<Vec<u8>> {
        let needs = match to {
            ExportTo::WrappingKey(wrapping) => wrapping.needs(Operation::Wrap, mechanism),
            ExportTo::Recipient(_) => Needs {
                uses: vec![(Operation::Wrap, mechanism)],
                ..Needs::default()
            },
        };
        let body = |token| {
            let (wrapping_key, recipient) = match to {
                ExportTo::WrappingKey(wrapping) => (Some(wrapping.message(token)), Vec::new()),
                ExportTo::Recipient(public_key) => (None, public_key.to_vec()),
            };
            RequestBody::Export(Export {
                key: key.whole_message(),
                mechanism: mechanism.number().into(),
                wrapping_key,
                recipient,
            })
        };
        bytes(self.execute(&needs, errand, body).await?)
    }

    /// Generates an ephemeral key and returns its token.
    pub async fn generate_ephemeral(
        self: &Arc<Self>,
        key: &KeySpecification,
        tenure: Tenure<'_>,
        errand: impl Into<Errand>,
    ) -> ByMember<Vec<u8>> {
        self.require_storage(key.storage)?;
        let needs = Needs {
            uses: key.uses(),
            generates: Some(key.key_type),
            only: None,
        };
        let body = |_| {
            RequestBody::GenerateEphemeral(GenerateEphemeral {
                key: key.message(),
                owner: tenure.owner.to_owned(),
                ring: tenure.ring.to_owned(),
                created: tenure.created,
                expires: tenure.expires,
            })
        };
        bytes(self.execute(&needs, errand, body).await?)
    }

    /// The token of an ephemeral key anew, with another end.
    pub async fn renew_ephemeral(
        self: &Arc<Self>,
        sealed: &[u8],
        expires: u64,
        errand: impl Into<Errand>,
    ) -> ByMember<Vec<u8>> {
        let body = |_| {
            RequestBody::RenewEphemeral(RenewEphemeral {
                sealed: sealed.to_vec(),
                expires,
            })
        };
        bytes(self.execute(&Needs::default(), errand, body).await?)
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Material")
            .field("protection", &self.protection)
            .finish_non_exhaustive()
    }
}

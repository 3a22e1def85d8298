//! What fuzz targets give their inputs to: the parts that read what a caller of the module may have made wrong. Nothing here asks a
//! gateway.

use crate::{
    abi,
    config::{Config, NewKeys},
    creation,
    gateway::Pool,
    key::{Key, Reference, Standing},
    mechanism::{Mechanism, Parameters},
    object::{Attribute, Content, Object, StoredCertificate},
    operation::{
        cipher::{Cipher, Direction},
        derivation,
        digest::Digesting,
        generation::{self, Wanted},
        import::Clear,
        signature::Signature,
    },
    software::public_key::PublicKey,
    template::Template,
};
use cryptoki_sys::*;
use portcullis_proto::v1::{KeyOperation, KeyType, Mechanism as Gateway};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Keys that may do everything, as a token shows them.
pub struct Keys {
    objects: Vec<Object>,
    pool: Pool,
}

impl Keys {
    /// The pairs with these public halves (SubjectPublicKeyInfo in DER), and secret keys; what is no public key is left out.
    pub fn new(infos: &[&[u8]]) -> Self {
        let pairs = infos.iter().filter_map(|info| {
            let public = PublicKey::read(info)?;
            Some(key(public.key_type()?, info, Some(public)))
        });
        let secrets = [KeyType::Aes256, KeyType::HmacSha256].map(|key_type| key(key_type, &[], None));
        let contents = pairs.chain(secrets).flat_map(crate::catalogue::halves);
        let objects = contents.map(|content| Object {
            handle: 1,
            slot: 0,
            owner: None,
            content,
        });
        // Invariant: the text is a configuration.
        let config = Config::parse("endpoint = \"unix:/nowhere\"").expect("a configuration");
        Self {
            objects: objects.collect(),
            pool: Pool::new(&config),
        }
    }

    /// Holds a template against everything that takes one; says whether anything accepted it.
    pub fn template(&self, attributes: Vec<(u64, Vec<u8>)>) -> bool {
        let attributes = attributes
            .into_iter()
            .map(|(kind, value)| (kind, Zeroizing::new(value)));
        let Ok(template) = Template::new(attributes.collect()) else {
            return false;
        };
        let all = NewKeys {
            raw_rsa: true,
            rsa_pkcs1_decryption: true,
            aes_gcm: true,
        };
        let mut is_accepted = false;
        for kind in [
            CKM_RSA_PKCS_KEY_PAIR_GEN,
            CKM_EC_KEY_PAIR_GEN,
            CKM_EC_EDWARDS_KEY_PAIR_GEN,
        ] {
            is_accepted |= Wanted::pair(&plain(kind), &template, &template, all).is_ok();
        }
        for kind in [CKM_AES_KEY_GEN, CKM_GENERIC_SECRET_KEY_GEN] {
            is_accepted |= Wanted::secret(&plain(kind), &template, NewKeys::default()).is_ok();
        }
        let info = template.bytes(CKA_PUBLIC_KEY_INFO).unwrap_or_default();
        is_accepted |= generation::arriving(40, info, &template).is_ok();
        is_accepted |= derivation::wanted(&template).is_ok();
        is_accepted |= Clear::new(&template).is_ok();
        is_accepted |= creation::new_data(&template).is_ok();
        is_accepted |= template.bytes(CKA_VALUE).and_then(StoredCertificate::parts).is_some();
        for content in [creation::public_key(&template), creation::own_secret(&template)] {
            let Ok(content) = content else { continue };
            is_accepted = true;
            let object = Object {
                handle: 1,
                slot: 0,
                owner: Some(1),
                content,
            };
            let value = object.attribute(CKA_ID);
            let given = template.bytes(CKA_ID).unwrap_or_default();
            assert_eq!(
                value,
                Attribute::Value(given.to_vec()),
                "what was given is what is shown"
            );
        }
        for object in &self.objects {
            let is_shown = object.matches(&template);
            let shown = |(kind, value): (_, &[u8])| object.attribute(kind) == Attribute::Value(value.to_vec());
            assert_eq!(
                is_shown,
                template.iter().all(shown),
                "a search finds what has the attributes"
            );
        }
        is_accepted
    }

    /// Begins everything that a mechanism can begin, and checks a signature by public keys; says whether anything accepted it. Where
    /// the mechanism's parameters have pointers, they point to `inner`.
    pub fn mechanism(&self, kind: u64, parameter: &[u8], inner: [&[u8]; 2]) -> bool {
        let Ok(mechanism) = abi::mechanism_of(kind, parameter, inner) else {
            return false;
        };
        let mut is_accepted = Digesting::new(&mechanism).is_ok();
        for object in &self.objects {
            is_accepted |= Signature::signing(&mechanism, object).is_ok();
            is_accepted |= Cipher::new(&mechanism, object, Direction::Encrypt).is_ok();
            is_accepted |= Cipher::new(&mechanism, object, Direction::Decrypt).is_ok();
            if let (Content::PublicKey(_), Ok(mut checking)) =
                (&object.content, Signature::verifying(&mechanism, object))
            {
                is_accepted = true;
                let [data, signature] = inner;
                // Whatever comes of it: few inputs are signatures.
                drop(checking.verify(&self.pool, data, signature));
            }
        }
        is_accepted
    }
}

fn key(key_type: KeyType, info: &[u8], public: Option<PublicKey>) -> Arc<Key> {
    let operations = (1..=8).filter_map(|number| KeyOperation::try_from(number).ok());
    let uses = operations.flat_map(|operation| {
        let mechanisms = (1..=255).filter_map(|number| Gateway::try_from(number).ok());
        mechanisms.map(move |mechanism| (operation, mechanism))
    });
    Arc::new(Key {
        reference: Reference::Stored {
            key: "keyRings/ring/keys/key".into(),
            version: 1,
        },
        identity: format!("{key_type:?}"),
        key_type,
        uses: uses.collect(),
        standing: Standing::Active,
        info: info.to_vec(),
        public,
        id: vec![1],
        label: "key".into(),
        is_exportable: false,
        is_generated: true,
        is_resident: false,
    })
}

fn plain(kind: CK_MECHANISM_TYPE) -> Mechanism {
    Mechanism {
        kind,
        parameters: Parameters::None,
    }
}

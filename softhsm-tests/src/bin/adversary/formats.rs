//! Key tokens and ciphertexts, read by their documented layout.

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// A key token: the stored form of a key version.
#[derive(Debug)]
pub(crate) struct KeyToken {
    pub(crate) uid: [u8; 16],
    pub(crate) version: u32,
    pub(crate) key_type: u16,
    /// The mechanism of each permitted use, by the operation.
    pub(crate) uses: Vec<(u8, u16)>,
    pub(crate) wrapped: Vec<u8>,
    pub(crate) public_key: Vec<u8>,
    /// What the tag is computed over.
    pub(crate) framed_body: Vec<u8>,
    pub(crate) tag: Vec<u8>,
}

pub(crate) const RSA_2048: u16 = 1;
pub(crate) const EC_P256: u16 = 16;
pub(crate) const AES_256: u16 = 33;
pub(crate) const HMAC_SHA256: u16 = 48;

pub(crate) const USE_SIGN: u8 = 1;

impl KeyToken {
    pub(crate) fn parse(token: &[u8]) -> anyhow::Result<Self> {
        let (body, tag) = token
            .split_last_chunk::<32>()
            .context("a key token ends with a tag of 32 bytes")?;
        let mut rest = Reader(body);
        ensure!(rest.u8()? == 1, "the key token's format is not 1");
        ensure!(rest.u32()? == 1, "the key token's epoch is not 1");
        let uid = rest.array()?;
        let version = rest.u32()?;
        let key_type = rest.u16()?;
        ensure!(rest.u8()? == 1, "the key token's storage is not the seal key's");
        ensure!(rest.u8()? == 1, "the key's origin is not an HSM");
        let mut uses = Vec::new();
        for _ in 0..rest.u16()? {
            uses.push((rest.u8()?, rest.u16()?));
        }
        let secret_length = rest.u16()?;
        let expected = if matches!(key_type, AES_256 | HMAC_SHA256) {
            32
        } else {
            0
        };
        ensure!(
            secret_length == expected,
            "the secret length of key type {key_type} is {secret_length}"
        );
        let wrapped = rest.string()?;
        let public_key = rest.string()?;
        ensure!(rest.0.is_empty(), "bytes follow the key token's last field");
        let mut framed_body = b"portcullis mac v1\0\x01".to_vec();
        framed_body.extend((body.len() as u64).to_be_bytes());
        framed_body.extend(body);
        Ok(Self {
            uid,
            version,
            key_type,
            uses,
            wrapped,
            public_key,
            framed_body,
            tag: tag.to_vec(),
        })
    }

    /// The mechanism with which the key signs.
    pub(crate) fn signing_mechanism(&self) -> Option<u16> {
        self.uses
            .iter()
            .find(|(operation, _)| *operation == USE_SIGN)
            .map(|(_, mechanism)| *mechanism)
    }
}

/// A ciphertext of suite 1, AES-256-GCM.
#[derive(Debug)]
pub(crate) struct Ciphertext {
    pub(crate) uid: [u8; 16],
    pub(crate) version: u32,
    pub(crate) nonce: [u8; 12],
    /// The header without the nonce.
    pub(crate) header: Vec<u8>,
    pub(crate) encrypted: Vec<u8>,
}

impl Ciphertext {
    pub(crate) fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut rest = Reader(bytes);
        ensure!(rest.u8()? == 1, "the ciphertext's format is not 1");
        let uid = rest.array()?;
        let version = rest.u32()?;
        ensure!(rest.u8()? == 1, "the ciphertext's suite is not 1");
        let nonce = rest.array()?;
        Ok(Self {
            uid,
            version,
            nonce,
            header: bytes[..22].to_vec(),
            encrypted: rest.0.to_vec(),
        })
    }

    /// The associated data of AES-GCM: header, nonce, and what the caller authenticated.
    pub(crate) fn associated_data(&self, authenticated: &Value) -> anyhow::Result<Vec<u8>> {
        let mut data = [&self.header[..], &self.nonce].concat();
        match authenticated {
            Value::String(hexadecimal) => {
                data.push(0);
                data.extend(hex::decode(hexadecimal)?);
            }
            Value::Object(context) => {
                let sorted: BTreeMap<_, _> = context.iter().collect();
                data.push(1);
                data.extend(u32::try_from(sorted.len())?.to_be_bytes());
                for (name, value) in sorted {
                    let value = value.as_str().context("a context's value is text")?;
                    for text in [name.as_str(), value] {
                        data.extend(u32::try_from(text.len())?.to_be_bytes());
                        data.extend(text.as_bytes());
                    }
                }
            }
            other => bail!("authenticated is hexadecimal or an object, not {other}"),
        }
        Ok(data)
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn array<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().context("it ends inside a field")?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> anyhow::Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> anyhow::Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> anyhow::Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn string(&mut self) -> anyhow::Result<Vec<u8>> {
        let length = self.u32()? as usize;
        let (head, rest): (&'b [u8], _) = self.0.split_at_checked(length).context("it ends inside a string")?;
        self.0 = rest;
        Ok(head.to_vec())
    }
}

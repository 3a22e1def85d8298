//! One caller: a mix of calls, each of whose results is checked.

use super::load::{Books, Patience};
use crate::{
    calls::{KeySpec, create_key, create_ring, encrypt_request, key_request, message_request, public_key},
    signature::verifies,
};
use portcullis_client::{
    Client, Error, Status,
    v1::{
        CreateKeyRequest, DecryptRequest, GetPublicKeyRequest, MacSignRequest, MacVerifyRequest, Mechanism,
        PublicKeyFormat, decrypt_request,
    },
};
use prost::bytes::Bytes;
use std::{
    collections::VecDeque,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

/// The keys that all callers use, beside those that they create.
pub(super) struct Keys {
    signers: Vec<(String, Vec<u8>)>,
    ciphers: Vec<String>,
    macs: Vec<String>,
}

impl Keys {
    pub(super) async fn create(client: &Client) -> Self {
        create_ring(client, RING).await;
        let mut keys = Self {
            signers: Vec::new(),
            ciphers: Vec::new(),
            macs: Vec::new(),
        };
        for number in 0..4 {
            let signer = create_key(client, RING, &format!("ec-{number}"), KeySpec::EC_P256)
                .await
                .name;
            let half = public_key(client, &signer, PublicKeyFormat::Der).await.public_key;
            keys.signers.push((signer, half.to_vec()));
            let cipher = create_key(client, RING, &format!("aes-{number}"), KeySpec::AES_256).await;
            keys.ciphers.push(cipher.name);
            let mac = create_key(client, RING, &format!("hmac-{number}"), KeySpec::HMAC_SHA256).await;
            keys.macs.push(mac.name);
        }
        keys
    }
}

/// Somebody who calls.
pub(super) struct Caller {
    number: usize,
    client: Client,
    keys: Option<Arc<Keys>>,
    books: Arc<Books>,
    // What it encrypted and has not decrypted.
    sealed: VecDeque<Sealed>,
    turn: usize,
}

struct Sealed {
    key: usize,
    plaintext: Vec<u8>,
    ciphertext: Bytes,
}

#[derive(Clone, Copy)]
enum Kind {
    Sign,
    Encrypt,
    Decrypt,
    Mac,
    Create,
}

impl Caller {
    pub(super) fn new(number: usize, client: Client, keys: Arc<Keys>, books: Arc<Books>) -> Self {
        Self {
            number,
            client,
            keys: Some(keys),
            books,
            sealed: VecDeque::new(),
            turn: 0,
        }
    }

    /// One who only uses keys that others made.
    pub(super) fn reader(client: Client, books: Arc<Books>) -> Self {
        Self {
            number: 0,
            client,
            keys: None,
            books,
            sealed: VecDeque::new(),
            turn: 0,
        }
    }

    /// Calls until the load is over.
    pub(super) async fn run(mut self) {
        let Some(keys) = self.keys.take() else { return };
        while !self.books.is_over() {
            let key = (self.number + self.turn) % keys.signers.len();
            match MIX[(self.number * 3 + self.turn) % MIX.len()] {
                Kind::Sign => {
                    let (name, half) = &keys.signers[key];
                    let message = self.message();
                    self.sign(name, half, &message).await;
                }
                Kind::Encrypt => self.encrypt(&keys, key).await,
                Kind::Decrypt if self.sealed.is_empty() => self.encrypt(&keys, key).await,
                Kind::Decrypt => self.decrypt(&keys).await,
                Kind::Mac => self.mac(&keys.macs[key]).await,
                Kind::Create => self.create().await,
            }
            self.turn += 1;
        }
        while !self.sealed.is_empty() {
            self.decrypt(&keys).await;
        }
    }

    /// Uses a key that was created under load: it must be there, and be the one that it was.
    pub(super) async fn use_again(&self, name: &str, public_key: &[u8]) {
        self.sign(name, public_key, b"is it still there?").await;
    }

    async fn sign(&self, name: &str, public_key: &[u8], message: &[u8]) {
        let request = message_request(name, message);
        let answer = self.ask("Sign", || {
            let (client, request) = (self.client.clone(), request.clone());
            async move { client.crypto().sign(request).await }
        });
        if let Some(signed) = answer.await
            && !verifies(public_key, Mechanism::EcdsaSha256, message, &signed.signature)
        {
            self.books.note_wrong(format!("a signature by {name} does not verify"));
        }
    }

    async fn encrypt(&mut self, keys: &Keys, key: usize) {
        let plaintext = self.message();
        let request = encrypt_request(&keys.ciphers[key], &plaintext, ASSOCIATED);
        let answer = self.ask("Encrypt", || {
            let (client, request) = (self.client.clone(), request.clone());
            async move { client.crypto().encrypt(request).await }
        });
        if let Some(encrypted) = answer.await {
            let ciphertext = encrypted.ciphertext;
            self.sealed.push_back(Sealed {
                key,
                plaintext,
                ciphertext,
            });
        }
    }

    /// What some member encrypted is decrypted by another, or the same.
    async fn decrypt(&mut self, keys: &Keys) {
        let Some(sealed) = self.sealed.pop_front() else { return };
        let associated = Bytes::from_static(ASSOCIATED);
        let request = DecryptRequest {
            name: keys.ciphers[sealed.key].clone(),
            ciphertext: sealed.ciphertext,
            authenticated: Some(decrypt_request::Authenticated::AssociatedData(associated)),
            ..Default::default()
        };
        let answer = self.ask("Decrypt", || {
            let (client, request) = (self.client.clone(), request.clone());
            async move { client.crypto().decrypt(request).await }
        });
        if let Some(decrypted) = answer.await
            && decrypted.plaintext != sealed.plaintext
        {
            self.books.note_wrong(format!("another plaintext by {}", request.name));
        }
    }

    /// What some member computed is computed again by another, or the same.
    async fn mac(&mut self, name: &str) {
        let data = Bytes::from(self.message());
        let request = MacSignRequest {
            name: name.to_owned(),
            data: data.clone(),
            ..Default::default()
        };
        let answer = self.ask("MacSign", || {
            let (client, request) = (self.client.clone(), request.clone());
            async move { client.crypto().mac_sign(request).await }
        });
        let Some(made) = answer.await else { return };
        let request = MacVerifyRequest {
            name: name.to_owned(),
            data,
            mac: made.mac,
            ..Default::default()
        };
        let answer = self.ask("MacVerify", || {
            let (client, request) = (self.client.clone(), request.clone());
            async move { client.crypto().mac_verify(request).await }
        });
        if let Some(verified) = answer.await
            && !verified.valid
        {
            self.books.note_wrong(format!("a code by {name} is not valid"));
        }
    }

    /// A key that was created signs, and right.
    async fn create(&mut self) {
        let id = format!("of-{}-{}", self.number, self.turn);
        let request = CreateKeyRequest {
            // The same call again has the same answer.
            request_id: format!("00000000-0000-4000-8000-{:04x}{:08x}", self.number, self.turn),
            ..key_request(RING, &id, KeySpec::EC_P256)
        };
        let answer = self.ask("CreateKey", || {
            let (client, request) = (self.client.clone(), request.clone());
            async move { client.keys().create_key(request).await }
        });
        let Some(key) = answer.await else { return };
        let request = GetPublicKeyRequest {
            name: key.name.clone(),
            format: PublicKeyFormat::Der as i32,
        };
        let answer = self.ask("GetPublicKey", || {
            let (client, request) = (self.client.clone(), request.clone());
            async move { client.keys().get_public_key(request).await }
        });
        let Some(half) = answer.await else { return };
        let message = self.message();
        self.sign(&key.name, &half.public_key, &message).await;
        self.books.note_created(key.name, half.public_key.to_vec());
    }

    fn message(&self) -> Vec<u8> {
        format!("{}/{}", self.number, self.turn).into_bytes()
    }

    /// Makes a call and writes down what became of it.
    async fn ask<T, F, A>(&self, what: &str, call: F) -> Option<T>
    where
        F: Fn() -> A,
        A: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let started = Instant::now();
        loop {
            match call().await {
                Ok(answer) => {
                    self.books.note(started, started.elapsed());
                    return Some(answer.into_inner());
                }
                Err(status) => {
                    let told = format!("{what} after {:?}: {:?} {status}", started.elapsed(), status.code());
                    let patient = self.books.patience == Patience::Retry && started.elapsed() < LONGEST;
                    let Some(delay) = later(status).filter(|_| patient) else {
                        self.books.note_failure(told);
                        return None;
                    };
                    self.books.note_refusal(told);
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }
}

/// After which time a call may be made again, if that may help.
fn later(status: Status) -> Option<Duration> {
    match Error::from(status) {
        Error::Unavailable(fault) => Some(fault.retry_delay().unwrap_or(USUAL_DELAY)),
        Error::Connection(_) => Some(USUAL_DELAY),
        _ => None,
    }
}

const RING: &str = "drill";
const ASSOCIATED: &[u8] = b"of the drill";
/// What the callers do, in turn: a message authentication code is two calls, and a new key three.
const MIX: [Kind; 16] = [
    Kind::Sign,
    Kind::Encrypt,
    Kind::Mac,
    Kind::Decrypt,
    Kind::Sign,
    Kind::Encrypt,
    Kind::Decrypt,
    Kind::Create,
    Kind::Sign,
    Kind::Mac,
    Kind::Encrypt,
    Kind::Decrypt,
    Kind::Sign,
    Kind::Encrypt,
    Kind::Sign,
    Kind::Decrypt,
];
/// Where the gateway names no delay, because there is none.
const USUAL_DELAY: Duration = Duration::from_millis(50);
/// A call that was repeated for so long has failed.
const LONGEST: Duration = Duration::from_secs(60);

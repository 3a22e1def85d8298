//! Every operation with secrets that are known again.

mod encryption;
mod refused;
mod signing;
mod streaming;
mod transfer;

use super::{VISIBLE, search::Canary};
use portcullis_client::{
    Client, Status,
    v1::{KeyOperation, KeyType, Mechanism},
};
use portcullis_softhsm_tests::{KeySpec, Material, create_key, create_ring};
use prost::bytes::Bytes;

/// What the gateway was given and gave out.
#[derive(Default)]
pub(super) struct Traces {
    /// What passes through it on behalf of a caller.
    pub(super) passing: Vec<Canary>,
    /// What never reaches it in clear.
    pub(super) outside: Vec<Canary>,
    /// What it stores as it is.
    pub(super) stored: Vec<Canary>,
    /// Every error, with its details.
    pub(super) errors: Vec<u8>,
}

/// Somebody who does everything over one connection.
pub(super) struct Caller<'t> {
    client: Client,
    ring: String,
    traces: &'t mut Traces,
}

impl<'t> Caller<'t> {
    /// With a ring of its own.
    pub(super) async fn new(client: Client, transport: &str, traces: &'t mut Traces) -> Self {
        let ring = format!("{transport}-{VISIBLE}");
        create_ring(&client, &ring).await;
        Self { client, ring, traces }
    }

    /// Does everything, rightly and wrongly.
    pub(super) async fn do_everything(mut self) {
        self.encrypt_and_decrypt().await;
        self.sign_and_mac().await;
        self.agree_and_decrypt().await;
        self.stream().await;
        self.import_and_export().await;
        self.keep_objects_and_ephemeral_keys().await;
        self.ask_wrongly().await;
    }

    /// Random bytes that are looked for afterwards.
    fn secret(&mut self, what: &str, length: usize) -> Bytes {
        let value = Material::secret(length).value;
        self.passes(what, &value);
        value.into()
    }

    fn passes(&mut self, what: &str, value: &[u8]) {
        self.traces.passing.push(self.canary(what, value));
    }

    fn stays_outside(&mut self, what: &str, value: &[u8]) {
        self.traces.outside.push(self.canary(what, value));
    }

    fn canary(&self, what: &str, value: &[u8]) -> Canary {
        Canary {
            what: format!("{what} ({})", self.ring),
            value: value.to_vec(),
        }
    }

    #[track_caller]
    fn refused<T>(&mut self, result: Result<T, Status>) {
        let Err(status) = result else { panic!("it was done") };
        self.traces.errors.extend(format!("{status:?} {status}").into_bytes());
        self.traces.errors.extend(status.details());
    }

    async fn key(&self, id: &str, key_type: KeyType, uses: &'static [(KeyOperation, Mechanism)]) -> String {
        create_key(&self.client, &self.ring, id, KeySpec::wrapped(key_type, uses))
            .await
            .name
    }
}

/// A private key's number inside its PKCS#8, without what is public in it.
fn private_number(pair: &Material) -> &[u8] {
    // RFC 5915: an OCTET STRING of the curve's length follows the version, which is 1.
    let version = [0x02, 0x01, 0x01, 0x04];
    let at = pair.value.windows(version.len()).position(|window| window == version);
    let at = at.expect("an ECPrivateKey") + version.len();
    let length = usize::from(pair.value[at]);
    &pair.value[at + 1..][..length]
}

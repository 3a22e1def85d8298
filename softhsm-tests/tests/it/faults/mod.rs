//! Members whose modules fail in every way that the standard has a code for, and in some that it has none for.

mod accidents;
mod classes;
mod members;
mod module;
mod scarce;
mod transfer;

use crate::worker::{MAC_USES, Worker, mac, open};
use portcullis_client::{
    Client,
    v1::{Mechanism, Member, PublicKeyFormat},
};
use portcullis_hsm::{
    algorithm::KeyType,
    worker::protocol::{FindDomain, Open, ReplyBody, RequestBody},
};
use portcullis_softhsm_tests::{
    FaultyModule, Function, Gateway, KeySpec, LONG, TestCluster, create_key, create_ring, decrypt, encrypt, public_key,
    sign, verifies,
};
use std::time::Instant;

/// A worker on the faulty module, with a key for message authentication codes that it has loaded.
struct FaultyWorker {
    worker: Worker,
    module: FaultyModule,
    token: Vec<u8>,
    // Its token directory goes last.
    cluster: TestCluster,
}

impl FaultyWorker {
    fn start() -> Self {
        Self::with_sessions(2)
    }

    /// With so many sessions for the use of keys; one, where a test must know which.
    fn with_sessions(sessions: u32) -> Self {
        let cluster = TestCluster::new();
        let module = FaultyModule::install(&cluster, "a");
        let mut request = open_request(&cluster);
        request.sessions = sessions;
        let mut worker = Worker::start(&cluster);
        assert!(matches!(worker.ask(RequestBody::Open(request)), ReplyBody::Opened(_)));
        let found = worker.ask(RequestBody::FindDomain(FindDomain { epoch: 1 }));
        assert!(matches!(found, ReplyBody::DomainFound(_)));
        let token = worker.generate(KeyType::HmacSha256, &MAC_USES);
        assert!(matches!(worker.ask(mac(&token, true, b"data")), ReplyBody::Bytes(_)));
        Self {
            worker,
            module,
            token,
            cluster,
        }
    }

    /// The code of a message by the loaded key.
    fn mac(&mut self, message: &[u8]) -> ReplyBody {
        self.worker.ask(mac(&self.token, true, message))
    }

    /// The same where it must succeed.
    #[track_caller]
    fn tag(&mut self, message: &[u8]) -> Vec<u8> {
        match self.mac(message) {
            ReplyBody::Bytes(tag) => tag,
            ReplyBody::Failure(failure) => panic!("no tag: {}", failure.message),
            _ => panic!("an answer of another kind"),
        }
    }
}

/// Opens member `a` of a cluster through the faulty module.
fn open_request(cluster: &TestCluster) -> Open {
    let mut request = open(cluster, Some("portcullis-a"), None, &cluster.user_pin("a"), 100);
    request.module = FaultyModule::library().display().to_string();
    request
}

/// A gateway whose member `b` is on the faulty module, with keys that have been used on every member.
struct FaultyMember {
    gateway: Gateway,
    client: Client,
    module: FaultyModule,
    signer: String,
    public_key: Vec<u8>,
    cipher: String,
    keys: u32,
    // Its token directories go last.
    _cluster: TestCluster,
}

impl FaultyMember {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(configure: impl FnOnce(&TestCluster)) -> Self {
        let cluster = TestCluster::new();
        let module = FaultyModule::install(&cluster, "b");
        cluster.set_in_cluster("restart_pause", "50ms");
        configure(&cluster);
        let gateway = Gateway::start(&cluster);
        let client = gateway.unix_client().await.with_deadline(LONG);
        create_ring(&client, "ring").await;
        let signer = create_key(&client, "ring", "signer", KeySpec::EC_P256).await.name;
        let cipher = create_key(&client, "ring", "cipher", KeySpec::AES_256).await.name;
        let public_key = public_key(&client, &signer, PublicKeyFormat::Der).await.public_key;
        Self {
            gateway,
            client,
            module,
            signer,
            public_key: public_key.to_vec(),
            cipher,
            keys: 0,
            _cluster: cluster,
        }
    }

    /// Signs, encrypts, decrypts and creates a key; every result must be right.
    async fn work(&mut self) {
        let client = &self.client;
        let message = self.keys.to_be_bytes();
        let signed = sign(client, &self.signer, &message).await.expect("a signature");
        assert!(verifies(
            &self.public_key,
            Mechanism::EcdsaSha256,
            &message,
            &signed.signature
        ));
        let encrypted = encrypt(client, &self.cipher, &message, b"data")
            .await
            .expect("a ciphertext");
        let decrypted = decrypt(client, &self.cipher, &encrypted.ciphertext, b"data").await;
        assert_eq!(decrypted.expect("a plaintext").plaintext, message.as_slice());
        self.keys += 1;
        // A key that no member has loaded yet.
        let id = format!("key-{}", self.keys);
        let name = create_key(client, "ring", &id, KeySpec::EC_P256).await.name;
        sign(client, &name, &message).await.expect("a signature by a new key");
    }

    /// Works until something has come about.
    async fn work_until(&mut self, what: &str, is_so: impl Fn(&FaultyModule) -> bool) {
        let started = Instant::now();
        while !is_so(&self.module) {
            assert!(started.elapsed() < LONG, "after {} keys still not: {what}", self.keys);
            self.work().await;
        }
    }

    async fn member(&self) -> Member {
        self.gateway.member("b").await
    }
}

/// The calls in which a member's failure must not be seen by anybody.
const CALLS: [Function; 7] = [
    Function::C_SignInit,
    Function::C_Sign,
    Function::C_Encrypt,
    Function::C_Decrypt,
    Function::C_UnwrapKey,
    Function::C_GenerateKeyPair,
    Function::C_WrapKey,
];

//! What a worker takes in and gives out as a key, and what it refuses.

use crate::worker::{MAC_USES, Worker, mac};
use portcullis_client::v1;
use portcullis_hsm::{
    algorithm::{Family, KeyType, Mechanism, Operation},
    key_token::{KeyToken, Origin, Storage, token_digest},
    worker::protocol::{
        FailureKind, Generate, Key, ReplyBody, RequestBody, Sign,
        transfer::{Export, GenerateEphemeral, Import, RenewEphemeral},
    },
};
use portcullis_softhsm_tests::{
    Material, OaepHash, TestCluster, kw_unwrap, kwp_unwrap, kwp_wrap, rsa_aes_unwrap, rsa_aes_wrap,
};
use uuid::Uuid;

/// An import job's key.
struct Job {
    token: Vec<u8>,
    public_key: Vec<u8>,
}

impl Job {
    fn of(worker: &mut Worker) -> Self {
        let token = worker.generate(KeyType::Rsa2048, &[(Operation::Unwrap, Mechanism::RsaOaepSha1)]);
        let public_key = parsed(&token).public_key;
        Self { token, public_key }
    }

    /// The request that imports what was wrapped for this job.
    fn import(&self, key: Generate, wrapped: Vec<u8>, public_key: &[u8]) -> Import {
        Import {
            key,
            public_key: public_key.to_vec(),
            unwrapping_key: Some(named(&self.token)),
            mechanism: Mechanism::RsaOaepSha1.number().into(),
            material: wrapped,
        }
    }

    fn wrap(&self, material: &[u8]) -> Vec<u8> {
        rsa_aes_wrap(&self.public_key, OaepHash::Sha1, material)
    }
}

fn parsed(token: &[u8]) -> KeyToken {
    let (body, _) = KeyToken::split(token).expect("a token with a tag");
    KeyToken::parse(body).expect("a key token")
}

fn named(token: &[u8]) -> Key {
    Key {
        digest: token_digest(token).to_vec(),
        sealed: Some(token.to_vec()),
    }
}

fn usual_uses(key_type: KeyType) -> Vec<(Operation, Mechanism)> {
    let mac = |mechanism| vec![(Operation::MacSign, mechanism), (Operation::MacVerify, mechanism)];
    match key_type.family() {
        Family::Rsa(_) => vec![(Operation::Decrypt, Mechanism::RsaOaepSha1)],
        Family::Edwards => vec![(Operation::Sign, Mechanism::Ed25519)],
        Family::Ec => vec![(Operation::Sign, Mechanism::EcdsaSha256)],
        Family::Aes(_) => vec![
            (Operation::Wrap, Mechanism::AesKwp),
            (Operation::Wrap, Mechanism::AesKw),
            (Operation::Unwrap, Mechanism::AesKwp),
        ],
        Family::Hmac(32) => mac(Mechanism::HmacSha256),
        Family::Hmac(48) => mac(Mechanism::HmacSha384),
        Family::Hmac(_) => mac(Mechanism::HmacSha512),
    }
}

pub(crate) fn new_key(key_type: KeyType, exportable: bool) -> Generate {
    let pack = |(operation, mechanism): (Operation, Mechanism)| {
        u32::from(operation.number()) << 16 | u32::from(mechanism.number())
    };
    Generate {
        uid: Uuid::new_v4().as_bytes().to_vec(),
        version: 1,
        key_type: key_type.number().into(),
        uses: usual_uses(key_type).into_iter().map(pack).collect(),
        exportable,
        // Only resident keys need it.
        making: Uuid::new_v4().as_bytes().to_vec(),
    }
}

fn material(key_type: KeyType) -> Material {
    Material::generate(v1::KeyType::try_from(i32::from(key_type.number())).expect("a key type of the API"))
}

fn token(worker: &mut Worker, body: RequestBody) -> Vec<u8> {
    match worker.ask(body) {
        ReplyBody::Bytes(token) => token,
        ReplyBody::Failure(failure) => panic!("{}", failure.message),
        _ => panic!("an answer of another kind"),
    }
}

pub(crate) fn clear(key: Generate, material: &[u8], public_key: &[u8]) -> RequestBody {
    RequestBody::ImportWrapped(Import {
        key,
        public_key: public_key.to_vec(),
        unwrapping_key: None,
        mechanism: 0,
        material: material.to_vec(),
    })
}

fn generated(worker: &mut Worker, key_type: KeyType, exportable: bool) -> Vec<u8> {
    token(worker, RequestBody::GenerateWrapped(new_key(key_type, exportable)))
}

fn tag_of(worker: &mut Worker, key: &[u8]) -> Vec<u8> {
    token(worker, mac(key, true, b"data"))
}

#[test]
fn keys_of_every_type_are_imported_wrapped_and_in_clear() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let job = Job::of(&mut worker);
    for key_type in KeyType::ALL {
        let material = material(*key_type);
        let clear = Import {
            key: new_key(*key_type, false),
            public_key: Vec::new(),
            unwrapping_key: None,
            mechanism: 0,
            material: material.value.clone(),
        };
        // OpenSSL writes no public half into PKCS#8 of Ed25519, and SoftHSM2 wraps no such key.
        if *key_type == KeyType::Ed25519 {
            let wrapped = worker.failure(RequestBody::ImportWrapped(clear.clone()));
            assert_eq!(wrapped.kind(), FailureKind::Unsupported, "{}", wrapped.message);
            let without = worker.failure(RequestBody::ImportResident(clear.clone()));
            assert_eq!(without.kind(), FailureKind::ImportRefused);
            assert!(without.message.contains("public_key"), "{}", without.message);
            let mut with = clear;
            with.public_key = material.public_key.clone();
            let token = parsed(&token(&mut worker, RequestBody::ImportResident(with)));
            assert_eq!(token.public_key, material.public_key);
            continue;
        }
        let given = if key_type.family() == Family::Ec {
            &material.public_key[..]
        } else {
            &[]
        };
        let wrapped = job.import(new_key(*key_type, true), job.wrap(&material.value), given);
        let resident = job.import(new_key(*key_type, false), job.wrap(&material.value), given);
        for (request, origin, storage) in [
            (
                RequestBody::ImportWrapped(clear),
                Origin::ImportedClear,
                Storage::Sealed,
            ),
            (
                RequestBody::ImportWrapped(wrapped),
                Origin::ImportedWrapped,
                Storage::Portable,
            ),
            (
                RequestBody::ImportResident(resident),
                Origin::ImportedWrapped,
                Storage::Resident,
            ),
        ] {
            let token = parsed(&token(&mut worker, request));
            assert_eq!(
                (token.key_type, token.origin, token.storage),
                (*key_type, origin, storage)
            );
            assert_eq!(token.public_key, material.public_key, "{key_type}");
        }
    }
}

#[test]
fn what_is_not_the_declared_key_is_refused_and_harms_nobody() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let job = Job::of(&mut worker);
    let (p256, p384, rsa, other) = (
        material(KeyType::EcP256),
        material(KeyType::EcP384),
        material(KeyType::Rsa2048),
        material(KeyType::EcP256),
    );
    let right = job.wrap(&p256.value);
    let wrong: Vec<(&str, KeyType, Vec<u8>, &[u8])> = vec![
        ("a shorter HMAC key", KeyType::HmacSha256, job.wrap(&[7; 31]), &[]),
        ("a much shorter HMAC key", KeyType::HmacSha256, job.wrap(&[7; 20]), &[]),
        ("a longer HMAC key", KeyType::HmacSha256, job.wrap(&[7; 33]), &[]),
        ("a shorter long HMAC key", KeyType::HmacSha512, job.wrap(&[7; 63]), &[]),
        ("a shorter AES key", KeyType::Aes256, job.wrap(&[7; 31]), &[]),
        ("a smaller AES key", KeyType::Aes256, job.wrap(&[7; 16]), &[]),
        (
            "another curve",
            KeyType::EcP256,
            job.wrap(&p384.value),
            &p384.public_key,
        ),
        (
            "another curve under the right public key",
            KeyType::EcP256,
            job.wrap(&p384.value),
            &p256.public_key,
        ),
        ("a curve's key for RSA", KeyType::Rsa2048, job.wrap(&p256.value), &[]),
        (
            "an RSA key for a curve",
            KeyType::EcP256,
            job.wrap(&rsa.value),
            &p256.public_key,
        ),
        (
            "an RSA key of another size",
            KeyType::Rsa3072,
            job.wrap(&rsa.value),
            &[],
        ),
        (
            "an RSA key with another's public key",
            KeyType::Rsa2048,
            job.wrap(&rsa.value),
            &p256.public_key,
        ),
        (
            "another key's public key",
            KeyType::EcP256,
            right.clone(),
            &other.public_key,
        ),
        ("no public key", KeyType::EcP256, right.clone(), &[]),
        (
            "a public key of a secret key",
            KeyType::HmacSha256,
            job.wrap(&[7; 32]),
            &p256.public_key,
        ),
        ("no key at all", KeyType::EcP256, job.wrap(&[7; 138]), &p256.public_key),
        ("nothing", KeyType::EcP256, Vec::new(), &p256.public_key),
        (
            "the first part alone",
            KeyType::EcP256,
            right[..256].to_vec(),
            &p256.public_key,
        ),
        (
            "less than all",
            KeyType::EcP256,
            right[..right.len() - 8].to_vec(),
            &p256.public_key,
        ),
        (
            "more than all",
            KeyType::EcP256,
            [&right[..], &[0; 8]].concat(),
            &p256.public_key,
        ),
        ("no wrapping", KeyType::HmacSha256, vec![7; 32], &[]),
        (
            "another hash",
            KeyType::EcP256,
            rsa_aes_wrap(&job.public_key, OaepHash::Sha256, &p256.value),
            &p256.public_key,
        ),
    ];
    for (what, key_type, wrapped, public_key) in wrong {
        let request = job.import(new_key(key_type, false), wrapped, public_key);
        let failure = worker.failure(RequestBody::ImportWrapped(request));
        assert_eq!(
            failure.kind(),
            FailureKind::ImportRefused,
            "{what}: {}",
            failure.message
        );
    }
    for at in [0, 128, 255, 256, 300, right.len() - 1] {
        let mut changed = right.clone();
        changed[at] ^= 1;
        let request = job.import(new_key(KeyType::EcP256, false), changed, &p256.public_key);
        let failure = worker.failure(RequestBody::ImportWrapped(request));
        assert_eq!(
            failure.kind(),
            FailureKind::ImportRefused,
            "byte {at}: {}",
            failure.message
        );
        // Which part was wrong is not told.
        assert!(
            failure.message.contains("cannot be unwrapped"),
            "byte {at}: {}",
            failure.message
        );
    }
    let request = job.import(new_key(KeyType::EcP256, false), right, &p256.public_key);
    token(&mut worker, RequestBody::ImportWrapped(request));
}

#[test]
fn an_import_jobs_key_does_nothing_else() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let job = Job::of(&mut worker);
    let sign = RequestBody::Sign(Sign {
        key: named(&job.token),
        operation: Operation::Sign.number().into(),
        mechanism: Mechanism::RsaPkcs1Sha256.number().into(),
        data: vec![0; 32],
    });
    assert_eq!(worker.failure(sign).kind(), FailureKind::Refused);
    // And no other key is an import job's.
    let unwrapping = generated(&mut worker, KeyType::Aes256, false);
    let mut request = job.import(new_key(KeyType::HmacSha256, false), job.wrap(&[7; 32]), &[]);
    request.unwrapping_key = Some(named(&unwrapping));
    assert_eq!(
        worker.failure(RequestBody::ImportWrapped(request)).kind(),
        FailureKind::Refused
    );
}

fn export(key: &[u8], under: &[u8], mechanism: Mechanism) -> RequestBody {
    RequestBody::Export(Export {
        key: named(key),
        mechanism: mechanism.number().into(),
        wrapping_key: Some(named(under)),
        recipient: Vec::new(),
    })
}

fn export_to(key: &[u8], recipient: &[u8], mechanism: Mechanism) -> RequestBody {
    RequestBody::Export(Export {
        key: named(key),
        mechanism: mechanism.number().into(),
        wrapping_key: None,
        recipient: recipient.to_vec(),
    })
}

#[test]
fn a_portable_key_goes_to_a_recipient_and_comes_back() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let recipient = material(KeyType::Rsa2048);
    let secret = Material::secret(32);
    let key = token(
        &mut worker,
        clear(new_key(KeyType::HmacSha256, true), &secret.value, &[]),
    );
    let wrapped = token(
        &mut worker,
        export_to(&key, &recipient.public_key, Mechanism::RsaOaepSha1),
    );
    let unwrapped = rsa_aes_unwrap(&recipient.value, OaepHash::Sha1, &wrapped);
    assert_eq!(unwrapped, Some(secret.value.clone()));
    let wrapping = generated(&mut worker, KeyType::Aes256, false);
    let wrapped = token(&mut worker, export(&key, &wrapping, Mechanism::AesKwp));
    let request = Import {
        key: new_key(KeyType::HmacSha256, false),
        public_key: Vec::new(),
        unwrapping_key: Some(named(&wrapping)),
        mechanism: Mechanism::AesKwp.number().into(),
        material: wrapped,
    };
    let again = token(&mut worker, RequestBody::ImportWrapped(request));
    assert_eq!(tag_of(&mut worker, &again), tag_of(&mut worker, &key));

    let pair = material(KeyType::EcP256);
    let key = token(&mut worker, clear(new_key(KeyType::EcP256, true), &pair.value, &[]));
    let wrapped = token(
        &mut worker,
        export_to(&key, &recipient.public_key, Mechanism::RsaOaepSha1),
    );
    let unwrapped = rsa_aes_unwrap(&recipient.value, OaepHash::Sha1, &wrapped).expect("PKCS#8");
    let again = token(
        &mut worker,
        clear(new_key(KeyType::EcP256, false), trimmed(&unwrapped), &pair.public_key),
    );
    assert_eq!(parsed(&again).public_key, pair.public_key);
    let failure = worker.failure(export(&key, &wrapping, Mechanism::AesKw));
    assert_eq!(failure.kind(), FailureKind::ExportRefused, "{}", failure.message);
}

/// DER without the zeros that SoftHSM2 adds to a private key before it wraps it.
fn trimmed(der: &[u8]) -> &[u8] {
    let length = match der[1] {
        short @ 0..=0x7f => 2 + usize::from(short),
        0x81 => 3 + usize::from(der[2]),
        _ => 4 + usize::from(u16::from_be_bytes([der[2], der[3]])),
    };
    &der[..length]
}

#[test]
fn only_portable_keys_leave_and_only_under_keys_born_in_an_hsm() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 20);
    let wrapping = generated(&mut worker, KeyType::Aes256, false);
    let portable = generated(&mut worker, KeyType::HmacSha256, true);
    let sealed = generated(&mut worker, KeyType::HmacSha256, false);
    let resident = token(
        &mut worker,
        RequestBody::GenerateResident(new_key(KeyType::HmacSha256, false)),
    );
    let secret = Material::secret(32).value;
    let imported = token(&mut worker, clear(new_key(KeyType::Aes256, false), &secret, &[]));
    let portable_wrapping = generated(&mut worker, KeyType::Aes256, true);
    let recipient = material(KeyType::Rsa2048);
    for (what, request) in [
        ("a sealed key", export(&sealed, &wrapping, Mechanism::AesKwp)),
        ("a resident key", export(&resident, &wrapping, Mechanism::AesKwp)),
        ("under an imported key", export(&portable, &imported, Mechanism::AesKwp)),
        (
            "under a portable key",
            export(&portable, &portable_wrapping, Mechanism::AesKw),
        ),
        (
            "a sealed key to a recipient",
            export_to(&sealed, &recipient.public_key, Mechanism::RsaOaepSha1),
        ),
        (
            "to a curve's key",
            export_to(&portable, &material(KeyType::EcP256).public_key, Mechanism::RsaOaepSha1),
        ),
    ] {
        let failure = worker.failure(request);
        assert_eq!(
            failure.kind(),
            FailureKind::ExportRefused,
            "{what}: {}",
            failure.message
        );
    }
    // A token in which the storage was changed is not authentic, and the seal key would not give it out anyway.
    let mut forged = sealed.clone();
    let at = 1 + 4 + 16 + 4 + 2;
    assert_eq!(forged[at], Storage::Sealed as u8);
    forged[at] = Storage::Portable as u8;
    assert_eq!(
        worker.failure(export(&forged, &wrapping, Mechanism::AesKwp)).kind(),
        FailureKind::NotAuthentic
    );
    // A key that may not wrap does not.
    let failure = worker.failure(export(&portable, &sealed, Mechanism::AesKwp));
    assert_eq!(failure.kind(), FailureKind::Refused, "{}", failure.message);
    let wrapped = token(&mut worker, export(&portable, &wrapping, Mechanism::AesKw));
    // Nobody outside has the wrapping key; what was imported in clear shows that the wrapping is the standard one.
    assert!(kw_unwrap(&secret, &wrapped).is_none() && kwp_unwrap(&secret, &wrapped).is_none());
    let request = Import {
        key: new_key(KeyType::HmacSha384, false),
        public_key: Vec::new(),
        unwrapping_key: Some(named(&imported)),
        mechanism: Mechanism::AesKwp.number().into(),
        material: kwp_wrap(&secret, &[9; 48]),
    };
    token(&mut worker, RequestBody::ImportWrapped(request));
}

fn ephemeral(owner: &str) -> RequestBody {
    RequestBody::GenerateEphemeral(GenerateEphemeral {
        key: new_key(KeyType::HmacSha256, false),
        owner: owner.to_owned(),
        ring: "ring".to_owned(),
        created: 1,
        expires: 2,
    })
}

#[test]
fn an_ephemeral_key_works_and_its_renewal_is_the_same_key() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let first = token(&mut worker, ephemeral("unix:uid=1"));
    let tag = tag_of(&mut worker, &first);
    let renewed = token(
        &mut worker,
        RequestBody::RenewEphemeral(RenewEphemeral {
            sealed: first.clone(),
            expires: 9,
        }),
    );
    assert_ne!(renewed, first);
    assert_eq!(tag_of(&mut worker, &renewed), tag);
    for at in 0..first.len() {
        let mut changed = first.clone();
        changed[at] ^= 1;
        let used = worker.failure(mac(&changed, true, b"data"));
        assert_eq!(used.kind(), FailureKind::NotAuthentic, "byte {at}: {}", used.message);
        let renewal = RequestBody::RenewEphemeral(RenewEphemeral {
            sealed: changed,
            expires: 9,
        });
        assert_eq!(worker.failure(renewal).kind(), FailureKind::NotAuthentic, "byte {at}");
    }
    let stored = worker.generate(KeyType::HmacSha256, &MAC_USES);
    let renewal = RequestBody::RenewEphemeral(RenewEphemeral {
        sealed: stored,
        expires: 9,
    });
    assert_eq!(worker.failure(renewal).kind(), FailureKind::NotAuthentic);
}

#[test]
fn a_flood_of_ephemeral_keys_takes_its_owners_share_alone() {
    let cluster = TestCluster::new();
    // Room for six keys, and for two ephemeral ones of each principal.
    let mut worker = Worker::serving(&cluster, 6);
    let stored: Vec<_> = (0..2)
        .map(|_| worker.generate(KeyType::HmacSha256, &MAC_USES))
        .collect();
    let quiet = token(&mut worker, ephemeral("unix:uid=2"));
    for key in stored.iter().chain([&quiet]) {
        tag_of(&mut worker, key);
    }
    let flood: Vec<_> = (0..20).map(|_| token(&mut worker, ephemeral("unix:uid=1"))).collect();
    for key in &flood {
        tag_of(&mut worker, key);
    }
    let loaded = |worker: &mut Worker, key: &[u8]| match worker.ask(mac(key, false, b"data")) {
        ReplyBody::Bytes(_) => true,
        ReplyBody::Failure(failure) => {
            assert_eq!(failure.kind(), FailureKind::KeyNeeded, "{}", failure.message);
            false
        }
        _ => panic!("an answer of another kind"),
    };
    for key in stored.iter().chain([&quiet]).chain(&flood[18..]) {
        assert!(loaded(&mut worker, key));
    }
    for key in &flood[..18] {
        assert!(!loaded(&mut worker, key));
    }
}

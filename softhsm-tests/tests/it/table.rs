//! The table of operation × key type × state × caller's role: each cell asked of a real gateway, each answer predicted by rules
//! that are written here apart from the gateway's.

use portcullis_client::{
    Client, Status,
    v1::{
        AsymmetricDecryptRequest, ChangeKeyVersionStateRequest, CreateKeyRequest, DecryptRequest,
        DeriveSharedSecretRequest, EncryptRequest, GenerateDataKeyRequest, GetPublicKeyRequest, KeyOperation, KeyType,
        KeyVersionState as State, MacSignRequest, MacVerifyRequest, Mechanism, PublicKeyFormat, RotateKeyRequest,
        ScheduleKeyVersionDestructionRequest, SignRequest, VerifyRequest, sign_request, verify_request,
    },
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, LONG, TestCluster, Wish, create_ring, key_request, public_key, refusal,
};
use prost::bytes::Bytes;
use prost_types::Duration;
use std::{collections::BTreeMap, time::Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Sign,
    Verify,
    Encrypt,
    Decrypt,
    GenerateDataKey,
    MacSign,
    MacVerify,
    AsymmetricDecrypt,
    Derive,
    PublicKey,
    Rotate,
    Disable,
    ScheduleDestruction,
}

use Operation::{
    AsymmetricDecrypt, Decrypt, Derive, Disable, Encrypt, GenerateDataKey, MacSign, MacVerify, PublicKey, Rotate,
    ScheduleDestruction, Sign, Verify,
};

const OPERATIONS: [Operation; 13] = [
    Sign,
    Verify,
    Encrypt,
    Decrypt,
    GenerateDataKey,
    MacSign,
    MacVerify,
    AsymmetricDecrypt,
    Derive,
    PublicKey,
    Rotate,
    Disable,
    ScheduleDestruction,
];

/// A role as the gateway ships it, and what its holder may do of the table.
const ROLES: [(&str, &[Operation]); 12] = [
    ("key-admin", &[PublicKey, Rotate, Disable]),
    ("destroyer", &[PublicKey, ScheduleDestruction]),
    ("signer", &[PublicKey, Sign]),
    ("verifier", &[PublicKey, Verify]),
    ("encrypter", &[PublicKey, Encrypt]),
    ("decrypter", &[PublicKey, Decrypt, AsymmetricDecrypt]),
    ("data-key-user", &[PublicKey, GenerateDataKey]),
    ("mac-user", &[PublicKey, MacSign, MacVerify]),
    ("key-agreement-user", &[PublicKey, Derive]),
    ("reader", &[PublicKey]),
    ("importer", &[PublicKey]),
    ("exporter", &[PublicKey]),
];

/// A kind of key, and what it can do at all.
const KINDS: [(&str, KeySpec, &[Operation]); 7] = [
    ("ec", KeySpec::EC_P256, &[Sign, Verify, PublicKey]),
    ("rsa", KeySpec::RSA_PSS, &[Sign, Verify, PublicKey]),
    ("edwards", KeySpec::ED25519_RESIDENT, &[Sign, Verify, PublicKey]),
    ("aes", KeySpec::AES_256, &[Encrypt, Decrypt, GenerateDataKey]),
    ("hmac", KeySpec::HMAC_SHA256, &[MacSign, MacVerify]),
    (
        "oaep",
        KeySpec::wrapped(KeyType::Rsa2048, &[(KeyOperation::Decrypt, Mechanism::RsaOaepSha1)]),
        &[AsymmetricDecrypt, PublicKey],
    ),
    (
        "ecdh",
        KeySpec::wrapped(KeyType::EcP256, &[(KeyOperation::Derive, Mechanism::Ecdh)]),
        &[Derive, PublicKey],
    ),
];

const STATES: [State; 7] = [
    State::PreActive,
    State::Active,
    State::Disabled,
    State::Deactivated,
    State::Compromised,
    State::DestroyScheduled,
    State::Destroyed,
];

/// The end of a call, as the table knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Done,
    Denied,
    WrongKind,
    WrongState,
}

/// What must come of a cell.
fn predicted(role: &[Operation], operation: Operation, can: &[Operation], state: State) -> End {
    let administers = matches!(operation, Rotate | Disable | ScheduleDestruction);
    if !role.contains(&operation) {
        return End::Denied;
    }
    if !administers && !can.contains(&operation) {
        return End::WrongKind;
    }
    let possible = match operation {
        // A key can always have a new version.
        Verify | PublicKey | Rotate | ScheduleDestruction => true,
        Disable | Sign | Encrypt | GenerateDataKey | MacSign => state == State::Active,
        Decrypt | MacVerify | AsymmetricDecrypt | Derive => matches!(state, State::Active | State::Deactivated),
    };
    if possible { End::Done } else { End::WrongState }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_the_table_ends_as_it_must() {
    let cluster = TestCluster::new();
    for (role, _) in ROLES {
        cluster.grant(&format!(
            "name = \"{role}\"\nrole = \"{role}\"\nprincipals = [\"spiffe://portcullis.dev/{role}\"]\nrings = [\"ring\"]"
        ));
    }
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    let peer = Bytes::from(peer_key(&developer).await);
    // A ciphertext for each AES key, made while it could be.
    let mut ciphertexts = BTreeMap::new();
    for (kind, spec, _) in KINDS {
        for state in STATES {
            let id = format!("{kind}-{}", state as i32);
            prepare(&developer, &id, spec, state, &mut ciphertexts).await;
        }
    }
    wait_until_destroyed(&developer).await;
    let mut cells = Vec::new();
    for (role, may) in ROLES {
        let uri = format!("spiffe://portcullis.dev/{role}");
        let identity = cluster.authority().client(Wish::of(&uri), &cluster.pki("ca.pem"));
        let client = gateway.tls_client_as(&identity.credentials()).await.expect("a client");
        for (kind, _, can) in KINDS {
            for state in STATES {
                let id = format!("{kind}-{}", state as i32);
                let name = format!("keyRings/ring/keys/{id}");
                let ciphertext = ciphertexts.get(&id).cloned().unwrap_or_default();
                for operation in OPERATIONS {
                    if operation == Decrypt && can.contains(&Decrypt) && ciphertext.is_empty() {
                        // It was never active, so that there is nothing that it could decrypt.
                        continue;
                    }
                    let end = attempt(&client, operation, &name, &ciphertext, &peer).await;
                    let expected = predicted(may, operation, can, state);
                    if end != Ok(expected) {
                        cells.push(format!(
                            "{role}: {operation:?} with {kind} when {state:?}: {end:?}, expected {expected:?}"
                        ));
                    }
                }
            }
        }
    }
    assert!(cells.is_empty(), "{} wrong cells:\n{}", cells.len(), cells.join("\n"));
}

/// Asks for one thing, without doing it where that is possible.
async fn attempt(
    client: &Client,
    operation: Operation,
    name: &str,
    ciphertext: &Bytes,
    peer: &Bytes,
) -> Result<End, String> {
    let (mut keys, mut crypto) = (client.keys(), client.crypto());
    let (name, version) = (name.to_owned(), format!("{name}/versions/1"));
    let message = Bytes::from_static(b"message");
    let resident = name.contains("/edwards-");
    let answer: Result<(), Status> = match operation {
        Sign => {
            let input = Some(sign_request::Input::Message(message));
            let request = SignRequest {
                name,
                input,
                dry_run: true,
                ..Default::default()
            };
            crypto.sign(request).await.map(drop)
        }
        Verify => {
            let input = Some(verify_request::Input::Message(message));
            let signature = Bytes::from_static(b"none");
            let request = VerifyRequest {
                name,
                input,
                signature,
                ..Default::default()
            };
            crypto.verify(request).await.map(drop)
        }
        Encrypt => {
            let request = EncryptRequest {
                name,
                plaintext: message,
                dry_run: true,
                ..Default::default()
            };
            crypto.encrypt(request).await.map(drop)
        }
        Decrypt => {
            let ciphertext = ciphertext.clone();
            let request = DecryptRequest {
                name,
                ciphertext,
                dry_run: true,
                ..Default::default()
            };
            crypto.decrypt(request).await.map(drop)
        }
        GenerateDataKey => {
            let request = GenerateDataKeyRequest {
                name,
                length_bytes: 32,
                dry_run: true,
                ..Default::default()
            };
            crypto.generate_data_key(request).await.map(drop)
        }
        MacSign => {
            let request = MacSignRequest {
                name,
                data: message,
                dry_run: true,
                ..Default::default()
            };
            crypto.mac_sign(request).await.map(drop)
        }
        MacVerify => {
            let mac = Bytes::from_static(&[0; 32]);
            let request = MacVerifyRequest {
                name,
                data: message,
                mac,
                dry_run: true,
                ..Default::default()
            };
            crypto.mac_verify(request).await.map(drop)
        }
        AsymmetricDecrypt => {
            let ciphertext = Bytes::from_static(&[0; 256]);
            let request = AsymmetricDecryptRequest {
                name,
                ciphertext,
                dry_run: true,
                ..Default::default()
            };
            crypto.asymmetric_decrypt(request).await.map(drop)
        }
        Derive => {
            let peer_public_key = peer.clone();
            let request = DeriveSharedSecretRequest {
                name,
                peer_public_key,
                dry_run: true,
                ..Default::default()
            };
            crypto.derive_shared_secret(request).await.map(drop)
        }
        PublicKey => {
            let request = GetPublicKeyRequest {
                name,
                ..Default::default()
            };
            keys.get_public_key(request).await.map(drop)
        }
        Rotate => {
            let request = RotateKeyRequest {
                name,
                validate_only: true,
                allow_single_replica: resident,
                ..Default::default()
            };
            keys.rotate_key(request).await.map(drop)
        }
        Disable => {
            let request = ChangeKeyVersionStateRequest {
                name: version,
                validate_only: true,
                ..Default::default()
            };
            keys.disable_key_version(request).await.map(drop)
        }
        ScheduleDestruction => {
            let request = ScheduleKeyVersionDestructionRequest {
                name: version,
                validate_only: true,
                ..Default::default()
            };
            keys.schedule_key_version_destruction(request).await.map(drop)
        }
    };
    match answer {
        Ok(()) => Ok(End::Done),
        Err(status) => match refusal::<()>(Err(status)).reason.as_str() {
            "ACCESS_DENIED" => Ok(End::Denied),
            "ALGORITHM_MISMATCH" | "FIELD_INVALID" => Ok(End::WrongKind),
            "KEY_STATE_FORBIDS_OPERATION" => Ok(End::WrongState),
            reason => Err(reason.to_owned()),
        },
    }
}

/// Makes a key whose first version is in a state, or on its way to be destroyed.
async fn prepare(client: &Client, id: &str, spec: KeySpec, state: State, ciphertexts: &mut BTreeMap<String, Bytes>) {
    let mut keys = client.keys();
    let request = CreateKeyRequest {
        pre_active: state == State::PreActive,
        ..key_request("ring", id, spec)
    };
    let name = keys.create_key(request).await.expect("a key").into_inner().name;
    if id.starts_with("aes-") && state != State::PreActive {
        let sealed = portcullis_softhsm_tests::encrypt(client, &name, b"plaintext", b"").await;
        ciphertexts.insert(id.to_owned(), sealed.expect("encrypted").ciphertext);
    }
    let request = ChangeKeyVersionStateRequest {
        name: format!("{name}/versions/1"),
        ..Default::default()
    };
    let seconds = if state == State::Destroyed { 1 } else { 3600 };
    let moved = match state {
        State::Disabled => keys.disable_key_version(request).await,
        State::Deactivated => keys.deactivate_key_version(request).await,
        State::Compromised => keys.mark_key_version_compromised(request).await,
        State::DestroyScheduled | State::Destroyed => {
            let request = ScheduleKeyVersionDestructionRequest {
                name: request.name,
                window: Some(Duration { seconds, nanos: 0 }),
                ..Default::default()
            };
            keys.schedule_key_version_destruction(request).await
        }
        _ => return,
    };
    moved.expect("the state");
}

async fn wait_until_destroyed(client: &Client) {
    let end = Instant::now() + LONG;
    for (kind, _, _) in KINDS {
        let name = format!("keyRings/ring/keys/{kind}-{}/versions/1", State::Destroyed as i32);
        loop {
            let request = portcullis_client::v1::GetKeyVersionRequest { name: name.clone() };
            let found = client
                .keys()
                .get_key_version(request)
                .await
                .expect("a version")
                .into_inner();
            if found.state() == State::Destroyed {
                break;
            }
            assert!(Instant::now() < end, "{name} is still {:?}", found.state());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

async fn peer_key(client: &Client) -> Vec<u8> {
    let (_, spec, _) = KINDS[6];
    let request = key_request("ring", "peer", spec);
    let key = client.keys().create_key(request).await.expect("a key").into_inner();
    public_key(client, &key.name, PublicKeyFormat::Der)
        .await
        .public_key
        .to_vec()
}

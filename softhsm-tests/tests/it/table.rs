//! The table of operation × key type × state × caller's role: each cell asked of a real gateway, each answer predicted by rules
//! that are written here apart from the gateway's.

use portcullis_client::{
    Client, Status,
    v1::{
        AsymmetricDecryptRequest, ChangeKeyVersionStateRequest, CreateKeyRequest, DecryptRequest,
        DeriveSharedSecretRequest, EncryptRequest, GenerateDataKeyRequest, GetKeyVersionRequest, GetPublicKeyRequest,
        Key, KeyOperation, KeyType, KeyVersionState as State, MacSignRequest, MacVerifyRequest, Mechanism,
        PublicKeyFormat, ReEncryptRequest, RotateKeyRequest, ScheduleKeyVersionDestructionRequest,
        SetPrimaryVersionRequest, SignRequest, UpdateKeyRequest, VerifyRequest, generate_data_key_request,
        sign_request, verify_request,
    },
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, LONG, TestCluster, Wish, create_ring, key_request, public_key, refusal,
};
use prost::bytes::Bytes;
use prost_types::{Duration, FieldMask};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use tokio::task::JoinSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Sign,
    Verify,
    Encrypt,
    Decrypt,
    ReEncrypt,
    GenerateDataKey,
    GenerateSealedDataKey,
    MacSign,
    MacVerify,
    AsymmetricDecrypt,
    Derive,
    PublicKey,
    Read,
    Update,
    Rotate,
    SetPrimary,
    Activate,
    Disable,
    Enable,
    Deactivate,
    MarkCompromised,
    ScheduleDestruction,
    CancelDestruction,
}

use Operation::{
    Activate, AsymmetricDecrypt, CancelDestruction, Deactivate, Decrypt, Derive, Disable, Enable, Encrypt,
    GenerateDataKey, GenerateSealedDataKey, MacSign, MacVerify, MarkCompromised, PublicKey, ReEncrypt, Read, Rotate,
    ScheduleDestruction, SetPrimary, Sign, Update, Verify,
};

const OPERATIONS: [Operation; 23] = [
    Sign,
    Verify,
    Encrypt,
    Decrypt,
    ReEncrypt,
    GenerateDataKey,
    GenerateSealedDataKey,
    MacSign,
    MacVerify,
    AsymmetricDecrypt,
    Derive,
    PublicKey,
    Read,
    Update,
    Rotate,
    SetPrimary,
    Activate,
    Disable,
    Enable,
    Deactivate,
    MarkCompromised,
    ScheduleDestruction,
    CancelDestruction,
];

/// Who asks: the roles that the gateway ships, each alone and two together, and what their holder may do of the table.
const CALLERS: [(&str, &[&str], &[Operation]); 21] = [
    (
        "key-admin",
        &["key-admin"],
        &[
            PublicKey,
            Read,
            Update,
            Rotate,
            SetPrimary,
            Activate,
            Disable,
            Enable,
            Deactivate,
            MarkCompromised,
        ],
    ),
    (
        "destroyer",
        &["destroyer"],
        &[PublicKey, Read, ScheduleDestruction, CancelDestruction],
    ),
    ("signer", &["signer"], &[PublicKey, Read, Sign]),
    ("verifier", &["verifier"], &[PublicKey, Read, Verify]),
    ("encrypter", &["encrypter"], &[PublicKey, Read, Encrypt]),
    (
        "decrypter",
        &["decrypter"],
        &[PublicKey, Read, Decrypt, AsymmetricDecrypt],
    ),
    // With a reason, also what is compromised.
    (
        EMERGENCY,
        &["decrypter", "break-glass"],
        &[PublicKey, Read, Decrypt, AsymmetricDecrypt],
    ),
    ("break-glass", &["break-glass"], &[]),
    ("reencrypter", &["reencrypter"], &[PublicKey, Read, ReEncrypt]),
    (
        "data-key-user",
        &["data-key-user"],
        &[PublicKey, Read, GenerateDataKey, GenerateSealedDataKey],
    ),
    ("mac-user", &["mac-user"], &[PublicKey, Read, MacSign, MacVerify]),
    (
        "key-agreement-user",
        &["key-agreement-user"],
        &[PublicKey, Read, Derive],
    ),
    ("reader", &["reader"], &[PublicKey, Read]),
    ("auditor", &["auditor"], &[PublicKey, Read]),
    ("importer", &["importer"], &[PublicKey, Read]),
    ("exporter", &["exporter"], &[PublicKey, Read]),
    ("object-admin", &["object-admin"], &[PublicKey, Read]),
    ("ephemeral-key-user", &["ephemeral-key-user"], &[PublicKey, Read]),
    ("random-user", &["random-user"], &[]),
    ("hsm-operator", &["hsm-operator"], &[]),
    ("nobody", &[], &[]),
];

const EMERGENCY: &str = "decrypter-in-an-emergency";

/// A kind of key, and what it can do at all.
const KINDS: [(&str, KeySpec, &[Operation]); 8] = [
    ("ec", KeySpec::EC_P256, &[Sign, Verify, PublicKey]),
    ("rsa", KeySpec::RSA_PSS, &[Sign, Verify, PublicKey]),
    ("edwards", KeySpec::ED25519_RESIDENT, &[Sign, Verify, PublicKey]),
    (
        "aes",
        KeySpec::AES_256,
        &[Encrypt, Decrypt, ReEncrypt, GenerateDataKey, GenerateSealedDataKey],
    ),
    (
        "cbc",
        KeySpec::wrapped(
            KeyType::Aes256,
            &[
                (KeyOperation::Encrypt, Mechanism::AesCbcPad),
                (KeyOperation::Decrypt, Mechanism::AesCbcPad),
            ],
        ),
        &[Encrypt, Decrypt],
    ),
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

/// All but DESTROYING, in which a version stays only while its member does not answer.
const STATES: [State; 8] = [
    State::PendingImport,
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
fn predicted(caller: &str, may: &[Operation], operation: Operation, can: &[Operation], state: State) -> End {
    let uses = !matches!(
        operation,
        Read | Update
            | Rotate
            | SetPrimary
            | Activate
            | Disable
            | Enable
            | Deactivate
            | MarkCompromised
            | ScheduleDestruction
            | CancelDestruction
    );
    if !may.contains(&operation) {
        return End::Denied;
    }
    if uses && !can.contains(&operation) {
        return End::WrongKind;
    }
    let possible = match operation {
        // A key can always have a new version.
        Read | Update | Rotate | ScheduleDestruction => true,
        // What was never there has no public half.
        Verify | PublicKey => state != State::PendingImport,
        Disable | SetPrimary | Sign | Encrypt | ReEncrypt | GenerateDataKey | GenerateSealedDataKey | MacSign => {
            state == State::Active
        }
        Decrypt | MacVerify | AsymmetricDecrypt | Derive => {
            matches!(state, State::Active | State::Deactivated) || (state == State::Compromised && caller == EMERGENCY)
        }
        Activate => state == State::PreActive,
        Enable => state == State::Disabled,
        Deactivate => matches!(state, State::Active | State::Disabled),
        MarkCompromised => matches!(
            state,
            State::PreActive | State::Active | State::Disabled | State::Deactivated | State::DestroyScheduled
        ),
        CancelDestruction => state == State::DestroyScheduled,
    };
    if possible { End::Done } else { End::WrongState }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_the_table_ends_as_it_must() {
    let cluster = TestCluster::new();
    for (caller, roles, _) in CALLERS {
        for role in roles {
            let rings = match *role {
                // These concern the whole gateway.
                "auditor" | "random-user" | "hsm-operator" => "",
                _ => "rings = [\"ring\"]",
            };
            cluster.grant(&format!(
                "name = \"{role} for {caller}\"\nrole = \"{role}\"\nprincipals = [\"spiffe://portcullis.dev/{caller}\"]\n{rings}"
            ));
        }
    }
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    let peer = Bytes::from(peer_key(&developer).await);
    // A ciphertext for each AES key, made while it could be.
    let mut ciphertexts = BTreeMap::new();
    for (kind, spec, _) in KINDS {
        for state in STATES {
            prepare(&developer, &key_id(kind, state), spec, state, &mut ciphertexts).await;
        }
    }
    wait_until_destroyed(&developer).await;
    let ciphertexts = Arc::new(ciphertexts);
    let mut callers = JoinSet::new();
    for (caller, _, may) in CALLERS {
        let uri = format!("spiffe://portcullis.dev/{caller}");
        let identity = cluster.authority().client(Wish::of(&uri), &cluster.pki("ca.pem"));
        let client = gateway.tls_client_as(&identity.credentials()).await.expect("a client");
        callers.spawn(wrong_cells(client, caller, may, peer.clone(), Arc::clone(&ciphertexts)));
    }
    let (asked, cells) =
        callers
            .join_all()
            .await
            .into_iter()
            .fold((0, Vec::new()), |(asked, mut cells), (more, wrong)| {
                cells.extend(wrong);
                (asked + more, cells)
            });
    assert!(cells.is_empty(), "{} wrong cells:\n{}", cells.len(), cells.join("\n"));
    assert!(asked > 30_000, "only {asked} cells were asked");
}

fn key_id(kind: &str, state: State) -> String {
    format!("{kind}-{}", state as i32)
}

/// Asks for all that a caller could want: how much that was, and what did not end as it must.
async fn wrong_cells(
    client: Client,
    caller: &'static str,
    may: &'static [Operation],
    peer: Bytes,
    ciphertexts: Arc<BTreeMap<String, Bytes>>,
) -> (usize, Vec<String>) {
    let (mut asked, mut cells) = (0, Vec::new());
    for (kind, _, can) in KINDS {
        for state in STATES {
            let id = key_id(kind, state);
            let cell = Cell {
                name: format!("keyRings/ring/keys/{id}"),
                ciphertext: ciphertexts.get(&id).cloned().unwrap_or_default(),
                mode: if kind == "cbc" {
                    Mechanism::AesCbcPad
                } else {
                    Mechanism::Unspecified
                },
                initialization_vector: Bytes::from_static(if kind == "cbc" { &[0; 16] } else { &[] }),
                peer: peer.clone(),
                resident: kind == "edwards",
                break_glass_reason: match caller {
                    EMERGENCY => "a test wants it".to_owned(),
                    _ => String::new(),
                },
            };
            for operation in OPERATIONS {
                if matches!(operation, Decrypt | ReEncrypt) && can.contains(&operation) && cell.ciphertext.is_empty() {
                    // It was never active, so that there is nothing that it could decrypt.
                    continue;
                }
                let end = attempt(&client, operation, &cell).await;
                let expected = predicted(caller, may, operation, can, state);
                if end != Ok(expected) {
                    cells.push(format!(
                        "{caller}: {operation:?} with {kind} when {state:?}: {end:?}, expected {expected:?}"
                    ));
                }
                asked += 1;
            }
        }
    }
    (asked, cells)
}

/// What is asked with.
struct Cell {
    name: String,
    ciphertext: Bytes,
    mode: Mechanism,
    initialization_vector: Bytes,
    peer: Bytes,
    resident: bool,
    break_glass_reason: String,
}

/// Asks for one thing, without doing it where that is possible.
async fn attempt(client: &Client, operation: Operation, cell: &Cell) -> Result<End, String> {
    let (mut keys, mut crypto) = (client.keys(), client.crypto());
    let (name, version) = (cell.name.clone(), format!("{}/versions/1", cell.name));
    let (ciphertext, break_glass_reason) = (cell.ciphertext.clone(), cell.break_glass_reason.clone());
    let message = Bytes::from_static(b"message");
    let change = ChangeKeyVersionStateRequest {
        name: version.clone(),
        validate_only: true,
        ..Default::default()
    };
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
            let request = DecryptRequest {
                name,
                ciphertext,
                mechanism: cell.mode as i32,
                initialization_vector: cell.initialization_vector.clone(),
                break_glass_reason,
                dry_run: true,
                ..Default::default()
            };
            crypto.decrypt(request).await.map(drop)
        }
        ReEncrypt => {
            let request = ReEncryptRequest {
                source_name: name.clone(),
                destination_name: name,
                ciphertext,
                dry_run: true,
                ..Default::default()
            };
            crypto.re_encrypt(request).await.map(drop)
        }
        GenerateSealedDataKey => {
            let request = GenerateDataKeyRequest {
                name,
                length_bytes: 32,
                release: Some(generate_data_key_request::Release::WithoutPlaintext(true)),
                dry_run: true,
                ..Default::default()
            };
            crypto.generate_data_key(request).await.map(drop)
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
                break_glass_reason,
                dry_run: true,
                ..Default::default()
            };
            crypto.asymmetric_decrypt(request).await.map(drop)
        }
        Derive => {
            let peer_public_key = cell.peer.clone();
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
                allow_single_replica: cell.resident,
                ..Default::default()
            };
            keys.rotate_key(request).await.map(drop)
        }
        Read => {
            let request = GetKeyVersionRequest { name: version };
            keys.get_key_version(request).await.map(drop)
        }
        Update => {
            let request = UpdateKeyRequest {
                key: Some(Key {
                    name,
                    labels: [("team".to_owned(), "payments".to_owned())].into(),
                    ..Default::default()
                }),
                update_mask: Some(FieldMask {
                    paths: vec!["labels".to_owned()],
                }),
                validate_only: true,
                ..Default::default()
            };
            keys.update_key(request).await.map(drop)
        }
        SetPrimary => {
            let request = SetPrimaryVersionRequest {
                name,
                version: 1,
                validate_only: true,
                ..Default::default()
            };
            keys.set_primary_version(request).await.map(drop)
        }
        Activate => keys.activate_key_version(change).await.map(drop),
        Disable => keys.disable_key_version(change).await.map(drop),
        Enable => keys.enable_key_version(change).await.map(drop),
        Deactivate => keys.deactivate_key_version(change).await.map(drop),
        MarkCompromised => keys.mark_key_version_compromised(change).await.map(drop),
        CancelDestruction => keys.cancel_key_version_destruction(change).await.map(drop),
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
        import_only: state == State::PendingImport,
        ..key_request("ring", id, spec)
    };
    let name = keys.create_key(request).await.expect("a key").into_inner().name;
    if matches!(spec.key_type, KeyType::Aes256) && !matches!(state, State::PreActive | State::PendingImport) {
        let request = EncryptRequest {
            name: name.clone(),
            plaintext: Bytes::from_static(b"plaintext"),
            ..Default::default()
        };
        let sealed = client.crypto().encrypt(request).await.expect("encrypted").into_inner();
        ciphertexts.insert(id.to_owned(), sealed.ciphertext);
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
        let name = format!("keyRings/ring/keys/{}/versions/1", key_id(kind, State::Destroyed));
        loop {
            let request = GetKeyVersionRequest { name: name.clone() };
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
    let (_, spec, _) = KINDS[KINDS.len() - 1];
    let request = key_request("ring", "peer", spec);
    let key = client.keys().create_key(request).await.expect("a key").into_inner();
    public_key(client, &key.name, PublicKeyFormat::Der)
        .await
        .public_key
        .to_vec()
}

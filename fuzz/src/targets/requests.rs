//! Requests, as a caller sends them: any bytes to any method.
//!
//! [`REQUESTS`] sends them over a socket to a whole gateway in this process, with a real member behind it, so that everything is
//! met that a request meets. [`MESSAGES`] only decodes them, and measures how much memory that takes.

mod gateway;
mod samples;

pub use gateway::become_worker_if_asked;

use crate::{Memory, Pure, Subject, Target, Verdict};
use gateway::Serving;
use portcullis_proto::{FILE_DESCRIPTOR_SET, v1};
use portcullis_softhsm_tests::refusal;
use prost::Message;
use prost_types::FileDescriptorSet;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Status};

/// The name of a method, a newline, and the bytes of its message.
pub(super) const REQUESTS: Target = Target {
    name: "requests",
    prepare: || Box::new(Requests::new()),
};

/// The same, only decoded.
pub(super) const MESSAGES: Target = Target {
    name: "messages",
    prepare: || {
        Box::new(Pure {
            samples: || {
                samples::requests(samples::Known::default())
                    .into_iter()
                    .chain([samples::flood()])
                    .collect()
            },
            judge: decode,
            memory: Memory {
                fixed: portcullis_proto::MOST_FIELDS as u64 * 1024,
                per_byte: 64,
            },
        })
    },
};

struct Requests {
    serving: Serving,
    methods: Vec<Method>,
    samples: Vec<Vec<u8>>,
}

struct Method {
    name: String,
    streams: bool,
}

impl Requests {
    fn new() -> Self {
        let serving = Serving::start();
        let samples = serving.block_on(async {
            let known = samples::prepare(&serving.client().await).await;
            samples::requests(known)
        });
        Self {
            serving,
            methods: methods(),
            samples,
        }
    }
}

impl Subject for Requests {
    fn samples(&self) -> Vec<Vec<u8>> {
        self.samples.clone()
    }

    fn judge(&self, input: &[u8]) -> Verdict {
        let (name, message) = split(input);
        let method = self
            .methods
            .iter()
            .find(|method| method.name.as_bytes() == name)
            .unwrap_or_else(|| {
                // Whatever it names, it asks for something.
                let number = name.iter().map(|byte| usize::from(*byte)).sum::<usize>();
                &self.methods[number % self.methods.len()]
            });
        let path = format!("portcullis.v1.{}", method.name);
        let message = message.to_vec();
        let answer = self.serving.block_on(async {
            let wire = self.serving.wire();
            let answered = async {
                if !method.streams {
                    return wire.call(&path, message).await.map(drop);
                }
                let mut answers = wire.open_stream(&path, vec![message]).await?;
                while answers.message().await?.is_some() {}
                Ok::<_, Status>(())
            };
            timeout(PATIENCE, answered).await.expect("every request is answered")
        });
        let Err(status) = answer else {
            return Verdict::Accepted;
        };
        // Panics where an error has not the form of every error.
        let refused = refusal(Err::<(), _>(status));
        assert!(
            !NOBODYS_CHOICE.contains(&refused.reason.as_str()) && refused.code != Code::Unknown,
            "what a caller sends does not bring about {refused:?}"
        );
        Verdict::Refused
    }

    fn memory(&self) -> Memory {
        // The gateway's own threads are not measured; `messages` is.
        Memory {
            fixed: 64 * 1024 * 1024,
            per_byte: 64,
        }
    }
}

fn split(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[]),
    }
}

/// Every method that is served.
fn methods() -> Vec<Method> {
    let descriptors = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the descriptor set");
    let files = descriptors
        .file
        .into_iter()
        .filter(|file| file.package() == "portcullis.v1");
    let services = files.flat_map(|file| file.service);
    let methods = services.flat_map(|service| {
        let name = service.name().to_owned();
        service.method.into_iter().map(move |method| Method {
            name: format!("{name}/{}", method.name()),
            streams: method.client_streaming() || method.server_streaming(),
        })
    });
    methods.collect()
}

/// Decodes a message as its type, and writes it again.
macro_rules! decode_as {
    ($name:expr, $message:expr; $($method:literal => $request:ident,)*) => {
        match $name {
            $($method => decode_and_encode::<v1::$request>($message),)*
            _ => Verdict::Refused,
        }
    };
}

fn decode(input: &[u8]) -> Verdict {
    let (name, message) = split(input);
    decode_as! { std::str::from_utf8(name).unwrap_or_default(), message;
        "KeyService/CreateKeyRing" => CreateKeyRingRequest,
        "KeyService/GetKeyRing" => GetKeyRingRequest,
        "KeyService/ListKeyRings" => ListKeyRingsRequest,
        "KeyService/UpdateKeyRing" => UpdateKeyRingRequest,
        "KeyService/CreateKey" => CreateKeyRequest,
        "KeyService/GetKey" => GetKeyRequest,
        "KeyService/ListKeys" => ListKeysRequest,
        "KeyService/UpdateKey" => UpdateKeyRequest,
        "KeyService/RotateKey" => RotateKeyRequest,
        "KeyService/SetPrimaryVersion" => SetPrimaryVersionRequest,
        "KeyService/GetKeyVersion" => GetKeyVersionRequest,
        "KeyService/ListKeyVersions" => ListKeyVersionsRequest,
        "KeyService/ActivateKeyVersion" => ChangeKeyVersionStateRequest,
        "KeyService/DisableKeyVersion" => ChangeKeyVersionStateRequest,
        "KeyService/EnableKeyVersion" => ChangeKeyVersionStateRequest,
        "KeyService/DeactivateKeyVersion" => ChangeKeyVersionStateRequest,
        "KeyService/MarkKeyVersionCompromised" => ChangeKeyVersionStateRequest,
        "KeyService/ScheduleKeyVersionDestruction" => ScheduleKeyVersionDestructionRequest,
        "KeyService/CancelKeyVersionDestruction" => ChangeKeyVersionStateRequest,
        "KeyService/GetPublicKey" => GetPublicKeyRequest,
        "KeyService/GetJsonWebKeySet" => GetJsonWebKeySetRequest,
        "KeyService/CreateAlias" => CreateAliasRequest,
        "KeyService/UpdateAlias" => UpdateAliasRequest,
        "KeyService/DeleteAlias" => DeleteAliasRequest,
        "KeyService/ListAliases" => ListAliasesRequest,
        "KeyService/CreateImportJob" => CreateImportJobRequest,
        "KeyService/GetImportJob" => GetImportJobRequest,
        "KeyService/ImportKeyVersion" => ImportKeyVersionRequest,
        "KeyService/ExportKeyVersion" => ExportKeyVersionRequest,
        "KeyService/CreateRecipient" => CreateRecipientRequest,
        "KeyService/GetRecipient" => GetRecipientRequest,
        "KeyService/ListRecipients" => ListRecipientsRequest,
        "KeyService/DeleteRecipient" => DeleteRecipientRequest,
        "KeyService/CreateEphemeralKey" => CreateEphemeralKeyRequest,
        "KeyService/RenewEphemeralKey" => RenewEphemeralKeyRequest,
        "KeyService/RevokeEphemeralKeys" => RevokeEphemeralKeysRequest,
        "ObjectService/CreateObject" => CreateObjectRequest,
        "ObjectService/GetObject" => GetObjectRequest,
        "ObjectService/ListObjects" => ListObjectsRequest,
        "ObjectService/UpdateObject" => UpdateObjectRequest,
        "ObjectService/DeleteObject" => DeleteObjectRequest,
        "CryptoService/Sign" => SignRequest,
        "CryptoService/Verify" => VerifyRequest,
        "CryptoService/Encrypt" => EncryptRequest,
        "CryptoService/Decrypt" => DecryptRequest,
        "CryptoService/ReEncrypt" => ReEncryptRequest,
        "CryptoService/GenerateDataKey" => GenerateDataKeyRequest,
        "CryptoService/MacSign" => MacSignRequest,
        "CryptoService/MacVerify" => MacVerifyRequest,
        "CryptoService/AsymmetricDecrypt" => AsymmetricDecryptRequest,
        "CryptoService/DeriveSharedSecret" => DeriveSharedSecretRequest,
        "CryptoService/GenerateRandom" => GenerateRandomRequest,
        "CryptoService/BatchSign" => BatchSignRequest,
        "CryptoService/BatchVerify" => BatchVerifyRequest,
        "CryptoService/BatchEncrypt" => BatchEncryptRequest,
        "CryptoService/BatchDecrypt" => BatchDecryptRequest,
        "CryptoService/BatchReEncrypt" => BatchReEncryptRequest,
        "CryptoService/BatchMacSign" => BatchMacSignRequest,
        "CryptoService/BatchMacVerify" => BatchMacVerifyRequest,
        "CryptoService/BatchGenerateDataKey" => BatchGenerateDataKeyRequest,
        "CryptoService/Pipeline" => PipelineRequest,
    }
}

fn decode_and_encode<M: Message + Default + PartialEq>(message: &[u8]) -> Verdict {
    let read = portcullis_proto::decode::<M>(message.to_vec().into());
    if let Ok(read) = &read {
        let again = portcullis_proto::decode::<M>(read.encode_to_vec().into());
        assert!(
            again.is_ok_and(|again| again == *read),
            "what was read can be written and read again"
        );
    }
    Verdict::of(&read)
}

/// Reasons that no request is to bring about by what is in it.
const NOBODYS_CHOICE: [&str; 9] = [
    "INTERNAL",
    "HSM_UNAVAILABLE",
    "HSM_SATURATED",
    "AUDIT_UNAVAILABLE",
    "STORE_UNAVAILABLE",
    "RECORD_NOT_AUTHENTIC",
    "RESIDENT_KEY_MISSING",
    "DEADLINE_EXCEEDED",
    "UNAUTHENTICATED",
];
const PATIENCE: Duration = Duration::from_secs(60);

//! What callers ask for, and the proof that they get it.

use crate::{
    error::Error,
    operation::{BATCH, Kind, Mode, Operation},
    verify,
};
use bytes::Bytes;
use crc32c::crc32c;
use portcullis_client::{
    Client,
    v1::{
        BatchEncryptResponse, BatchMacSignResponse, BatchSignResponse, DecryptRequest, EncryptRequest, EncryptResponse,
        GetPublicKeyRequest, MacSignRequest, MacSignResponse, MacVerifyRequest, PipelineResponse, PublicKeyFormat,
        SignRequest, SignResponse, SignatureEncoding, batch_encrypt_response, batch_mac_sign_response,
        batch_sign_response, pipeline_response, sign_request,
    },
};
use portcullis_hsm::algorithm::Mechanism;
use prost::Message;

/// What one operation of a caller asks for, with the checksum that the client library adds.
#[derive(Clone)]
pub(crate) enum Request {
    Sign(SignRequest),
    Encrypt(EncryptRequest),
    Mac(MacSignRequest),
}

/// What a gateway answered once, and was right.
#[derive(Clone)]
pub(crate) enum Proven {
    Sign(SignResponse),
    Encrypt(EncryptResponse),
    Mac(MacSignResponse),
}

impl Request {
    /// The request for an operation with a key of this name.
    pub(crate) fn new(operation: Operation, key: &str) -> Option<Self> {
        Some(match operation.kind() {
            Kind::Sign(mechanism) => Self::Sign(sign(key, mechanism)),
            Kind::Cold => Self::Sign(sign(key, Mechanism::EcdsaSha256)),
            Kind::Encrypt(length) => {
                let plaintext = vec![7; length];
                Self::Encrypt(EncryptRequest {
                    name: key.to_owned(),
                    plaintext_crc32c: Some(crc32c(&plaintext)),
                    plaintext: plaintext.into(),
                    ..EncryptRequest::default()
                })
            }
            Kind::Mac => Self::Mac(MacSignRequest {
                name: key.to_owned(),
                data: Bytes::from_static(&verify::MESSAGE),
                data_crc32c: Some(crc32c(&verify::MESSAGE)),
                ..MacSignRequest::default()
            }),
            Kind::Create => return None,
        })
    }

    /// Asks once and checks the answer: a signature in software, with the public key that the gateway tells; a ciphertext and a
    /// code by asking back.
    pub(crate) async fn prove(&self, client: &Client, operation: Operation) -> Result<Proven, Error> {
        let wrong = |problem: &str| Error::WrongAnswer {
            operation: format!("{operation}, through the gateway"),
            problem: problem.to_owned(),
        };
        let mut crypto = client.crypto();
        match self {
            Self::Sign(request) => {
                let signed = crypto.sign(request.clone()).await?.into_inner();
                let asked = GetPublicKeyRequest {
                    name: signed.name.clone(),
                    format: PublicKeyFormat::Der as i32,
                };
                let public_key = client.keys().get_public_key(asked).await?.into_inner().public_key;
                let mechanism = u16::try_from(request.mechanism).ok().and_then(Mechanism::from_number);
                let mechanism = mechanism.ok_or_else(|| wrong("the mechanism is not known"))?;
                if verify::signature_is_valid(mechanism, &public_key, &verify::MESSAGE, &signed.signature) {
                    Ok(Proven::Sign(signed))
                } else {
                    Err(wrong("the signature is not valid"))
                }
            }
            Self::Encrypt(request) => {
                let encrypted = crypto.encrypt(request.clone()).await?.into_inner();
                let back = DecryptRequest {
                    name: request.name.clone(),
                    ciphertext: encrypted.ciphertext.clone(),
                    ..DecryptRequest::default()
                };
                if crypto.decrypt(back).await?.into_inner().plaintext == request.plaintext {
                    Ok(Proven::Encrypt(encrypted))
                } else {
                    Err(wrong("the ciphertext decrypts to something else"))
                }
            }
            Self::Mac(request) => {
                let made = crypto.mac_sign(request.clone()).await?.into_inner();
                let back = MacVerifyRequest {
                    name: request.name.clone(),
                    data: request.data.clone(),
                    mac: made.mac.clone(),
                    ..MacVerifyRequest::default()
                };
                if crypto.mac_verify(back).await?.into_inner().valid {
                    Ok(Proven::Mac(made))
                } else {
                    Err(wrong("the code is not valid"))
                }
            }
        }
    }
}

fn sign(key: &str, mechanism: Mechanism) -> SignRequest {
    let input = verify::input(mechanism);
    SignRequest {
        name: key.to_owned(),
        input_crc32c: Some(crc32c(&input)),
        input: Some(match mechanism.signature_hash() {
            Some(_) => sign_request::Input::Digest(input.into()),
            None => sign_request::Input::Message(input.into()),
        }),
        mechanism: mechanism.number().into(),
        encoding: SignatureEncoding::P1363 as i32,
        ..SignRequest::default()
    }
}

impl Proven {
    /// The gRPC method of a mode, and the answer's message; of a stream's the part behind the id.
    pub(crate) fn message(&self, mode: Mode) -> (String, Vec<u8>) {
        let name = match self {
            Self::Sign(_) => "Sign",
            Self::Encrypt(_) => "Encrypt",
            Self::Mac(_) => "MacSign",
        };
        let method = match mode {
            Mode::Unary => name.to_owned(),
            Mode::Batch => format!("Batch{name}"),
            Mode::Pipelined => "Pipeline".to_owned(),
        };
        let message = match (mode, self.clone()) {
            (Mode::Unary, Self::Sign(one)) => one.encode_to_vec(),
            (Mode::Unary, Self::Encrypt(one)) => one.encode_to_vec(),
            (Mode::Unary, Self::Mac(one)) => one.encode_to_vec(),
            (Mode::Batch, Self::Sign(one)) => {
                let result = batch_sign_response::Result {
                    result: Some(batch_sign_response::result::Result::Response(one)),
                };
                let results = vec![result; BATCH];
                BatchSignResponse { results }.encode_to_vec()
            }
            (Mode::Batch, Self::Encrypt(one)) => {
                let result = batch_encrypt_response::Result {
                    result: Some(batch_encrypt_response::result::Result::Response(one)),
                };
                let results = vec![result; BATCH];
                BatchEncryptResponse { results }.encode_to_vec()
            }
            (Mode::Batch, Self::Mac(one)) => {
                let result = batch_mac_sign_response::Result {
                    result: Some(batch_mac_sign_response::result::Result::Response(one)),
                };
                let results = vec![result; BATCH];
                BatchMacSignResponse { results }.encode_to_vec()
            }
            (Mode::Pipelined, one) => {
                let response = match one {
                    Self::Sign(one) => pipeline_response::Response::Sign(one),
                    Self::Encrypt(one) => pipeline_response::Response::Encrypt(one),
                    Self::Mac(one) => pipeline_response::Response::MacSign(one),
                };
                let response = Some(response);
                PipelineResponse { id: 0, response }.encode_to_vec()
            }
        };
        (method, message)
    }
}

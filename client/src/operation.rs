//! The uses of keys: what goes over the stream, with checksums both ways.

use crate::{
    client::{Client, unary},
    error::Error,
    pipeline::Unanswered,
    retry::Repeat,
    transport::Transport,
    v1::{
        self, crypto_service_client::CryptoServiceClient, pipeline_request::Request as Asked,
        pipeline_response::Response as Answer,
    },
};
use crc32c::crc32c;
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::{Response, Status};

/// A use of a key.
trait Operation: Message + Clone + Sized {
    type Answer;

    /// Adds the checksums of what is sent, where the caller gave none.
    fn seal(&mut self);

    /// Checks what came back.
    fn check(&self, answer: &Self::Answer) -> Result<(), Error>;

    fn into_request(self) -> Asked;

    /// The answer to this kind of operation, or what else the gateway said.
    fn answer_of(answer: Answer) -> Result<Self::Answer, Error>;

    fn alone(
        service: CryptoServiceClient<Transport>,
        request: tonic::Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>>;
}

impl Client {
    async fn operate<O: Operation>(&self, mut operation: O) -> Result<O::Answer, Error> {
        operation.seal();
        let answer = self
            .attempts(Repeat::Safe, |deadline| self.attempt(&operation, deadline))
            .await?;
        operation.check(&answer)?;
        Ok(answer)
    }

    async fn attempt<O: Operation>(&self, operation: &O, deadline: Instant) -> Result<O::Answer, Error> {
        let bytes = operation.encoded_len();
        if self.pipeline().takes(bytes) {
            let request = operation.clone().into_request();
            match timeout_at(deadline, self.pipeline().perform(request, bytes, deadline)).await {
                Ok(Ok(answer)) => return O::answer_of(answer),
                Ok(Err(Unanswered::Ended(error))) => return Err(error),
                Ok(Err(Unanswered::Alone)) => {}
                Err(_) => return Err(Error::TimedOut(None)),
            }
        }
        unary(operation.clone(), deadline, |request| O::alone(self.crypto(), request)).await
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $method:ident, $variant:ident: $request:ident -> $answer:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                ///
                /// As [`Error`] groups them. Nothing of an operation is undone when its answer is lost.
                pub async fn $method(&self, request: v1::$request) -> Result<v1::$answer, Error> {
                    self.operate(request).await
                }
            )*
        }

        $(
            impl Operation for v1::$request {
                type Answer = v1::$answer;

                fn seal(&mut self) {
                    Checksums::seal(self);
                }

                fn check(&self, answer: &Self::Answer) -> Result<(), Error> {
                    Checksums::check(self, answer)
                }

                fn into_request(self) -> Asked {
                    Asked::$variant(self)
                }

                fn answer_of(answer: Answer) -> Result<Self::Answer, Error> {
                    match answer {
                        Answer::$variant(answer) => Ok(answer),
                        Answer::Error(error) => Err(error.into()),
                        _ => Err(Status::internal("the gateway answered another operation than the one asked for").into()),
                    }
                }

                async fn alone(
                    mut service: CryptoServiceClient<Transport>,
                    request: tonic::Request<Self>,
                ) -> Result<Response<Self::Answer>, Status> {
                    service.$method(request).await
                }
            }
        )*
    };
}

operations! {
    /// Signs a digest or a message inside an HSM.
    sign, Sign: SignRequest -> SignResponse;
    /// Checks a signature. A wrong one is an answer (`valid` false), not an error.
    verify, Verify: VerifyRequest -> VerifyResponse;
    /// Encrypts at most as much as the gateway takes at once, 1 MiB if its configuration says nothing. For more there is
    /// [`envelope`](crate::envelope).
    encrypt, Encrypt: EncryptRequest -> EncryptResponse;
    /// Decrypts what [`encrypt`](Self::encrypt) made.
    decrypt, Decrypt: DecryptRequest -> DecryptResponse;
    /// Puts a ciphertext under another key or version, inside an HSM.
    re_encrypt, ReEncrypt: ReEncryptRequest -> ReEncryptResponse;
    /// Draws a data key. [`envelope`](crate::envelope) does so by itself.
    generate_data_key, GenerateDataKey: GenerateDataKeyRequest -> GenerateDataKeyResponse;
    /// Makes a message authentication code.
    mac_sign, MacSign: MacSignRequest -> MacSignResponse;
    /// Checks a message authentication code. A wrong one is an answer (`valid` false), not an error.
    mac_verify, MacVerify: MacVerifyRequest -> MacVerifyResponse;
    /// Decrypts with a private key.
    asymmetric_decrypt, AsymmetricDecrypt: AsymmetricDecryptRequest -> AsymmetricDecryptResponse;
    /// Agrees on a secret with a peer's public key.
    derive_shared_secret, DeriveSharedSecret: DeriveSharedSecretRequest -> DeriveSharedSecretResponse;
    /// Takes random bytes from an HSM's generator.
    generate_random, GenerateRandom: GenerateRandomRequest -> GenerateRandomResponse;
}

/// What is checked on its way there and back (CRC32C).
trait Checksums<A> {
    fn seal(&mut self);

    fn check(&self, answer: &A) -> Result<(), Error>;
}

/// Sets a checksum that the caller did not.
fn set(checksum: &mut Option<u32>, bytes: Option<&[u8]>) {
    if checksum.is_none() {
        *checksum = bytes.map(crc32c);
    }
}

/// Fails unless the bytes have the checksum that came with them.
fn arrived(what: &'static str, bytes: &[u8], checksum: u32) -> Result<(), Error> {
    if crc32c(bytes) == checksum {
        Ok(())
    } else {
        Err(Error::Corrupted { what })
    }
}

/// Fails unless the gateway says that it checked what it was given a checksum for.
fn checked(checksum: Option<u32>, verified: bool, dry_run: bool) -> Result<(), Error> {
    if checksum.is_none() || verified || dry_run {
        Ok(())
    } else {
        Err(Error::Corrupted {
            what: "acknowledgement of a checksum",
        })
    }
}

macro_rules! bytes_of {
    ($input:expr, $($variant:path),+) => {
        match &$input {
            $(Some($variant(bytes)))|+ => Some(&bytes[..]),
            _ => None,
        }
    };
}

impl Checksums<v1::SignResponse> for v1::SignRequest {
    fn seal(&mut self) {
        use v1::sign_request::Input::{Digest, Message};
        set(&mut self.input_crc32c, bytes_of!(self.input, Digest, Message));
    }

    fn check(&self, answer: &v1::SignResponse) -> Result<(), Error> {
        checked(self.input_crc32c, answer.verified_input_crc32c, self.dry_run)?;
        arrived("signature", &answer.signature, answer.signature_crc32c)
    }
}

impl Checksums<v1::VerifyResponse> for v1::VerifyRequest {
    fn seal(&mut self) {
        use v1::verify_request::Input::{Digest, Message};
        set(&mut self.input_crc32c, bytes_of!(self.input, Digest, Message));
        set(&mut self.signature_crc32c, Some(&self.signature));
    }

    fn check(&self, answer: &v1::VerifyResponse) -> Result<(), Error> {
        checked(self.input_crc32c, answer.verified_input_crc32c, false)?;
        checked(self.signature_crc32c, answer.verified_signature_crc32c, false)
    }
}

impl Checksums<v1::EncryptResponse> for v1::EncryptRequest {
    fn seal(&mut self) {
        use v1::encrypt_request::Authenticated::AssociatedData;
        set(&mut self.plaintext_crc32c, Some(&self.plaintext));
        set(
            &mut self.associated_data_crc32c,
            bytes_of!(self.authenticated, AssociatedData),
        );
    }

    fn check(&self, answer: &v1::EncryptResponse) -> Result<(), Error> {
        checked(self.plaintext_crc32c, answer.verified_plaintext_crc32c, self.dry_run)?;
        checked(
            self.associated_data_crc32c,
            answer.verified_associated_data_crc32c,
            self.dry_run,
        )?;
        arrived("ciphertext", &answer.ciphertext, answer.ciphertext_crc32c)
    }
}

impl Checksums<v1::DecryptResponse> for v1::DecryptRequest {
    fn seal(&mut self) {
        use v1::decrypt_request::Authenticated::AssociatedData;
        set(&mut self.ciphertext_crc32c, Some(&self.ciphertext));
        set(
            &mut self.associated_data_crc32c,
            bytes_of!(self.authenticated, AssociatedData),
        );
    }

    fn check(&self, answer: &v1::DecryptResponse) -> Result<(), Error> {
        checked(self.ciphertext_crc32c, answer.verified_ciphertext_crc32c, self.dry_run)?;
        checked(
            self.associated_data_crc32c,
            answer.verified_associated_data_crc32c,
            self.dry_run,
        )?;
        arrived("plaintext", &answer.plaintext, answer.plaintext_crc32c)
    }
}

impl Checksums<v1::ReEncryptResponse> for v1::ReEncryptRequest {
    fn seal(&mut self) {
        use v1::re_encrypt_request::{
            DestinationAuthenticated::DestinationAssociatedData, SourceAuthenticated::SourceAssociatedData,
        };
        set(&mut self.ciphertext_crc32c, Some(&self.ciphertext));
        set(
            &mut self.source_associated_data_crc32c,
            bytes_of!(self.source_authenticated, SourceAssociatedData),
        );
        set(
            &mut self.destination_associated_data_crc32c,
            bytes_of!(self.destination_authenticated, DestinationAssociatedData),
        );
    }

    fn check(&self, answer: &v1::ReEncryptResponse) -> Result<(), Error> {
        checked(self.ciphertext_crc32c, answer.verified_ciphertext_crc32c, self.dry_run)?;
        checked(
            self.source_associated_data_crc32c,
            answer.verified_source_associated_data_crc32c,
            self.dry_run,
        )?;
        checked(
            self.destination_associated_data_crc32c,
            answer.verified_destination_associated_data_crc32c,
            self.dry_run,
        )?;
        arrived("ciphertext", &answer.ciphertext, answer.ciphertext_crc32c)
    }
}

impl Checksums<v1::GenerateDataKeyResponse> for v1::GenerateDataKeyRequest {
    fn seal(&mut self) {
        use v1::generate_data_key_request::Authenticated::AssociatedData;
        set(
            &mut self.associated_data_crc32c,
            bytes_of!(self.authenticated, AssociatedData),
        );
    }

    fn check(&self, answer: &v1::GenerateDataKeyResponse) -> Result<(), Error> {
        checked(
            self.associated_data_crc32c,
            answer.verified_associated_data_crc32c,
            self.dry_run,
        )?;
        arrived("encrypted data key", &answer.ciphertext, answer.ciphertext_crc32c)?;
        arrived("data key", &answer.plaintext, answer.plaintext_crc32c)?;
        arrived(
            "data key for the recipient",
            &answer.ciphertext_for_recipient,
            answer.ciphertext_for_recipient_crc32c,
        )
    }
}

impl Checksums<v1::MacSignResponse> for v1::MacSignRequest {
    fn seal(&mut self) {
        set(&mut self.data_crc32c, Some(&self.data));
    }

    fn check(&self, answer: &v1::MacSignResponse) -> Result<(), Error> {
        checked(self.data_crc32c, answer.verified_data_crc32c, self.dry_run)?;
        arrived("code", &answer.mac, answer.mac_crc32c)
    }
}

impl Checksums<v1::MacVerifyResponse> for v1::MacVerifyRequest {
    fn seal(&mut self) {
        set(&mut self.data_crc32c, Some(&self.data));
        set(&mut self.mac_crc32c, Some(&self.mac));
    }

    fn check(&self, answer: &v1::MacVerifyResponse) -> Result<(), Error> {
        checked(self.data_crc32c, answer.verified_data_crc32c, self.dry_run)?;
        checked(self.mac_crc32c, answer.verified_mac_crc32c, self.dry_run)
    }
}

impl Checksums<v1::AsymmetricDecryptResponse> for v1::AsymmetricDecryptRequest {
    fn seal(&mut self) {
        set(&mut self.ciphertext_crc32c, Some(&self.ciphertext));
    }

    fn check(&self, answer: &v1::AsymmetricDecryptResponse) -> Result<(), Error> {
        checked(self.ciphertext_crc32c, answer.verified_ciphertext_crc32c, self.dry_run)?;
        arrived("plaintext", &answer.plaintext, answer.plaintext_crc32c)
    }
}

impl Checksums<v1::DeriveSharedSecretResponse> for v1::DeriveSharedSecretRequest {
    fn seal(&mut self) {
        set(&mut self.peer_public_key_crc32c, Some(&self.peer_public_key));
    }

    fn check(&self, answer: &v1::DeriveSharedSecretResponse) -> Result<(), Error> {
        checked(
            self.peer_public_key_crc32c,
            answer.verified_peer_public_key_crc32c,
            self.dry_run,
        )?;
        arrived("shared secret", &answer.shared_secret, answer.shared_secret_crc32c)
    }
}

impl Checksums<v1::GenerateRandomResponse> for v1::GenerateRandomRequest {
    fn seal(&mut self) {}

    fn check(&self, answer: &v1::GenerateRandomResponse) -> Result<(), Error> {
        arrived("random bytes", &answer.data, answer.data_crc32c)
    }
}

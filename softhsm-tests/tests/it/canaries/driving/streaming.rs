//! The same in a stream.

use super::Caller;
use portcullis_client::v1::{
    DecryptRequest, EncryptRequest, GenerateDataKeyRequest, GenerateRandomRequest, MacSignRequest, PipelineRequest,
    SignRequest, pipeline_request::Request as Asked, pipeline_response::Response as Answer, sign_request,
};
use prost::{Message, bytes::Bytes};
use tokio_stream::StreamExt;

impl Caller<'_> {
    pub(super) async fn stream(&mut self) {
        let at = |id: &str| format!("keyRings/{}/keys/{id}", self.ring);
        let (gcm, ec, hmac) = (at("gcm"), at("ec"), at("hmac"));
        let plaintext = self.secret("a plaintext in a stream", 64);
        let asked = vec![
            Asked::Encrypt(EncryptRequest {
                name: gcm.clone(),
                plaintext,
                ..Default::default()
            }),
            Asked::Sign(SignRequest {
                name: ec,
                input: Some(sign_request::Input::Message(self.secret("a message in a stream", 64))),
                ..Default::default()
            }),
            Asked::MacSign(MacSignRequest {
                name: hmac,
                data: self.secret("a message under a code in a stream", 64),
                ..Default::default()
            }),
            Asked::GenerateDataKey(GenerateDataKeyRequest {
                name: gcm.clone(),
                length_bytes: 32,
                ..Default::default()
            }),
            Asked::GenerateRandom(GenerateRandomRequest { length_bytes: 64 }),
            // Wrongly: no such ciphertext.
            Asked::Decrypt(DecryptRequest {
                name: gcm.clone(),
                ciphertext: self.secret("what is no ciphertext in a stream", 90),
                ..Default::default()
            }),
        ];
        let ciphertext = self.pipeline(asked).await;
        self.pipeline(vec![Asked::Decrypt(DecryptRequest {
            name: gcm,
            ciphertext,
            ..Default::default()
        })])
        .await;
    }

    /// Sends operations in a stream; returns the last ciphertext that came back.
    async fn pipeline(&mut self, asked: Vec<Asked>) -> Bytes {
        let requests: Vec<_> = (1..)
            .zip(asked)
            .map(|(id, request)| PipelineRequest {
                id,
                timeout: None,
                request: Some(request),
            })
            .collect();
        let count = requests.len();
        let answers = self.client.crypto().pipeline(tokio_stream::iter(requests)).await;
        let mut answers = answers.expect("a stream").into_inner();
        let (mut ciphertext, mut answered) = (Bytes::new(), 0);
        while let Some(answer) = answers.next().await {
            answered += 1;
            match answer.expect("an answer").response.expect("a response") {
                Answer::Encrypt(answer) => ciphertext = answer.ciphertext,
                Answer::GenerateDataKey(answer) => self.passes("a data key in a stream", &answer.plaintext),
                Answer::GenerateRandom(answer) => self.passes("random bytes in a stream", &answer.data),
                Answer::Error(error) => self.traces.errors.extend(error.encode_to_vec()),
                _ => {}
            }
        }
        assert_eq!(answered, count);
        ciphertext
    }
}

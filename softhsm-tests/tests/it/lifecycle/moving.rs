//! What was encrypted under an old version of a key moves to its new one.

use super::{Verb, apply, rotation::rotate};
use portcullis_client::{
    Client, Code, Status,
    v1::{
        DecryptRequest, EncryptRequest, EncryptionContext, ReEncryptRequest, ReEncryptResponse, decrypt_request,
        encrypt_request,
        re_encrypt_request::{DestinationAuthenticated, SourceAuthenticated},
    },
};
use portcullis_softhsm_tests::{Gateway, KeySpec, TestCluster, create_key, create_ring, refusal};
use prost::bytes::Bytes;

const PLAINTEXT: &[u8] = b"older than the key that keeps it now";

fn context(tenant: &str) -> EncryptionContext {
    EncryptionContext {
        values: [("tenant".to_owned(), tenant.to_owned())].into(),
    }
}

async fn encrypt(client: &Client, name: &str, tenant: &str) -> Bytes {
    let request = EncryptRequest {
        name: name.to_owned(),
        plaintext: PLAINTEXT.into(),
        authenticated: Some(encrypt_request::Authenticated::EncryptionContext(context(tenant))),
        ..Default::default()
    };
    let answer = client.crypto().encrypt(request).await.expect("a ciphertext");
    answer.into_inner().ciphertext
}

/// The plaintext, and whether the primary version had it.
async fn decrypt(client: &Client, name: &str, ciphertext: &Bytes, tenant: &str) -> Result<(Bytes, bool), Status> {
    let request = DecryptRequest {
        name: name.to_owned(),
        ciphertext: ciphertext.clone(),
        authenticated: Some(decrypt_request::Authenticated::EncryptionContext(context(tenant))),
        ..Default::default()
    };
    let answer = client.crypto().decrypt(request).await?.into_inner();
    Ok((answer.plaintext, answer.used_primary))
}

/// Moves a ciphertext from one context to another under the same key.
async fn move_to(
    client: &Client,
    name: &str,
    ciphertext: &Bytes,
    [from, to]: [&str; 2],
) -> Result<ReEncryptResponse, Status> {
    let request = ReEncryptRequest {
        source_name: name.to_owned(),
        ciphertext: ciphertext.clone(),
        source_authenticated: Some(SourceAuthenticated::SourceEncryptionContext(context(from))),
        destination_name: name.to_owned(),
        destination_authenticated: Some(DestinationAuthenticated::DestinationEncryptionContext(context(to))),
        ..Default::default()
    };
    Ok(client.crypto().re_encrypt(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ciphertext_moves_from_the_old_version_of_a_key_to_the_new_one() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        create_ring(&client, transport).await;
        let name = create_key(&client, transport, "aes", KeySpec::AES_256).await.name;
        let (first, second) = (format!("{name}/versions/1"), format!("{name}/versions/2"));
        let old = encrypt(&client, &name, "one").await;
        assert_eq!(rotate(&client, &name).await.primary_version, 2);
        assert_eq!(
            decrypt(&client, &name, &old, "one").await.expect("a plaintext"),
            (PLAINTEXT.into(), false)
        );

        // In the same context and into another; under the old context only the former opens then.
        for to in ["one", "two"] {
            let moved = move_to(&client, &name, &old, ["one", to]).await.expect("a ciphertext");
            assert_eq!((&moved.source_name, &moved.destination_name), (&first, &second));
            assert_eq!(
                decrypt(&client, &name, &moved.ciphertext, to)
                    .await
                    .expect("a plaintext"),
                (PLAINTEXT.into(), true)
            );
            if to == "two" {
                refusal(decrypt(&client, &name, &moved.ciphertext, "one").await)
                    .is(Code::InvalidArgument, "DECRYPTION_FAILED");
            }
            // The old version does not have it.
            refusal(decrypt(&client, &first, &moved.ciphertext, to).await)
                .is(Code::InvalidArgument, "DECRYPTION_FAILED");
        }
        refusal(move_to(&client, &name, &old, ["two", "two"]).await).is(Code::InvalidArgument, "DECRYPTION_FAILED");

        // A disabled version is no source; enabled again, or deactivated for good, it is one, and never a destination.
        apply(&client, &first, Verb::Disable).await.expect("disabled");
        refusal(move_to(&client, &name, &old, ["one", "one"]).await)
            .is(Code::FailedPrecondition, "KEY_STATE_FORBIDS_OPERATION")
            .naming(&first);
        apply(&client, &first, Verb::Enable).await.expect("enabled");
        move_to(&client, &name, &old, ["one", "one"])
            .await
            .expect("a ciphertext");
        apply(&client, &first, Verb::Deactivate).await.expect("deactivated");
        let moved = move_to(&client, &name, &old, ["one", "two"])
            .await
            .expect("a ciphertext");
        assert_eq!((&moved.source_name, &moved.destination_name), (&first, &second));
        let back = ReEncryptRequest {
            source_name: name.clone(),
            ciphertext: moved.ciphertext.clone(),
            source_authenticated: Some(SourceAuthenticated::SourceEncryptionContext(context("two"))),
            destination_name: first.clone(),
            ..Default::default()
        };
        refusal(client.crypto().re_encrypt(back).await)
            .is(Code::FailedPrecondition, "KEY_STATE_FORBIDS_OPERATION")
            .naming(&first);
        // A compromised one is a source for those who break the glass, with a reason.
        apply(&client, &first, Verb::MarkCompromised).await.expect("marked");
        refusal(move_to(&client, &name, &old, ["one", "one"]).await)
            .is(Code::FailedPrecondition, "KEY_STATE_FORBIDS_OPERATION")
            .naming(&first);
    }
}

//! Signatures that are the same each time, bit for bit, under keys that are imported in clear.

use super::vectors::started;
use portcullis_client::v1::{KeyOperation, KeyType, Mechanism};
use portcullis_softhsm_tests::{
    KeySpec, LONG, Material, TestCluster, clear_import, create_key_for_import, import, message_request, openssl, sign,
    temporary_directory,
};
use std::fs;

/// RFC 8032, section 7.1, tests 1 to 3: secret key, public key, message, signature.
const ED25519: [[&str; 4]; 3] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
         d25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c\
         387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659\
         4a7c15e9716ed28dc027beceea1ec40a",
    ],
];

const RSA: &[(KeyOperation, Mechanism)] = &[
    (KeyOperation::Sign, Mechanism::RsaPkcs1Sha256),
    (KeyOperation::Sign, Mechanism::RsaPkcs1Sha384),
    (KeyOperation::Sign, Mechanism::RsaPkcs1Sha512),
];

#[tokio::test(flavor = "multi_thread")]
async fn ed25519_is_that_of_the_rfc() {
    let cluster = TestCluster::new();
    let (_gateway, client) = started(&cluster).await;
    let bytes = |text: &str| hex::decode(text).expect("hexadecimal");
    for (number, [secret, public, message, signature]) in (1..).zip(ED25519) {
        let id = format!("test-{number}");
        let name = create_key_for_import(&client, "ring", &id, KeySpec::ED25519_RESIDENT)
            .await
            .name;
        // RFC 8410: PKCS#8 and SubjectPublicKeyInfo of this algorithm have nothing variable before the keys.
        let material = Material {
            value: bytes(&format!("302e020100300506032b657004220420{secret}")),
            public_key: bytes(&format!("302a300506032b6570032100{public}")),
        };
        let mut request = clear_import(&name, &material);
        request.allow_single_replica = true;
        import(&client, request).await.expect("an imported key");
        let made = sign(&client, &name, &bytes(message))
            .await
            .expect("a signature")
            .signature;
        assert_eq!(hex::encode(made), signature, "test {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_signatures_with_pkcs1_padding_are_those_of_openssl() {
    const MESSAGE: &[u8] = b"the same signature, whoever makes it";
    let cluster = TestCluster::new();
    let (_gateway, client) = started(&cluster).await;
    // RSA keys of 4096 bits take their time.
    let client = client.with_deadline(LONG);
    for key_type in [KeyType::Rsa2048, KeyType::Rsa3072, KeyType::Rsa4096] {
        let material = Material::generate(key_type);
        let id = format!("{key_type:?}").to_lowercase();
        let name = create_key_for_import(&client, "ring", &id, KeySpec::wrapped(key_type, RSA))
            .await
            .name;
        import(&client, clear_import(&name, &material))
            .await
            .expect("an imported key");
        let directory = temporary_directory();
        fs::write(directory.path().join("key.der"), &material.value).expect("a file for OpenSSL");
        fs::write(directory.path().join("message"), MESSAGE).expect("a file for OpenSSL");
        for (mechanism, hash) in [
            (Mechanism::RsaPkcs1Sha256, "-sha256"),
            (Mechanism::RsaPkcs1Sha384, "-sha384"),
            (Mechanism::RsaPkcs1Sha512, "-sha512"),
        ] {
            let mut request = message_request(&name, MESSAGE);
            request.mechanism = mechanism as i32;
            let made = client
                .crypto()
                .sign(request)
                .await
                .expect("a signature")
                .into_inner()
                .signature;
            let arguments = [
                "dgst",
                hash,
                "-sign",
                "key.der",
                "-keyform",
                "DER",
                "-out",
                "signature",
                "message",
            ];
            openssl(directory.path(), arguments).succeeded();
            let theirs = fs::read(directory.path().join("signature")).expect("OpenSSL's signature");
            assert_eq!(made, theirs, "{id} {hash}");
        }
    }
}

//! The PKCS#11 module, loaded by the programs that it is made for, against a real gateway.

mod check;
mod gnutls;
mod hosts;
mod java;
mod nginx;
mod openssl;
mod pkcs11_tool;
mod ssh;
mod surface;

use portcullis_client::v1::{KeyOperation, KeyType, Mechanism};
use portcullis_softhsm_tests::{Gateway, KeySpec, Shim, create_key, create_ring};
use tokio::runtime::Runtime;

/// A key for TLS: it signs by all that TLS 1.2 and 1.3 ask of RSA.
const RSA_TLS: KeySpec = KeySpec::wrapped(
    KeyType::Rsa2048,
    &[
        (KeyOperation::Sign, Mechanism::RsaPkcs1Sha256),
        (KeyOperation::Sign, Mechanism::RsaPkcs1Sha384),
        (KeyOperation::Sign, Mechanism::RsaPkcs1Sha512),
        (KeyOperation::Sign, Mechanism::RsaPssSha256),
        (KeyOperation::Sign, Mechanism::RsaPssSha384),
        (KeyOperation::Sign, Mechanism::RsaPssSha512),
    ],
);

/// Makes a ring with keys.
fn ring(gateway: &Gateway, ring: &str, keys: &[(&str, KeySpec)]) {
    Runtime::new().expect("a runtime").block_on(async {
        let client = gateway.unix_client().await;
        create_ring(&client, ring).await;
        for (key, spec) in keys {
            create_key(&client, ring, key, *spec).await;
        }
    });
}

/// The module over a gateway's socket, showing one ring. It waits longer than anything takes here.
fn shim(gateway: &Gateway, ring: &str) -> Shim {
    shim_with(gateway, ring, "")
}

/// The same with more tables of configuration.
fn shim_with(gateway: &Gateway, ring: &str, tables: &str) -> Shim {
    let settings = "timeout = \"90s\"\nconnect_timeout = \"60s\"\n[log]\nlevel = \"warn\"\n";
    Shim::new(gateway, &format!("rings = [\"{ring}\"]\n{settings}{tables}"))
}

//! What the command line signs and encrypts, and a worker that dies.

use super::{CommandLine, over_tls, over_unix};
use portcullis_softhsm_tests::{Gateway, TestCluster, openssl, temporary_directory};
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_command_line_signs_and_encrypts_outlives_a_worker() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let directory = directory.path();
    let unix = over_unix(&gateway);
    let tls = over_tls(&cluster, &gateway);
    let document: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(directory.join("document"), &document).expect("the document");
    for (ring, global) in [("by-unix", unix), ("by-tls", tls)] {
        let portcullis = CommandLine::with(directory, global);
        portcullis.run(&format!("ring create {ring}"));
        portcullis.run(&format!("key create {ring}/signer --type ec-p256"));
        portcullis.run(&format!(
            "key create {ring}/rsa --type rsa-2048 --mechanism rsa-pkcs1-sha256"
        ));
        portcullis.run(&format!("key create {ring}/data --type aes-256"));
        for key in ["signer", "rsa"] {
            portcullis.run(&format!("key public {ring}/{key} --out {key}.pem"));
        }
        let sign_and_encrypt = |round: &str| {
            for key in ["signer", "rsa"] {
                portcullis.run(&format!("sign {ring}/{key} --in document --out {key}-{round}.sig"));
            }
            portcullis.run(&format!(
                "encrypt {ring}/data --in document --out {round}.enc --encryption-context round={round}"
            ));
            assert_ne!(
                fs::read(directory.join(format!("{round}.enc"))).expect("the ciphertext"),
                document
            );
        };
        let check = |round: &str| {
            for key in ["signer", "rsa"] {
                let signature = format!("{key}-{round}.sig");
                let public_key = format!("{key}.pem");
                let arguments = [
                    "dgst",
                    "-sha256",
                    "-verify",
                    &public_key,
                    "-signature",
                    &signature,
                    "document",
                ];
                assert_eq!(openssl(directory, arguments).succeeded().text().trim(), "Verified OK");
                portcullis.run(&format!("verify {ring}/{key} --in document --signature {signature}"));
            }
            portcullis.run(&format!(
                "decrypt {ring}/data --in {round}.enc --out {round}.dec --encryption-context round={round}"
            ));
            assert!(fs::read(directory.join(format!("{round}.dec"))).expect("the plaintext") == document);
        };
        sign_and_encrypt("before");
        check("before");
        let starts = gateway.member("a").await.worker_starts;
        gateway.kill_worker("a");
        // At once, while the member is gone, and when it is back.
        check("before");
        sign_and_encrypt("during");
        check("during");
        gateway.wait_for_worker("a", starts + 1).await;
        sign_and_encrypt("after");
        for round in ["before", "during", "after"] {
            check(round);
        }
    }
}

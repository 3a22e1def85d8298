//! Who may do what to files: each command by somebody who has its role alone.

use super::{Desk, data};
use portcullis_softhsm_tests::{Identity, Output, TestCluster, Wish, run};
use std::fs;

const ROLES: [&str; 4] = ["data-key-user", "encrypter", "decrypter", "reencrypter"];

#[tokio::test(flavor = "multi_thread")]
async fn each_command_takes_its_own_role_and_no_other() {
    let cluster = TestCluster::new();
    for role in ROLES {
        cluster.grant(&format!(
            "name = '{role}'\nrole = '{role}'\nprincipals = ['spiffe://portcullis.dev/{role}']\nrings = ['demo']"
        ));
    }
    let desk = Desk::on(cluster).await;
    let authority = desk.cluster.authority();
    let people = ROLES.map(|role| {
        let uri = format!("spiffe://portcullis.dev/{role}");
        (role, authority.client(Wish::of(&uri), &desk.cluster.pki("ca.pem")))
    });
    fs::write(desk.path("plain"), data(1000)).expect("the file");
    desk.run("encrypt demo/files --in plain --out sealed");
    desk.run("encrypt demo/files --direct --in plain --out direct");
    desk.rotate().await;
    let attempts = [
        ("encrypt demo/files --in plain --out by-role", "data-key-user"),
        ("encrypt demo/files --direct --in plain --out by-role", "encrypter"),
        ("decrypt demo/files --in sealed --out by-role", "decrypter"),
        ("decrypt demo/files --in direct --out by-role", "decrypter"),
        ("reencrypt demo/files sealed", "reencrypter"),
        ("reencrypt demo/files direct", "reencrypter"),
    ];
    for (line, needed) in attempts {
        for (role, identity) in &people {
            if *role != needed {
                let output = run_as(&desk, identity, line);
                assert_eq!(output.status.code(), Some(8), "{role}: {output}");
                assert!(!desk.path("by-role").exists(), "{role}: {line}");
            }
        }
        for (_, identity) in people.iter().filter(|(role, _)| *role == needed) {
            run_as(&desk, identity, line).succeeded();
            drop(fs::remove_file(desk.path("by-role")));
        }
    }
    for file in ["sealed", "direct"] {
        assert_eq!(
            desk.ask(&format!("decrypt demo/files --in {file} --out opened"))["used_primary"],
            true
        );
        assert!(fs::read(desk.path("opened")).expect("the file") == data(1000));
    }
}

fn run_as(desk: &Desk, identity: &Identity, line: &str) -> Output {
    let mut command = desk.command(line);
    command
        .env("PORTCULLIS_ENDPOINT", desk.gateway.tls_endpoint().to_string())
        .arg("--cert")
        .arg(identity.certificate())
        .arg("--key-file")
        .arg(identity.private_key())
        .arg("--ca")
        .arg(identity.trust_bundle());
    tokio::task::block_in_place(|| run(&mut command))
}

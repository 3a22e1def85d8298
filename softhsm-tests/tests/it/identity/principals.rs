//! Names that must not be mistaken for each other.

use super::{call, connect};
use portcullis_client::Code;
use portcullis_softhsm_tests::{AuditLog, Authority, Gateway, TestCluster, Wish, refusal, run, workspace_binary};
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn two_authorities_that_give_one_name_make_two_principals() {
    let cluster = TestCluster::new();
    let (one, other) = (Authority::named("one"), Authority::named("other"));
    let both = cluster.place(
        "pki/clients.pem",
        &format!("{}{}", one.certificate(), other.certificate()),
    );
    cluster.edit_tls(|tls| {
        tls.insert("client_authorities".to_owned(), both.to_str().expect("UTF-8").into());
    });
    let gateway = Gateway::start(&cluster);
    let wish = Wish {
        uri: None,
        common_name: "payments,O=Example",
        ..Wish::DEVELOPER
    };
    let mut principals = Vec::new();
    for authority in [one, other] {
        let identity = authority.client(wish, &cluster.pki("ca.pem"));
        let client = connect(&gateway, &identity.credentials()).await.expect("a connection");
        refusal(call(&client).await).is(Code::PermissionDenied, "ACCESS_DENIED");
        let printed = tokio::task::block_in_place(|| {
            run(Command::new(workspace_binary("portcullisd"))
                .arg("principal")
                .arg("--config")
                .arg(cluster.config_file())
                .arg(identity.certificate()))
        });
        principals.push(printed.succeeded().text().trim().to_owned());
    }
    tokio::task::block_in_place(|| gateway.stop());
    let log = AuditLog::read(&cluster.audit_file());
    let seen: Vec<_> = log
        .outcomes()
        .map(|entry| entry["principal"].as_str().expect("a principal"))
        .collect();
    assert_eq!(seen, principals, "the command and the gateway differ");
    assert_ne!(principals[0], principals[1]);
    for principal in &principals {
        assert!(principal.starts_with("x509:"), "{principal}");
        assert!(principal.ends_with(":CN=payments\\,O\\=Example"), "{principal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trust_domain_belongs_to_its_own_authorities() {
    let cluster = TestCluster::new();
    let partner = Authority::named("a partner");
    let bundle = cluster.place("pki/partner.pem", partner.certificate());
    cluster.edit_tls(|tls| {
        let domains = toml::Table::from_iter([("partner.example".to_owned(), bundle.to_str().expect("UTF-8").into())]);
        tls.insert("trust_domains".to_owned(), domains.into());
    });
    let gateway = Gateway::start(&cluster);
    let ours = cluster.authority();
    for (authority, uri, believed) in [
        (&partner, "spiffe://partner.example/a", true),
        (&partner, "spiffe://portcullis.dev/developer", false),
        (&ours, "spiffe://portcullis.dev/developer", true),
        (&ours, "spiffe://partner.example/a", false),
    ] {
        let identity = authority.client(Wish::of(uri), &cluster.pki("ca.pem"));
        let outcome = connect(&gateway, &identity.credentials()).await;
        assert_eq!(outcome.is_ok(), believed, "{uri}: {:?}", outcome.err());
    }
    // Nor may the partner name anybody by a subject.
    let unnamed = Wish {
        uri: None,
        ..Wish::DEVELOPER
    };
    let identity = partner.client(unnamed, &cluster.pki("ca.pem"));
    assert!(connect(&gateway, &identity.credentials()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_badly_written_spiffe_id_names_nobody() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for uri in [
        "spiffe://portcullis.dev",
        "spiffe://portcullis.dev/developer/",
        "SPIFFE://portcullis.dev/developer",
    ] {
        let identity = cluster.authority().client(Wish::of(uri), &cluster.pki("ca.pem"));
        assert!(connect(&gateway, &identity.credentials()).await.is_err(), "{uri}");
    }
    gateway.tls_client().await;
}

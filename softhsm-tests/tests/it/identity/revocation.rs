//! Certificates that were revoked.

use super::{connect, set_lists, tomorrow};
use portcullis_softhsm_tests::{Authority, Gateway, Launch, TestCluster, Wish};
use std::time::{Duration, SystemTime};

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_refused_and_told_why_and_others_are_not() {
    let cluster = TestCluster::new();
    let authority = cluster.authority();
    let [good, bad] = [(); 2].map(|()| authority.client(Wish::DEVELOPER, &cluster.pki("ca.pem")));
    let list = cluster.place("clients.crl", &authority.revocation_list(&[bad.serial()], tomorrow()));
    set_lists(&cluster, &[list], "require");
    let gateway = Gateway::start(&cluster);
    assert_eq!(
        connect(&gateway, &bad.credentials()).await.err().as_deref(),
        Some("revoked")
    );
    connect(&gateway, &good.credentials())
        .await
        .expect("a client that was not revoked");
    gateway.tls_client().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_chain_is_looked_up() {
    let cluster = TestCluster::new();
    let root = Authority::named("a root");
    let (good, bad) = (
        root.intermediate("a good department"),
        root.intermediate("a bad department"),
    );
    let authorities = cluster.place("pki/root.pem", root.certificate());
    let lists = [
        cluster.place("root.crl", &root.revocation_list(&[bad.serial()], tomorrow())),
        cluster.place("good.crl", &good.revocation_list(&[], tomorrow())),
        cluster.place("bad.crl", &bad.revocation_list(&[], tomorrow())),
    ];
    cluster.edit_tls(|tls| {
        tls.insert(
            "client_authorities".to_owned(),
            authorities.to_str().expect("UTF-8").into(),
        );
    });
    set_lists(&cluster, &lists, "require");
    let gateway = Gateway::start(&cluster);
    let of_good = good.client(Wish::DEVELOPER, &cluster.pki("ca.pem"));
    let of_bad = bad.client(Wish::DEVELOPER, &cluster.pki("ca.pem"));
    connect(&gateway, &of_good.credentials())
        .await
        .expect("a client of a good authority");
    assert_eq!(
        connect(&gateway, &of_bad.credentials()).await.err().as_deref(),
        Some("revoked")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_current_list_nobody_is_believed_where_lists_are_required() {
    let yesterday = SystemTime::now() - Duration::from_secs(24 * 3600);
    for (until, of_another_issuer) in [(yesterday, false), (tomorrow(), true)] {
        let cluster = TestCluster::new();
        let authority = cluster.authority();
        let issuer = if of_another_issuer {
            &Authority::foreign()
        } else {
            &authority
        };
        let revoked = authority.client(Wish::DEVELOPER, &cluster.pki("ca.pem"));
        let list = cluster.place("clients.crl", &issuer.revocation_list(&[revoked.serial()], until));
        set_lists(&cluster, std::slice::from_ref(&list), "require");
        let gateway = Gateway::start(&cluster);
        assert!(connect(&gateway, &cluster.developer()).await.is_err());
        gateway.unix_client().await;
        drop(gateway);

        // The other policy believes them, but not one that even an old list revokes.
        set_lists(&cluster, &[list], "prefer");
        let gateway = Gateway::start(&cluster);
        connect(&gateway, &cluster.developer()).await.expect("a client");
        let outcome = connect(&gateway, &revoked.credentials()).await.err();
        assert_eq!(outcome.as_deref(), (!of_another_issuer).then_some("revoked"));
    }
}

#[test]
fn lists_that_are_missing_or_hide_each_other_keep_the_gateway_from_starting() {
    let cluster = TestCluster::new();
    let authority = cluster.authority();
    let lists = ["one.crl", "two.crl"].map(|name| cluster.place(name, &authority.revocation_list(&[], tomorrow())));
    set_lists(&cluster, &lists, "prefer");
    let ended = Launch::new(&cluster).start_in_vain();
    assert!(
        ended.log.contains("two.crl") && ended.log.contains("a second list"),
        "{}",
        ended.log
    );

    for (content, words) in [
        ("rubbish", "holds no revocation list"),
        ("", "holds no revocation list"),
    ] {
        let list = cluster.place("clients.crl", content);
        set_lists(&cluster, &[list], "prefer");
        let ended = Launch::new(&cluster).start_in_vain();
        assert!(ended.log.contains(words), "{}", ended.log);
    }
    set_lists(&cluster, &[cluster.path().join("absent.crl")], "prefer");
    let ended = Launch::new(&cluster).start_in_vain();
    assert!(ended.log.contains("absent.crl"), "{}", ended.log);
}

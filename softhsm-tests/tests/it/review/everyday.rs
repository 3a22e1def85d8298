//! What ordinary days bring: a wrong directory, a lost configuration, a hangup.

use portcullis_softhsm_tests::{
    Gateway, KeySpec, TestCluster, create_key, create_ring, run, sign, temporary_directory, workspace_binary,
};
use std::{fs, process::Command};

fn dev(state: &std::path::Path) -> portcullis_softhsm_tests::Output {
    run(Command::new(workspace_binary("portcullisd"))
        .args(["dev", "--prepare-only", "--state"])
        .arg(state))
}

#[test]
fn a_development_cluster_takes_no_directory_that_is_somebody_elses() {
    let directory = temporary_directory();
    let precious = directory.path().join("db/customers.sqlite");
    fs::create_dir(directory.path().join("db")).expect("a directory");
    fs::write(&precious, "precious").expect("a file");
    let output = dev(directory.path());
    assert!(!output.status.success());
    assert!(
        output.stderr.contains("it is not used for a development cluster"),
        "{output}"
    );
    assert_eq!(
        fs::read_to_string(&precious).expect("the file is still there"),
        "precious"
    );
}

#[test]
fn a_development_cluster_that_lost_its_configuration_keeps_its_keys() {
    let cluster = TestCluster::new();
    fs::remove_file(cluster.config_file()).expect("the configuration is removed");
    assert!(!dev(cluster.path()).status.success());
    assert!(cluster.softhsm_conf("a").exists() && cluster.pki("ca.key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_does_not_end_the_gateway() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    gateway.hang_up();
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    sign(&client, &key, b"a message").await.expect("a signature");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_as_it_comes_has_nothing_to_complain_about() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    sign(&client, &key.name, b"message").await.expect("a signature");
    drop(client);
    let ended = gateway.stop();
    let complaint = ended.log.lines().find(|line| line.contains(" ERROR "));
    assert_eq!(complaint, None);
}

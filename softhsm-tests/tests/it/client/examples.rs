//! The examples in the library's documentation, run as they stand there.

use portcullis_softhsm_tests::{
    Gateway, KeySpec, Output, TestCluster, create_key, create_ring, run, temporary_directory, workspace_binary,
};
use std::{fs, path::PathBuf, process::Command};

/// An example of the client library, as cargo builds it beside the programs.
fn example(name: &str) -> PathBuf {
    let programs = workspace_binary("portcullisd");
    let path = programs.with_file_name("examples").join(name);
    assert!(
        path.is_file(),
        "{name} is not built; run: cargo build -p portcullis-client --examples"
    );
    path
}

fn run_example(name: &str, arguments: &[&str]) -> Output {
    run(Command::new(example(name)).args(arguments))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_example_makes_a_key_and_signs_with_it() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let output = run_example("sign", &[&gateway.unix_endpoint().to_string()]).succeeded();
    assert_eq!(output.text(), "100 valid signatures by keyRings/example/keys/release\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_example_seals_a_file_and_opens_it() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "demo").await;
    let key = create_key(&client, "demo", "files", KeySpec::AES_256).await.name;
    let directory = temporary_directory();
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let plain: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(path("plain"), &plain).expect("the file");
    let endpoint = gateway.unix_endpoint().to_string();
    let output = run_example(
        "seal",
        &[&endpoint, &key, &path("plain"), &path("sealed"), &path("opened")],
    )
    .succeeded();
    assert_eq!(
        output.text(),
        "sealed 400000 bytes under keyRings/demo/keys/files/versions/1\nopened 400000 bytes\n"
    );
    assert!(fs::read(path("opened")).expect("the file") == plain);
    assert!(
        fs::read(path("sealed"))
            .expect("the file")
            .starts_with(b"PORTCULLISSEALED")
    );
}

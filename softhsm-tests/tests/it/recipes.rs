//! What a ceremony does with tokens. The program `recipes` does it, in a process and on tokens of its own.

use portcullis_softhsm_tests::{TestCluster, run, temporary_directory, workspace_binary};
use std::{fs, process::Command};

fn recipe(name: &str) {
    let directory = temporary_directory();
    let tokens = directory.path().join("tokens");
    fs::create_dir(&tokens).expect("a directory");
    let conf = directory.path().join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
        tokens.display()
    );
    fs::write(&conf, text).expect("a configuration");
    run(Command::new(workspace_binary("recipes"))
        .arg(name)
        .arg(TestCluster::new().module())
        .env("SOFTHSM2_CONF", &conf))
    .succeeded();
}

#[test]
fn a_domain_goes_from_its_origin_to_members_that_seal_it() {
    recipe("clone");
}

#[test]
fn what_an_interrupted_ceremony_made_is_found_adopted_and_destroyed() {
    recipe("interrupted");
}

#[test]
fn a_lost_domain_comes_back_from_its_backup() {
    recipe("backup");
}

#[test]
fn a_root_key_signs_with_its_pin_and_never_without() {
    recipe("root");
}

#[test]
fn what_a_weak_token_allows_is_said_and_leaves_no_copy_on_it() {
    recipe("weak");
}

#[test]
fn pins_are_random_refused_by_name_and_changed() {
    recipe("pins");
}

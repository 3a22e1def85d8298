//! What close readings of the code and the trials of a new user found: each finding has a test that would show it again.

mod abandoned;
mod connections;
mod everyday;
mod login;
mod noise;
mod oversized;
mod probes;
mod resident;
mod rows;
mod start_and_stop;
mod tokens;

use portcullis_softhsm_tests::{Gateway, MEMBERS, TestCluster, find_tool, run};
use std::{fs, path::PathBuf, process::Command};

/// Stops every worker where it is; returns their process ids.
fn freeze_all(gateway: &Gateway) -> Vec<u32> {
    MEMBERS
        .into_iter()
        .map(|member| gateway.freeze_worker(member))
        .collect()
}

/// Lets every worker go on.
fn thaw_all(gateway: &Gateway) {
    for member in MEMBERS {
        gateway.thaw_worker(member);
    }
}

/// Compiles a PKCS#11 module for a cluster that does what SoftHSM2 never does; `@MODULE@` in its source is SoftHSM2.
pub(crate) fn compile_module(cluster: &TestCluster, source: &str) -> PathBuf {
    let (file, library) = (cluster.path().join("module.c"), cluster.path().join("module.so"));
    let source = source.replace("@MODULE@", &cluster.module().display().to_string());
    fs::write(&file, source).expect("the module's source");
    let mut compiler = Command::new(find_tool("cc", "gcc"));
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&file);
    run(compiler.arg("-ldl")).succeeded();
    library
}

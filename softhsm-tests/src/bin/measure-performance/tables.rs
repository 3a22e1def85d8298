//! Through the gateway and directly.

use crate::setting::{Effort, all_serve, directly};
use anyhow::{Context, Result, ensure};
use portcullis_softhsm_tests::{Gateway, TestCluster};

/// Runs `portcullis bench all`, which prints its tables itself.
pub(crate) fn measure(effort: &Effort) -> Result<()> {
    let cluster = effort.cluster();
    let gateway = Gateway::start(&cluster);
    tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(all_serve(effort, &gateway));
    });
    let token = TestCluster::new();
    let more = format!("all --repeats {} --callers 1 --callers 64 --sweep", effort.repeats);
    let mut command = effort.bench(&cluster, &gateway, &more);
    directly(&mut command, &token);
    command.args(["--also", &gateway.tls_endpoint().to_string()]);
    command.arg("--plot").arg(&effort.picture);
    println!("## Through the gateway and directly\n");
    let status = command.status().context("portcullis bench cannot be run")?;
    ensure!(status.success(), "portcullis bench ended with {status}");
    println!();
    Ok(())
}

//! Through the gateway and directly.

use crate::setting::{Effort, all_serve, directly};
use anyhow::{Context, Result, ensure};
use portcullis_softhsm_tests::{Gateway, TestCluster};
use std::path::Path;

/// Runs `portcullis bench`, which prints its tables itself: the closed loop for all operations, the open one for some.
pub(crate) fn measure(effort: &Effort) -> Result<()> {
    let cluster = effort.cluster();
    let gateway = Gateway::start(&cluster);
    tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(all_serve(effort, &gateway));
    });
    let token = TestCluster::new();
    let run = |more: &str, picture: Option<&Path>| {
        let mut command = effort.bench(&cluster, &gateway, more);
        directly(&mut command, &token);
        command.args(["--also", &gateway.tls_endpoint().to_string()]);
        if let Some(picture) = picture {
            command.arg("--plot").arg(picture);
        }
        let status = command.status().context("portcullis bench cannot be run")?;
        ensure!(status.success(), "portcullis bench ended with {status}");
        Ok(())
    };
    println!("## Through the gateway and directly\n");
    let repeats = effort.repeats;
    run(&format!("all --repeats {repeats} --callers 1 --callers 64"), None)?;
    println!("\n## Latency against throughput\n");
    let repeats = repeats.div_ceil(2);
    let more = format!(
        "p256 rsa-2048 aes-gcm-1k --mode unary --mode pipelined --no-echo --sweep --callers 64 --repeats {repeats}"
    );
    run(&more, Some(&effort.picture))?;
    println!();
    Ok(())
}

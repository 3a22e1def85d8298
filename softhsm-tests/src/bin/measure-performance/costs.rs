//! What protection costs, by the configuration that switches it: the same load on gateways that differ in one setting.
//!
//! Nothing can switch policy, the state checks or the audit log off, in any build: these are measured by a cheap and a dear
//! setting of each here, and alone in `alone`.

use crate::{
    complain,
    setting::{Effort, all_serve, report},
};
use anyhow::{Context, Result};
use portcullis_bench::{Spread, Table};
use portcullis_softhsm_tests::{Gateway, TestCluster};
use std::{fmt::Write, path::Path};

struct Variant {
    what: &'static str,
    prepare: fn(&TestCluster),
}

const VARIANTS: [Variant; 6] = [
    Variant {
        what: "as it comes: one policy that is remembered, log on disk, one signature in a hundred verified",
        prepare: |_| {},
    },
    Variant {
        what: "no signature verified but the first by each loaded key (verified_share = 0.0)",
        prepare: |cluster| set_verified_share(cluster, 0.0),
    },
    Variant {
        what: "every signature verified (verified_share = 1.0)",
        prepare: |cluster| set_verified_share(cluster, 1.0),
    },
    Variant {
        what: "a thousand policies about others beside it",
        prepare: |cluster| cluster.add_policies(&thousand_policies()),
    },
    Variant {
        what: "a policy that depends on the time, so that each decision is made anew",
        prepare: |cluster| cluster.add_policies(TIMED),
    },
    Variant {
        what: "the audit log in memory (tmpfs), where syncing costs nothing",
        prepare: log_in_memory,
    },
];

/// All variants in turns, so that what disturbs the machine disturbs all of them.
pub(crate) fn measure(effort: &Effort) -> Result<()> {
    let mut rates = vec![[Vec::new(), Vec::new(), Vec::new()]; VARIANTS.len()];
    for repeat in 1..=effort.repeats {
        complain(&format!("what protection costs: run {repeat} of {}", effort.repeats));
        for (variant, rates) in VARIANTS.iter().zip(&mut rates) {
            let cluster = effort.cluster();
            (variant.prepare)(&cluster);
            let gateway = Gateway::start(&cluster);
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(all_serve(effort, &gateway));
            });
            let more = "p256 rsa-2048 aes-gcm-1k --repeats 1 --callers 64 --mode pipelined --no-echo";
            let found = report(&mut effort.bench(&cluster, &gateway, more))?;
            for (number, rates) in rates.iter_mut().enumerate() {
                let rate = &found["closed_loop"][number]["through"][0]["rate"]["median"];
                rates.push(rate.as_f64().context("a rate in the report")?);
            }
            gateway.stop();
            remove_log_in_memory(&cluster);
        }
    }
    let mut table = Table::new(
        "Operations a second with 64 callers, pipelined over the Unix socket",
        &["gateway", "P-256 sign", "RSA-2048 sign", "AES-256-GCM 1 KiB"],
    );
    for (variant, of_variant) in VARIANTS.iter().zip(&rates) {
        let cell = |number: usize| -> Result<String> {
            let spread = Spread::of(of_variant[number].iter().copied()).context("a run")?;
            let beside = of_variant[number]
                .iter()
                .zip(&rates[0][number])
                .map(|(rate, first)| rate / first);
            let share = Spread::of(beside).context("a run")?.median * 100.0;
            let Spread { median, least, most } = spread;
            Ok(format!("{median:.0} [{least:.0} – {most:.0}], {share:.0} %"))
        };
        table.row([variant.what.to_owned(), cell(0)?, cell(1)?, cell(2)?]);
    }
    println!("## What protection costs\n\n{}\n", table.text());
    Ok(())
}

fn set_verified_share(cluster: &TestCluster, share: f64) {
    cluster.edit_config(|config| {
        let section = config.entry("cluster").or_insert_with(|| toml::Table::new().into());
        if let Some(section) = section.as_table_mut() {
            section.insert("verified_share".to_owned(), share.into());
        }
    });
}

fn thousand_policies() -> String {
    let mut text = String::new();
    for number in 0..1000 {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "@id(\"service {number}\")\npermit (principal == Principal::\"spiffe://example.org/{number}\", action, resource);"
        );
    }
    text
}

/// Forbids nothing, and has to be asked each time.
const TIMED: &str = "@id(\"not before the year 2000\")\nforbid (principal, action, resource)\n\
                     when { context.time < datetime(\"2000-01-01\") };\n";

fn log_in_memory(cluster: &TestCluster) {
    let file = memory_file(cluster);
    cluster.edit_config(|config| {
        if let Some(audit) = config.get_mut("audit").and_then(toml::Value::as_table_mut) {
            audit.insert("file".to_owned(), file.display().to_string().into());
        }
    });
}

fn memory_file(cluster: &TestCluster) -> std::path::PathBuf {
    let name = cluster
        .path()
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Path::new("/dev/shm").join(format!("{name}.audit.jsonl"))
}

fn remove_log_in_memory(cluster: &TestCluster) {
    // There is one only where the variant has it.
    let _ = std::fs::remove_file(memory_file(cluster));
}

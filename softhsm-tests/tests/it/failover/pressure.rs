//! Ten times as much as can be done: everybody is answered, and the gateway's memory stays bounded.

use portcullis_softhsm_tests::drill::{Burden, Endured, Pressure, press};
use std::time::Duration;

/// Everybody is served, told when to come back, or out of time; some are served, and some refused.
async fn endured(burden: Burden, callers: usize) -> Endured {
    let endured = press(Pressure {
        burden,
        callers,
        time: Duration::from_secs(3),
        // On a machine that does much else at once, what is slow does not hang.
        patience: Some("60s"),
    })
    .await;
    let (before, under) = (&endured.before, &endured.under);
    assert!(
        before.failed.is_empty() && under.failed.is_empty(),
        "{:?}, {:?}",
        before.failed.first(),
        under.failed.first()
    );
    assert!(under.served > 0 && under.refused > 0, "{under:?}");
    endured
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_the_signatures_are_refused_early_and_cost_no_memory() {
    let Endured {
        memory_before,
        memory_most,
        ..
    } = endured(Burden::Signatures, 32).await;
    // A thousand operations may be under way for one principal, of some kilobytes each.
    assert!(
        memory_most < memory_before + (64 << 10),
        "from {memory_before} KiB to {memory_most} KiB"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_the_megabytes_are_refused_before_they_fill_the_memory() {
    let Endured {
        memory_before,
        memory_most,
        ..
    } = endured(Burden::Megabytes, 32).await;
    // 128 MiB of requests may be under way for one principal, each of which is there a few times: as it came, for the worker, and the
    // answer. What arrives meanwhile has its own bound.
    assert!(
        memory_most < memory_before + (768 << 10),
        "from {memory_before} KiB to {memory_most} KiB"
    );
}

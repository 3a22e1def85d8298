//! What the gateway does by itself: it clears what interrupted creates left on members, makes restrictions part of their rows
//! when members serve again, destroys what is due, removes import jobs and counts of ephemeral keys that are over, and stores use counts.

use crate::{
    api::Gateway,
    cluster::Readiness,
    config::KeySettings,
    keys::{
        import_expiry::remove_expired,
        record::now,
        use_count::{FLUSH_INTERVAL, Reserves},
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

/// The tasks, until `stop` is cancelled.
pub fn start(gateway: &Arc<Gateway>, settings: KeySettings, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(when_members_serve(
        Arc::clone(gateway),
        gateway.cluster.readiness(),
        stop.clone(),
    ));
    tasks.spawn(destroy(
        Arc::clone(gateway),
        settings.destruction_interval,
        stop.clone(),
    ));
    tasks.spawn(end_imports(
        Arc::clone(gateway),
        settings.import_job_retention,
        stop.clone(),
    ));
    tasks.spawn(count(Arc::clone(gateway), stop.clone()));
    tasks.spawn(forget(Arc::clone(gateway), stop.clone()));
    tasks
}

/// Works now, whenever another member serves, and, on what waits for the members' time, now and then.
async fn when_members_serve(gateway: Arc<Gateway>, mut readiness: watch::Receiver<Readiness>, stop: CancellationToken) {
    let mut ready = 0;
    loop {
        let now = readiness.borrow_and_update().ready;
        if now > ready {
            gateway.materials.clear_interrupted(&gateway.audit).await;
        }
        if now > 0
            && let Err(error) = gateway.changes.fold_restrictions().await
        {
            tracing::warn!(%error, "restrictions without a tag stay so for now");
        }
        ready = now;
        match stop
            .run_until_cancelled(timeout(FOLD_INTERVAL, readiness.changed()))
            .await
        {
            Some(Ok(Ok(())) | Err(_)) => {}
            _ => return,
        }
    }
}

/// Destroys what is due, again and again.
async fn destroy(gateway: Arc<Gateway>, every: Duration, stop: CancellationToken) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        gateway.changes.destroy_due(&gateway.audit).await;
    }
}

/// Removes import jobs that have been over for long enough, again and again.
async fn end_imports(gateway: Arc<Gateway>, retention: Duration, stop: CancellationToken) {
    // To be late by a part of the time for which they are kept anyway is no harm.
    let mut ticks = interval((retention / 8).clamp(LEAST_PAUSE, MOST_PAUSE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let removed = remove_expired(&gateway.documents, &gateway.cluster, &gateway.audit, retention);
        if let Err(error) = removed.await {
            tracing::warn!(%error, "expired import jobs are removed later");
        }
    }
}

/// Stores use counts now and then, and at the end.
async fn count(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut ticks = interval(FLUSH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let deadline = Instant::now() + FLUSH_INTERVAL;
        if let Err(error) = gateway.directory.uses().flush(Reserves::Keep, deadline).await {
            tracing::debug!(%error, "use counts are stored later");
        }
    }
}

/// Removes use counts of ephemeral keys that are over.
async fn forget(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut ticks = interval(FORGET_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = gateway.directory.uses().forget_ephemeral(now()).await {
            tracing::warn!(%error, "use counts of ephemeral keys that are over are removed later");
        }
    }
}

/// Stores the last use counts, when no request is under way any more.
pub async fn finish(gateway: &Gateway) {
    let flushed = gateway
        .directory
        .uses()
        .flush(Reserves::GiveBack, Instant::now() + LAST_FLUSH);
    if let Err(error) = flushed.await {
        tracing::warn!(%error, "the last use counts are not stored: encryptions are counted too many, other uses too few");
    }
}

/// How often restrictions without a tag are looked for.
const FOLD_INTERVAL: Duration = Duration::from_secs(15);
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(600);
const LAST_FLUSH: Duration = Duration::from_secs(5);

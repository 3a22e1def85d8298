//! Puts the gateway together, serves, and shuts down without losing what is under way.

use crate::{
    api::{self, Gateway, bare_status, receiving::Receiving},
    audit::{AuditError, AuditLog, Entry},
    cluster::{Cluster, shell::Readiness},
    config::Settings,
    keys::{creation::Creation, directory::KeyDirectory},
    listener::{ListenError, Listeners},
    policy::rules::RuleTable,
    store::{SqliteStore, StateLock, Store, StoreError},
};
use portcullis_proto::FILE_DESCRIPTOR_SET;
use std::{fmt, fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, service::RoutesBuilder, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::util::{MapRequestLayer, MapResponseLayer};

/// Why the gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The reflection service.
    #[error("the API's descriptors cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The signals.
    #[error("SIGHUP cannot be handled: {0}")]
    Signal(#[from] std::io::Error),
    /// The transport.
    #[error("serving ended: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Where the gateway serves, once it does.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The Unix socket.
    pub unix: Option<PathBuf>,
    /// The mTLS address.
    pub tls: Option<SocketAddr>,
    /// How many members serve.
    pub members_ready: usize,
}

impl fmt::Display for Ready {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ready")?;
        if let Some(path) = &self.unix {
            write!(formatter, " unix={}", path.display())?;
        }
        if let Some(address) = &self.tls {
            write!(formatter, " tls={address}")?;
        }
        Ok(())
    }
}

/// Serves until `stop` is cancelled, then finishes what is under way. `announce` is called when requests are accepted: when the
/// first start of every member has come to an end, or some serve and the others take their time.
pub async fn serve(
    settings: Settings,
    stop: CancellationToken,
    announce: impl FnOnce(Ready),
) -> Result<(), ServeError> {
    let listeners = Listeners::open(settings.unix.as_ref(), settings.tls.as_ref()).await?;
    let _state = StateLock::take(&settings.state_directory)?;
    let audit = Arc::new(AuditLog::open(&settings.audit_file, &settings.audit_head())?);
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&settings.state_directory)?);
    audit.append(&Entry::gateway("gateway.start", "OK"))?;
    tokio::spawn(follow_rotation(
        Arc::clone(&audit),
        signal(SignalKind::hangup())?,
        stop.clone(),
    ));
    let cluster = Cluster::start(settings.members, settings.cluster, settings.domain);
    let directory = Arc::new(KeyDirectory::new(
        Arc::clone(&store),
        Arc::clone(&cluster),
        settings.limits.cached_keys,
    ));
    let gateway = Arc::new(Gateway {
        creation: Creation::new(Arc::clone(&store), Arc::clone(&cluster), Arc::clone(&directory)),
        cluster: Arc::clone(&cluster),
        directory,
        policy: Arc::new(RuleTable::new(settings.rules)),
        audit: Arc::clone(&audit),
        limits: settings.limits,
    });

    let mut readiness = cluster.readiness();
    wait_for_members(&mut readiness, &stop).await;
    let members_ready = readiness.borrow().ready;
    tokio::spawn(clear_interrupted(
        Arc::clone(&gateway),
        cluster.readiness(),
        stop.clone(),
    ));

    let (reporter, health) = tonic_health::server::health_reporter();
    report_health(&reporter, members_ready > 0).await;
    let reporting = tokio::spawn(keep_health(reporter, readiness));
    let mut routes: RoutesBuilder = api::routes(&gateway);
    routes.add_service(health).add_service(
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?,
    );
    let ready = Ready {
        unix: listeners.unix.clone(),
        tls: listeners.tls,
        members_ready,
    };
    let socket = listeners.unix.clone();
    let connections = ReceiverStream::new(listeners.accept(settings.limits.connections, &stop));
    tracing::info!(%ready, members_ready, "serving");
    announce(ready);
    let receiving = Receiving::new();
    let server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .layer(MapResponseLayer::new(bare_status::explain))
        .layer(MapRequestLayer::new(move |request: http::Request<Body>| {
            receiving.bound(request).map(Body::new)
        }))
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
    let served = tokio::select! {
        served = server => served,
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN_LIMIT).await } => {
            tracing::warn!("connections were still open at the end of the shutdown");
            Ok(())
        }
    };

    reporting.abort();
    if let Some(socket) = socket {
        let _ = fs::remove_file(socket);
    }
    cluster.stop().await;
    store.close().await;
    if let Err(error) = timeout(AUDIT_LIMIT, audit.append_synced(&Entry::gateway("gateway.stop", "OK"))).await {
        tracing::warn!(%error, "the end of the gateway is not in the audit log");
    }
    let closing = Arc::clone(&audit);
    let _ = tokio::task::spawn_blocking(move || closing.close()).await;
    served?;
    tracing::info!("stopped");
    Ok(())
}

/// Waits until the first start of every member has come to an end, but not long for the last ones while others serve.
async fn wait_for_members(readiness: &mut watch::Receiver<Readiness>, stop: &CancellationToken) {
    let settled = async {
        let _ = readiness
            .wait_for(|readiness| readiness.ready > 0 || readiness.settled)
            .await;
        let _ = timeout(SLOW_MEMBERS, readiness.wait_for(|readiness| readiness.settled)).await;
    };
    // Ends by itself: each start has a deadline.
    stop.run_until_cancelled(settled).await;
}

/// Clears what interrupted creates left on members, now and whenever another member serves.
async fn clear_interrupted(gateway: Arc<Gateway>, mut readiness: watch::Receiver<Readiness>, stop: CancellationToken) {
    let mut ready = 0;
    loop {
        let now = readiness.borrow_and_update().ready;
        if now > ready {
            gateway.creation.clear_interrupted(&gateway.audit).await;
        }
        ready = now;
        match stop.run_until_cancelled(readiness.changed()).await {
            Some(Ok(())) => {}
            _ => return,
        }
    }
}

/// Goes on in a new audit file at each SIGHUP, if the old one was rotated.
async fn follow_rotation(audit: Arc<AuditLog>, mut hangups: Signal, stop: CancellationToken) {
    while let Some(Some(())) = stop.run_until_cancelled(hangups.recv()).await {
        let audit = Arc::clone(&audit);
        match tokio::task::spawn_blocking(move || audit.reopen()).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => tracing::info!("SIGHUP: the audit file was not rotated"),
            Ok(Err(error)) => {
                tracing::error!(%error, "SIGHUP: the audit log cannot go on in a new file: work is refused")
            }
            Err(error) => tracing::error!(%error, "SIGHUP: the audit log was not reopened"),
        }
    }
}

/// Health follows the members: the gateway serves while one of them does.
async fn keep_health(reporter: HealthReporter, mut readiness: watch::Receiver<Readiness>) {
    while readiness.changed().await.is_ok() {
        let serving = readiness.borrow_and_update().ready > 0;
        report_health(&reporter, serving).await;
    }
}

async fn report_health(reporter: &HealthReporter, serving: bool) {
    let status = if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for service in api::SERVICES.iter().chain(&[""]) {
        reporter.set_service_status(*service, status).await;
    }
}

const STREAMS: u32 = 2048;
const WINDOW: u32 = 1 << 20;
const SLOW_MEMBERS: Duration = Duration::from_secs(5);
const DRAIN_LIMIT: Duration = Duration::from_secs(15);
const AUDIT_LIMIT: Duration = Duration::from_secs(5);

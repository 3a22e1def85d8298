//! Puts the gateway together, serves, and shuts down without losing what is under way.

use crate::{
    api::{self, Gateway, PageTokens, bare_status, deadline::DeadlineLayer, ending::EndingLayer, receiving::Receiving},
    audit::{AuditError, AuditLog, Entry},
    cluster::{Cluster, Readiness},
    config::Settings,
    housekeeping,
    identity::Peer,
    keys::{
        change::Changes, creation::Creation, directory::KeyDirectory, document::Documents, ephemeral::EphemeralKeys,
        import::Imports, material::Materials, use_count::UseCounts,
    },
    listener::{Connection, ListenError, Listeners},
    policy::{Policy, PolicyError},
    provisioning::{Acceptance, ProvisioningError},
    quota::Quotas,
    reload::{Live, Reloader, Reloading},
    service_manager::{Notice, ServiceManager},
    store::{SqliteStore, StateLock, Store, StoreError},
    telemetry::{Observed, Telemetry, TelemetryError, WatchCalls},
};
use arc_swap::ArcSwap;
use portcullis_proto::FILE_DESCRIPTOR_SET;
use std::{
    convert::Infallible,
    fmt, fs,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::StreamExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{body::Body, service::RoutesBuilder, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::util::{MapRequestLayer, MapResponseLayer};

/// Why the gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// What vouches for the domain and the members.
    #[error(transparent)]
    Provisioning(#[from] ProvisioningError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Traces and metrics.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The reflection service.
    #[error("the API's descriptors cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
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
    reloading: Reloading,
    stop: CancellationToken,
    announce: impl FnOnce(Ready),
) -> Result<(), ServeError> {
    let policy = Arc::new(Policy::load_remembering(&settings.policy, settings.limits.cached_keys)?);
    let connections = settings.limits.connections;
    let drain = settings.shutdown.drain;
    let manager = Arc::new(ServiceManager::from_environment());
    let lock = StateLock::take(&settings.state_directory)?;
    let acceptance = Acceptance::check(&settings, &settings.state_directory)?;
    let telemetry = Telemetry::start(&settings.telemetry).await?;
    let listeners = Listeners::open(settings.unix.as_ref(), settings.tls.as_ref(), connections, &telemetry).await?;
    let audit = Arc::new(AuditLog::open_watched(
        &settings.audit_file,
        &settings.audit_head(),
        &telemetry,
    )?);
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open_watched(&settings.state_directory, &telemetry)?);
    // The log says that the gateway starts on a record when it does: once an older one is refused.
    let kept = acceptance.keep();
    audit.append(&start_entry(&acceptance, if kept.is_ok() { "OK" } else { "FAILED" }))?;
    kept?;
    tracing::info!(provisioning = %acceptance, "starting");
    let cluster = Cluster::start(settings.members.clone(), settings.cluster, settings.domain, &telemetry);
    let shared = || (Arc::clone(&store), Arc::clone(&cluster));
    let (kept, members) = shared();
    let uses = Arc::new(UseCounts::new(kept, members));
    let (kept, members) = shared();
    let directory = Arc::new(KeyDirectory::new(kept, members, uses, settings.limits.cached_keys));
    let (kept, members) = shared();
    let changes = Arc::new(Changes::new(kept, members, Arc::clone(&directory)));
    let (kept, members) = shared();
    let materials = Arc::new(Materials::new(kept, members));
    let (kept, members) = shared();
    let documents = Arc::new(Documents::new(kept, members, settings.limits.cached_keys));
    let (kept, members) = shared();
    let windows = settings.keys.windows;
    telemetry.observe(&Observed {
        cluster: &cluster,
        directory: &directory,
        audit: &audit,
    });
    let gateway = Arc::new(Gateway {
        creation: Creation::new(
            kept,
            members,
            Arc::clone(&directory),
            Arc::clone(&changes),
            Arc::clone(&materials),
            windows,
        ),
        imports: Imports::new(
            Arc::clone(&cluster),
            Arc::clone(&directory),
            Arc::clone(&changes),
            Arc::clone(&materials),
        ),
        ephemeral: EphemeralKeys::new(
            Arc::clone(&store),
            Arc::clone(&cluster),
            Arc::clone(&documents),
            Arc::clone(&directory),
            settings.limits.cached_keys,
        ),
        cluster: Arc::clone(&cluster),
        directory,
        changes,
        materials,
        documents,
        quotas: Quotas::default(),
        page_tokens: PageTokens::new(&store.page_token_key().await?),
        windows,
        policy: Arc::clone(&policy),
        audit: Arc::clone(&audit),
        telemetry: Arc::clone(&telemetry),
        limits: ArcSwap::from_pointee(settings.limits),
        stopping: stop.clone(),
    });

    let mut readiness = cluster.readiness();
    wait_for_members(&mut readiness, &stop).await;
    let members_ready = readiness.borrow().ready;
    let mut housekeeping = housekeeping::start(&gateway, settings.keys, &stop);

    let (reporter, health) = tonic_health::server::health_reporter();
    report_health(&reporter, members_ready > 0).await;
    let reporting = tokio::spawn(keep_health(reporter, readiness));
    let mut routes: RoutesBuilder = api::routes(&gateway);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    routes
        .add_service(health)
        .add_service(reflection().build_v1()?)
        // What gRPC's own clients for Python and older tools ask for.
        .add_service(reflection().build_v1alpha()?);
    let ready = Ready {
        unix: listeners.unix.clone(),
        tls: listeners.tls,
        members_ready,
    };
    let socket = listeners.unix.clone();
    let members = settings.members.len();
    let live = Live {
        manager: Arc::clone(&manager),
        gateway: Arc::clone(&gateway),
        policy,
        tls: listeners.tls_control(),
        places: [Arc::clone(&listeners.unix_places), Arc::clone(&listeners.tls_places)],
    };
    let reloader = Reloader::new(reloading, live, settings);
    let reloads = tokio::spawn(reloader.run(stop.clone()));
    let connections = listeners.accept(&stop);
    tracing::info!(%ready, members_ready, "serving");
    announce(ready);
    manager.tell(Notice::Ready);
    let following = tokio::spawn(Arc::clone(&manager).follow(cluster.readiness(), members, stop.clone()));
    let living = tokio::spawn(Arc::clone(&manager).keep_alive(Arc::clone(&cluster), Arc::clone(&audit)));
    let receiving = Receiving::new(&stop);
    let server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        // Outermost, so that it sees what the caller sees.
        .layer(WatchCalls::new(&telemetry))
        .layer(DeadlineLayer)
        .layer(MapResponseLayer::new(bare_status::explain))
        .layer(EndingLayer::new(&stop))
        .layer(MapRequestLayer::new(move |request: http::Request<Body>| {
            receiving.bound(request).map(Body::new)
        }));
    let routes = routes.routes();
    let serving = serve_connections(connections, &stop, move |connection, end| {
        let incoming = tokio_stream::once(Ok::<_, Infallible>(connection)).chain(tokio_stream::pending());
        let mut server = server.clone();
        server
            .add_routes(routes.clone())
            .serve_with_incoming_shutdown(incoming, end)
    });
    tokio::select! {
        () = serving => {}
        () = async { stop.cancelled().await; tokio::time::sleep(drain).await } => {
            tracing::warn!("connections were still open at the end of the shutdown");
        }
    }

    reloads.abort();
    reporting.abort();
    if let Some(socket) = socket {
        let _ = fs::remove_file(socket);
    }
    // What is under way is finished; what waits for its time is not begun.
    while timeout(HOUSEKEEPING_LIMIT, housekeeping.join_next())
        .await
        .is_ok_and(|ended| ended.is_some())
    {}
    housekeeping.abort_all();
    housekeeping::finish(&gateway).await;
    cluster.stop().await;
    store.close().await;
    if let Err(error) = timeout(AUDIT_LIMIT, audit.append_synced(&Entry::gateway("gateway.stop", "OK"))).await {
        tracing::warn!(%error, "the end of the gateway is not in the audit log");
    }
    let closing = Arc::clone(&audit);
    let _ = tokio::task::spawn_blocking(move || closing.close()).await;
    telemetry.stop().await;
    living.abort();
    let _ = following.await;
    drop(lock);
    tracing::info!("stopped");
    Ok(())
}

/// Serves each connection in a task of its own, so that each can be told to end alone, until `stop`; then waits until all that
/// are open have finished.
async fn serve_connections<F>(
    mut connections: mpsc::Receiver<Connection>,
    stop: &CancellationToken,
    serve: impl Fn(Connection, BoxFuture) -> F,
) where
    F: Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
{
    let open = TaskTracker::new();
    while let Some(connection) = connections.recv().await {
        let (peer, handle) = (Arc::clone(connection.peer()), connection.handle());
        let end = {
            let (stop, peer, handle) = (stop.clone(), Arc::clone(&peer), handle.clone());
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = handle.closed.cancelled() => {}
                    () = until_ended(&peer) => {}
                }
            }
        };
        let serving = serve(connection, Box::pin(end));
        open.spawn(async move {
            let cut = async {
                peer.until_ended().await;
                tokio::time::sleep(ENDING_GRACE).await;
                // Whatever it still does, it does for nobody who is known.
                handle.cut.cancel();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                served = serving => if let Err(error) = served {
                    tracing::debug!(%error, "a connection ended");
                },
                () = cut => {}
            }
        });
    }
    open.close();
    open.wait().await;
}

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Waits until a peer has ended, and ends it when its certificate expires. The clock is looked at now and then: it may be set.
async fn until_ended(peer: &Peer) {
    while peer.ended().is_none() {
        let Some(certificate) = peer.certificate() else {
            return peer.until_ended().await;
        };
        let left = certificate
            .valid_until
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        let _ = timeout(left.min(CLOCK_LOOK), peer.until_ended()).await;
    }
}

/// Says in the audit log on what the gateway starts.
fn start_entry(acceptance: &Acceptance, outcome: &str) -> Entry {
    let mut entry = Entry::gateway("gateway.start", outcome);
    entry.context.insert("provisioning".to_owned(), acceptance.to_string());
    entry
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
/// How long what is under way may take when its caller is no longer known.
const ENDING_GRACE: Duration = Duration::from_secs(5);
const CLOCK_LOOK: Duration = Duration::from_secs(10);
const HOUSEKEEPING_LIMIT: Duration = Duration::from_secs(15);
const AUDIT_LIMIT: Duration = Duration::from_secs(5);

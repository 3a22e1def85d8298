//! A collector: receives traces and metrics by OTLP over gRPC, in plaintext or over TLS with client certificates.

use crate::program::PAUSE;
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::metric::Data,
    trace::v1::Span,
};
use prost::Message;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};
use tokio::{
    io::{DuplexStream, copy_bidirectional, duplex},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, transport::Server};

/// A running collector. It ends when it is dropped.
pub struct Collector {
    address: SocketAddr,
    received: Arc<Received>,
    tasks: Vec<JoinHandle<()>>,
}

/// A span that was received.
#[derive(Debug, Clone)]
pub struct ReceivedSpan {
    /// Its name.
    pub name: String,
    /// The trace, in hexadecimal digits.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// Its parent's id; empty for a root.
    pub parent: String,
    /// Its attributes, as texts.
    pub attributes: BTreeMap<String, String>,
}

#[derive(Default)]
struct Received {
    traces: Mutex<Vec<ExportTraceServiceRequest>>,
    metrics: Mutex<Vec<ExportMetricsServiceRequest>>,
}

impl Collector {
    /// A collector in plaintext on a port of its own.
    pub async fn start() -> Self {
        Self::serve(None).await
    }

    /// A collector that shows this certificate and asks for one of an authority.
    pub async fn start_with_tls(certificate: &Path, private_key: &Path, client_authority: &Path) -> Self {
        let read = |path: &Path| CertificateDer::from_pem_file(path).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(private_key).expect("a private key");
        let mut authorities = RootCertStore::empty();
        authorities.add(read(client_authority)).expect("an authority");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![read(certificate)], key)
            .expect("a certificate and its key");
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::serve(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn serve(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let received = Arc::new(Received::default());
        let (sender, connections) = mpsc::channel(8);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, tls) = (sender.clone(), tls.clone());
                tokio::spawn(async move {
                    // A client that fails its handshake is not received.
                    if let Ok(connection) = open(stream, tls).await {
                        drop(sender.send(Ok::<_, io::Error>(connection)).await);
                    }
                });
            }
        });
        let server = Server::builder()
            .add_service(TraceServiceServer::from_arc(Arc::clone(&received)))
            .add_service(MetricsServiceServer::from_arc(Arc::clone(&received)))
            .serve_with_incoming(ReceiverStream::new(connections));
        let serving = tokio::spawn(async move { drop(server.await) });
        Self {
            address,
            received,
            tasks: vec![accepting, serving],
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The spans that it received so far.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        let requests = lock(&self.received.traces);
        let scopes = requests
            .iter()
            .flat_map(|request| &request.resource_spans)
            .flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| &scope.spans).map(ReceivedSpan::of).collect()
    }

    /// Waits for a span.
    ///
    /// # Panics
    ///
    /// When it does not come, with the names of those that did.
    pub async fn wait_for_span(&self, what: &str, is_it: impl Fn(&ReceivedSpan) -> bool) -> ReceivedSpan {
        let started = Instant::now();
        loop {
            let spans = self.spans();
            if let Some(found) = spans.iter().find(|span| is_it(span)) {
                return found.clone();
            }
            assert!(started.elapsed() < crate::SHORT, "no span {what} among {spans:#?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits for a metric.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub async fn wait_for_metric(&self, name: &str) {
        let started = Instant::now();
        while !self.metrics().contains_key(name) {
            assert!(started.elapsed() < crate::SHORT, "no metric {name}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The names of all metrics, with those of their attributes.
    pub fn metrics(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let requests = lock(&self.received.metrics);
        let scopes = requests
            .iter()
            .flat_map(|request| &request.resource_metrics)
            .flat_map(|resource| &resource.scope_metrics);
        for metric in scopes.flat_map(|scope| &scope.metrics) {
            let attributes: Vec<&KeyValue> = match &metric.data {
                Some(Data::Gauge(gauge)) => gauge.data_points.iter().flat_map(|one| &one.attributes).collect(),
                Some(Data::Sum(sum)) => sum.data_points.iter().flat_map(|one| &one.attributes).collect(),
                Some(Data::Histogram(all)) => all.data_points.iter().flat_map(|one| &one.attributes).collect(),
                _ => panic!("{} is of a kind that no metric here has", metric.name),
            };
            let names = attributes.into_iter().map(|attribute| attribute.key.clone());
            found.entry(metric.name.clone()).or_default().extend(names);
        }
        found
    }

    /// The attributes of the resource that spans and metrics describe.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let (traces, metrics) = (lock(&self.received.traces), lock(&self.received.metrics));
        let of_traces = traces.iter().flat_map(|request| &request.resource_spans);
        let of_metrics = metrics.iter().flat_map(|request| &request.resource_metrics);
        let resources = of_traces
            .filter_map(|one| one.resource.as_ref())
            .chain(of_metrics.filter_map(|one| one.resource.as_ref()));
        resources.flat_map(|resource| texts(&resource.attributes)).collect()
    }

    /// The names of all attributes anywhere: of resources, scopes, spans, their events and links, and metrics.
    pub fn attribute_names(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = self.resource().into_keys().collect();
        names.extend(self.metrics().into_values().flatten());
        let mut add = |attributes: &[KeyValue]| names.extend(attributes.iter().map(|one| one.key.clone()));
        for resource in lock(&self.received.traces)
            .iter()
            .flat_map(|request| &request.resource_spans)
        {
            for scope in &resource.scope_spans {
                scope.scope.iter().for_each(|scope| add(&scope.attributes));
                for span in &scope.spans {
                    add(&span.attributes);
                    span.events.iter().for_each(|event| add(&event.attributes));
                    span.links.iter().for_each(|link| add(&link.attributes));
                }
            }
        }
        names
    }

    /// Whether these bytes are anywhere in what it received.
    pub fn saw(&self, needle: &[u8]) -> bool {
        self.everything().windows(needle.len()).any(|window| window == needle)
    }

    /// All that it received, encoded.
    pub fn everything(&self) -> Vec<u8> {
        let (traces, metrics) = (lock(&self.received.traces), lock(&self.received.metrics));
        let all = traces
            .iter()
            .map(Message::encode_to_vec)
            .chain(metrics.iter().map(Message::encode_to_vec));
        all.flatten().collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl ReceivedSpan {
    fn of(span: &Span) -> Self {
        Self {
            name: span.name.clone(),
            trace: hex::encode(&span.trace_id),
            id: hex::encode(&span.span_id),
            parent: hex::encode(&span.parent_span_id),
            attributes: texts(&span.attributes).collect(),
        }
    }

    /// An attribute's value; empty where there is none.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        lock(&self.traces).push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        lock(&self.metrics).push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// What a connection carries, without its TLS.
async fn open(mut stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<DuplexStream> {
    let (ours, mut theirs) = duplex(64 * 1024);
    match tls {
        None => drop(tokio::spawn(async move {
            drop(copy_bidirectional(&mut stream, &mut theirs).await)
        })),
        Some(tls) => {
            let mut stream = tls.accept(stream).await?;
            drop(tokio::spawn(async move {
                drop(copy_bidirectional(&mut stream, &mut theirs).await)
            }));
        }
    }
    Ok(ours)
}

fn texts(attributes: &[KeyValue]) -> impl Iterator<Item = (String, String)> + '_ {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(move |one| (one.key.clone(), text(&one.value)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

//! The way to the collector: OTLP over gRPC, on TLS 1.3 wherever the configuration says `https://`.

use super::{EXPORT_LIMIT, TelemetryError};
use crate::config::{OtlpSettings, OtlpTlsSettings};
use http::Uri;
use hyper_util::rt::TokioIo;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::{io, path::Path, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// A channel that connects when there is something to send, and again after each failure. Certificates are read now.
pub(super) fn channel(settings: &OtlpSettings) -> Result<Channel, TelemetryError> {
    let failed = |reason: String| TelemetryError::Exporter {
        endpoint: settings.endpoint.to_string(),
        reason,
    };
    let no_host = || failed("the URL names no host".to_owned());
    let host = settings.endpoint.host().ok_or_else(no_host)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let tls = match &settings.tls {
        None => None,
        Some(tls) => {
            let name = ServerName::try_from(host.clone()).map_err(|error| failed(error.to_string()))?;
            Some((TlsConnector::from(Arc::new(client_config(tls)?)), name))
        }
    };
    let port = settings.endpoint.port_u16().unwrap_or(DEFAULT_PORT);
    let connector = tower::service_fn(move |_: Uri| {
        let (host, tls) = (host.clone(), tls.clone());
        async move { dial(&host, port, tls).await.map(TokioIo::new) }
    });
    // The connector does TLS, so the channel itself is told of a plain address.
    let authority = settings.endpoint.authority().ok_or_else(no_host)?;
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|error| failed(error.to_string()))?;
    Ok(endpoint
        .origin(settings.endpoint.clone())
        .connect_timeout(EXPORT_LIMIT)
        .timeout(EXPORT_LIMIT)
        .connect_with_connector_lazy(connector))
}

/// Sends spans through a channel.
pub(super) fn span_exporter(settings: &OtlpSettings, channel: &Channel) -> Result<SpanExporter, TelemetryError> {
    SpanExporter::builder()
        .with_tonic()
        .with_channel(channel.clone())
        .with_timeout(EXPORT_LIMIT)
        .build()
        .map_err(|error| not_built(settings, &error))
}

/// Sends metrics through a channel.
pub(super) fn metric_exporter(settings: &OtlpSettings, channel: &Channel) -> Result<MetricExporter, TelemetryError> {
    MetricExporter::builder()
        .with_tonic()
        .with_channel(channel.clone())
        .with_timeout(EXPORT_LIMIT)
        .build()
        .map_err(|error| not_built(settings, &error))
}

/// What HTTP/2 runs over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn dial(host: &str, port: u16, tls: Option<(TlsConnector, ServerName<'static>)>) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    match tls {
        None => Ok(Box::new(stream)),
        Some((connector, name)) => Ok(Box::new(connector.connect(name, stream).await?)),
    }
}

fn client_config(settings: &OtlpTlsSettings) -> Result<ClientConfig, TelemetryError> {
    let mut authorities = RootCertStore::empty();
    for certificate in read_certificates(&settings.authorities)? {
        authorities
            .add(certificate)
            .map_err(|error| wrong(&settings.authorities, format!("not a usable authority: {error}")))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| wrong(&settings.authorities, error.to_string()))?
        .with_root_certificates(authorities);
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, private_key)) => {
            let key = PrivateKeyDer::from_pem_file(private_key)
                .map_err(|error| wrong(private_key, format!("expected a private key in PEM: {error}")))?;
            builder
                .with_client_auth_cert(read_certificates(certificate)?, key)
                .map_err(|error| wrong(certificate, format!("certificate and key do not fit: {error}")))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TelemetryError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(wrong(path, "it holds no certificate in PEM".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(path, format!("expected certificates in PEM: {error}"))),
    }
}

fn wrong(path: &Path, reason: String) -> TelemetryError {
    TelemetryError::Credentials {
        path: path.display().to_string(),
        reason,
    }
}

fn not_built(settings: &OtlpSettings, error: &opentelemetry_otlp::ExporterBuildError) -> TelemetryError {
    TelemetryError::Exporter {
        endpoint: settings.endpoint.to_string(),
        reason: error.to_string(),
    }
}

/// OTLP over gRPC.
const DEFAULT_PORT: u16 = 4317;

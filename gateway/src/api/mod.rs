//! The gRPC services.
//!
//! - `caller`: who asks, and until when.
//! - `call`: one request from its first byte to its audit entry: who, what, allowed or not, what came of it.
//! - `error`: what a caller is told, with its stable reason: the only place where a gRPC status is made.
//! - `subject`, `justification`: what a call is about, and why its caller does it.
//! - `lookup`: finding a key without telling those who may not know whether it exists.
//! - `target`: which version, by which mechanism, and whether the caller may.
//! - `documents`: how aliases, recipients and objects are made, changed and deleted.
//! - `keys`, `crypto`, `object_service`, `cluster_service`: the services.
//! - `in_ring`: what belongs to a ring by name.
//! - `changing`, `listing`: what changes and lists have in common.
//! - `not_available`: calls that this gateway does not serve yet.
//! - `convert`: between the API's messages and the gateway's types.
//! - `receiving`: bounds on requests that are still arriving.
//! - `ending`: streams end with their caller's certificate, and with the gateway.
//! - `deadline`: calls end at their callers' deadlines, wherever they are.
//! - `bare_status`: gives statuses that the transport made their reason.

pub(crate) mod bare_status;
mod call;
mod caller;
mod changing;
mod cluster_service;
mod convert;
mod crypto;
pub(crate) mod deadline;
mod documents;
pub(crate) mod ending;
mod error;
mod in_ring;
mod justification;
mod keys;
mod listing;
mod lookup;
mod not_available;
mod object_service;
pub(crate) mod receiving;
mod subject;
mod target;

pub use error::{ApiError, Reason};
pub use listing::PageTokens;

use crate::{
    audit::AuditLog,
    cluster::Cluster,
    config::Limits,
    keys::{
        change::{Changes, Windows},
        creation::Creation,
        directory::KeyDirectory,
        document::Documents,
        ephemeral::EphemeralKeys,
        import::Imports,
        material::Materials,
    },
    policy::Policy,
    quota::Quotas,
    telemetry::Telemetry,
};
use arc_swap::ArcSwap;
use portcullis_hsm::worker::protocol::MAX_PAYLOAD;
use portcullis_proto::v1::{
    activation_service_server::ActivationServiceServer, cluster_service_server::ClusterServiceServer,
    crypto_service_server::CryptoServiceServer, key_service_server::KeyServiceServer,
    object_service_server::ObjectServiceServer,
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};

/// What the services work with.
#[derive(Debug)]
pub struct Gateway {
    /// The HSM members.
    pub cluster: Arc<Cluster>,
    /// Checked key records.
    pub directory: Arc<KeyDirectory>,
    /// Makes keys, rings and versions.
    pub creation: Creation,
    /// Changes them.
    pub changes: Arc<Changes>,
    /// Makes key material.
    pub materials: Arc<Materials>,
    /// Imports it.
    pub imports: Imports,
    /// Keys that are not stored.
    pub ephemeral: EphemeralKeys,
    /// Aliases and whatever else belongs to a ring.
    pub documents: Arc<Documents>,
    /// What each principal has asked for lately.
    pub quotas: Quotas,
    /// How long destructions may wait.
    pub windows: Windows,
    /// Who may do what.
    pub policy: Arc<Policy>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// What seals page tokens.
    pub page_tokens: PageTokens,
    /// Traces and metrics.
    pub telemetry: Arc<Telemetry>,
    /// What requests may ask for; a reload changes it.
    pub limits: ArcSwap<Limits>,
    /// Cancelled when the gateway stops: streams, which have no end of their own, end then.
    pub stopping: CancellationToken,
}

impl Gateway {
    /// What requests may ask for now.
    pub fn limits(&self) -> Limits {
        **self.limits.load()
    }
}

/// The names of all services, as health knows them.
pub const SERVICES: [&str; 5] = [
    "portcullis.v1.KeyService",
    "portcullis.v1.CryptoService",
    "portcullis.v1.ClusterService",
    "portcullis.v1.ObjectService",
    "portcullis.v1.ActivationService",
];

/// The services over one gateway.
#[derive(Debug, Clone)]
struct Api(Arc<Gateway>);

/// All services of the API over one gateway.
pub fn routes(gateway: &Arc<Gateway>) -> RoutesBuilder {
    let api = || Api(Arc::clone(gateway));
    let mut routes = Routes::builder();
    routes
        .add_service(KeyServiceServer::new(api()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(CryptoServiceServer::new(api()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(ClusterServiceServer::new(api()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(ObjectServiceServer::new(api()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(ActivationServiceServer::new(api()).max_decoding_message_size(MAX_MESSAGE));
    routes
}

/// The methods whose requests are streams, and which end them by themselves.
const STREAMS: [&str; 1] = ["/portcullis.v1.CryptoService/Pipeline"];
/// Longer messages are refused before they are read. Payloads have limits of their own below this.
const MAX_MESSAGE: usize = 2 * MAX_PAYLOAD;

//! A gRPC server over real sockets, for the client to talk to.

use portcullis_client::v1::{
    DrainMemberRequest, GetMemberRequest, ListMembersRequest, ListMembersResponse, Member, ResumeMemberRequest,
    RollMembersRequest, RollMembersResponse,
    cluster_service_server::{ClusterService, ClusterServiceServer},
};
use rustls::ServerConfig;
use std::{future::pending, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Code, Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

/// A running server. It stops when dropped.
pub(crate) struct Gateway {
    stop: oneshot::Sender<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Listens on a port of its own on 127.0.0.1.
    pub(crate) async fn on_tcp(config: Arc<ServerConfig>) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        (Self::accept_from(listener, config), address)
    }

    /// Listens at `address` again, after [`stop`](Self::stop).
    pub(crate) async fn again_on_tcp(address: SocketAddr, config: Arc<ServerConfig>) -> Self {
        Self::accept_from(TcpListener::bind(address).await.expect("the same port"), config)
    }

    pub(crate) fn on_socket(path: &Path) -> Self {
        let incoming = UnixListenerStream::new(UnixListener::bind(path).expect("a socket"));
        let (stop, stopped) = oneshot::channel();
        let serve = Server::builder()
            .add_service(ClusterServiceServer::new(Answers))
            .serve_with_incoming_shutdown(incoming, async { drop(stopped.await) });
        Self {
            stop,
            tasks: vec![tokio::spawn(async { serve.await.expect("served") })],
        }
    }

    /// Closes the listener and the connections, and waits until that is done.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        for task in self.tasks {
            task.await.expect("the task ends");
        }
    }

    fn accept_from(listener: TcpListener, config: Arc<ServerConfig>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (accepted, incoming) = mpsc::channel(1);
        let acceptor = TlsAcceptor::from(config);
        let accept = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = accepted.closed() => return,
                    connection = listener.accept() => {
                        let (socket, _) = connection.expect("a connection");
                        // A refused client has had its alert when this returns.
                        if let Ok(stream) = acceptor.accept(socket).await {
                            drop(accepted.send(Ok::<_, std::io::Error>(stream)).await);
                        }
                    }
                }
            }
        });
        let serve = Server::builder()
            .add_service(ClusterServiceServer::new(Answers))
            .serve_with_incoming_shutdown(ReceiverStream::new(incoming), async { drop(stopped.await) });
        let serve = tokio::spawn(async { serve.await.expect("served") });
        Self {
            stop,
            tasks: vec![serve, accept],
        }
    }
}

/// What the server answers: enough to see each kind of answer at the client.
struct Answers;

#[tonic::async_trait]
impl ClusterService for Answers {
    /// A good answer.
    async fn list_members(&self, _: Request<ListMembersRequest>) -> Result<Response<ListMembersResponse>, Status> {
        Ok(Response::new(ListMembersResponse {
            domain_epoch: 7,
            ..Default::default()
        }))
    }

    /// An error with all its details.
    async fn get_member(&self, _: Request<GetMemberRequest>) -> Result<Response<Member>, Status> {
        let mut details = ErrorDetails::new();
        details.set_error_info(
            "HSM_UNAVAILABLE",
            "portcullis.v1",
            [("request_id".to_owned(), "0190".to_owned())],
        );
        details.set_retry_info(Some(Duration::from_secs(2)));
        Err(Status::with_error_details(
            Code::Unavailable,
            "no member is ready",
            details,
        ))
    }

    /// No answer.
    async fn drain_member(&self, _: Request<DrainMemberRequest>) -> Result<Response<Member>, Status> {
        pending().await
    }

    /// The deadline that came with the request.
    async fn resume_member(&self, request: Request<ResumeMemberRequest>) -> Result<Response<Member>, Status> {
        let deadline = request
            .metadata()
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok());
        Ok(Response::new(Member {
            reason: deadline.unwrap_or("none").to_owned(),
            ..Default::default()
        }))
    }

    /// An answer above the 4 MiB that tonic takes by default.
    async fn roll_members(&self, _: Request<RollMembersRequest>) -> Result<Response<RollMembersResponse>, Status> {
        let member = Member {
            reason: "x".repeat(8 * 1024 * 1024),
            ..Default::default()
        };
        Ok(Response::new(RollMembersResponse { members: vec![member] }))
    }
}

//! gRPC with bytes in the place of messages: what no generated client would send.

use prost::bytes::{Buf, BufMut, Bytes};
use std::path::Path;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

/// A connection to a gateway's Unix socket.
#[derive(Clone)]
pub struct Wire {
    channel: Channel,
}

impl Wire {
    /// Connects.
    pub async fn connect(socket: &Path) -> Self {
        let address = format!("unix:{}", socket.display());
        let endpoint = Endpoint::from_shared(address).expect("an endpoint");
        Self {
            channel: endpoint
                .connect()
                .await
                .unwrap_or_else(|error| panic!("{}: {error}", socket.display())),
        }
    }

    /// The channel, for clients of other services.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Calls a method, such as `portcullis.v1.KeyService/GetKey`, with these bytes as its message.
    pub async fn call(&self, method: &str, message: impl Into<Bytes>) -> Result<Bytes, Status> {
        let path: PathAndQuery = format!("/{method}").parse().expect("a path");
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        Ok(grpc
            .unary(Request::new(message.into()), path, Verbatim)
            .await?
            .into_inner())
    }

    /// Calls a method with a stream of one message and returns its first answer.
    pub async fn call_streaming(&self, method: &str, message: impl Into<Bytes>) -> Result<Option<Bytes>, Status> {
        let path: PathAndQuery = format!("/{method}").parse().expect("a path");
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        grpc.server_streaming(Request::new(message.into()), path, Verbatim)
            .await?
            .into_inner()
            .message()
            .await
    }
}

impl Wire {
    /// Calls a method with a stream of messages, which then ends, and returns its answers.
    pub async fn open_stream(&self, method: &str, messages: Vec<Vec<u8>>) -> Result<Streaming<Bytes>, Status> {
        let path: PathAndQuery = format!("/{method}").parse().expect("a path");
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let messages = tokio_stream::iter(messages.into_iter().map(Bytes::from));
        Ok(grpc
            .streaming(Request::new(messages), path, Verbatim)
            .await?
            .into_inner())
    }
}

/// A codec that changes nothing.
#[derive(Debug, Clone, Copy)]
struct Verbatim;

impl Codec for Verbatim {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}

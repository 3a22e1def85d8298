//! The names of attributes: no other name leaves the gateway on a span or a metric.
//!
//! None of them holds a payload, associated data, an encryption context, a principal or a name that a caller chose. What is
//! unbounded (a request id, a key's uid) is on spans alone.

/// `grpc`.
pub const RPC_SYSTEM_NAME: &str = "rpc.system.name";
/// The method with its service, such as `portcullis.v1.CryptoService/Sign`; `_OTHER` for what the gateway does not know.
pub const RPC_METHOD: &str = "rpc.method";
/// The gRPC status by name, such as `OK`.
pub const RPC_STATUS: &str = "rpc.response.status_code";
/// The gRPC status where it tells of a fault of the gateway or its members.
pub const ERROR_TYPE: &str = "error.type";
/// The request's id, as errors, log and audit entries name it.
pub const REQUEST_ID: &str = "portcullis.request_id";
/// The stable reason of an error; why an operation moved on to another member; why a handshake failed.
pub const REASON: &str = "portcullis.reason";
/// The uid of the key that was looked up.
pub const KEY_UID: &str = "portcullis.key.uid";
/// The mechanism.
pub const MECHANISM: &str = "portcullis.mechanism";
/// The member's name.
pub const MEMBER: &str = "portcullis.member";
/// The life of the member's worker: 1 is the first.
pub const EPOCH: &str = "portcullis.member.epoch";
/// What a member was asked to do.
pub const OPERATION: &str = "portcullis.operation";
/// What came of it.
pub const OUTCOME: &str = "portcullis.outcome";
/// How long the operation waited in the worker for a session, in seconds.
pub const SESSION_WAIT: &str = "portcullis.session.wait";
/// A member's state.
pub const STATE: &str = "portcullis.state";
/// `allow` or `deny`.
pub const EFFECT: &str = "portcullis.effect";
/// What the policy was asked for.
pub const ACTION: &str = "portcullis.action";
/// `hit` or `miss`.
pub const RESULT: &str = "portcullis.result";
/// `append` or `sync`.
pub const STAGE: &str = "portcullis.stage";
/// `unix` or `tls`.
pub const LISTENER: &str = "portcullis.listener";
/// The gateway's version.
pub const VERSION: &str = "portcullis.version";

/// What spans may carry.
pub const ON_SPANS: [&str; 13] = [
    RPC_SYSTEM_NAME,
    RPC_METHOD,
    RPC_STATUS,
    ERROR_TYPE,
    REQUEST_ID,
    REASON,
    KEY_UID,
    MECHANISM,
    MEMBER,
    EPOCH,
    OPERATION,
    OUTCOME,
    SESSION_WAIT,
];

/// What the gateway says of itself on the resource, beside what the configuration adds.
pub const ON_RESOURCE: [&str; 3] = ["service.name", "service.version", "service.instance.id"];

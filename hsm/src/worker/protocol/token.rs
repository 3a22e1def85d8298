//! Messages about a token and its domain: opening it, probing it, cloning the domain, changing its PIN.

use super::Empty;
use zeroize::Zeroize;

/// See [`RequestBody::Open`](super::RequestBody::Open).
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Open {
    /// The PKCS#11 module's path.
    #[prost(string, tag = "1")]
    pub module: String,
    /// The token's label, if it is found by that.
    #[prost(string, optional, tag = "2")]
    pub token_label: Option<String>,
    /// The token's serial number, if it is found by that.
    #[prost(string, optional, tag = "3")]
    pub token_serial_number: Option<String>,
    /// The user PIN.
    #[prost(bytes = "vec", tag = "4")]
    pub user_pin: Vec<u8>,
    /// How many session threads to start for the use of keys.
    #[prost(uint32, tag = "5")]
    pub sessions: u32,
    /// How many uses may wait.
    #[prost(uint32, tag = "6")]
    pub queue: u32,
    /// How many session threads to start for the generation of keys.
    #[prost(uint32, tag = "8")]
    pub generation_sessions: u32,
    /// How many generations may wait.
    #[prost(uint32, tag = "9")]
    pub generation_queue: u32,
    /// How many keys stay loaded.
    #[prost(uint32, tag = "7")]
    pub loaded_keys: u32,
    /// How many ephemeral keys of one principal stay loaded.
    #[prost(uint32, tag = "20")]
    pub ephemeral_share: u32,
    /// Whether the worker logs in again when the token loses the login; if not, it ends.
    #[prost(bool, tag = "21")]
    pub log_in_again: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.user_pin.zeroize();
    }
}

/// See [`RequestBody::ChangePin`](super::RequestBody::ChangePin).
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct ChangePin {
    /// The PKCS#11 module's path.
    #[prost(string, tag = "1")]
    pub module: String,
    /// The token's label, if it is found by that.
    #[prost(string, optional, tag = "2")]
    pub token_label: Option<String>,
    /// The token's serial number, if it is found by that.
    #[prost(string, optional, tag = "3")]
    pub token_serial_number: Option<String>,
    /// The user PIN so far.
    #[prost(bytes = "vec", tag = "4")]
    pub old_pin: Vec<u8>,
    /// The user PIN from now on.
    #[prost(bytes = "vec", tag = "5")]
    pub new_pin: Vec<u8>,
}

impl Drop for ChangePin {
    fn drop(&mut self) {
        self.old_pin.zeroize();
        self.new_pin.zeroize();
    }
}

/// See [`RequestBody::FindDomain`](super::RequestBody::FindDomain).
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct FindDomain {
    /// The domain's epoch.
    #[prost(uint32, tag = "1")]
    pub epoch: u32,
}

/// See [`RequestBody::InitialiseToken`](super::RequestBody::InitialiseToken).
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct InitialiseToken {
    /// The PKCS#11 module's path.
    #[prost(string, tag = "1")]
    pub module: String,
    /// The label to give.
    #[prost(string, tag = "2")]
    pub label: String,
    /// The security officer's PIN.
    #[prost(bytes = "vec", tag = "3")]
    pub so_pin: Vec<u8>,
    /// The user's PIN.
    #[prost(bytes = "vec", tag = "4")]
    pub user_pin: Vec<u8>,
}

impl Drop for InitialiseToken {
    fn drop(&mut self) {
        self.so_pin.zeroize();
        self.user_pin.zeroize();
    }
}

/// A step of cloning a domain to a member.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloneStep {
    /// Which step, with what it needs.
    #[prost(oneof = "CloneStepBody", tags = "1, 2, 3")]
    pub step: Option<CloneStepBody>,
}

/// See [`CloneStep`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum CloneStepBody {
    /// On the joining member: make a transport key.
    #[prost(message, tag = "1")]
    MakeTransport(Empty),
    /// On the origin's member: wrap to a transport key.
    #[prost(message, tag = "2")]
    WrapTo(WrapTo),
    /// On the joining member: receive, and destroy the transport key.
    #[prost(message, tag = "3")]
    Receive(Domain),
}

/// See [`CloneStepBody::WrapTo`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct WrapTo {
    /// SubjectPublicKeyInfo in DER.
    #[prost(bytes = "vec", tag = "1")]
    pub transport_key: Vec<u8>,
    /// OAEP with SHA-1 instead of SHA-256.
    #[prost(bool, tag = "2")]
    pub sha1: bool,
}

/// A wrapped domain.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Domain {
    /// The domain's epoch.
    #[prost(uint32, tag = "1")]
    pub epoch: u32,
    /// OAEP with SHA-1 instead of SHA-256.
    #[prost(bool, tag = "2")]
    pub sha1: bool,
    /// The wrapped seal key.
    #[prost(bytes = "vec", tag = "3")]
    pub seal: Vec<u8>,
    /// The wrapped portable key.
    #[prost(bytes = "vec", tag = "4")]
    pub portable: Vec<u8>,
    /// The wrapped mac key.
    #[prost(bytes = "vec", tag = "5")]
    pub mac: Vec<u8>,
}

/// See [`ReplyBody::Opened`](super::ReplyBody::Opened).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Opened {
    /// `CK_TOKEN_INFO.label`.
    #[prost(string, tag = "1")]
    pub label: String,
    /// `CK_TOKEN_INFO.serialNumber`.
    #[prost(string, tag = "2")]
    pub serial_number: String,
    /// `CK_TOKEN_INFO.manufacturerID`.
    #[prost(string, tag = "3")]
    pub manufacturer: String,
    /// `CK_TOKEN_INFO.model`.
    #[prost(string, tag = "4")]
    pub model: String,
    /// `CK_TOKEN_INFO.firmwareVersion`.
    #[prost(string, tag = "5")]
    pub firmware_version: String,
    /// `CK_TOKEN_INFO.hardwareVersion`.
    #[prost(string, tag = "6")]
    pub hardware_version: String,
    /// What the token can do, in words.
    #[prost(string, repeated, tag = "7")]
    pub capabilities: Vec<String>,
    /// How many session threads were started: as asked for, or as many as the token allows.
    #[prost(uint32, tag = "8")]
    pub sessions: u32,
    /// Protections that the process could not take, in words.
    #[prost(string, repeated, tag = "9")]
    pub unprotected: Vec<String>,
    /// The uses that the token supports, each as operation × 65536 + mechanism.
    #[prost(uint32, repeated, tag = "10")]
    pub uses: Vec<u32>,
    /// The numbers of the key types that the token generates.
    #[prost(uint32, repeated, tag = "11")]
    pub generates: Vec<u32>,
    /// How many session threads were started for the generation of keys.
    #[prost(uint32, tag = "12")]
    pub generation_sessions: u32,
    /// Why the token cannot hold a domain under which keys are wrapped; nothing where it can.
    // Boxed, because replies are passed about by value.
    #[prost(message, optional, boxed, tag = "20")]
    pub sealing: Option<Box<Obstacles>>,
}

impl Opened {
    /// Why the token cannot hold a domain under which keys are wrapped; nothing where it can.
    pub fn sealing_obstacles(&self) -> &[Obstacle] {
        self.sealing.as_deref().map_or(&[], |found| &found.list)
    }
}

/// What stands against something.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Obstacles {
    /// All that was found.
    #[prost(message, repeated, tag = "1")]
    pub list: Vec<Obstacle>,
}

/// Why a token cannot do something.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Obstacle {
    /// The name that programs know it by.
    #[prost(string, tag = "1")]
    pub code: String,
    /// In words.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// See [`ReplyBody::DomainFound`](super::ReplyBody::DomainFound).
#[derive(Clone, PartialEq, prost::Message)]
pub struct DomainFound {
    /// The domain's fingerprint, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub fingerprint: Vec<u8>,
    /// What a probe answers, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub known_answer: Vec<u8>,
}

/// See [`ReplyBody::Probed`](super::ReplyBody::Probed).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Probed {
    /// The known answer, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub known_answer: Vec<u8>,
    /// Uses of a key that was loaded, since the worker started.
    #[prost(uint64, tag = "2")]
    pub key_hits: u64,
    /// Keys that were loaded, since the worker started.
    #[prost(uint64, tag = "3")]
    pub key_loads: u64,
    /// Keys that were taken out for others, since the worker started.
    #[prost(uint64, tag = "4")]
    pub key_evictions: u64,
    /// Keys that are loaded.
    #[prost(uint64, tag = "5")]
    pub loaded_keys: u64,
}

/// See [`ReplyBody::List`](super::ReplyBody::List).
#[derive(Clone, PartialEq, prost::Message)]
pub struct List {
    /// One entry for each item of the request: a tag; or one byte, 1 for authentic.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub items: Vec<Vec<u8>>,
}

/// See [`ReplyBody::Attempts`](super::ReplyBody::Attempts).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attempts {
    /// What was tried.
    #[prost(message, repeated, tag = "1")]
    pub attempts: Vec<AttemptResult>,
}

/// One thing that was tried.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttemptResult {
    /// The key and the deed, in words.
    #[prost(string, tag = "1")]
    pub what: String,
    /// The return code that refused it; 0 when it was allowed.
    #[prost(uint64, tag = "2")]
    pub refused_with: u64,
    /// Whether the token did it, and made the key as its unwrapping key's template says.
    #[prost(bool, tag = "20")]
    pub forced: bool,
}

//! The messages between the gateway and a worker, and their frames.
//!
//! A frame is four bytes of length, big-endian, and a protobuf message. Requests and replies are matched by id and may
//! overtake each other. The protocol joins two processes of one build, so it has no versions.

mod frame;
mod key_use;
mod token;
pub mod transfer;

pub use frame::{MAX_FRAME, decode_message, encode_frame, frame_length, read_frame, write_frame};
pub use key_use::{
    Agree, DataKey, Decrypt, DecryptAsymmetric, DecryptBare, Encrypt, EncryptBare, Encrypted, GenerateDataKey, Key,
    KeyWithData, Random, ReEncrypt, Secret, Sign, VerifyMac,
};
pub use token::{
    AttemptResult, Attempts, ChangePin, CloneStep, CloneStepBody, Domain, DomainFound, FindDomain, InitialiseToken,
    List, Obstacle, Obstacles, Open, Opened, Probed, WrapTo,
};

/// The longest payload that a gateway may accept.
pub const MAX_PAYLOAD: usize = 2 * 1024 * 1024;

/// A request to the worker.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Request {
    /// Repeated in the reply.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// How long the work may wait for its start, in microseconds; 0 is no limit.
    #[prost(uint64, tag = "2")]
    pub time_left_us: u64,
    /// What to do.
    #[prost(
        oneof = "RequestBody",
        tags = "10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 25, 26, 30, 40, 41, 42, 43, 44, 45, 46, 47, 50, 51, 52, 53, 54, 55, 56, \
                60, 61, 62, 63, 64, 90"
    )]
    pub body: Option<RequestBody>,
}

/// What a request asks for.
#[derive(Clone, PartialEq, prost::Oneof)]
#[prost(skip_debug)]
pub enum RequestBody {
    /// Load the module, find the token, log in, ask what it can do, start the session threads. First and once.
    #[prost(message, tag = "10")]
    Open(Open),
    /// Find the domain of an epoch and compute its fingerprint.
    #[prost(message, tag = "11")]
    FindDomain(FindDomain),
    /// Read the token and compute the known answer.
    #[prost(message, tag = "12")]
    Probe(Empty),
    /// Finish what was accepted and exit.
    #[prost(message, tag = "13")]
    Stop(Empty),

    /// Do not begin the request of this id, if it still waits. Has no reply of its own.
    #[prost(uint64, tag = "14")]
    Cancel(u64),

    /// Sign or MAC.
    #[prost(message, tag = "20")]
    Sign(Sign),
    /// Encrypt by AES-GCM.
    #[prost(message, tag = "21")]
    Encrypt(Encrypt),
    /// Decrypt by AES-GCM.
    #[prost(message, tag = "22")]
    Decrypt(Decrypt),
    /// Generate a wrapped key.
    #[prost(message, tag = "23")]
    GenerateWrapped(Generate),
    /// Random bytes.
    #[prost(message, tag = "24")]
    Random(Random),
    /// Check the tags of stored messages.
    #[prost(message, tag = "25")]
    CheckRecords(CheckRecords),
    /// Compute the tags of rows.
    #[prost(message, tag = "26")]
    AuthenticateRows(AuthenticateRows),
    /// Unload a key that is destroyed.
    #[prost(message, tag = "30")]
    Unload(Unload),

    /// Find or generate a resident key.
    #[prost(message, tag = "40")]
    GenerateResident(Generate),
    /// Destroy a resident key.
    #[prost(message, tag = "41")]
    DestroyResident(DestroyResident),
    /// Initialise a token (development and tests). Instead of `Open`.
    #[prost(message, tag = "42")]
    InitialiseToken(InitialiseToken),
    /// Generate a domain's origin.
    #[prost(message, tag = "43")]
    CreateOrigin(FindDomain),
    /// Generate a transport key, wrap the origin to one, or receive a domain.
    #[prost(message, tag = "44")]
    Clone(CloneStep),
    /// Destroy the origin.
    #[prost(message, tag = "45")]
    DestroyOrigin(Empty),
    /// Try what must fail on the domain keys.
    #[prost(message, tag = "46")]
    TryForbidden(Empty),
    /// Make a resident domain on a token that cannot hold a sealing one.
    #[prost(message, tag = "47")]
    CreateResidentDomain(FindDomain),

    /// Import a wrapped key.
    #[prost(message, tag = "60")]
    ImportWrapped(transfer::Import),
    /// Find or import a resident key.
    #[prost(message, tag = "61")]
    ImportResident(transfer::Import),
    /// Wrap a portable key for a recipient.
    #[prost(message, tag = "62")]
    Export(transfer::Export),
    /// Generate an ephemeral key.
    #[prost(message, tag = "63")]
    GenerateEphemeral(transfer::GenerateEphemeral),
    /// Make an ephemeral key's token anew, with another end.
    #[prost(message, tag = "64")]
    RenewEphemeral(transfer::RenewEphemeral),

    /// Check a message authentication code.
    #[prost(message, tag = "50")]
    VerifyMac(VerifyMac),
    /// Encrypt in an AES mode without authentication.
    #[prost(message, tag = "51")]
    EncryptBare(EncryptBare),
    /// Decrypt in an AES mode without authentication.
    #[prost(message, tag = "52")]
    DecryptBare(DecryptBare),
    /// Decrypt what was encrypted to a public key.
    #[prost(message, tag = "53")]
    DecryptAsymmetric(DecryptAsymmetric),
    /// Agree on a secret with a peer's public key.
    #[prost(message, tag = "54")]
    Agree(Agree),
    /// Draw a data key and encrypt it by AES-GCM.
    #[prost(message, tag = "55")]
    GenerateDataKey(GenerateDataKey),
    /// Decrypt AES-GCM with one key and encrypt with another.
    #[prost(message, tag = "56")]
    ReEncrypt(ReEncrypt),

    /// Change a token's user PIN. Instead of `Open`.
    #[prost(message, tag = "90")]
    ChangePin(ChangePin),
}

/// Nothing to say.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// See [`RequestBody::GenerateWrapped`] and [`RequestBody::GenerateResident`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Generate {
    /// The key's uid, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub uid: Vec<u8>,
    /// The version's number.
    #[prost(uint32, tag = "2")]
    pub version: u32,
    /// The number of the key type.
    #[prost(uint32, tag = "3")]
    pub key_type: u32,
    /// The permitted uses, each as operation × 65536 + mechanism.
    #[prost(uint32, repeated, tag = "4")]
    pub uses: Vec<u32>,
    /// Wrap under the portable key instead of the seal key.
    #[prost(bool, tag = "5")]
    pub exportable: bool,
    /// Which making of the version this is, 16 bytes; nothing for a key that is not resident.
    #[prost(bytes = "vec", tag = "6")]
    pub making: Vec<u8>,
}

/// See [`RequestBody::DestroyResident`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct DestroyResident {
    /// The key's uid, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub uid: Vec<u8>,
    /// The version's number.
    #[prost(uint32, tag = "2")]
    pub version: u32,
    /// Which making of the version it is, 16 bytes; nothing for what was made before makings had a name.
    #[prost(bytes = "vec", tag = "3")]
    pub making: Vec<u8>,
}

/// See [`RequestBody::CheckRecords`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckRecords {
    /// What to check.
    #[prost(message, repeated, tag = "1")]
    pub records: Vec<Record>,
}

/// A message with its tag.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Record {
    /// The number of the record kind.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The message.
    #[prost(bytes = "vec", tag = "2")]
    pub message: Vec<u8>,
    /// Its tag.
    #[prost(bytes = "vec", tag = "3")]
    pub tag: Vec<u8>,
}

/// See [`RequestBody::AuthenticateRows`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct AuthenticateRows {
    /// The canonical forms of the rows.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub rows: Vec<Vec<u8>>,
}

/// See [`RequestBody::Unload`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unload {
    /// SHA-256 of the key's token.
    #[prost(bytes = "vec", tag = "1")]
    pub digest: Vec<u8>,
}

/// A worker's reply.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Reply {
    /// The request's id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What came of it.
    #[prost(oneof = "ReplyBody", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 21, 22, 100")]
    pub body: Option<ReplyBody>,
    /// How long the request waited for a thread, in microseconds.
    #[prost(uint64, tag = "101")]
    pub waited_us: u64,
    /// How long the work took, in microseconds.
    #[prost(uint64, tag = "102")]
    pub worked_us: u64,
}

/// What came of a request.
#[derive(Clone, PartialEq, prost::Oneof)]
#[prost(skip_debug)]
pub enum ReplyBody {
    /// It failed.
    #[prost(message, tag = "2")]
    Failure(Failure),
    /// It is done and there is nothing to say.
    #[prost(message, tag = "3")]
    Done(Empty),
    /// A signature, key token, transport key, fingerprint or tag.
    #[prost(bytes = "vec", tag = "4")]
    Bytes(Vec<u8>),
    /// For `Open` and `InitialiseToken`.
    #[prost(message, tag = "5")]
    Opened(Opened),
    /// For `FindDomain`.
    #[prost(message, tag = "6")]
    DomainFound(DomainFound),
    /// For `Encrypt`, `EncryptBare` and `ReEncrypt`.
    #[prost(message, tag = "7")]
    Encrypted(Encrypted),
    /// For `CheckRecords`: a result for each, and `AuthenticateRows`: a tag for each.
    #[prost(message, tag = "8")]
    List(List),
    /// For `CloneStepBody::WrapTo`.
    #[prost(message, tag = "9")]
    Domain(Domain),
    /// For `TryForbidden`.
    #[prost(message, tag = "10")]
    Attempts(Attempts),
    /// A plaintext, random bytes or a shared secret.
    #[prost(message, tag = "20")]
    Secret(Secret),
    /// For `VerifyMac`: whether the code is right.
    #[prost(bool, tag = "21")]
    Verdict(bool),
    /// For `GenerateDataKey`.
    #[prost(message, tag = "22")]
    DataKey(DataKey),
    /// For `Probe`.
    #[prost(message, tag = "100")]
    Probed(Probed),
}

/// Why a request failed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Failure {
    /// What the gateway can do about it.
    #[prost(enumeration = "FailureKind", tag = "1")]
    pub kind: i32,
    /// What happened, for the log. Holds no secret.
    #[prost(string, tag = "2")]
    pub message: String,
    /// The PKCS#11 return code, 0 if none.
    #[prost(uint64, tag = "3")]
    pub return_code: u64,
}

/// What the gateway can do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum FailureKind {
    /// Not said: a member's fault.
    Unspecified = 0,
    /// Answer the caller: no member can do it.
    Refused = 1,
    /// Answer the caller: wrong ciphertext or associated data.
    DecryptionFailed = 2,
    /// A key token or record is not authentic.
    NotAuthentic = 3,
    /// This member lacks what it takes.
    Unsupported = 4,
    /// Send the key token too.
    KeyNeeded = 5,
    /// The work did not start in time.
    DeadlinePassed = 6,
    /// Another member, after a pause.
    Busy = 7,
    /// Another member; tell the breaker.
    MemberFault = 8,
    /// Stop the member: it needs a person.
    Fatal = 9,
    /// The resident key is not on this member.
    KeyMissing = 10,
    /// The member's token is not there; nothing was tried on it.
    TokenAbsent = 11,
    /// Answer the caller: what was to be imported is not what it should be.
    ImportRefused = 20,
    /// Answer the caller: the key may not be exported so.
    ExportRefused = 21,
}

//! Which threads of a worker serve which requests.

use super::protocol::RequestBody;

/// Some threads and their queue. What a lane has is begun in the order in which it came, as soon as one of its threads is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Opening the token and probing it: one thread, which nothing else may keep waiting.
    Control,
    /// Changes of token objects: one thread, because tokens race there.
    Changes,
    /// The use of keys: a thread for each session.
    Uses,
    /// The generation of keys, which may take seconds: few threads, so that it never takes the sessions of the uses.
    Generations,
}

impl Lane {
    /// The lane of a request.
    pub fn of(body: &RequestBody) -> Self {
        match body {
            RequestBody::Sign(_)
            | RequestBody::Encrypt(_)
            | RequestBody::Decrypt(_)
            | RequestBody::VerifyMac(_)
            | RequestBody::EncryptBare(_)
            | RequestBody::DecryptBare(_)
            | RequestBody::DecryptAsymmetric(_)
            | RequestBody::Agree(_)
            | RequestBody::GenerateDataKey(_)
            | RequestBody::ReEncrypt(_)
            | RequestBody::Random(_)
            | RequestBody::CheckRecords(_)
            | RequestBody::AuthenticateRows(_)
            | RequestBody::ImportWrapped(_)
            | RequestBody::Export(_)
            | RequestBody::RenewEphemeral(_) => Self::Uses,
            RequestBody::GenerateWrapped(_) | RequestBody::GenerateEphemeral(_) => Self::Generations,
            RequestBody::GenerateResident(_)
            | RequestBody::DestroyResident(_)
            | RequestBody::ImportResident(_)
            | RequestBody::CreateOrigin(_)
            | RequestBody::CreateResidentDomain(_)
            | RequestBody::Clone(_)
            | RequestBody::DestroyOrigin(_)
            | RequestBody::TryForbidden(_) => Self::Changes,
            RequestBody::Open(_)
            | RequestBody::FindDomain(_)
            | RequestBody::Probe(_)
            | RequestBody::Stop(_)
            | RequestBody::Cancel(_)
            | RequestBody::Unload(_)
            | RequestBody::InitialiseToken(_)
            | RequestBody::ChangePin(_) => Self::Control,
        }
    }
}

/// So many changes of token objects may wait.
pub const CHANGES_QUEUE: usize = 64;

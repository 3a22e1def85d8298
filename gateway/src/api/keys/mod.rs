//! `KeyService`.
//!
//! - `rings`, `keys`, `versions`, `aliases`: each resource's calls.
//! - `imports`, `exports`, `ephemeral`: key material that comes, that leaves, and that is not kept.
//! - `recipients`: those to whom it may leave.
//! - `mechanisms`: what the cluster can do.
//! - `public_keys`: public halves in their forms.

mod aliases;
mod ephemeral;
mod exports;
mod imports;
#[allow(
    clippy::module_inception,
    reason = "the keys of the service of rings, keys, versions and aliases"
)]
mod keys;
mod mechanisms;
mod public_keys;
mod recipients;
mod rings;
mod versions;

use super::{Api, call::Call, changing::to_the_end};
use crate::{keys::state::Verb, policy::Action};
use portcullis_proto::v1::{self, key_service_server::KeyService};
use tonic::{Request, Response, Status};

/// A call that reads: its entry is in the audit log before the reply leaves.
macro_rules! reading {
    ($self:ident, $action:expr, $request:ident, $body:expr) => {{
        let (mut call, request) = Call::begin(&$self.0, $action, $request)?;
        let result = $body(&mut call, request).await;
        call.conclude(result).await
    }};
}

/// A call that changes something, or gives out what lives on outside: it runs to its end, and its entry is on disk before the
/// reply leaves.
macro_rules! changing {
    ($self:ident, $action:expr, $request:ident, $body:expr) => {{
        let (mut call, request) = Call::begin(&$self.0, $action, $request)?;
        to_the_end(async move {
            let result = $body(&mut call, request).await;
            call.conclude_change(result).await
        })
        .await
    }};
}

#[tonic::async_trait]
impl KeyService for Api {
    async fn create_key_ring(
        &self,
        request: Request<v1::CreateKeyRingRequest>,
    ) -> Result<Response<v1::KeyRing>, Status> {
        changing!(self, Action::CreateKeyRing, request, rings::create)
    }

    async fn get_key_ring(&self, request: Request<v1::GetKeyRingRequest>) -> Result<Response<v1::KeyRing>, Status> {
        reading!(self, Action::ReadKeyRing, request, rings::get)
    }

    async fn list_key_rings(
        &self,
        request: Request<v1::ListKeyRingsRequest>,
    ) -> Result<Response<v1::ListKeyRingsResponse>, Status> {
        reading!(self, Action::ReadKeyRing, request, rings::list)
    }

    async fn list_mechanisms(
        &self,
        request: Request<v1::ListMechanismsRequest>,
    ) -> Result<Response<v1::ListMechanismsResponse>, Status> {
        reading!(self, Action::ReadKeyRing, request, mechanisms::list)
    }

    async fn update_key_ring(
        &self,
        request: Request<v1::UpdateKeyRingRequest>,
    ) -> Result<Response<v1::KeyRing>, Status> {
        changing!(self, Action::UpdateKeyRing, request, rings::update)
    }

    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Result<Response<v1::Key>, Status> {
        changing!(self, Action::CreateKey, request, keys::create)
    }

    async fn get_key(&self, request: Request<v1::GetKeyRequest>) -> Result<Response<v1::Key>, Status> {
        reading!(self, Action::ReadKey, request, keys::get)
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Result<Response<v1::ListKeysResponse>, Status> {
        reading!(self, Action::ReadKey, request, keys::list)
    }

    async fn update_key(&self, request: Request<v1::UpdateKeyRequest>) -> Result<Response<v1::Key>, Status> {
        changing!(self, Action::UpdateKey, request, keys::update)
    }

    async fn rotate_key(&self, request: Request<v1::RotateKeyRequest>) -> Result<Response<v1::Key>, Status> {
        changing!(self, Action::RotateKey, request, keys::rotate)
    }

    async fn set_primary_version(
        &self,
        request: Request<v1::SetPrimaryVersionRequest>,
    ) -> Result<Response<v1::Key>, Status> {
        changing!(self, Action::SetPrimaryVersion, request, keys::set_primary)
    }

    async fn get_key_version(
        &self,
        request: Request<v1::GetKeyVersionRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        reading!(self, Action::ReadKey, request, versions::get)
    }

    async fn list_key_versions(
        &self,
        request: Request<v1::ListKeyVersionsRequest>,
    ) -> Result<Response<v1::ListKeyVersionsResponse>, Status> {
        reading!(self, Action::ReadKey, request, versions::list)
    }

    async fn activate_key_version(
        &self,
        request: Request<v1::ChangeKeyVersionStateRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        changing!(self, Action::ActivateVersion, request, async |call, request| {
            versions::change_state(call, Verb::Activate, request).await
        })
    }

    async fn disable_key_version(
        &self,
        request: Request<v1::ChangeKeyVersionStateRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        changing!(self, Action::DisableVersion, request, async |call, request| {
            versions::change_state(call, Verb::Disable, request).await
        })
    }

    async fn enable_key_version(
        &self,
        request: Request<v1::ChangeKeyVersionStateRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        changing!(self, Action::EnableVersion, request, async |call, request| {
            versions::change_state(call, Verb::Enable, request).await
        })
    }

    async fn deactivate_key_version(
        &self,
        request: Request<v1::ChangeKeyVersionStateRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        changing!(self, Action::DeactivateVersion, request, async |call, request| {
            versions::change_state(call, Verb::Deactivate, request).await
        })
    }

    async fn mark_key_version_compromised(
        &self,
        request: Request<v1::ChangeKeyVersionStateRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        changing!(self, Action::MarkVersionCompromised, request, async |call, request| {
            versions::change_state(call, Verb::MarkCompromised, request).await
        })
    }

    async fn schedule_key_version_destruction(
        &self,
        request: Request<v1::ScheduleKeyVersionDestructionRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        changing!(
            self,
            Action::ScheduleVersionDestruction,
            request,
            versions::schedule_destruction
        )
    }

    async fn cancel_key_version_destruction(
        &self,
        request: Request<v1::ChangeKeyVersionStateRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        changing!(
            self,
            Action::CancelVersionDestruction,
            request,
            async |call, request| { versions::change_state(call, Verb::CancelDestruction, request).await }
        )
    }

    async fn get_public_key(
        &self,
        request: Request<v1::GetPublicKeyRequest>,
    ) -> Result<Response<v1::PublicKey>, Status> {
        reading!(self, Action::ReadKey, request, public_keys::get)
    }

    async fn get_json_web_key_set(
        &self,
        request: Request<v1::GetJsonWebKeySetRequest>,
    ) -> Result<Response<v1::JsonWebKeySet>, Status> {
        reading!(self, Action::ReadKey, request, public_keys::key_set)
    }

    async fn create_alias(&self, request: Request<v1::CreateAliasRequest>) -> Result<Response<v1::Alias>, Status> {
        changing!(self, Action::CreateAlias, request, aliases::create)
    }

    async fn update_alias(&self, request: Request<v1::UpdateAliasRequest>) -> Result<Response<v1::Alias>, Status> {
        changing!(self, Action::UpdateAlias, request, aliases::update)
    }

    async fn delete_alias(
        &self,
        request: Request<v1::DeleteAliasRequest>,
    ) -> Result<Response<v1::DeleteAliasResponse>, Status> {
        changing!(self, Action::DeleteAlias, request, aliases::delete)
    }

    async fn list_aliases(
        &self,
        request: Request<v1::ListAliasesRequest>,
    ) -> Result<Response<v1::ListAliasesResponse>, Status> {
        reading!(self, Action::ReadAlias, request, aliases::list)
    }

    async fn create_import_job(
        &self,
        request: Request<v1::CreateImportJobRequest>,
    ) -> Result<Response<v1::ImportJob>, Status> {
        changing!(self, Action::ImportKey, request, imports::create_job)
    }

    async fn get_import_job(
        &self,
        request: Request<v1::GetImportJobRequest>,
    ) -> Result<Response<v1::ImportJob>, Status> {
        reading!(self, Action::ImportKey, request, imports::get_job)
    }

    async fn import_key_version(
        &self,
        request: Request<v1::ImportKeyVersionRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        changing!(self, Action::ImportKey, request, imports::import_version)
    }

    async fn export_key_version(
        &self,
        request: Request<v1::ExportKeyVersionRequest>,
    ) -> Result<Response<v1::ExportKeyVersionResponse>, Status> {
        changing!(self, Action::ExportKey, request, exports::export_version)
    }

    async fn create_recipient(
        &self,
        request: Request<v1::CreateRecipientRequest>,
    ) -> Result<Response<v1::Recipient>, Status> {
        changing!(self, Action::CreateRecipient, request, recipients::create)
    }

    async fn get_recipient(
        &self,
        request: Request<v1::GetRecipientRequest>,
    ) -> Result<Response<v1::Recipient>, Status> {
        reading!(self, Action::ReadRecipient, request, recipients::get)
    }

    async fn list_recipients(
        &self,
        request: Request<v1::ListRecipientsRequest>,
    ) -> Result<Response<v1::ListRecipientsResponse>, Status> {
        reading!(self, Action::ReadRecipient, request, recipients::list)
    }

    async fn delete_recipient(
        &self,
        request: Request<v1::DeleteRecipientRequest>,
    ) -> Result<Response<v1::DeleteRecipientResponse>, Status> {
        changing!(self, Action::DeleteRecipient, request, recipients::delete)
    }

    async fn create_ephemeral_key(
        &self,
        request: Request<v1::CreateEphemeralKeyRequest>,
    ) -> Result<Response<v1::EphemeralKey>, Status> {
        changing!(self, Action::CreateEphemeralKey, request, ephemeral::create)
    }

    async fn renew_ephemeral_key(
        &self,
        request: Request<v1::RenewEphemeralKeyRequest>,
    ) -> Result<Response<v1::EphemeralKey>, Status> {
        changing!(self, Action::RenewEphemeralKey, request, ephemeral::renew)
    }

    async fn revoke_ephemeral_keys(
        &self,
        request: Request<v1::RevokeEphemeralKeysRequest>,
    ) -> Result<Response<v1::RevokeEphemeralKeysResponse>, Status> {
        changing!(self, Action::RevokeEphemeralKeys, request, ephemeral::revoke)
    }
}

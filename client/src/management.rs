//! The calls that look after keys, objects and members: each a call of its own, made again where that is safe.

use crate::{
    client::{Client, unary},
    error::Error,
    retry::Repeat,
    v1,
};
use uuid::Uuid;

macro_rules! calls {
    ($service:ident { $($(#[$doc:meta])* $method:ident($request:ident) -> $answer:ident, $kind:ident;)* }) => {
        impl Client {$(
            $(#[$doc])*
            ///
            /// # Errors
            ///
            /// As [`Error`] groups them.
            pub async fn $method(&self, request: v1::$request) -> Result<v1::$answer, Error> {
                let (request, repeat) = calls!(@$kind request);
                self.attempts(repeat, |deadline| {
                    let mut service = self.$service();
                    let request = request.clone();
                    async move { unary(request, deadline, |request| service.$method(request)).await }
                })
                .await
            }
        )*}
    };
    // It changes nothing that could be changed twice.
    (@reads $request:ident) => { ($request, Repeat::Safe) };
    // The gateway knows it again by its id.
    (@changes $request:ident) => {{
        let mut request = $request;
        if request.request_id.is_empty() {
            request.request_id = Uuid::now_v7().to_string();
        }
        (request, Repeat::Safe)
    }};
    // It has no id.
    (@acts $request:ident) => { ($request, Repeat::Refused) };
}

calls! { keys {
    /// Makes an empty key ring.
    create_key_ring(CreateKeyRingRequest) -> KeyRing, changes;
    /// A key ring.
    get_key_ring(GetKeyRingRequest) -> KeyRing, reads;
    /// A page of the key rings that the caller may see.
    list_key_rings(ListKeyRingsRequest) -> ListKeyRingsResponse, reads;
    /// Changes a ring's labels.
    update_key_ring(UpdateKeyRingRequest) -> KeyRing, changes;
    /// Generates a key inside an HSM.
    create_key(CreateKeyRequest) -> Key, changes;
    /// A key with its primary version.
    get_key(GetKeyRequest) -> Key, reads;
    /// A page of a ring's keys.
    list_keys(ListKeysRequest) -> ListKeysResponse, reads;
    /// Changes a key's labels or its time before destruction.
    update_key(UpdateKeyRequest) -> Key, changes;
    /// Generates a new version and makes it the primary one.
    rotate_key(RotateKeyRequest) -> Key, changes;
    /// Makes another version the primary one.
    set_primary_version(SetPrimaryVersionRequest) -> Key, changes;
    /// A version, with how often it was used.
    get_key_version(GetKeyVersionRequest) -> KeyVersion, reads;
    /// A page of a key's versions.
    list_key_versions(ListKeyVersionsRequest) -> ListKeyVersionsResponse, reads;
    /// Lets a version come into use.
    activate_key_version(ChangeKeyVersionStateRequest) -> KeyVersion, changes;
    /// Suspends a version.
    disable_key_version(ChangeKeyVersionStateRequest) -> KeyVersion, changes;
    /// Takes a suspended version into use again.
    enable_key_version(ChangeKeyVersionStateRequest) -> KeyVersion, changes;
    /// Ends a version's protecting use for good.
    deactivate_key_version(ChangeKeyVersionStateRequest) -> KeyVersion, changes;
    /// Notes for good that a version is compromised.
    mark_key_version_compromised(ChangeKeyVersionStateRequest) -> KeyVersion, changes;
    /// Has a version destroyed when its window is over.
    schedule_key_version_destruction(ScheduleKeyVersionDestructionRequest) -> KeyVersion, changes;
    /// Takes that back.
    cancel_key_version_destruction(ChangeKeyVersionStateRequest) -> KeyVersion, changes;
    /// The public half of a key.
    get_public_key(GetPublicKeyRequest) -> PublicKey, reads;
    /// The public keys of a ring as a JWK set.
    get_json_web_key_set(GetJsonWebKeySetRequest) -> JsonWebKeySet, reads;
    /// Makes another name for a key or version.
    create_alias(CreateAliasRequest) -> Alias, changes;
    /// Lets an alias stand for something else.
    update_alias(UpdateAliasRequest) -> Alias, changes;
    /// Takes an alias away.
    delete_alias(DeleteAliasRequest) -> DeleteAliasResponse, changes;
    /// What the cluster can do.
    list_mechanisms(ListMechanismsRequest) -> ListMechanismsResponse, reads;
    /// A page of a ring's aliases.
    list_aliases(ListAliasesRequest) -> ListAliasesResponse, reads;
    /// Makes a key under which key material is wrapped for one import.
    create_import_job(CreateImportJobRequest) -> ImportJob, changes;
    /// An import job.
    get_import_job(GetImportJobRequest) -> ImportJob, reads;
    /// Brings key material.
    import_key_version(ImportKeyVersionRequest) -> KeyVersion, changes;
    /// Gives key material out, wrapped.
    export_key_version(ExportKeyVersionRequest) -> ExportKeyVersionResponse, reads;
    /// Registers a public key for which keys may be exported.
    create_recipient(CreateRecipientRequest) -> Recipient, changes;
    /// A recipient.
    get_recipient(GetRecipientRequest) -> Recipient, reads;
    /// A page of a ring's recipients.
    list_recipients(ListRecipientsRequest) -> ListRecipientsResponse, reads;
    /// Takes a recipient away.
    delete_recipient(DeleteRecipientRequest) -> DeleteRecipientResponse, changes;
    /// Makes a key that is not stored: whoever has the token, and is its owner, has the key.
    create_ephemeral_key(CreateEphemeralKeyRequest) -> EphemeralKey, reads;
    /// Makes a token of the same key that is good for longer.
    renew_ephemeral_key(RenewEphemeralKeyRequest) -> EphemeralKey, reads;
    /// Revokes the ephemeral keys that a principal made before a time.
    revoke_ephemeral_keys(RevokeEphemeralKeysRequest) -> RevokeEphemeralKeysResponse, changes;
}}

calls! { objects {
    /// Stores a certificate or data object.
    create_object(CreateObjectRequest) -> StoredObject, changes;
    /// A certificate or data object.
    get_object(GetObjectRequest) -> StoredObject, reads;
    /// A page of a ring's certificates and data objects.
    list_objects(ListObjectsRequest) -> ListObjectsResponse, reads;
    /// Changes an object.
    update_object(UpdateObjectRequest) -> StoredObject, changes;
    /// Takes an object away.
    delete_object(DeleteObjectRequest) -> DeleteObjectResponse, changes;
}}

calls! { cluster {
    /// The HSM members and the domain that they hold.
    list_members(ListMembersRequest) -> ListMembersResponse, reads;
    /// A member.
    get_member(GetMemberRequest) -> Member, reads;
    /// Gives a member nothing more to do, and waits until its workers have ended.
    drain_member(DrainMemberRequest) -> Member, reads;
    /// Takes a member back into service.
    resume_member(ResumeMemberRequest) -> Member, acts;
    /// Replaces workers one by one.
    roll_members(RollMembersRequest) -> RollMembersResponse, acts;
}}

//! What the cluster can do.

use crate::{
    api::{ApiError, call::Call},
    cluster::{ClusterError, core::Needs},
};
use portcullis_hsm::algorithm::{KeyType, Mechanism, Operation};
use portcullis_proto::v1;

/// What a member that serves can do, some or other of them.
pub(super) async fn list(
    call: &mut Call,
    _request: v1::ListMechanismsRequest,
) -> Result<v1::ListMechanismsResponse, ApiError> {
    call.names("mechanisms");
    call.authorise_list()?;
    let mut response = v1::ListMechanismsResponse::default();
    for operation in Operation::ALL {
        for mechanism in Mechanism::ALL {
            let is_meant = KeyType::ALL.iter().any(|one| mechanism.fits(*operation, *one));
            let needs = Needs {
                uses: vec![(*operation, *mechanism)],
                ..Needs::default()
            };
            if is_meant && can(call, &needs)? {
                response.uses.push(v1::PermittedUse {
                    operation: operation.number().into(),
                    mechanism: mechanism.number().into(),
                });
            }
        }
    }
    for key_type in KeyType::ALL {
        let needs = Needs {
            generates: Some(*key_type),
            ..Needs::default()
        };
        if can(call, &needs)? {
            response.generated_types.push(key_type.number().into());
        }
    }
    Ok(response)
}

/// Whether a member has it, as far as is known now: it was tried when each was opened.
fn can(call: &Call, needs: &Needs) -> Result<bool, ApiError> {
    match call.gateway().cluster.choose(needs) {
        Err(ClusterError::Unsupported { .. }) => Ok(false),
        Err(error @ ClusterError::Unavailable { .. }) => Err(error.into()),
        // That there is much to do says nothing about what can be done.
        Ok(_) | Err(_) => Ok(true),
    }
}

//! Calls that this gateway does not serve yet: they say so, and are in the audit log like any other.

use super::{Api, ApiError, Gateway, Reason, call::Call};
use crate::policy::Action;
use portcullis_proto::v1;
use prost::Message;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Refuses a call that is laid out and not built.
pub(super) fn refuse<T: Message, R>(
    gateway: &Arc<Gateway>,
    method: &'static str,
    request: Request<T>,
) -> Result<Response<R>, Status> {
    let (mut call, _) = Call::begin(gateway, Action::Unavailable, request)?;
    call.names(method);
    let message = format!("this gateway does not serve {method} yet: ask for it at one that does");
    let error = ApiError::new(Reason::MethodNotAvailable, message).with("method", method);
    Err(call.refuse(error).into_status())
}

/// Methods of a service trait that refuse, in the form that `async_trait` gives to trait methods.
macro_rules! not_available {
    ($($method:ident($request:ty) -> $response:ty;)*) => {
        $(fn $method<'life, 'async_trait>(
            &'life self,
            request: tonic::Request<$request>,
        ) -> std::pin::Pin<
            Box<dyn Future<Output = Result<tonic::Response<$response>, tonic::Status>> + Send + 'async_trait>,
        >
        where
            'life: 'async_trait,
            Self: 'async_trait,
        {
            let outcome = $crate::api::not_available::refuse(&self.0, stringify!($method), request);
            Box::pin(std::future::ready(outcome))
        })*
    };
}

#[tonic::async_trait]
impl v1::activation_service_server::ActivationService for Api {
    not_available! {
        create_activation(v1::CreateActivationRequest) -> v1::Activation;
        get_activation(v1::GetActivationRequest) -> v1::Activation;
        list_activations(v1::ListActivationsRequest) -> v1::ListActivationsResponse;
        contribute_share(v1::ContributeShareRequest) -> v1::Activation;
        end_activation(v1::EndActivationRequest) -> v1::Activation;
    }
}

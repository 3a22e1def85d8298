//! `ClusterService`: what can be seen of the members.

use super::{Api, ApiError, Reason, call::Call, convert, not_available::not_available};
use crate::{
    cluster::{MemberView, core::MemberState},
    keys::{name::Id, record::now},
    policy::Action,
};
use portcullis_hsm::worker::protocol::Opened;
use portcullis_proto::v1::{self, cluster_service_server::ClusterService};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl ClusterService for Api {
    async fn list_members(
        &self,
        request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        let (mut call, _) = Call::begin(&self.0, Action::ReadCluster, request)?;
        call.names("members");
        let result = call.authorise_gateway().map(|()| {
            let domain = self.0.cluster.domain();
            v1::ListMembersResponse {
                members: self.0.cluster.members().into_iter().map(member).collect(),
                domain_epoch: domain.epoch,
                domain_fingerprint: domain.fingerprint.to_string(),
            }
        });
        call.conclude(result).await
    }

    async fn get_member(&self, request: Request<v1::GetMemberRequest>) -> Result<Response<v1::Member>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::ReadCluster, request)?;
        let result = member_name(&request.name).and_then(|name| {
            call.names(format!("members/{name}"));
            call.authorise_gateway()?;
            let view = self
                .0
                .cluster
                .members()
                .into_iter()
                .find(|view| view.name == name.as_str());
            view.map(member).ok_or_else(|| {
                ApiError::new(
                    Reason::MemberNotFound,
                    format!("there is no member {name}: ListMembers has their names"),
                )
            })
        });
        call.conclude(result).await
    }

    not_available! {
        drain_member(v1::DrainMemberRequest) -> v1::Member;
        resume_member(v1::ResumeMemberRequest) -> v1::Member;
        roll_members(v1::RollMembersRequest) -> v1::RollMembersResponse;
    }
}

fn member_name(text: &str) -> Result<Id, ApiError> {
    let id = text.strip_prefix("members/").and_then(|id| Id::parse(id).ok());
    id.ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        let message = format!("expected the name of a member, members/{{member}}, found \"{shown}\"");
        ApiError::new(Reason::InvalidName, message)
    })
}

fn member(view: MemberView) -> v1::Member {
    let state = match view.state {
        MemberState::Starting => v1::MemberState::Starting,
        MemberState::Probing => v1::MemberState::Probing,
        MemberState::Ready => v1::MemberState::Ready,
        MemberState::Down => v1::MemberState::Down,
        MemberState::Stopped => v1::MemberState::Stopped,
        MemberState::Fenced => v1::MemberState::Fenced,
    };
    v1::Member {
        name: format!("members/{}", view.name),
        state: state.into(),
        reason: view.reason,
        state_time: Some(convert::timestamp(now() - view.since)),
        token: view.opened.clone().map(token),
        outstanding: view.outstanding,
        worker_starts: view.starts,
        domain_fingerprint: view
            .fingerprint
            .map(|fingerprint| fingerprint.to_string())
            .unwrap_or_default(),
        sealing_obstacles: view
            .opened
            .iter()
            .flat_map(Opened::sealing_obstacles)
            .map(|one| v1::SealingObstacle {
                code: one.code.clone(),
                message: one.message.clone(),
            })
            .collect(),
        capabilities: view.opened.map(|opened| opened.capabilities).unwrap_or_default(),
        weight: view.weight,
    }
}

fn token(opened: Opened) -> v1::Token {
    v1::Token {
        label: opened.label,
        serial_number: opened.serial_number,
        manufacturer: opened.manufacturer,
        model: opened.model,
        firmware_version: opened.firmware_version,
        hardware_version: opened.hardware_version,
    }
}

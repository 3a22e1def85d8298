//! `ClusterService`: what can be seen of the members, and what people do to them.

use super::{Api, ApiError, Reason, call::Call, convert};
use crate::{
    audit::Details,
    cluster::{
        LastMember, MemberView,
        core::{BreakerState, MemberIndex, MemberState, WorkerState, WorkerStatus},
    },
    keys::{name::Id, record::now},
    policy::Action,
};
use portcullis_hsm::worker::protocol::Opened;
use portcullis_proto::v1::{self, cluster_service_server::ClusterService};
use std::time::Instant;
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
            self.view(&name)
        });
        call.conclude(result).await
    }

    async fn drain_member(&self, request: Request<v1::DrainMemberRequest>) -> Result<Response<v1::Member>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::ManageCluster, request)?;
        let result = self.drain(&mut call, request).await;
        call.conclude(result).await
    }

    async fn resume_member(&self, request: Request<v1::ResumeMemberRequest>) -> Result<Response<v1::Member>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::ManageCluster, request)?;
        let result = self.resume(&mut call, request).await;
        call.conclude(result).await
    }

    async fn roll_members(
        &self,
        request: Request<v1::RollMembersRequest>,
    ) -> Result<Response<v1::RollMembersResponse>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::ManageCluster, request)?;
        let result = self.roll(&mut call, request).await;
        call.conclude(result).await
    }
}

impl Api {
    async fn drain(&self, call: &mut Call, request: v1::DrainMemberRequest) -> Result<v1::Member, ApiError> {
        let name = member_name(&request.name)?;
        call.names(format!("members/{name}"));
        call.authorise_gateway()?;
        let member = self.index(&name)?;
        let timeout = request
            .timeout
            .map(|timeout| convert::duration("timeout", timeout))
            .transpose()?;
        let deadline = timeout.map_or(call.deadline(), |timeout| call.deadline().min(Instant::now() + timeout));
        let last = if request.allow_last {
            LastMember::Drain
        } else {
            LastMember::Keep
        };
        call.note_details(change("drain", [name.to_string()]));
        call.intend().await?;
        self.0.cluster.drain(member, last, deadline).await?;
        self.view(&name)
    }

    async fn resume(&self, call: &mut Call, request: v1::ResumeMemberRequest) -> Result<v1::Member, ApiError> {
        let name = member_name(&request.name)?;
        call.names(format!("members/{name}"));
        call.authorise_gateway()?;
        let member = self.index(&name)?;
        call.note_details(change("resume", [name.to_string()]));
        call.intend().await?;
        self.0.cluster.resume(member, call.deadline()).await?;
        self.view(&name)
    }

    async fn roll(
        &self,
        call: &mut Call,
        request: v1::RollMembersRequest,
    ) -> Result<v1::RollMembersResponse, ApiError> {
        let names: Vec<Id> = request
            .names
            .iter()
            .map(|name| member_name(name))
            .collect::<Result<_, _>>()?;
        match names.as_slice() {
            [] => call.names("members"),
            names => call.names(
                names
                    .iter()
                    .map(|name| format!("members/{name}"))
                    .collect::<Vec<_>>()
                    .join(","),
            ),
        }
        call.authorise_gateway()?;
        let members = if names.is_empty() {
            let all = self.0.cluster.members().into_iter();
            all.filter_map(|view| self.0.cluster.member(&view.name)).collect()
        } else {
            names
                .iter()
                .map(|name| self.index(name))
                .collect::<Result<Vec<_>, _>>()?
        };
        let named = members.iter().map(|member| self.0.cluster.name(*member).to_string());
        call.note_details(change("roll", named));
        call.intend().await?;
        self.0.cluster.roll(members, call.deadline()).await?;
        Ok(v1::RollMembersResponse {
            members: self.0.cluster.members().into_iter().map(member).collect(),
        })
    }

    fn index(&self, name: &Id) -> Result<MemberIndex, ApiError> {
        let known = self.view(name).map(|_| self.0.cluster.member(name.as_str()))?;
        known.ok_or_else(|| unknown(name))
    }

    fn view(&self, name: &Id) -> Result<v1::Member, ApiError> {
        let views = self.0.cluster.members();
        let view = views.into_iter().find(|view| view.name == name.as_str());
        view.map(member).ok_or_else(|| unknown(name))
    }
}

fn change(change: &'static str, members: impl IntoIterator<Item = String>) -> Details {
    Details::Members {
        change,
        members: members.into_iter().collect(),
    }
}

fn unknown(name: &Id) -> ApiError {
    let message = format!("there is no member {name}: ListMembers has their names");
    ApiError::new(Reason::MemberNotFound, message)
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
        MemberState::Draining => v1::MemberState::Draining,
        MemberState::Drained => v1::MemberState::Drained,
        MemberState::Removed => v1::MemberState::Unspecified,
    };
    let breaker = match view.breaker {
        BreakerState::Closed => v1::BreakerState::Closed,
        BreakerState::Open => v1::BreakerState::Open,
        BreakerState::HalfOpen => v1::BreakerState::HalfOpen,
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
        breaker: breaker.into(),
        slowness: view.slowness,
        workers: view.workers.into_iter().map(worker).collect(),
    }
}

fn worker(status: WorkerStatus) -> v1::Worker {
    let state = match status.state {
        WorkerState::Starting => v1::WorkerState::Starting,
        WorkerState::Probing => v1::WorkerState::Probing,
        WorkerState::Ready => v1::WorkerState::Ready,
        WorkerState::Retiring => v1::WorkerState::Retiring,
        WorkerState::Down => v1::WorkerState::Down,
        WorkerState::Stopped => v1::WorkerState::Stopped,
    };
    v1::Worker {
        epoch: status.epoch.0,
        state: state.into(),
        reason: status.reason,
        state_time: Some(convert::timestamp(now() - status.since.elapsed())),
        outstanding: status.outstanding,
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

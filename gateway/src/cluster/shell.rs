//! Carries the core's decisions out: starts and kills workers, sends work, waits with deadlines, asks again.

use super::{
    attempt::{Lease, Missed, SendToken, Verdict, judge, operation, outcome},
    core::{
        Action, Attempts, Core, Epoch, Event, Grant, MemberIndex, MemberPlan, MemberState, Needs, Outcome, Refusal,
        StateChange,
    },
    error::ClusterError,
    pins::MemberPins,
    view::Readiness,
    worker::{Answer, Worker},
};
use crate::{
    config::{ClusterSettings, DomainSettings, MemberSettings},
    telemetry::{Attempt, LoadedKeys, Telemetry},
};
use portcullis_hsm::worker::{
    lane::Lane,
    protocol::{Empty, FailureKind, Opened, ReplyBody, RequestBody},
};
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};

/// The HSM members behind the gateway.
#[derive(Debug)]
pub struct Cluster {
    pub(super) core: Mutex<Core>,
    pub(super) members: Vec<MemberSlot>,
    pub(super) settings: ClusterSettings,
    pub(super) domain: DomainSettings,
    pub(super) events: mpsc::UnboundedSender<Event>,
    telemetry: Arc<Telemetry>,
    // Changes with every state change of a member.
    pub(super) readiness: watch::Sender<Readiness>,
    // Counts what the driver has done.
    beats: watch::Sender<u64>,
}

#[derive(Debug)]
pub(super) struct MemberSlot {
    pub(super) settings: MemberSettings,
    pub(super) worker: Mutex<Option<(Epoch, Arc<Worker>)>>,
    pub(super) opened: Mutex<Option<Opened>>,
    pub(super) pins: Mutex<MemberPins>,
    // The name, as metrics take it.
    pub(super) label: Arc<str>,
    // What the worker of an epoch said of its loaded keys.
    pub(super) loaded_keys: Mutex<(Epoch, LoadedKeys)>,
}

impl Cluster {
    /// Starts all members. The returned task ends when the last share of the cluster is dropped.
    pub fn start(
        members: Vec<MemberSettings>,
        settings: ClusterSettings,
        domain: DomainSettings,
        telemetry: &Arc<Telemetry>,
    ) -> Arc<Self> {
        let plans: Vec<_> = members
            .iter()
            .map(|one| MemberPlan {
                queue: one.queue,
                generation_queue: one.generation_queue,
                weight: one.weight,
            })
            .collect();
        let seed = rand::random();
        let core = Core::new(&plans, settings, domain.fingerprint, seed, Instant::now());
        let (events, queue) = mpsc::unbounded_channel();
        let cluster = Arc::new(Self {
            core: Mutex::new(core),
            members: members
                .into_iter()
                .map(|settings| MemberSlot {
                    label: settings.name.as_str().into(),
                    loaded_keys: Mutex::new((Epoch(0), LoadedKeys::default())),
                    settings,
                    worker: Mutex::new(None),
                    opened: Mutex::new(None),
                    pins: Mutex::default(),
                })
                .collect(),
            settings,
            domain,
            events,
            telemetry: Arc::clone(telemetry),
            readiness: watch::Sender::new(Readiness {
                ready: 0,
                settled: false,
            }),
            beats: watch::Sender::new(0),
        });
        tokio::spawn(drive(Arc::downgrade(&cluster), queue));
        cluster
    }

    /// The domain that every member must hold.
    pub fn domain(&self) -> DomainSettings {
        self.domain
    }

    /// How long an operation may take when its caller does not say.
    pub fn default_deadline(&self) -> Duration {
        self.settings.default_deadline
    }

    /// Traces and metrics.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Returns once the session manager has handled an event that comes after this call. Never, if it is stuck.
    pub async fn pulse(&self) {
        let mut beats = self.beats.subscribe();
        let before = *beats.borrow_and_update();
        self.report(Event::Tick);
        let _ = beats.wait_for(|beat| *beat > before).await;
    }

    /// The member of a name.
    pub fn member(&self, name: &str) -> Option<MemberIndex> {
        self.members
            .iter()
            .position(|member| member.settings.name == name)
            .map(MemberIndex)
    }

    /// The name of a member.
    pub fn name(&self, member: MemberIndex) -> &str {
        &self.members[member.0].settings.name
    }

    /// Chooses a ready member that can do something, without giving it anything to do.
    pub fn choose(&self, needs: &Needs) -> Result<MemberIndex, ClusterError> {
        let mut core = lock(&self.core);
        let now = Instant::now();
        let grant = core
            .admit(now, needs, Lane::Changes, &mut Attempts::default())
            .map_err(|refusal| self.refused(refusal, needs))?;
        core.conclude(now, grant, Outcome::Abandoned);
        Ok(grant.member)
    }

    /// Runs an operation on a member that can, and on another if that one fails, until the deadline.
    ///
    /// `body` makes the request; its argument says whether the member needs the key token too. Returns the reply and
    /// the member that gave it.
    pub(super) async fn execute(
        self: &Arc<Self>,
        needs: &Needs,
        deadline: Instant,
        body: impl Fn(SendToken) -> RequestBody,
    ) -> Result<(ReplyBody, MemberIndex), ClusterError> {
        let mut attempts = Attempts::default();
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Err(ClusterError::DeadlinePassed);
            }
            let request = body(SendToken::No);
            let grant = lock(&self.core)
                .admit(now, needs, Lane::of(&request), &mut attempts)
                .map_err(|refusal| self.refused(refusal, needs))?;
            let mut lease = Lease::new(self, grant);
            let label = &self.members[grant.member.0].label;
            let mut watch = Attempt::begin(&self.telemetry, label, grant.epoch.0);
            let reply = self
                .attempt(&mut lease, &mut watch, needs, deadline, request, &body)
                .await;
            let ended = outcome(&reply);
            watch.conclude(ended);
            let (outcome, verdict) = judge(reply);
            if let Some(outcome) = outcome {
                lease.conclude(outcome);
            }
            match verdict {
                Verdict::Answer(reply) => return Ok((reply, grant.member)),
                Verdict::Error(error) => return Err(error),
                Verdict::Elsewhere(failure) => {
                    let (member, why) = (self.name(grant.member), &failure.message);
                    if attempts.may_go_on() {
                        tracing::debug!(member, why, "an operation moves on");
                        self.telemetry.metrics().retried(ended);
                        continue;
                    }
                    tracing::warn!(member, why, "an operation failed on every member that it was given to");
                    return Err(match failure.kind() {
                        FailureKind::Busy => ClusterError::Saturated {
                            retry_after: BUSY_RETRY,
                        },
                        _ => ClusterError::Unavailable {
                            retry_after: FAILED_RETRY,
                        },
                    });
                }
                Verdict::Unsupported(what) => {
                    // Another member may have it; when all that are ready were asked, this is the answer.
                    let ready = lock(&self.core).ready();
                    if !attempts.may_go_on() || attempts.distinct() >= ready {
                        let mut members: Vec<_> = attempts.tried().map(|member| self.name(member).to_owned()).collect();
                        members.sort_unstable();
                        members.dedup();
                        return Err(ClusterError::Unsupported { what, members });
                    }
                    self.telemetry.metrics().retried(ended);
                }
            }
        }
    }

    async fn attempt(
        &self,
        lease: &mut Lease<'_>,
        watch: &mut Attempt<'_>,
        needs: &Needs,
        deadline: Instant,
        request: RequestBody,
        body: &impl Fn(SendToken) -> RequestBody,
    ) -> Result<ReplyBody, Missed> {
        let worker = match &*lock(&self.members[lease.grant.member.0].worker) {
            Some((epoch, worker)) if *epoch == lease.grant.epoch => Arc::clone(worker),
            _ => return Err(Missed::Gone),
        };
        let mut first = Some(request);
        for token in [SendToken::No, SendToken::Yes] {
            let left = deadline.saturating_duration_since(Instant::now());
            let request = first.take().unwrap_or_else(|| body(token));
            watch.asked(operation(needs, &request));
            let sent = (Arc::clone(&worker), worker.send(request, Some(left))?);
            let (_, under_way) = lease.under_way.insert(sent);
            let Answer {
                body: reply,
                waited,
                worked,
            } = match tokio::time::timeout_at(deadline.into(), &mut under_way.answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => return Err(Missed::Gone),
                Err(_) => return Err(Missed::Deadline),
            };
            lease.under_way = None;
            self.note_refused_pin(lease.grant.member, lease.grant.epoch, &reply);
            watch.answered(waited, worked);
            match reply {
                ReplyBody::Failure(failure) if failure.kind() == FailureKind::KeyNeeded && token == SendToken::No => {}
                reply => return Ok(reply),
            }
        }
        Err(Missed::Gone)
    }

    fn refused(&self, refusal: Refusal, needs: &Needs) -> ClusterError {
        match refusal {
            Refusal::NoneReady { retry_after } => ClusterError::Unavailable { retry_after },
            Refusal::Full { retry_after } => ClusterError::Saturated { retry_after },
            Refusal::Unsupported { members } => ClusterError::Unsupported {
                what: describe(needs),
                members: members.into_iter().map(|member| self.name(member).to_owned()).collect(),
            },
        }
    }

    /// Takes a grant back.
    pub(super) fn conclude(self: &Arc<Self>, grant: Grant, outcome: Outcome) {
        let actions = lock(&self.core).conclude(Instant::now(), grant, outcome);
        if !actions.is_empty() {
            self.perform(actions);
            // The driver's next wake-up may have moved.
            self.report(Event::Tick);
        }
    }

    fn perform(self: &Arc<Self>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start(member, epoch) => self.start_worker(member, epoch),
                Action::FindDomain(member, epoch) => self.find_domain(member, epoch),
                Action::Probe(member, epoch) => self.probe(member, epoch),
                Action::Kill(member, epoch) => {
                    let mut worker = lock(&self.members[member.0].worker);
                    if worker.as_ref().is_some_and(|(living, _)| *living == epoch)
                        && let Some((_, worker)) = worker.take()
                    {
                        worker.kill();
                    }
                }
                Action::Tell(change) => {
                    self.tell(&change);
                    if (change.from, change.to) == (MemberState::Ready, MemberState::Stopped) {
                        self.look_for_new_pin(change.member);
                    }
                }
            }
        }
    }

    fn tell(
        &self,
        StateChange {
            member,
            from,
            to,
            reason,
        }: &StateChange,
    ) {
        let member = self.name(*member);
        match to {
            MemberState::Stopped | MemberState::Fenced => {
                tracing::error!(member, ?from, ?to, %reason, "a member needs a person");
            }
            MemberState::Down if *from == MemberState::Stopped => {}
            MemberState::Down => tracing::warn!(member, ?from, ?to, %reason, "a member is down"),
            MemberState::Starting | MemberState::Probing => tracing::debug!(member, ?from, ?to, "a member starts"),
            MemberState::Ready => tracing::info!(member, ?from, "a member serves"),
        }
        let core = lock(&self.core);
        self.readiness.send_replace(Readiness {
            ready: core.ready(),
            settled: core.is_settled(),
        });
    }

    /// Tells the driver.
    pub(super) fn report(&self, event: Event) {
        // Fails only when the driver has ended, and with it all workers.
        let _ = self.events.send(event);
    }

    /// Lets every worker finish what it has and end.
    pub async fn stop(&self) {
        lock(&self.core).stop();
        let workers: Vec<_> = self
            .members
            .iter()
            .filter_map(|member| lock(&member.worker).take())
            .collect();
        let deadline = tokio::time::Instant::now() + STOP_GRACE;
        let mut stops = Vec::new();
        for (_, worker) in &workers {
            let worker = Arc::clone(worker);
            stops.push(tokio::spawn(async move {
                worker.request(RequestBody::Stop(Empty {}), None).await
            }));
        }
        for (stop, (_, worker)) in stops.into_iter().zip(&workers) {
            if tokio::time::timeout_at(deadline, stop).await.is_err() {
                tracing::warn!("a worker did not finish in time and is killed");
                worker.kill();
            }
        }
    }
}

/// Feeds the core with events and time until the cluster is dropped.
async fn drive(cluster: std::sync::Weak<Cluster>, mut events: mpsc::UnboundedReceiver<Event>) {
    let mut event = Some(Event::Tick);
    loop {
        let next = {
            let Some(cluster) = cluster.upgrade() else { return };
            let (actions, next) = {
                let mut core = lock(&cluster.core);
                let actions = event
                    .take()
                    .map(|event| core.handle(Instant::now(), event))
                    .unwrap_or_default();
                let next = core
                    .next_wakeup()
                    .map(|at| at.min(Instant::now() + core.longest_sleep()));
                (actions, next)
            };
            cluster.perform(actions);
            cluster.beats.send_modify(|beat| *beat += 1);
            next
        };
        event = match next {
            Some(at) => tokio::select! {
                event = events.recv() => event,
                () = tokio::time::sleep_until(at.into()) => Some(Event::Tick),
            },
            None => events.recv().await,
        };
        if event.is_none() {
            return;
        }
    }
}

fn describe(needs: &Needs) -> String {
    let uses = needs
        .uses
        .iter()
        .map(|(operation, mechanism)| format!("{operation} with {mechanism}"));
    let generation = needs
        .generates
        .iter()
        .map(|key_type| format!("generating keys of type {key_type}"));
    generation.chain(uses).collect::<Vec<_>>().join(", ")
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

const BUSY_RETRY: Duration = Duration::from_millis(100);
const FAILED_RETRY: Duration = Duration::from_secs(1);
const STOP_GRACE: Duration = Duration::from_secs(10);

//! Carries the core's decisions out: starts and kills workers, sends work, waits with deadlines, asks again.

use super::{
    attempt::{Check, Lease, Missed, SendToken, Verdict, judge, operation, outcome},
    complaints::Complaints,
    core::{
        Action, Attempts, Core, Epoch, Errand, Event, Grant, MemberIndex, MemberPlan, Needs, Next, Outcome, Principal,
        Refusal,
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
use arc_swap::ArcSwap;
use portcullis_hsm::worker::{
    lane::Lane,
    protocol::{Empty, FailureKind, Opened, ReplyBody, RequestBody},
};
use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, RwLock},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};

/// The HSM members behind the gateway.
#[derive(Debug)]
pub struct Cluster {
    pub(super) core: Mutex<Core>,
    // Each at its index for ever; the list only grows.
    pub(super) members: RwLock<Vec<Arc<MemberSlot>>>,
    pub(super) settings: ArcSwap<ClusterSettings>,
    pub(super) domain: DomainSettings,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) telemetry: Arc<Telemetry>,
    // Changes with every state change of a member.
    pub(super) readiness: watch::Sender<Readiness>,
    // Counts what the driver has done.
    beats: watch::Sender<u64>,
    principals: RandomState,
    complaints: Complaints,
}

/// What the shell keeps of a member.
#[derive(Debug)]
pub(super) struct MemberSlot {
    pub(super) name: Arc<str>,
    pub(super) settings: ArcSwap<MemberSettings>,
    pub(super) workers: Mutex<BTreeMap<Epoch, Arc<Worker>>>,
    pub(super) opened: Mutex<Option<Opened>>,
    pub(super) pins: Mutex<MemberPins>,
    // How many of its processes have not ended.
    pub(super) processes: watch::Sender<usize>,
    // What each worker said of its loaded keys.
    pub(super) loaded_keys: Mutex<BTreeMap<Epoch, LoadedKeys>>,
}

impl MemberSlot {
    pub(super) fn new(settings: MemberSettings) -> Self {
        Self {
            name: settings.name.as_str().into(),
            settings: ArcSwap::from_pointee(settings),
            workers: Mutex::default(),
            opened: Mutex::default(),
            pins: Mutex::default(),
            processes: watch::Sender::new(0),
            loaded_keys: Mutex::default(),
        }
    }

    /// The worker of a life, while it lives.
    pub(super) fn worker(&self, epoch: Epoch) -> Option<Arc<Worker>> {
        lock(&self.workers).get(&epoch).cloned()
    }
}

impl Cluster {
    /// Starts all members. The returned task ends when the last share of the cluster is dropped.
    pub fn start(
        members: Vec<MemberSettings>,
        settings: ClusterSettings,
        domain: DomainSettings,
        telemetry: &Arc<Telemetry>,
    ) -> Arc<Self> {
        let plans: Vec<MemberPlan> = members.iter().map(MemberSettings::plan).collect();
        let seed = rand::random();
        let core = Core::new(&plans, settings.manager, domain.fingerprint, seed, Instant::now());
        let (events, queue) = mpsc::unbounded_channel();
        let cluster = Arc::new(Self {
            core: Mutex::new(core),
            members: RwLock::new(members.into_iter().map(|one| Arc::new(MemberSlot::new(one))).collect()),
            settings: ArcSwap::from_pointee(settings),
            domain,
            events,
            telemetry: Arc::clone(telemetry),
            readiness: watch::Sender::new(Readiness {
                ready: 0,
                settled: false,
            }),
            beats: watch::Sender::new(0),
            principals: RandomState::new(),
            complaints: Complaints::default(),
        });
        for slot in cluster.slots() {
            cluster.telemetry.metrics().member_known(&slot.name);
        }
        tokio::spawn(drive(Arc::downgrade(&cluster), queue));
        cluster
    }

    /// The domain that every member must hold.
    pub fn domain(&self) -> DomainSettings {
        self.domain
    }

    /// How long an operation may take when its caller does not say.
    pub fn default_deadline(&self) -> Duration {
        self.settings.load().default_deadline
    }

    /// Traces and metrics.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Somebody as the session manager knows them. Never the gateway itself.
    pub fn principal(&self, name: &str) -> Principal {
        Principal(self.principals.hash_one(name).max(1))
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
        let members = read(&self.members);
        members.iter().position(|member| *member.name == *name).map(MemberIndex)
    }

    /// The name of a member.
    pub fn name(&self, member: MemberIndex) -> Arc<str> {
        Arc::clone(&self.slot(member).name)
    }

    pub(super) fn slot(&self, member: MemberIndex) -> Arc<MemberSlot> {
        Arc::clone(&read(&self.members)[member.0])
    }

    pub(super) fn slots(&self) -> Vec<Arc<MemberSlot>> {
        read(&self.members).clone()
    }

    /// Chooses a ready member that can do something, without giving it anything to do.
    pub fn choose(&self, needs: &Needs) -> Result<MemberIndex, ClusterError> {
        let suggested = lock(&self.core).suggest(Instant::now(), needs, Lane::Changes);
        suggested.map_err(|refusal| self.refused(refusal))
    }

    /// Runs an operation on a member that can, and on another if that one fails, until the deadline.
    ///
    /// `body` makes the request; its argument says whether the member needs the key token too. Returns the reply and
    /// the member that gave it.
    pub(super) async fn execute(
        self: &Arc<Self>,
        needs: &Needs,
        errand: impl Into<Errand>,
        body: impl Fn(SendToken) -> RequestBody,
    ) -> Result<(ReplyBody, MemberIndex), ClusterError> {
        self.execute_checked(needs, errand, body, None).await
    }

    /// The same, with a check of the answer by which a member is found out that answers wrong. It is made as often as the core
    /// wants.
    pub(super) async fn execute_checked(
        self: &Arc<Self>,
        needs: &Needs,
        errand: impl Into<Errand>,
        body: impl Fn(SendToken) -> RequestBody,
        check: Option<Check<'_>>,
    ) -> Result<(ReplyBody, MemberIndex), ClusterError> {
        let errand = errand.into();
        let mut attempts = Attempts::new(errand);
        loop {
            let request = body(SendToken::No);
            let grant = lock(&self.core)
                .admit(Instant::now(), needs, Lane::of(&request), &mut attempts)
                .map_err(|refusal| self.refused(refusal))?;
            let mut lease = Lease::new(self, grant);
            let slot = Arc::clone(&lease.slot);
            let mut watch = Attempt::begin(&self.telemetry, &slot.name, grant.epoch.0);
            let (reply, loaded) = self
                .attempt(&mut lease, &mut watch, needs, errand.deadline, request, &body)
                .await;
            let ended = outcome(&reply);
            let (outcome, verdict) = judge(reply);
            let (outcome, ended) = match (&verdict, &check) {
                (Verdict::Answer(answer), Some(check)) => match self.proves_wrong(grant, check, answer, loaded) {
                    Some(reason) => (Some(Outcome::Lied(reason)), "wrong_answer"),
                    None => (outcome, ended),
                },
                _ => (outcome, ended),
            };
            watch.conclude(ended);
            let Some(outcome) = outcome else {
                return Err(ClusterError::DeadlinePassed);
            };
            let served = matches!(outcome, Outcome::Served);
            match (lease.conclude(outcome, &mut attempts), verdict) {
                // What a member said is not passed on once it is not believed any more.
                (Next::GiveUp, Verdict::Error(_)) if served => {
                    return Err(self.given_up(Verdict::Died, &attempts, &slot.name));
                }
                (Next::Release, Verdict::Answer(reply)) => return Ok((reply, grant.member)),
                (Next::Release | Next::GiveUp, Verdict::Error(error)) => return Err(error),
                (Next::Again, verdict) => {
                    let why = match &verdict {
                        Verdict::Elsewhere(failure) => &failure.message,
                        _ => ended,
                    };
                    tracing::debug!(member = %slot.name, why, "an operation moves on");
                    self.telemetry.metrics().retried(ended);
                }
                (_, verdict) => return Err(self.given_up(verdict, &attempts, &slot.name)),
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
    ) -> (Result<ReplyBody, Missed>, bool) {
        let Some(worker) = lease.slot.worker(lease.grant.epoch) else {
            return (Err(Missed::Gone), false);
        };
        let mut first = Some(request);
        for token in [SendToken::No, SendToken::Yes] {
            if token == SendToken::Yes {
                lock(&self.core).requeue(Instant::now(), lease.grant);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let request = first.take().unwrap_or_else(|| body(token));
            watch.asked(operation(needs, &request));
            let loads = token == SendToken::Yes;
            let under_way = match worker.send(request, Some(left)) {
                Ok(under_way) => under_way,
                Err(error) => return (Err(error.into()), loads),
            };
            let (_, under_way) = lease.under_way.insert((Arc::clone(&worker), under_way));
            let Answer {
                body: reply,
                waited,
                worked,
            } = match tokio::time::timeout_at(deadline.into(), &mut under_way.answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => return (Err(Missed::Gone), loads),
                Err(_) => return (Err(Missed::Deadline), loads),
            };
            lease.under_way = None;
            lease.slot.note_refused_pin(lease.grant.epoch, &reply);
            watch.answered(waited, worked);
            match reply {
                ReplyBody::Failure(failure) if failure.kind() == FailureKind::KeyNeeded && !loads => {}
                reply => return (Ok(reply), loads),
            }
        }
        (Err(Missed::Gone), true)
    }

    /// Why an answer is wrong, if it was to be checked and is.
    fn proves_wrong(&self, grant: Grant, check: &Check<'_>, answer: &ReplyBody, loaded: bool) -> Option<String> {
        if !lock(&self.core).wants_check(grant, check.key, loaded) {
            return None;
        }
        let right = (check.is_right)(answer)?;
        self.telemetry.metrics().checked(right);
        if right {
            lock(&self.core).note_proof(grant, check.key);
            return None;
        }
        Some(format!(
            "{}; the answer was not released. Find out what is wrong with the HSM before you resume it",
            check.complaint
        ))
    }

    /// What to say of an operation that nobody did.
    fn given_up(&self, verdict: Verdict, attempts: &Attempts, last: &str) -> ClusterError {
        let failure = match verdict {
            Verdict::Error(error) => return error,
            Verdict::Unsupported(what) => {
                let mut members: Vec<_> = attempts.tried().map(|member| self.name(member).to_string()).collect();
                members.sort_unstable();
                members.dedup();
                return ClusterError::Unsupported { what, members };
            }
            Verdict::Elsewhere(failure) => Some(failure),
            // Or it came from a member that is not believed any more.
            Verdict::Died | Verdict::Answer(_) => None,
        };
        if attempts.is_late(Instant::now()) {
            return ClusterError::DeadlinePassed;
        }
        // Of workers that died, and of members that answered wrong, the changes of their states tell.
        if let Some(failure) = &failure
            && let Some(unsaid) = self.complaints.admit(Instant::now())
        {
            let why = &failure.message;
            tracing::warn!(
                member = last,
                why,
                unsaid,
                "an operation failed on every member that it was given to"
            );
        }
        match failure.map(|failure| failure.kind()) {
            Some(FailureKind::Busy) => ClusterError::Saturated {
                retry_after: BUSY_RETRY,
            },
            _ => ClusterError::Unavailable {
                retry_after: FAILED_RETRY,
            },
        }
    }

    fn refused(&self, refusal: Refusal) -> ClusterError {
        match refusal {
            Refusal::NoneReady { retry_after } => ClusterError::Unavailable { retry_after },
            Refusal::Full { retry_after } => ClusterError::Saturated { retry_after },
            Refusal::ShareTaken { retry_after } => ClusterError::ShareTaken { retry_after },
            Refusal::DeadlinePassed => ClusterError::DeadlinePassed,
            Refusal::Unsupported { members, missing } => ClusterError::Unsupported {
                what: describe(&missing),
                members: members
                    .into_iter()
                    .map(|member| self.name(member).to_string())
                    .collect(),
            },
        }
    }

    /// Takes a grant back, and says what becomes of the operation.
    pub(super) fn conclude(self: &Arc<Self>, grant: Grant, outcome: Outcome, attempts: &mut Attempts) -> Next {
        let (actions, next) = lock(&self.core).conclude(Instant::now(), grant, outcome, attempts);
        self.carry_out(actions);
        next
    }

    /// Takes a grant back of an operation whose caller went away.
    pub(super) fn abandon(self: &Arc<Self>, grant: Grant, outcome: Outcome) {
        let actions = lock(&self.core).abandon(Instant::now(), grant, outcome);
        self.carry_out(actions);
    }

    fn carry_out(self: &Arc<Self>, actions: Vec<Action>) {
        if !actions.is_empty() {
            self.perform(actions);
            // The driver's next wake-up may have moved.
            self.report(Event::Tick);
        }
    }

    pub(super) fn perform(self: &Arc<Self>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start(member, epoch) => self.start_worker(member, epoch),
                Action::FindDomain(member, epoch) => self.find_domain(member, epoch),
                Action::Probe(member, epoch) => self.probe(member, epoch),
                Action::End(member, epoch) => {
                    if let Some(worker) = self.slot(member).forget(epoch) {
                        tokio::spawn(end(worker));
                    }
                }
                Action::Kill(member, epoch) => {
                    if let Some(worker) = self.slot(member).forget(epoch) {
                        worker.kill();
                    }
                }
                Action::LookForNewPin(member) => self.look_for_new_pin(member),
                Action::Tell(change) => self.tell(&change),
                Action::TellWorker(change) => self.tell_worker(&change),
                Action::TellBreaker(member, state) => self.tell_breaker(member, state),
                Action::TellRoll(result) => self.tell_roll(result),
            }
        }
    }

    /// Tells the driver.
    pub(super) fn report(&self, event: Event) {
        // Fails only when the driver has ended, and with it all workers.
        let _ = self.events.send(event);
    }

    /// Lets every worker finish what it has and end.
    pub async fn stop(&self) {
        lock(&self.core).stop();
        let slots = self.slots();
        let workers = slots.iter().flat_map(|slot| std::mem::take(&mut *lock(&slot.workers)));
        let stops: Vec<_> = workers.map(|(_, worker)| tokio::spawn(end(worker))).collect();
        for stop in stops {
            let _ = stop.await;
        }
    }
}

impl MemberSlot {
    /// Takes a worker out: nothing more is given to it.
    pub(super) fn forget(&self, epoch: Epoch) -> Option<Arc<Worker>> {
        lock(&self.loaded_keys).remove(&epoch);
        lock(&self.pins).forget(epoch);
        lock(&self.workers).remove(&epoch)
    }
}

/// Lets a worker finish what it has and end.
async fn end(worker: Arc<Worker>) {
    let stopped = worker.request(RequestBody::Stop(Empty {}), None);
    if tokio::time::timeout(STOP_GRACE, stopped).await.is_err() {
        tracing::warn!("a worker did not finish in time and is killed");
        worker.kill();
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

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(|lock| lock.into_inner())
}

const BUSY_RETRY: Duration = Duration::from_millis(100);
const FAILED_RETRY: Duration = Duration::from_secs(1);
const STOP_GRACE: Duration = Duration::from_secs(10);

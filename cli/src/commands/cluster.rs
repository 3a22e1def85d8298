//! `portcullis cluster`.

use crate::{
    arguments::ClusterCommand,
    console::Console,
    document,
    failure::{Exit, Failure},
    paint::Paint,
    progress::Waiting,
    table::Table,
    words::word,
};
use portcullis_client::{
    Client,
    v1::{
        BreakerState, DrainMemberRequest, ListMembersRequest, ListMembersResponse, Member, MemberState,
        ResumeMemberRequest, RollMembersRequest, Worker, WorkerState,
    },
};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) async fn run(client: &Client, console: Console, command: ClusterCommand) -> Result<Exit, Failure> {
    match command {
        ClusterCommand::Status { watch: false, .. } => {
            let cluster = list(client).await?;
            console.result(&status_text(console.paint(), &cluster), &status_document(&cluster))?;
        }
        ClusterCommand::Status { interval, .. } => watch(client, console, interval).await?,
        ClusterCommand::Drain { member, allow_last } => {
            let request = DrainMemberRequest {
                name: full_name(&member),
                allow_last,
                ..DrainMemberRequest::default()
            };
            let waiting = Waiting::new(console, &format!("waiting until {member} has nothing more to do"));
            let drained = client.cluster().drain_member(request).await;
            drop(waiting);
            tell(console, &drained?.into_inner())?;
        }
        ClusterCommand::Resume { member } => {
            let request = ResumeMemberRequest {
                name: full_name(&member),
            };
            let waiting = Waiting::new(console, &format!("starting {member}"));
            let resumed = client.cluster().resume_member(request).await;
            drop(waiting);
            let member = resumed?.into_inner();
            tell(console, &member)?;
            if member.state != MemberState::Ready as i32 {
                return Ok(Exit::Unavailable);
            }
        }
        ClusterCommand::Roll { members } => {
            let request = RollMembersRequest {
                names: members.iter().map(|member| full_name(member)).collect(),
            };
            let waiting = Waiting::new(console, "replacing workers");
            let rolled = client.cluster().roll_members(request).await;
            drop(waiting);
            let rolled = rolled?.into_inner();
            let document = json!({ "members": rolled.members.iter().map(document::member).collect::<Vec<_>>() });
            console.result(&rolled_text(&rolled.members), &document)?;
        }
    }
    Ok(Exit::Done)
}

async fn list(client: &Client) -> Result<ListMembersResponse, Failure> {
    Ok(client.cluster().list_members(ListMembersRequest {}).await?.into_inner())
}

/// Shows the status anew whenever it changed, until the process is interrupted.
async fn watch(client: &Client, console: Console, interval: Duration) -> Result<(), Failure> {
    let mut shown = None;
    loop {
        match list(client).await {
            Ok(cluster) => {
                let (text, document) = (status_text(console.paint(), &cluster), status_document(&cluster));
                if shown.as_ref() != Some(&text) {
                    console.frame(&text, &document)?;
                    shown = Some(text);
                }
            }
            // It was there, and may be there again.
            Err(failure) if shown.is_some() && matches!(failure.exit(), Exit::Unavailable | Exit::Connection) => {
                console.failure(&failure);
                shown = Some(String::new());
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(interval).await;
    }
}

/// Whose workers were replaced, and who had none to replace.
fn rolled_text(members: &[Member]) -> String {
    let serves = |member: &&Member| member.state() == MemberState::Ready;
    let replaced: Vec<_> = members.iter().filter(serves).map(short_name).collect();
    let others = members.iter().filter(|member| !serves(member));
    let others = others.map(|member| {
        let (name, state) = (short_name(member), word::<MemberState>(member.state));
        format!("{name} has none: it is {state}")
    });
    let first = match replaced.as_slice() {
        [] => "no workers were replaced".to_owned(),
        replaced => format!("the workers of {} were replaced", replaced.join(", ")),
    };
    std::iter::once(first).chain(others).collect::<Vec<_>>().join("\n")
}

fn full_name(member: &str) -> String {
    format!("members/{}", member.strip_prefix("members/").unwrap_or(member))
}

fn tell(console: Console, member: &Member) -> Result<(), Failure> {
    let (name, state) = (short_name(member), word::<MemberState>(member.state));
    let text = match member.reason.as_str() {
        "" => format!("{name} is {state}"),
        reason => format!("{name} is {state}: {reason}"),
    };
    console.result(&text, &document::member(member))
}

fn short_name(member: &Member) -> &str {
    member.name.trim_start_matches("members/")
}

fn status_document(cluster: &ListMembersResponse) -> Value {
    json!({
        "members": cluster.members.iter().map(document::member).collect::<Vec<_>>(),
        "domain_epoch": cluster.domain_epoch,
        "domain_fingerprint": cluster.domain_fingerprint,
    })
}

fn status_text(paint: Paint, cluster: &ListMembersResponse) -> String {
    let mut table = Table::new(&[
        "MEMBER",
        "STATE",
        "WORKERS",
        "OUTSTANDING",
        "STARTS",
        "TOKEN",
        "SERIAL",
        "REASON",
    ]);
    for member in &cluster.members {
        let token = member.token.clone().unwrap_or_default();
        table.row([
            short_name(member).to_owned(),
            word::<MemberState>(member.state),
            workers(member),
            member.outstanding.to_string(),
            member.worker_starts.to_string(),
            token.label,
            token.serial_number,
            reason(member),
        ]);
    }
    let (epoch, fingerprint) = (cluster.domain_epoch, &cluster.domain_fingerprint);
    let mut text = format!(
        "domain epoch {epoch}, fingerprint {fingerprint}\n\n{}",
        table.text(paint)
    );
    for member in &cluster.members {
        let name = member.name.trim_start_matches("members/");
        for obstacle in &member.sealing_obstacles {
            let (code, why) = (&obstacle.code, &obstacle.message);
            text.push_str(&format!("\n{name} cannot hold wrapped keys: {why} [{code}]"));
        }
    }
    text
}

/// How many of the workers serve.
fn workers(member: &Member) -> String {
    let serving = member
        .workers
        .iter()
        .filter(|one| one.state == WorkerState::Ready as i32);
    format!("{}/{}", serving.count(), member.workers.len())
}

/// Why it does not serve, or why one of its workers does not, or does little.
fn reason(member: &Member) -> String {
    if !member.reason.is_empty() {
        return member.reason.clone();
    }
    let troubled = |worker: &&Worker| !worker.reason.is_empty() && worker.state != WorkerState::Ready as i32;
    let worker = member.workers.iter().find(troubled);
    let mut reasons: Vec<String> = worker
        .map(|worker| format!("a worker: {}", worker.reason))
        .into_iter()
        .collect();
    match member.breaker() {
        BreakerState::Open => reasons.push("it failed at what others did, and gets no work".to_owned()),
        BreakerState::HalfOpen => reasons.push("it failed at what others did, and is on trial".to_owned()),
        BreakerState::Closed | BreakerState::Unspecified => {}
    }
    if member.slowness >= SLOW {
        reasons.push(format!("it takes {:.1} times as long as the cluster", member.slowness));
    }
    reasons.join("; ")
}

/// From so many times the cluster's time on people are told.
const SLOW: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_client::v1::{SealingObstacle, Token};

    fn worker(state: WorkerState) -> Worker {
        Worker {
            state: state as i32,
            ..Worker::default()
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_member() {
        let cluster = ListMembersResponse {
            members: vec![
                Member {
                    name: "members/a".into(),
                    state: MemberState::Ready as i32,
                    outstanding: 12,
                    worker_starts: 2,
                    breaker: BreakerState::HalfOpen as i32,
                    slowness: 2.5,
                    workers: vec![worker(WorkerState::Ready), worker(WorkerState::Ready)],
                    token: Some(Token {
                        label: "ops".into(),
                        serial_number: "0a1b".into(),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
                Member {
                    name: "members/b".into(),
                    state: MemberState::Stopped as i32,
                    worker_starts: 3,
                    breaker: BreakerState::Closed as i32,
                    slowness: 1.0,
                    workers: vec![worker(WorkerState::Stopped)],
                    reason: "the PIN is wrong: correct it and resume the member".into(),
                    ..Default::default()
                },
            ],
            domain_epoch: 1,
            domain_fingerprint: "5f3a".into(),
        };
        assert_eq!(
            status_text(Paint::PLAIN, &cluster),
            "domain epoch 1, fingerprint 5f3a\n\
             \n\
             MEMBER  STATE    WORKERS  OUTSTANDING  STARTS  TOKEN  SERIAL  REASON\n\
             a       ready    2/2      12           2       ops    0a1b    it failed at what others did, and is on trial; \
             it takes 2.5 times as long as the cluster\n\
             b       stopped  0/1      0            3       -      -       the PIN is wrong: correct it and resume the member"
        );
    }

    #[test]
    fn what_a_member_cannot_hold_is_said_below_the_table() {
        let cluster = ListMembersResponse {
            members: vec![Member {
                name: "members/a".into(),
                state: MemberState::Ready as i32,
                breaker: BreakerState::Closed as i32,
                slowness: 1.0,
                workers: vec![worker(WorkerState::Ready)],
                sealing_obstacles: vec![SealingObstacle {
                    code: "NO_KEY_WRAP".into(),
                    message: "the token has no AES key wrap".into(),
                }],
                ..Default::default()
            }],
            domain_epoch: 1,
            domain_fingerprint: "5f3a".into(),
        };
        assert_eq!(
            status_text(Paint::PLAIN, &cluster),
            "domain epoch 1, fingerprint 5f3a\n\
             \n\
             MEMBER  STATE  WORKERS  OUTSTANDING  STARTS  TOKEN  SERIAL  REASON\n\
             a       ready  1/1      0            0       -      -       -\n\
             a cannot hold wrapped keys: the token has no AES key wrap [NO_KEY_WRAP]"
        );
    }
}

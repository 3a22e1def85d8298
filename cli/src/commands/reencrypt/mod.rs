//! `portcullis reencrypt`: files under the primary version of their key.
//!
//! A file says itself under which version it is, so a run needs no notes: what an interrupted one did is found done, for the
//! cost of reading a header, and the rest is done. Each file is exchanged in one step and is whole at any moment.
//!
//! - `file` does one file; this module goes through all of them, several at a time.
//! - `report` is what is said of them.
//! - `usage` asks the gateway what it knows of the older versions.

mod file;
mod report;
mod usage;

use self::{
    file::{Done, Task},
    report::Report,
    usage::Usage,
};
use super::cipher::Authenticated;
use crate::{
    arguments::ReencryptArguments,
    console::Console,
    failure::{Exit, Failure},
    files::{Found, Place, is_left_over, walk},
    progress::{Progress, Unit},
};
use portcullis_client::{Client, envelope::VersionName, v1::GetKeyRequest};
use std::{collections::VecDeque, sync::Arc};
use tokio::task::JoinSet;
use uuid::Uuid;

pub(crate) async fn run(client: &Client, console: Console, arguments: ReencryptArguments) -> Result<Exit, Failure> {
    let authenticated = Authenticated::read(&arguments.authenticated, None)?;
    let name = arguments.key.to_string();
    let key = client.get_key(GetKeyRequest { name: name.clone() }).await?;
    let primary = format!("{}/versions/{}", key.name, key.primary_version);
    let task = Arc::new(Task {
        envelope: authenticated.envelope(client, key.name.clone()),
        client: client.clone(),
        authenticated,
        uid: key
            .uid
            .parse::<Uuid>()
            .map_err(|_| Failure::Internal(format!("the gateway gives {name} no uid")))?,
        primary: primary
            .parse::<VersionName>()
            .map_err(|_| Failure::Usage(format!("{name} has no primary version")))?,
        data: arguments.data,
    });
    let before = Usage::of_older_versions(client, &task.primary).await;
    let mut report = Report::new(task.primary.clone());
    let mut waiting = find(&arguments, console, &mut report);
    let mut progress = Progress::new(console, Unit::Files, Some(waiting.len() as u64));
    let stopped = work(&task, &mut waiting, &mut report, console, &mut progress).await;
    drop(progress);
    report.not_looked_at(waiting.len());
    let after = Usage::of_older_versions(client, &task.primary).await;
    report.show(console, before, after, stopped.as_ref())?;
    match stopped {
        Some(failure) => Err(failure),
        None => Ok(report.exit()),
    }
}

/// The files under all paths.
fn find(arguments: &ReencryptArguments, console: Console, report: &mut Report) -> VecDeque<Place> {
    let mut found = VecDeque::new();
    for path in &arguments.paths {
        walk(path, &mut |one| match one {
            Found::File(place) if is_left_over(&place.name) => {
                let why = "left behind by a command that was interrupted; it can be removed";
                report.skipped(console, &place.path, "LEFT_OVER", why);
            }
            Found::File(place) => found.push_back(place),
            Found::Other(path, what) => report.skipped(console, &path, "NOT_A_FILE", what),
            Found::Unreadable(path, source) => {
                let what = path.display().to_string();
                report.failed(console, &path, None, Failure::Input { what, source });
            }
        });
    }
    found
}

/// Does the files, several at a time, until all are done or nothing more can be: then what was begun is ended.
async fn work(
    task: &Arc<Task>,
    waiting: &mut VecDeque<Place>,
    report: &mut Report,
    console: Console,
    progress: &mut Progress,
) -> Option<Failure> {
    let (mut under_way, mut stopped) = (JoinSet::new(), None);
    loop {
        while stopped.is_none() && under_way.len() < AT_ONCE {
            let Some(place) = waiting.pop_front() else { break };
            let task = Arc::clone(task);
            under_way.spawn(async move {
                let path = place.path.clone();
                (path, task.perform(place).await)
            });
        }
        let Some(done) = under_way.join_next().await else {
            return stopped;
        };
        let (path, done) = match done {
            Ok(done) => done,
            Err(error) => return Some(Failure::Internal(format!("a file was not done: {error}"))),
        };
        progress.advance(1);
        progress.aside(|| match done {
            Done::Already => report.already(),
            Done::Reencrypted(before) => report.reencrypted(&before),
            Done::Skipped { code, why } => report.skipped(console, &path, code, &why),
            Done::Failed { version, failure } => {
                // Nothing else will go better: the gateway is not there, or refuses whatever is asked.
                if matches!(failure.exit(), Exit::Unavailable | Exit::Connection) {
                    report.not_looked_at(1);
                    stopped = Some(failure);
                } else {
                    report.failed(console, &path, version.as_ref(), failure);
                }
            }
        });
    }
}

/// How many files wait for the gateway or the disk at once.
const AT_ONCE: usize = 16;

//! Tokens that are taken away, put back, or lost.

use super::{
    load::Patience,
    scenario::Scenario,
    stage::{MEMBER, Stage},
};
use portcullis_client::v1::{Member, MemberState};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tokio::task::block_in_place;

pub(super) const SCENARIOS: [Scenario; 2] = [
    Scenario {
        name: "token-removed",
        what: "a member's token directory is removed, and put back when the member is down",
        patience: Patience::None,
        faulty: false,
        prepare: |cluster, _| cluster.set_in_cluster("probe_interval", "500ms"),
        play: |stage| Box::pin(removed(stage)),
    },
    Scenario {
        name: "token-lost",
        what: "a worker is killed and its token emptied; a person restores it and resumes the member",
        patience: Patience::None,
        faulty: false,
        prepare: |cluster, _| cluster.set_in_cluster("token_grace", "2s"),
        play: |stage| Box::pin(lost(stage)),
    },
];

async fn removed(stage: &mut Stage) {
    let before = stage.member().await.worker_starts;
    let (token, away) = (token_directory(stage), stage.cluster.path().join("away"));
    stage.fault();
    fs::rename(&token, &away).expect("the token directory can be moved");
    // It was looked for, and not found.
    let missed = |member: &Member| member.state() == MemberState::Down && member.reason.contains("no token matches");
    stage.member_where("DOWN for want of its token", missed).await;
    fs::rename(&away, &token).expect("the token directory can be moved back");
    stage.serves_again(before + 2).await;
    stage.mended();
}

async fn lost(stage: &mut Stage) {
    let token = token_directory(stage);
    let object = token.join("token.object");
    let copy = fs::read(&object).expect("the token's object");
    stage.fault();
    fs::write(&object, []).expect("the token's object can be written");
    block_in_place(|| stage.gateway().kill_worker(MEMBER));
    let stopped = stage.member_is(MemberState::Stopped).await;
    for words in ["no token matches", "restore the token", "resume the member"] {
        assert!(stopped.reason.contains(words), "{}", stopped.reason);
    }
    stage.load.more(stage.size.calls).await;
    let still = stage.member().await;
    assert_eq!(
        (still.state(), still.worker_starts),
        (MemberState::Stopped, stopped.worker_starts),
        "it was started again without a person"
    );
    write_whole(&object, &copy);
    stage.resume().await;
    stage.mended();
}

/// The only token of the member.
fn token_directory(stage: &Stage) -> PathBuf {
    let tokens = stage.cluster.member_directory(MEMBER).join("tokens");
    let mut found = fs::read_dir(&tokens).expect("the directory of tokens");
    let first = found.next().expect("a token").expect("its directory");
    first.path()
}

fn write_whole(path: &Path, content: &[u8]) {
    let new = path.with_extension("restored");
    fs::write(&new, content).expect("a file beside it");
    fs::rename(&new, path).expect("the file in its place");
}

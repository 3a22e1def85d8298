//! Tokens of a cluster, from ceremony to ceremony, as the shipped scripts say. What many tests begin with is made once.

use super::room::{PEOPLE, Ran, Reply, Room, Snapshot, usual};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

pub(crate) const INIT: &str = include_str!("../../scripts/init-token.toml");
pub(crate) const GENERATE: &str = include_str!("../../scripts/domain-key-generate.toml");
pub(crate) const JOIN: &str = include_str!("../../scripts/member-join.toml");
pub(crate) const BACKUP: &str = include_str!("../../scripts/backup.toml");
pub(crate) const RESTORE: &str = include_str!("../../scripts/restore.toml");
pub(crate) const DRILL: &str = include_str!("../../scripts/recovery-drill.toml");
pub(crate) const ROOT: &str = include_str!("../../scripts/root-key-generate.toml");
pub(crate) const DESTROY: &str = include_str!("../../scripts/key-destroy.toml");
pub(crate) const ACTIVATE: &str = include_str!("../../scripts/root-activate.toml");
pub(crate) const DECOMMISSION: &str = include_str!("../../scripts/decommission-member.toml");
pub(crate) const REPLACE: &str = include_str!("../../scripts/custodian-replace.toml");

/// A room without tokens, and with everyone whom the scripts need.
pub(crate) fn empty() -> Room {
    let mut people = PEOPLE.to_vec();
    people.push(("Operator", "operator"));
    let room = Room::for_people("rehearsal", INIT, &people);
    let tokens = room.path("tokens");
    fs::create_dir(&tokens).unwrap();
    // Not empty: a copy of the room has it too.
    fs::write(tokens.join("README"), "of SoftHSM2\n").unwrap();
    fs::write(
        room.softhsm_configuration(),
        format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()),
    )
    .unwrap();
    room.prepare("rehearsal", INIT, "", &tokens_of(&room, &["origin", "a", "b"], None));
    room
}

/// The origin and the members a and b have their PINs.
pub(crate) fn initialised() -> Room {
    static MADE: OnceLock<Snapshot> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let room = empty();
        room.rehearse(usual).ended_with(0);
        room.verified();
        room.archive("init");
        room.into_snapshot()
    });
    let room = made.room();
    generation(&room);
    room
}

/// The domain is on the origin and on a and b, and backed up.
pub(crate) fn born() -> Room {
    static MADE: OnceLock<Snapshot> = OnceLock::new();
    MADE.get_or_init(|| {
        let room = initialised();
        room.rehearse(usual).ended_with(0);
        room.verified();
        room.archive("born");
        room.into_snapshot()
    })
    .room()
}

/// Lays the script on the table by which the domain is born.
pub(crate) fn generation(room: &Room) {
    let tokens = tokens_of(room, &["origin", "a", "b"], Some("init"));
    room.prepare("rehearsal", &softhsm(GENERATE), "", &tokens);
}

/// SoftHSM2 has SHA-1 for OAEP and nothing else.
pub(crate) fn softhsm(script: &str) -> String {
    script.replace("oaep_hash = \"sha256\"", "oaep_hash = \"sha1\"")
}

/// Initialises one more token by a ceremony of its own, which is archived as `init-NAME`.
pub(crate) fn initialise(room: &Room, name: &str, user_pin: &str) {
    let (begin, rest) = INIT.split_once("# The one token that can hand").unwrap();
    let (_, end) = rest.split_once("[[step]]\nid = \"bag\"").unwrap();
    let step = format!(
        "[[step]]\nid = \"init-{name}\"\ndo = \"token.init\"\non = \"{name}\"\nby = [\"operator\", \"custodians\"]\nwith = {{ user_pin = \
         \"{user_pin}\" }}\nsign_off = [\"witness\"]\n\n[[step]]\nid = \"bag\""
    );
    room.prepare(
        "rehearsal",
        &format!("{begin}{step}{end}"),
        "",
        &tokens_of(room, &[name], None),
    );
    room.rehearse(usual).ended_with(0);
    room.verified();
    room.archive(&format!("init-{name}"));
}

/// Tokens of the environment. `init` is the archived ceremony in which they got their PINs.
pub(crate) fn tokens_of(room: &Room, names: &[&str], init: Option<&str>) -> String {
    names
        .iter()
        .map(|name| {
            let mut text = format!(
                "\n[[token]]\nname = \"{name}\"\nmodule = \"{}\"\nlabel = \"alpha-{name}\"\n",
                module().display()
            );
            for whose in ["officer", "user"] {
                let file = init.map(|init| room.path(&format!("{init}/artefacts/init-{name}-1-{whose}.shares")));
                if let Some(file) = file.filter(|file| file.exists()) {
                    text += &format!("{whose}_shares = \"{}\"\n", file.display());
                }
            }
            text
        })
        .collect()
}

/// The settings by which the backup of a ceremony is found.
pub(crate) fn backup_of(room: &Room, ceremony: &str) -> String {
    let file = |name: &str| room.path(&format!("{ceremony}/artefacts/{name}")).display().to_string();
    format!(
        "backup = {{ file = \"{}\", shares = \"{}\" }}\n",
        file("back-up-1.backup"),
        file("back-up-1-key.shares")
    )
}

/// The setting by which the records so far are found.
pub(crate) fn record_of(room: &Room, ceremony: &str) -> String {
    let file = room.path(&format!("{ceremony}/artefacts/record-1.record"));
    format!("record = \"{}\"\n", file.display())
}

/// Every token is lost.
pub(crate) fn lose_everything(room: &Room) {
    fs::remove_dir_all(room.path("tokens")).unwrap();
    fs::create_dir(room.path("tokens")).unwrap();
}

/// A fact of a step's result.
pub(crate) fn fact(room: &Room, step: &str, name: &str) -> String {
    fact_of(&room.bundle(), step, name)
}

/// The same of an archived ceremony.
pub(crate) fn fact_of(bundle: &Path, step: &str, name: &str) -> String {
    let text = fs::read_to_string(bundle.join("transcript.jsonl")).unwrap();
    let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let result = entries
        .map(|entry| entry["event"].clone())
        .rfind(|event| event["is"] == "result" && event["step"] == step)
        .unwrap_or_else(|| panic!("no result of {step}"));
    result["facts"][name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} in {result}"))
        .to_owned()
}

/// Kills the program at the first, or at the last, question of a step.
pub(crate) fn kill_in(room: &Room, asked: &[String], step: &str, at: At) -> Ran {
    let begins = format!("begin/{step}");
    let first = asked.iter().position(|id| *id == begins).unwrap() + 1;
    let length = asked[first..]
        .iter()
        .position(|id| id.starts_with("begin/") || id.starts_with("sign/sign-off/") || id.starts_with("sign/ended/"))
        .unwrap();
    let place = match at {
        At::First => first,
        At::Last => first + length - 1,
    };
    let mut seen = 0;
    room.rehearse(|_| {
        seen += 1;
        if seen == place + 1 { Reply::Kill } else { Reply::Usual }
    })
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum At {
    First,
    Last,
}

fn module() -> PathBuf {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    ];
    let found = places.into_iter().map(PathBuf::from).find(|place| place.exists());
    found.expect("the package softhsm2 is installed")
}

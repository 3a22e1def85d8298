//! Tokens as a ceremony finds them: real ones of SoftHSM2.

use crate::room::{INSPECTION, Reply, Room, say, usual};
use std::{fs, path::PathBuf, process::Command};

#[test]
fn what_a_token_says_of_itself_is_recorded_and_nothing_on_it_is_changed() {
    let room = room("rehearsal", INSPECTION);
    let before = crate::room::tree(&room.path("tokens"));
    room.rehearse(usual).ended_with(0);
    room.verified();
    assert_eq!(crate::room::tree(&room.path("tokens")), before);
    let results = room.events("result");
    let hsm = results.iter().find(|event| event["step"] == "hsm").expect("a result");
    assert_eq!(hsm["facts"]["label"], "ceremony-test");
    assert_eq!(hsm["facts"]["software"], "yes");
    let abilities = fs::read_to_string(room.bundle().join("artefacts/hsm-1.txt")).unwrap();
    assert!(abilities.contains("generate AES_256"), "{abilities}");
    // A file that a step made is part of the bundle.
    fs::write(room.bundle().join("artefacts/hsm-1.txt"), "generate everything\n").unwrap();
    assert_eq!(room.verify().status.code(), Some(9));
}

#[test]
fn production_refuses_software_unless_the_script_permits_it() {
    let room_that_refuses = room("production", INSPECTION);
    let ran = room_that_refuses.run(&[], |id| match id {
        "exception/what" => Reply::Leave,
        _ => Reply::Usual,
    });
    ran.ended_with(10);
    let failed = &room_that_refuses.events("failed")[0]["what"];
    assert!(
        failed
            .as_str()
            .unwrap()
            .contains("which the script refuses in production"),
        "{failed}"
    );

    let permitted = INSPECTION.replace("software_tokens = \"refused\"", "software_tokens = \"allowed\"");
    let room = room("production", &permitted);
    room.run(&[], usual).ended_with(0);
    room.verified();
    let report = fs::read_to_string(room.bundle().join("report.html")).unwrap();
    assert!(report.contains("The script permits tokens that are software"));
}

#[test]
fn a_token_that_is_not_there_fails_its_step_alone() {
    let room = room("rehearsal", INSPECTION);
    room.edit("label = \"ceremony-test\"", "label = \"another\"");
    room.rehearse(|id| match id {
        "exception/what" | "exception/effect" | "decide/1/reason" => say("It is still in the safe."),
        "exception/noticed-by" => say("Administrator"),
        "decide/1" => say("go-on"),
        _ => Reply::Usual,
    })
    .ended_with(0);
    room.verified();
    let failed = &room.events("failed")[0]["what"];
    assert!(
        failed
            .as_str()
            .unwrap()
            .contains("no token matches the label \"another\""),
        "{failed}"
    );
}

/// A room with a token, and a script that looks at it.
fn room(class: &str, script: &str) -> Room {
    let step =
        "[[step]]\nid = \"hsm\"\ndo = \"attest-hsm\"\non = \"hsm-a\"\nby = [\"admin\"]\nsign_off = [\"witness\"]\n\n";
    let bag = "[[step]]\nid = \"bag\"";
    assert!(script.contains(bag));
    let room = Room::with(class, &script.replace(bag, &format!("{step}{bag}")));
    let tokens = room.path("tokens");
    fs::create_dir(&tokens).unwrap();
    let configuration = room.softhsm_configuration();
    fs::write(&configuration, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    let output = Command::new("softhsm2-util")
        .args([
            "--init-token",
            "--free",
            "--label",
            "ceremony-test",
            "--pin",
            "1234",
            "--so-pin",
            "12345678",
        ])
        .env("SOFTHSM2_CONF", &configuration)
        .output()
        .expect("the package softhsm2 is installed");
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(room.path("env.toml")).unwrap();
    let token = format!(
        "\n[[token]]\nname = \"hsm-a\"\nmodule = \"{}\"\nlabel = \"ceremony-test\"\n",
        module().display()
    );
    fs::write(room.path("env.toml"), text + &token).unwrap();
    room
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

//! A ceremony that goes as it should, and what it leaves.

use crate::room::{Reply, Room, run, say, tree, usual};
use std::{fs, process::Command};

#[test]
fn a_whole_ceremony_leaves_a_bundle_that_holds() {
    let room = Room::new();
    room.rehearse(usual).ended_with(0);
    room.verified();
    // Everyone signs at the roll call and at the end; c1 and the witness (twice) sign steps off.
    assert_eq!(room.events("signed").len(), 8 + 3 + 8);
    assert_eq!(room.events("closed").len(), 1);
    let files: Vec<String> = tree(&room.bundle())
        .keys()
        .map(|path| path.display().to_string())
        .collect();
    for name in [
        "MANIFEST",
        "env.toml",
        "report.html",
        "report.md",
        "script.toml",
        "transcript.jsonl",
    ] {
        assert!(files.iter().any(|file| file == name), "{name} in {files:?}");
    }
}

#[test]
fn the_report_has_the_hashes_of_the_transcript_and_what_people_said() {
    let room = Room::new();
    let odd = "<b>B & 1</b> | `x` *y*";
    room.rehearse(|id| match id {
        "bag/bag" => say(odd),
        _ => Reply::Usual,
    })
    .ended_with(0);
    let transcript = room.transcript();
    let opened = &transcript[0]["event"];
    let html = fs::read_to_string(room.bundle().join("report.html")).unwrap();
    let markdown = fs::read_to_string(room.bundle().join("report.md")).unwrap();
    for report in [&html, &markdown] {
        for name in ["ceremony", "script", "environment", "tool"] {
            assert!(report.contains(opened[name].as_str().unwrap()), "{name}");
        }
        let verified = String::from_utf8(room.verify().stdout).unwrap();
        let head = verified.lines().find_map(|line| line.strip_prefix("head ")).unwrap();
        assert!(report.contains(head));
        assert!(!report.contains(odd), "what people typed never becomes markup");
        assert!(report.contains("This was a rehearsal"));
    }
    assert!(html.contains("&lt;b&gt;B &amp; 1&lt;"), "{html}");
    assert!(markdown.contains(r"\<b\>B \& 1\</b\> \| \`x\` \*y\*"), "{markdown}");
    assert!(!html.contains("http"), "it needs nothing from elsewhere");
}

#[test]
fn a_signature_of_the_bundle_is_accepted_by_openssl() {
    let room = Room::new();
    room.rehearse(usual).ended_with(0);
    let scratch = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for (path, envelope) in tree(&room.bundle().join("signatures")) {
        let envelope: serde_json::Value = serde_json::from_slice(&envelope).unwrap();
        let payload = base64(envelope["payload"].as_str().unwrap());
        let kind = envelope["payloadType"].as_str().unwrap();
        let statement: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        if statement["person"] != "Custodian 1" {
            continue;
        }
        seen += 1;
        let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
        signed.extend(&payload);
        let file = |name: &str| scratch.path().join(name);
        fs::write(file("signed"), signed).unwrap();
        fs::write(file("sig"), base64(envelope["signatures"][0]["sig"].as_str().unwrap())).unwrap();
        let output = Command::new("openssl")
            .args(["pkeyutl", "-verify", "-rawin", "-inkey"])
            .arg(room.path("c1.key"))
            .arg("-sigfile")
            .arg(file("sig"))
            .arg("-in")
            .arg(file("signed"))
            .output()
            .expect("the package openssl is installed");
        assert!(output.status.success(), "{}: {output:?}", path.display());
    }
    assert_eq!(seen, 3, "at the roll call, for the hash, and at the end");
}

#[test]
fn an_alternate_stands_in_for_a_custodian_who_is_not_there() {
    let room = Room::new();
    room.rehearse(|id| match id {
        "roll-call/Custodian 1" => say("no"),
        _ => Reply::Usual,
    })
    .ended_with(0);
    room.verified();
    let signed = room.events("signed");
    let hash: Vec<_> = signed
        .iter()
        .filter(|event| event["statement"]["sign-off"] == "hash")
        .collect();
    assert_eq!(hash.len(), 1);
    assert_eq!(hash[0]["person"], "Custodian 6");
    assert!(signed.iter().all(|event| event["person"] != "Custodian 1"));
}

/// The steps that the shipped script does not have.
#[test]
fn pictures_media_and_tasks_are_recorded() {
    let more = "
[[step]]
id = \"stick\"
do = \"media-register\"
by = [\"admin\"]
with = { what = \"the second medium\" }

[[step]]
id = \"safe\"
do = \"task\"
by = [\"custodians\"]
with = { what = \"Look whether the safe is locked.\" }

[[step]]
id = \"picture\"
do = \"photo\"
by = [\"c2\"]
with = { what = \"the sealed bag\" }

[[step]]
id = \"so-far\"
do = \"sign-off\"
sign_off = [\"admin\", \"custodians\"]

[[step]]
id = \"end\"";
    let script = crate::room::INSPECTION.replace("\n[[step]]\nid = \"end\"", more);
    let room = Room::with("rehearsal", &script);
    let picture = room.path("bag.png");
    fs::write(&picture, b"a picture").unwrap();
    let mut asked = 0;
    let ran = room.rehearse(|id| match id {
        "photo/picture" => {
            asked += 1;
            match asked {
                1 => say("/nowhere/bag.png"),
                2 => Reply::Say(room.path("script.toml").display().to_string()),
                _ => Reply::Say(picture.display().to_string()),
            }
        }
        _ => Reply::Usual,
    });
    ran.ended_with(0);
    room.verified();
    assert!(ran.said.contains("It cannot be read"), "{}", ran.said);
    assert!(ran.said.contains("Expected a file that ends in"), "{}", ran.said);
    assert_eq!(
        fs::read(room.bundle().join("artefacts/picture-1.png")).unwrap(),
        b"a picture"
    );
    let results = room.events("result");
    let fact = |step: &str, name: &str| {
        let result = results.iter().find(|event| event["step"] == step).unwrap();
        result["facts"][name].as_str().unwrap().to_owned()
    };
    assert_eq!(fact("stick", "label"), "STICK-7");
    assert_eq!(fact("safe", "done"), "Look whether the safe is locked.");
    let intents = room.events("intent");
    let safe = intents.iter().find(|event| event["step"] == "safe").unwrap();
    assert_eq!(safe["by"].as_array().unwrap().len(), 5, "all custodians who are there");
    let signed = room.events("signed");
    let so_far = signed
        .iter()
        .filter(|event| event["statement"]["sign-off"] == "so-far")
        .count();
    assert_eq!(so_far, 6);

    fs::write(room.bundle().join("artefacts/picture-1.png"), b"another").unwrap();
    let output = room.verify();
    assert_eq!(output.status.code(), Some(9));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("artefacts/picture-1.png"), "{said}");
}

/// A step that was done is done again: both pictures stay, each with the line that speaks of it.
#[test]
fn a_step_that_is_repeated_keeps_what_its_first_attempt_made() {
    let step = "
[[step]]
id = \"picture\"
do = \"photo\"
by = [\"c2\"]
with = { what = \"the sealed bag\" }
sign_off = [\"witness\"]

[[step]]
id = \"end\"";
    let script = crate::room::INSPECTION.replace("\n[[step]]\nid = \"end\"", step);
    let room = Room::with("rehearsal", &script);
    let pictures = [
        ("first.png", b"a blurred picture".as_slice()),
        ("second.png", b"a sharp one"),
    ];
    for (name, content) in pictures {
        fs::write(room.path(name), content).unwrap();
    }
    let (mut taken, mut raised) = (0, false);
    room.rehearse(|id| match id {
        "photo/picture" => {
            taken += 1;
            Reply::Say(room.path(pictures[taken - 1].0).display().to_string())
        }
        "sign/sign-off/picture/Witness" if !raised => {
            raised = true;
            say("!exception")
        }
        "exception/what" | "exception/effect" => say("The number cannot be read."),
        "exception/noticed-by" => say("Witness"),
        "decide/1" => say("repeat"),
        "decide/1/reason" => say("A second picture."),
        _ => Reply::Usual,
    })
    .ended_with(0);
    assert_eq!(taken, 2);
    room.verified();
    for (place, (_, content)) in (1..).zip(pictures) {
        let kept = fs::read(room.bundle().join(format!("artefacts/picture-{place}.png"))).unwrap();
        assert_eq!(kept, content);
    }
}

#[test]
fn too_few_custodians_do_not_begin() {
    let room = Room::new();
    let ran = room.rehearse(|id| match id {
        "roll-call/Custodian 2" | "roll-call/Custodian 3" | "roll-call/Custodian 4" | "roll-call/Custodian 5" => {
            say("no")
        }
        "exception/what" => Reply::Leave,
        _ => Reply::Usual,
    });
    ran.ended_with(10);
    assert_eq!(room.events("result").len(), 0);
    assert!(
        room.events("failed")[0]["what"]
            .as_str()
            .unwrap()
            .contains("2 custodians are here, 3 are needed"),
        "{:?}",
        room.events("failed")
    );
}

#[test]
fn the_demonstration_works_on_a_machine_that_has_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("demo");
    let output = run(&["demo", directory.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let verified = run(&["verify", directory.join("bundle").to_str().unwrap()]);
    assert!(verified.status.success(), "{verified:?}");
    let text = String::from_utf8(verified.stdout).unwrap();
    assert!(text.contains("1 exceptions"), "{text}");
    let again = run(&["demo", directory.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(4), "nothing is overwritten");
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

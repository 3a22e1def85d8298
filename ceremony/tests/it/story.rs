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

//! Whatever is changed in a bundle, `verify` finds it and says where.

use crate::room::{Room, run, usual};
use portcullis_ceremony::bundle::{Fault, verify};
use std::{fs, path::Path};

/// Flips bits all over the transcript: each change is found, in the line in which it is or in the next.
#[test]
fn every_byte_of_the_transcript_counts() {
    let room = Room::new();
    room.rehearse(usual).ended_with(0);
    let path = room.bundle().join("transcript.jsonl");
    let whole = fs::read(&path).unwrap();
    let mut line = 1;
    let mut tried = 0;
    for place in 0..whole.len() {
        // A prime distance reaches every kind of byte in every kind of line.
        if place % 29 == 0 {
            for flip in [1, 0x80] {
                let mut changed = whole.clone();
                changed[place] ^= flip;
                fs::write(&path, changed).unwrap();
                let fault = verify(&room.bundle()).expect_err("a byte was changed");
                blames(&fault, line, &format!("byte {place} of line {line}"));
                tried += 1;
            }
        }
        if whole[place] == b'\n' {
            line += 1;
        }
    }
    assert!(tried > 500);
    fs::write(&path, whole).unwrap();
    room.verified();
}

#[test]
fn lines_that_are_dropped_repeated_or_moved_are_found() {
    let room = Room::new();
    room.rehearse(usual).ended_with(0);
    let path = room.bundle().join("transcript.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let write = |lines: &[&str]| fs::write(&path, format!("{}\n", lines.join("\n"))).unwrap();
    for place in 0..lines.len() {
        let mut dropped = lines.clone();
        dropped.remove(place);
        write(&dropped);
        let fault = verify(&room.bundle()).expect_err("a line was dropped");
        assert_eq!(fault.line, Some(place as u64 + 1), "{fault}");

        let mut repeated = lines.clone();
        repeated.insert(place, lines[place]);
        write(&repeated);
        let fault = verify(&room.bundle()).expect_err("a line was repeated");
        assert_eq!(fault.line, Some(place as u64 + 2), "{fault}");

        if place > 0 {
            let mut moved = lines.clone();
            moved.swap(place - 1, place);
            write(&moved);
            let fault = verify(&room.bundle()).expect_err("lines changed places");
            assert_eq!(fault.line, Some(place as u64), "{fault}");
        }
    }
    // From the binary, with its code.
    write(&lines[..lines.len() - 1]);
    let output = run(&["verify", room.bundle().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(9));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains(&format!("transcript.jsonl, line {}:", lines.len())),
        "{said}"
    );
}

/// Somebody rewrites the chain too, with hashes that fit: the signatures do not.
#[test]
fn a_chain_that_was_made_anew_lacks_signatures() {
    let room = Room::new();
    room.rehearse(usual).ended_with(0);
    let path = room.bundle().join("transcript.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let changed = whole.replacen("B-0001", "B-0002", 1);
    let mut prev = portcullis_ceremony::transcript::Head::START;
    let mut rewritten = String::new();
    for line in changed.lines() {
        let mut entry: portcullis_ceremony::transcript::Entry = serde_json::from_str(line).unwrap();
        entry.prev = prev;
        let line = serde_json::to_string(&entry).unwrap();
        prev = portcullis_ceremony::transcript::Head::after(line.as_bytes());
        rewritten += &line;
        rewritten.push('\n');
    }
    fs::write(&path, &rewritten).unwrap();
    let bag = 1 + whole.lines().position(|line| line.contains("B-0001")).unwrap();
    let fault = verify(&room.bundle()).expect_err("the transcript was made anew");
    assert_eq!(fault.line, Some(bag as u64 + 1), "{fault}");
    assert!(fault.what.contains("the signature is not by Witness"), "{fault}");
}

#[test]
fn every_other_file_counts_too() {
    let room = Room::new();
    room.rehearse(usual).ended_with(0);
    let bundle = room.bundle();
    let signature = format!(
        "signatures/{}",
        fs::read_dir(bundle.join("signatures"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .file_name()
            .to_string_lossy()
    );
    for name in [
        "script.toml",
        "env.toml",
        "report.html",
        "report.md",
        "MANIFEST",
        &signature,
    ] {
        let path = bundle.join(name);
        let whole = fs::read(&path).unwrap();
        for place in (0..whole.len()).step_by(97) {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            fs::write(&path, changed).unwrap();
            verify(&bundle).expect_err(name);
        }
        fs::remove_file(&path).unwrap();
        let fault = verify(&bundle).expect_err(name);
        assert_eq!(fault.file, name);
        fs::write(&path, whole).unwrap();
    }
    fs::write(bundle.join("signatures/999999.json"), "{}").unwrap();
    assert_eq!(verify(&bundle).expect_err("one more").file, "signatures/999999.json");
    fs::remove_file(bundle.join("signatures/999999.json")).unwrap();
    fs::write(bundle.join("artefacts/more"), "").unwrap();
    assert_eq!(verify(&bundle).expect_err("one more").file, "artefacts/more");
    fs::remove_file(bundle.join("artefacts/more")).unwrap();
    room.verified();
    assert!(verify(Path::new("/nowhere")).is_err());
}

fn blames(fault: &Fault, line: u64, what: &str) {
    assert_eq!(fault.file, "transcript.jsonl", "{what}: {fault}");
    // A change that leaves a line in its form is seen in the line after it, which names the hash of what it was.
    assert!(
        fault.line == Some(line) || fault.line == Some(line + 1),
        "{what}: {fault}"
    );
}

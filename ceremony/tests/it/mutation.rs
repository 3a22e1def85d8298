//! Whatever is changed in a bundle, `verify` finds it and says where.

use crate::room::{PEOPLE, Room, run, usual};
use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_ceremony::{
    bundle::{Fault, Manifest, ReportCheck, verify},
    key_file::PrivateKeyFile,
    script::FileHash,
    transcript::{Entry, Event, Head, Opened, Signing, envelope, signed_bytes},
};
use portcullis_provisioning::signing_key::SigningKey;
use std::{collections::BTreeMap, fs, path::Path};

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

/// Nobody signs the report or MANIFEST. Whoever changes both changes nothing that is believed.
#[test]
fn a_report_that_the_transcript_does_not_make_is_found_also_with_its_hash_in_the_manifest() {
    let room = Room::new();
    room.rehearse(usual).ended_with(0);
    let bundle = room.bundle();
    assert_eq!(verify(&bundle).unwrap().report, ReportCheck::Holds);
    for name in ["report.html", "report.md"] {
        let path = bundle.join(name);
        let whole = fs::read_to_string(&path).unwrap();
        assert!(whole.contains("B-0001"), "{name}");
        for changed in [
            whole.replace("B-0001", "B-0002"),
            whole.replace("This was a rehearsal", "This was no rehearsal"),
            String::new(),
        ] {
            assert_ne!(changed, whole);
            fs::write(&path, changed).unwrap();
            amend_manifest(&bundle, |_| {});
            let fault = verify(&bundle).expect_err(name);
            assert_eq!((fault.file.as_str(), fault.line), (name, None), "{fault}");
        }
        // Left out altogether.
        fs::remove_file(&path).unwrap();
        amend_manifest(&bundle, |manifest| {
            manifest.files.remove(name);
        });
        let fault = verify(&bundle).expect_err(name);
        assert_eq!(fault.file, "MANIFEST", "{fault}");
        assert!(fault.what.contains(name), "{fault}");
        fs::write(&path, whole).unwrap();
        amend_manifest(&bundle, |manifest| {
            manifest.files.insert(name.to_owned(), FileHash::of(b""));
        });
    }
    room.verified();
}

/// Another version may say the same in other words: its report is not believed, and that is said.
#[test]
fn a_report_of_another_version_counts_as_not_checked() {
    let room = Room::new();
    room.rehearse(usual).ended_with(0);
    let bundle = room.bundle();
    write_anew(&room, |opened| opened.version = "0.0.1-another".to_owned());
    let verified = verify(&bundle).expect("everything is signed");
    assert_eq!(verified.report, ReportCheck::NotChecked);
    let output = run(&["verify", bundle.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("REPORT NOT CHECKED"), "{said}");
    // By this version there is no such excuse.
    write_anew(&room, |opened| opened.version = env!("CARGO_PKG_VERSION").to_owned());
    assert_eq!(verify(&bundle).expect_err("an old report").file, "report.html");
}

/// Has MANIFEST name the files as they are, after a change of its own.
fn amend_manifest(bundle: &Path, change: impl FnOnce(&mut Manifest)) {
    let path = bundle.join("MANIFEST");
    let mut manifest: Manifest = fs::read_to_string(&path).unwrap().parse().unwrap();
    change(&mut manifest);
    for (name, hash) in &mut manifest.files {
        *hash = FileHash::of(&fs::read(bundle.join(name)).unwrap());
    }
    fs::write(&path, manifest.to_string()).unwrap();
}

/// Writes the transcript anew with another beginning, signed again by everyone, with all that hangs on it but the reports.
fn write_anew(room: &Room, change: impl FnOnce(&mut Opened)) {
    let bundle = room.bundle();
    let keys: BTreeMap<&str, SigningKey> = PEOPLE
        .into_iter()
        .map(|(name, seat)| {
            let pem = fs::read_to_string(room.path(&format!("{seat}.key"))).unwrap();
            match PrivateKeyFile::parse(&pem).unwrap() {
                PrivateKeyFile::Open(key) => (name, key),
                PrivateKeyFile::Locked(_) => panic!("a key without a passphrase"),
            }
        })
        .collect();
    let path = bundle.join("transcript.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let mut entries = whole.lines().map(|line| serde_json::from_str::<Entry>(line).unwrap());
    let mut first = entries.next().unwrap();
    let Event::Opened(opened) = &mut first.event else {
        panic!("the first line opens the ceremony");
    };
    change(opened);
    let opened = opened.clone();
    let (mut head, mut text) = (Head::START, String::new());
    let mut lines = 0;
    for mut entry in [first].into_iter().chain(entries) {
        entry.prev = head;
        if let Event::Signed {
            person,
            statement,
            signature,
        } = &mut entry.event
        {
            let key = &keys[person.as_str()];
            let known = opened.participants.iter().find(|one| one.name == *person).unwrap();
            let signing = Signing {
                ceremony: opened.ceremony,
                sequence: entry.seq,
                head,
                person,
                seats: &known.seats,
                statement,
            };
            *signature = STANDARD.encode(key.sign(&signed_bytes(signing)).unwrap());
            let mut file = serde_json::to_vec_pretty(&envelope(signing, key.public(), signature)).unwrap();
            file.push(b'\n');
            fs::write(bundle.join(format!("signatures/{:06}.json", entry.seq)), file).unwrap();
        }
        let line = serde_json::to_string(&entry).unwrap();
        head = Head::after(line.as_bytes());
        text += &line;
        text.push('\n');
        lines += 1;
    }
    fs::write(&path, text).unwrap();
    amend_manifest(&bundle, |manifest| (manifest.lines, manifest.head) = (lines, head));
}

fn blames(fault: &Fault, line: u64, what: &str) {
    assert_eq!(fault.file, "transcript.jsonl", "{what}: {fault}");
    // A change that leaves a line in its form is seen in the line after it, which names the hash of what it was.
    assert!(
        fault.line == Some(line) || fault.line == Some(line + 1),
        "{what}: {fault}"
    );
}

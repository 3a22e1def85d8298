//! Killed, paused and taken up again.

use crate::room::{Reply, Room, say, tree, usual};
use std::fs;

/// The program is killed at each question of the whole ceremony in turn: between steps, in a step, while people sign.
#[test]
fn killed_at_every_question_it_is_resumed_to_the_same_end() {
    let plain = Room::new().rehearse(usual);
    plain.ended_with(0);
    for place in 0..plain.asked.len() {
        let room = Room::new();
        let mut seen = 0;
        let ran = room.rehearse(|_| {
            seen += 1;
            if seen == place + 1 { Reply::Kill } else { Reply::Usual }
        });
        assert!(ran.code.is_none(), "{place}: {}", ran.said);
        let intents = room.events("intent").len();
        let results = room.events("result").len() + room.events("failed").len();
        room.resume(usual).ended_with(0);
        room.verified();
        assert_eq!(
            room.events("interrupted").len(),
            intents - results,
            "at {}",
            plain.asked[place]
        );
        assert_eq!(room.events("resumed").len(), 1);
    }
}

#[test]
fn killed_anywhere_it_can_be_aborted() {
    let asked = Room::new().rehearse(usual).asked.len();
    for place in [0, 4, 20, asked - 9, asked - 1] {
        let room = Room::new();
        let mut seen = 0;
        room.rehearse(|_| {
            seen += 1;
            if seen == place + 1 { Reply::Kill } else { Reply::Usual }
        });
        let over = !room.events("closed").is_empty();
        room.abort("a drill", usual).ended_with(if over { 0 } else { 20 });
        room.verified();
    }
}

/// Two programs that write one transcript would each go on from what the other does not know.
#[test]
fn a_ceremony_that_is_being_held_is_not_taken_up_by_a_second_program() {
    let room = Room::new();
    let intrude = || {
        let before = [room.bundle(), room.second_bundle()].map(|bundle| tree(&bundle));
        for ran in [room.resume(|_| Reply::Leave), room.abort("a mistake", |_| Reply::Leave)] {
            ran.ended_with(4);
            assert!(
                ran.errors.contains("another program holds this ceremony"),
                "{}",
                ran.errors
            );
            assert!(ran.asked.is_empty());
        }
        let after = [room.bundle(), room.second_bundle()].map(|bundle| tree(&bundle));
        assert_eq!(before, after);
    };
    // While it is held for the first time, and when it was taken up again.
    room.rehearse(|id| match id {
        "words/hash" => {
            intrude();
            Reply::Usual
        }
        "bag/bag" => Reply::Kill,
        _ => Reply::Usual,
    });
    room.resume(|id| {
        if id == "bag/bag" {
            intrude();
        }
        Reply::Usual
    })
    .ended_with(0);
    assert_eq!(room.events("resumed").len(), 1);
    room.verified();
}

#[test]
fn a_pause_is_recorded_and_ends_with_resume() {
    let room = Room::new();
    room.rehearse(|id| match id {
        "bag/bag" => say("!pause"),
        "pause/why" => say("lunch"),
        _ => Reply::Usual,
    })
    .ended_with(10);
    assert_eq!(room.events("paused")[0]["why"], "lunch");
    assert_eq!(room.verify().status.code(), Some(9), "it is not over");
    room.resume(usual).ended_with(0);
    room.verified();
}

#[test]
fn when_nobody_answers_any_more_it_waits() {
    let room = Room::new();
    room.rehearse(|id| match id {
        "words/hash" => Reply::Leave,
        _ => Reply::Usual,
    })
    .ended_with(10);
    room.resume(usual).ended_with(0);
    room.verified();
}

/// What a lost current leaves: half a line on one medium, and nothing of it on the other.
#[test]
fn a_line_that_was_cut_off_is_taken_away() {
    let room = Room::new();
    room.rehearse(|id| match id {
        "bag/bag" => Reply::Kill,
        _ => Reply::Usual,
    });
    let path = room.bundle().join("transcript.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    text += "{\"seq\":99,\"prev\":";
    fs::write(&path, text).unwrap();
    // The copy lacks the last line.
    let copy = room.second_bundle().join("transcript.jsonl");
    let whole = fs::read_to_string(&copy).unwrap();
    let shorter: Vec<&str> = whole.lines().collect();
    fs::write(&copy, format!("{}\n", shorter[..shorter.len() - 1].join("\n"))).unwrap();
    room.resume(usual).ended_with(0);
    room.verified();
}

#[test]
fn copies_that_differ_are_not_written_to() {
    let room = Room::new();
    room.rehearse(|id| match id {
        "bag/bag" => Reply::Kill,
        _ => Reply::Usual,
    });
    let copy = room.second_bundle().join("transcript.jsonl");
    let changed = fs::read_to_string(&copy).unwrap().replacen("\"ms\":", "\"ms\":1", 1);
    fs::write(&copy, &changed).unwrap();
    let ran = room.resume(usual);
    ran.ended_with(9);
    assert!(ran.errors.contains("differ"), "{}", ran.errors);
    assert_eq!(fs::read_to_string(&copy).unwrap(), changed);
}

#[test]
fn a_transcript_that_was_changed_is_not_gone_on_with() {
    let room = Room::new();
    room.rehearse(|id| match id {
        "bag/bag" => Reply::Kill,
        _ => Reply::Usual,
    });
    for bundle in [room.bundle(), room.second_bundle()] {
        let path = bundle.join("transcript.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("Custodian 1", "Custodian 2", 1)).unwrap();
    }
    let ran = room.resume(usual);
    ran.ended_with(9);
    assert!(ran.errors.contains("transcript.jsonl, line 1"), "{}", ran.errors);
}

#[test]
fn a_medium_that_cannot_be_written_stops_everything() {
    let room = Room::new();
    room.rehearse(|id| match id {
        "bag/bag" => Reply::Kill,
        _ => Reply::Usual,
    });
    let copy = room.second_bundle().join("transcript.jsonl");
    let before = fs::read(room.bundle().join("transcript.jsonl")).unwrap();
    fs::remove_file(&copy).unwrap();
    // Whatever is written to it, there is no space left.
    std::os::unix::fs::symlink("/dev/full", &copy).unwrap();
    let ran = room.resume(usual);
    ran.ended_with(4);
    assert!(ran.errors.contains("cannot write the transcript"), "{}", ran.errors);
    assert!(ran.errors.contains("No space left"), "{}", ran.errors);
    let after = fs::read(room.bundle().join("transcript.jsonl")).unwrap();
    assert_eq!(before, after, "nothing was done without it");
}

//! What may follow what, without a program around it.

use crate::room::{INSPECTION, Room, usual};
use portcullis_ceremony::{
    environment::Environment,
    progress::Progress,
    script::Script,
    transcript::{Entry, Event, FrontKind},
};
use std::fs;

/// When the window of the script is over, no step begins any more; what was done can still be signed, and the ceremony ended.
#[test]
fn after_its_window_a_ceremony_can_only_be_ended() {
    let room = Room::with("rehearsal", INSPECTION);
    room.rehearse(usual).ended_with(0);
    let script = Script::parse(INSPECTION).unwrap();
    let environment = Environment::parse(&fs::read_to_string(room.path("env.toml")).unwrap()).unwrap();
    let entries: Vec<Entry> = room
        .transcript()
        .into_iter()
        .map(|entry| serde_json::from_value(entry).unwrap())
        .collect();
    let second_step = entries.iter().position(|entry| is_intent_of(entry, "hash")).unwrap();
    let mut progress = Progress::new(&script, &environment);
    for entry in &entries[..second_step] {
        progress.apply(entry).unwrap();
    }
    let late = |event: Event| Entry {
        at: "2036-01-01T00:00:00Z".parse().unwrap(),
        event,
        ..entries[second_step].clone()
    };
    let refused = progress.apply(&late(entries[second_step].event.clone())).unwrap_err();
    assert!(refused.contains("outside of the window"), "{refused}");
    let Event::Opened(opened) = &entries[0].event else {
        panic!("the first entry is {:?}", entries[0]);
    };
    let resumed = Event::Resumed {
        tool: opened.tool,
        front: FrontKind::Terminal,
    };
    progress.apply(&late(resumed)).unwrap();
    let aborted = Event::Aborted {
        why: "its time is over".to_owned(),
        residue: Vec::new(),
        swept: Vec::new(),
        artefacts: std::collections::BTreeMap::new(),
    };
    progress.apply(&late(aborted)).unwrap();
    assert!(progress.is_ending(), "{}", progress.expected());
}

/// Of all the entries of a ceremony, only the one that comes next may stand in each place.
#[test]
fn no_entry_can_stand_before_its_time() {
    let room = Room::new();
    room.rehearse(usual).ended_with(0);
    let script = Script::parse(INSPECTION).unwrap();
    let environment = Environment::parse(&fs::read_to_string(room.path("env.toml")).unwrap()).unwrap();
    let entries: Vec<Entry> = room
        .transcript()
        .into_iter()
        .map(|entry| serde_json::from_value(entry).unwrap())
        .collect();
    let mut progress = Progress::new(&script, &environment);
    for (place, entry) in entries.iter().enumerate() {
        for other in &entries[place + 1..] {
            // Anybody may be asked first, or sign first; that a signature is in its place in the chain is checked with the lines.
            let either = match (&entry.event, &other.event) {
                (Event::Present { .. } | Event::Absent { .. }, Event::Present { .. } | Event::Absent { .. }) => true,
                (Event::Signed { statement: one, .. }, Event::Signed { statement: other, .. }) => one == other,
                _ => false,
            };
            if !either {
                progress.clone().apply(other).expect_err("an entry before its time");
            }
        }
        progress.apply(entry).unwrap();
    }
}

fn is_intent_of(entry: &Entry, name: &str) -> bool {
    matches!(&entry.event, Event::Intent { step, .. } if step.as_str() == name)
}

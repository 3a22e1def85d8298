//! What keeps a rehearsal and production apart.

use crate::room::{INSPECTION, Reply, Room, usual};
use std::fs;

#[test]
fn a_rehearsal_is_named_so_on_the_command_line_and_in_the_environment() {
    let nothing: &[&str] = &[];
    for (class, arguments) in [("rehearsal", nothing), ("production", &["--rehearsal"])] {
        let room = Room::with(class, INSPECTION);
        let ran = room.run(arguments, usual);
        ran.ended_with(4);
        assert!(ran.errors.contains(class), "{}", ran.errors);
        assert!(!room.bundle().exists());
    }
}

#[test]
fn production_follows_a_rehearsal_of_the_same_script() {
    let script = INSPECTION.replace("rehearsal = \"optional\" ", "rehearsal = \"required\"");
    let rehearsed = Room::with("rehearsal", &script);
    rehearsed.rehearse(usual).ended_with(0);

    let room = Room::with("production", &script);
    room.run(&[], usual).ended_with(3);
    let name = |bundle: &std::path::Path| format!("class = \"production\"\nrehearsal = \"{}\"", bundle.display());
    room.edit("class = \"production\"", &name(&rehearsed.bundle()));
    room.run(&[], usual).ended_with(0);
    room.verified();
    let opened = &room.transcript()[0]["event"];
    assert_eq!(
        opened["rehearsal"]["ceremony"],
        rehearsed.transcript()[0]["event"]["ceremony"]
    );
    let report = fs::read_to_string(room.bundle().join("report.html")).unwrap();
    assert!(report.contains("rehearsed in"), "the times stand beside each other");
    assert!(!report.contains("REHEARSAL"));

    // It goes on without the rehearsal, which may be locked away by then.
    let room = Room::with("production", &script);
    let copy = room.path("rehearsal");
    copy_tree(&rehearsed.bundle(), &copy);
    room.edit("class = \"production\"", &name(&copy));
    room.run(&[], |id| match id {
        "bag/bag" => Reply::Kill,
        _ => Reply::Usual,
    });
    fs::remove_dir_all(&copy).unwrap();
    room.resume(usual).ended_with(0);
    room.verified();

    // One of another script, though it differs in a comment alone, is none.
    let other = Room::with("rehearsal", &format!("{script}# another\n"));
    other.rehearse(usual).ended_with(0);
    let room = Room::with("production", &script);
    room.edit("class = \"production\"", &name(&other.bundle()));
    let ran = room.run(&[], usual);
    ran.ended_with(4);
    assert!(ran.errors.contains("another script"), "{}", ran.errors);
    // Nor is one that was changed afterwards.
    let path = rehearsed.bundle().join("report.md");
    fs::write(path, "everything went well").unwrap();
    let room = Room::with("production", &script);
    room.edit("class = \"production\"", &name(&rehearsed.bundle()));
    room.run(&[], usual).ended_with(4);
}

#[test]
fn production_wants_a_second_medium_that_is_one() {
    let room = Room::with("production", INSPECTION);
    let media = room.second_bundle().parent().unwrap().display().to_string();
    let same = room.path("same");
    fs::create_dir(&same).unwrap();
    room.edit(&media, &same.display().to_string());
    let ran = room.run(&[], usual);
    ran.ended_with(4);
    assert!(ran.errors.contains("second medium"), "{}", ran.errors);
}

#[test]
fn nothing_is_overwritten_and_no_script_is_run_outside_of_its_window() {
    let room = Room::new();
    room.rehearse(usual).ended_with(0);
    let ran = room.rehearse(|_| -> Reply { panic!("nothing is asked") });
    ran.ended_with(4);
    room.verified();

    let late = INSPECTION.replace("2036-01-01", "2026-02-01");
    let ran = Room::with("rehearsal", &late).rehearse(usual);
    ran.ended_with(4);
    assert!(ran.errors.contains("outside of the window"), "{}", ran.errors);
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    for (path, content) in crate::room::tree(from) {
        let path = to.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::create_dir_all(to.join("artefacts")).unwrap();
}

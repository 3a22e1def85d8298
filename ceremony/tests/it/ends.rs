//! What does not go by the script: failures, exceptions, and ends that nobody planned.

use crate::room::{Reply, Room, now, say, usual};

#[test]
fn a_step_that_fails_is_decided_upon_by_administrator_and_witness() {
    let room = Room::new();
    let mut asked = 0;
    room.rehearse(|id| match id {
        "clock/Witness" => {
            asked += 1;
            say(if asked == 1 { "2020-01-01 00:00:00" } else { "noon" })
        }
        "exception/what" => say("The witness's watch is wrong."),
        "exception/noticed-by" => say("Custodian 3"),
        "exception/effect" => say("None."),
        "decide/1" => say("go-on"),
        "decide/1/reason" => say("The administrator's clock agrees."),
        _ => Reply::Usual,
    })
    .ended_with(0);
    room.verified();
    assert_eq!(room.events("failed").len(), 1);
    assert_eq!(room.events("decided")[0]["decision"], "go-on");
    let agreed = room
        .events("signed")
        .iter()
        .filter(|event| event["statement"]["decided"] == 1)
        .count();
    assert_eq!(agreed, 2, "the administrator and the witness");
    assert!(
        room.transcript()
            .iter()
            .all(|entry| entry["event"]["is"] != "result" || entry["event"]["step"] != "clock")
    );
}

#[test]
fn a_step_is_repeated_if_that_is_decided() {
    let room = Room::new();
    let mut asked = 0;
    room.rehearse(|id| match id {
        "clock/Administrator" => {
            asked += 1;
            if asked == 1 {
                say("2020-01-01 00:00:00")
            } else {
                Reply::Say(now())
            }
        }
        "exception/what" | "exception/effect" | "decide/1/reason" => say("A slip."),
        "exception/noticed-by" => say("Witness"),
        "decide/1" => say("repeat"),
        _ => Reply::Usual,
    })
    .ended_with(0);
    room.verified();
    let results = room.events("result");
    let clock = results.iter().find(|event| event["step"] == "clock").unwrap();
    assert_eq!(clock["attempt"], 2);
}

#[test]
fn words_that_were_misheard_are_typed_again_and_the_attempts_are_counted() {
    let room = Room::new();
    let mut typed = 0;
    let ran = room.rehearse(|id| match id {
        "words/hash" => {
            typed += 1;
            match typed {
                1 => say("aardvark"),
                2 => Reply::Say(format!("{} zulu", room.script_words().rsplit_once(' ').unwrap().0)),
                _ => Reply::Usual,
            }
        }
        _ => Reply::Usual,
    });
    ran.ended_with(0);
    assert!(
        ran.said
            .contains("1 words were typed, 16 were read aloud. Attempts left: 2."),
        "{}",
        ran.said
    );
    assert!(ran.said.contains("word 16 is not the one"), "{}", ran.said);
    assert!(
        !ran.said.contains(&room.script_words()),
        "the words are heard, not read off the screen"
    );
    room.verified();

    // Three times wrong fails the step; the script lets it be tried again three times, then people decide.
    let room = Room::new();
    room.rehearse(|id| match id {
        "words/hash" => say("aardvark"),
        "exception/what" => Reply::Leave,
        _ => Reply::Usual,
    })
    .ended_with(10);
    assert_eq!(room.events("failed").len(), 4);
}

#[test]
fn an_exception_that_is_left_open_is_decided_before_the_end() {
    let room = Room::new();
    let mut decided = 0;
    let mut raised = false;
    let ran = room.rehearse(|id| match id {
        "sign/sign-off/bag/Witness" if !raised => {
            raised = true;
            say("!exception")
        }
        "exception/what" | "exception/effect" => say("A noise in the corridor."),
        "exception/noticed-by" => say("Custodian 2"),
        "decide/1" => {
            decided += 1;
            say(if decided == 1 { "later" } else { "go-on" })
        }
        "decide/1/reason" => say("It was the air conditioning."),
        _ => Reply::Usual,
    });
    ran.ended_with(0);
    room.verified();
    assert_eq!(decided, 2);
    assert!(ran.said.contains("Exception 1 is open"), "{}", ran.said);
}

#[test]
fn the_ends_that_nobody_planned_have_codes_of_their_own() {
    for (wish, why, code, event) in [
        ("!abort", "abort/why", 20, "aborted"),
        ("!postpone", "postpone/why", 30, "postponed"),
    ] {
        let room = Room::new();
        room.rehearse(|id| match id {
            "bag/bag" => say(wish),
            _ if id == why => say("The safe does not open."),
            _ => Reply::Usual,
        })
        .ended_with(code);
        room.verified();
        assert_eq!(room.events(event)[0]["why"], "The safe does not open.");
        // Taken up again it is still over, with the same code.
        room.resume(usual).ended_with(code);
        room.verified();
    }
}

#[test]
fn a_step_that_must_succeed_aborts() {
    let script = crate::room::INSPECTION.replace(
        "with = { within_seconds = 60 }",
        "with = { within_seconds = 60 }\non_fail = \"abort\"",
    );
    let room = Room::with("rehearsal", &script);
    room.rehearse(|id| match id {
        "clock/Witness" => say("2020-01-01 00:00:00"),
        _ => Reply::Usual,
    })
    .ended_with(20);
    room.verified();
}

//! What is wrong with a script or an environment is said, all of it at once.

use crate::room::{INSPECTION, Room, run};
use portcullis_ceremony::script::Script;
use std::fs;

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let script = INSPECTION
        .replace("need = 3", "need = 9")
        .replace("on_fail = \"retry:3\"", "on_fail = \"loop\"")
        .replace("do = \"seal-bag\"", "do = \"shell\"")
        .replace("valid_until = 2036", "valid_until = 2016");
    let room = Room::with("rehearsal", &script);
    let output = run(&["lint", room.path("script.toml").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    for expected in [
        "quorum.custodians.need: 9 of 5 can never be met",
        "step.hash.on_fail: \"loop\", expected",
        "step.bag.do: no step does \"shell\"",
        "valid_until: it is not after valid_from",
    ] {
        assert!(said.contains(expected), "{expected} in {said}");
    }
}

#[test]
fn each_rule_of_scripts_is_kept() {
    for (from, to, expected) in [
        (
            "format = \"ceremony/1\"",
            "format = \"ceremony/2\"",
            "expected \"ceremony/1\"",
        ),
        ("kind = \"inspection\"", "kind = \"party\"", "unknown variant `party`"),
        ("title =", "colour = \"red\"\ntitle =", "unknown field `colour`"),
        ("need = 3", "need = 1", "one custodian alone would meet it"),
        ("need = 3", "need = 0", "one custodian alone would meet it"),
        ("need = 3", "need = 5", "all_needed = true"),
        ("\"c4\", \"c5\"]", "\"c4\", \"c4\"]", "c4 is there twice"),
        ("alternates = [\"c6\"]", "alternates = [\"c1\"]", "c1 is there twice"),
        (
            "exclude_roles = [\"admin\"]",
            "exclude_roles = [\"boss\"]",
            "there is no role boss",
        ),
        ("kind = \"witness\"", "kind = \"operator\"", "there is no witness"),
        ("id = \"host\"", "id = \"clock\"", "the id is there twice"),
        (
            "do = \"roll-call\"",
            "do = \"sign-off\"\nsign_off = [\"witness\"]",
            "the first step is no roll-call",
        ),
        (
            "do = \"close\"",
            "do = \"task\"\nby = [\"admin\"]\nwith = { what = \"leave\" }",
            "the last step is no close",
        ),
        (
            "by = [\"admin\", \"witness\"]     #",
            "by = [\"admin\"] #",
            "read-aloud needs 2 seats",
        ),
        ("sign_off = [\"c1\"]", "sign_off = [\"c9\"]", "nobody has the seat c9"),
        (
            "sign_off = [\"c1\"]",
            "sign_off = [\"admin\"]",
            "only those who do the step sign it off",
        ),
        ("within_seconds = 60", "within_seconds = 0", "expected 1 to 600"),
        (
            "within_seconds = 60",
            "within_seconds = 60, sloppy = true",
            "unknown field `sloppy`",
        ),
        (
            "To see that the people",
            "The PIN is 4711. To see that the people",
            "looks like a PIN",
        ),
        (
            "with = { what = \"script\" }",
            "with = { what = \"head\" }",
            "unknown variant `head`",
        ),
    ] {
        assert!(INSPECTION.contains(from), "{from}");
        let problems = Script::parse(&INSPECTION.replace(from, to)).expect_err(to).to_string();
        assert!(problems.contains(expected), "{to}: {problems}");
    }
    Script::parse(INSPECTION).expect("the shipped script");
}

#[test]
fn people_are_held_against_the_script() {
    for (from, to, expected) in [
        (
            "seats = [\"witness\"]",
            "seats = [\"witness\", \"c6\"]",
            "watches and has another seat",
        ),
        (
            "seats = [\"c6\"]",
            "seats = [\"c6\", \"c7\"]",
            "the script has no seat c7",
        ),
        (
            "seats = [\"c6\"]",
            "seats = [\"admin\"]",
            "2 people have this seat, expected 1",
        ),
        (
            "seats = [\"c6\"]",
            "seats = [\"c5\"]",
            "2 people have the seat c5, expected one",
        ),
        (
            "seats = [\"c1\"]",
            "seats = [\"c1\", \"c2\"]",
            "one person would count as many",
        ),
        (
            "seats = [\"c1\"]",
            "seats = [\"c1\", \"admin\"]",
            "the script keeps the two apart",
        ),
        (
            "name = \"Custodian 2\"",
            "name = \"custodian 1\"",
            "the name is there twice",
        ),
        (
            "name = \"Custodian 2\"",
            "name = \"Custodian 2\"\npin = \"x\"",
            "unknown field `pin`",
        ),
        ("class =", "# the PIN is 4711\nclass =", "looks like a PIN"),
    ] {
        let room = Room::new();
        room.edit(from, to);
        let (script, env) = (room.path("script.toml"), room.path("env.toml"));
        let output = run(&["lint", script.to_str().unwrap(), "--env", env.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{to}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{to}: {said}");
    }
    let room = Room::new();
    let text = fs::read_to_string(room.path("env.toml")).unwrap();
    let keys: Vec<&str> = text.lines().filter(|line| line.starts_with("key = ")).collect();
    room.edit(keys[3], keys[2]);
    let output = run(&[
        "lint",
        room.path("script.toml").to_str().unwrap(),
        "--env",
        room.path("env.toml").to_str().unwrap(),
    ]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("one person would count as two"), "{said}");
}

#[test]
fn the_plan_says_every_step_and_both_hashes() {
    let room = Room::new();
    let (script, env) = (room.path("script.toml"), room.path("env.toml"));
    let output = run(&["plan", script.to_str().unwrap(), "--env", env.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let plan = String::from_utf8(output.stdout).unwrap();
    let parsed = Script::parse(INSPECTION).unwrap();
    for step in &parsed.steps {
        assert!(plan.contains(&step.in_words()), "{}", step.id);
    }
    assert!(plan.contains(&parsed.hash.to_string()));
    assert!(plan.contains("Hash of the environment: "));
    assert!(plan.contains("Custodian 4: c4, key "));
}

/// What is done with tokens has rules of its own.
#[test]
fn deeds_need_custodians_a_witness_and_their_kind_of_ceremony() {
    const DESTROY: &str = include_str!("../../scripts/key-destroy.toml");
    const GENERATE: &str = include_str!("../../scripts/domain-key-generate.toml");
    let by = "by = [\"operator\", \"custodians\"]\nwith = { epoch = 1 }\nsign_off = [\"witness\", \"custodians\"]";
    for (script, from, to, expected) in [
        (
            GENERATE,
            by,
            "by = [\"operator\"]\nwith = { epoch = 1 }\nsign_off = [\"witness\"]",
            "the custodians: expected such as",
        ),
        (
            GENERATE,
            by,
            "by = [\"operator\", \"custodians\"]\nwith = { epoch = 1 }\nsign_off = [\"c1\"]",
            "no witness signs it off",
        ),
        (
            GENERATE,
            "with = { epoch = 1 }",
            "with = { epoch = 0 }",
            "a domain's epochs begin with 1",
        ),
        (
            GENERATE,
            "do = \"domain.generate\"",
            "do = \"domain.destroy\"",
            "does not belong into a ceremony of kind domain-key-generate",
        ),
        (GENERATE, "activation = 3", "activation = 1", "expected 2 to 5"),
        (GENERATE, "do = \"domain.back-up\"", "do = \"task\"", "takes no `on`"),
        (
            DESTROY,
            "by = [\"admin\"]\nwith = { what = \"Look together in the list of keys: nothing that is still needed is of this epoch.\" }\nsign_off = \
             [\"witness\", \"custodians\"]",
            "by = [\"admin\"]\nwith = { what = \"Look.\" }\nsign_off = [\"witness\"]",
            "nothing before it is signed off by the custodians",
        ),
    ] {
        assert!(script.contains(from), "{from}");
        let problems = Script::parse(&script.replace(from, to)).expect_err(expected);
        assert!(problems.to_string().contains(expected), "{expected} in {problems}");
    }
}

//! Ceremonies that change tokens: real ones of SoftHSM2, by the shipped scripts.

use crate::{
    cluster::{
        ACTIVATE, At, BACKUP, DECOMMISSION, DESTROY, DRILL, JOIN, REPLACE, RESTORE, ROOT, backup_of, born, empty, fact,
        fact_of, generation, initialise, initialised, kill_in, lose_everything, record_of, softhsm, tokens_of,
    },
    room::{MEMBER_PIN, Reply, Room, say, tree, usual},
};
use age::x25519::Identity;
use portcullis_ceremony::shares::open;
use portcullis_provisioning::chain::Chain;
use std::{fs, process::Command};

#[test]
fn empty_tokens_get_pins_that_nobody_knows() {
    let room = initialised();
    let artefacts = tree(&room.path("init/artefacts"));
    // Four sets: the officer's PIN of each token, and the user's of the origin.
    let count = |ending: &str| {
        artefacts
            .keys()
            .filter(|path| path.display().to_string().ends_with(ending))
            .count()
    };
    assert_eq!((count(".shares"), count(".age")), (4, 20));
    for (place, seat) in ["c1", "c2", "c3", "c4", "c5"].into_iter().enumerate() {
        let identity = identity(&room, seat);
        for index in 1..=5 {
            let share = &artefacts[std::path::Path::new(&format!("init-origin-1-officer-{index}.age"))];
            assert_eq!(
                open(share, &identity).is_ok(),
                index == place + 1,
                "{seat}, share {index}"
            );
        }
    }
    // The PIN that was typed is nowhere.
    for (path, content) in tree(&room.path("init")) {
        let pin = MEMBER_PIN.as_bytes();
        assert!(
            !content.windows(pin.len()).any(|window| window == pin),
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_domain_is_born_backed_up_joined_and_recorded() {
    let room = born();
    let text = fs::read_to_string(room.path("born/artefacts/record-1.record")).unwrap();
    let chain = Chain::parse(&text).expect("a record that a gateway accepts");
    let record = &chain.last().record;
    assert_eq!((record.sequence, record.cluster.as_str()), (1, "rehearsal of alpha"));
    assert_eq!(record.members.len(), 2);
    assert_eq!(chain.last().signers.names().len(), 5);
    for step in ["generate", "join-a", "join-b"] {
        let tried = fact_of(&room.path("born"), step, "forbidden operations that were tried");
        assert!(tried.parse::<u32>().unwrap() > 100, "{tried}");
    }
}

#[test]
fn a_member_joins_and_the_record_follows_the_last() {
    let room = born();
    initialise(&room, "c", "typed");
    let tokens = tokens_of(&room, &["origin", "c"], Some("init"));
    room.prepare("rehearsal", &softhsm(JOIN), &record_of(&room, "born"), &tokens);
    room.rehearse(usual).ended_with(0);
    room.verified();
    let text = fs::read_to_string(room.bundle().join("artefacts/record-1.record")).unwrap();
    let chain = Chain::parse(&text).unwrap();
    let names: Vec<&str> = chain
        .last()
        .record
        .members
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!((chain.last().record.sequence, names), (2, vec!["a", "b", "c"]));
}

#[test]
fn a_lost_domain_is_restored_and_its_members_join_again() {
    let room = born();
    let before = Chain::parse(&fs::read_to_string(room.path("born/artefacts/record-1.record")).unwrap()).unwrap();
    // A later backup does as well as the first.
    let tokens = tokens_of(&room, &["origin"], Some("init"));
    room.prepare("rehearsal", BACKUP, "", &tokens);
    room.rehearse(usual).ended_with(0);
    room.verified();
    room.archive("backed-up");

    lose_everything(&room);
    for (name, user_pin) in [("origin", "shared"), ("a", "typed"), ("b", "typed")] {
        initialise(&room, name, user_pin);
    }
    let tokens = tokens_of(&room, &["origin", "a", "b"], Some("init-origin"));
    let settings = record_of(&room, "born") + &backup_of(&room, "backed-up");
    room.prepare("rehearsal", &softhsm(RESTORE), &settings, &tokens);
    room.rehearse(usual).ended_with(0);
    room.verified();
    let text = fs::read_to_string(room.bundle().join("artefacts/record-1.record")).unwrap();
    let after = Chain::parse(&text).unwrap();
    assert_eq!(after.last().record.domain, before.last().record.domain);
    assert_eq!(after.last().record.sequence, 2);
    for (one, other) in after.last().record.members.iter().zip(&before.last().record.members) {
        assert_eq!(one.name, other.name);
        assert_ne!(one.token_serial_number, other.token_serial_number);
    }
}

#[test]
fn the_way_back_is_practised_and_leaves_nothing() {
    let room = born();
    initialise(&room, "scratch", "typed");
    let settings = record_of(&room, "born") + &backup_of(&room, "born");
    room.prepare("rehearsal", DRILL, &settings, &tokens_of(&room, &["scratch"], None));
    room.rehearse(usual).ended_with(0);
    room.verified();
    assert_eq!(fact(&room, "destroy", "keys that were destroyed"), "3");
    assert_eq!(fact(&room, "destroy", "keys that are left"), "none");
}

#[test]
fn a_domain_epoch_is_destroyed_on_its_members() {
    let room = born();
    room.prepare("rehearsal", DESTROY, "", &tokens_of(&room, &["a", "b"], None));
    room.rehearse(usual).ended_with(0);
    room.verified();
    for step in ["destroy-a", "destroy-b"] {
        assert_eq!(fact(&room, step, "keys that were destroyed"), "3");
    }
    room.archive("destroyed");
    // There is nothing left to destroy.
    let ran = room.rehearse(|id| match id {
        "exception/what" => Reply::Leave,
        _ => Reply::Usual,
    });
    ran.ended_with(10);
    let failed = room.events("failed")[0]["what"].as_str().unwrap().to_owned();
    assert_eq!(failed, "a has no keys of domain epoch 1");
}

#[test]
fn a_root_key_is_made_that_nobody_can_use_alone() {
    let room = empty();
    initialise(&room, "root", "shared");
    room.prepare("rehearsal", ROOT, "", &tokens_of(&room, &["root"], Some("init-root")));
    room.rehearse(usual).ended_with(0);
    room.verified();
    let spki = fs::read(room.bundle().join("artefacts/generate-1.spki")).unwrap();
    assert_eq!(spki.len(), 120, "a key on P-384");
    let key = fact(&room, "generate", "objects");
    assert_eq!(
        fact(&room, "generate", "forbidden operations that the token allowed"),
        "none"
    );
    room.archive("made");

    // It signs as often as the script says, and what it signs is accepted by another program. The uses of an attempt that was
    // interrupted count.
    let script = ACTIVATE.replace(&"0".repeat(64), &key);
    room.prepare(
        "rehearsal",
        &script,
        "",
        &tokens_of(&room, &["root"], Some("init-root")),
    );
    let (one, two) = (room.path("one"), room.path("two"));
    fs::write(&one, "the first").unwrap();
    fs::write(&two, "the second").unwrap();
    let mut uses = 0;
    room.rehearse(|id| match id {
        "use/activate" if uses == 0 => {
            uses += 1;
            say(one.to_str().unwrap())
        }
        "use/activate" => Reply::Kill,
        _ => Reply::Usual,
    });
    assert_eq!(room.events("used").len(), 1);
    let ran = room.resume(|id| match id {
        "use/activate" => say(two.to_str().unwrap()),
        _ => Reply::Usual,
    });
    ran.ended_with(0);
    room.verified();
    assert!(ran.said.contains("Every use is made"), "{}", ran.said);
    assert_eq!(fact(&room, "activate", "uses"), "2");
    assert_eq!(fact(&room, "activate", "signing afterwards"), "refused");
    let output = Command::new("openssl")
        .args(["dgst", "-sha384", "-keyform", "DER", "-verify"])
        .arg(room.path("made/artefacts/generate-1.spki"))
        .arg("-signature")
        .arg(room.bundle().join("artefacts/activate-2-2.sig"))
        .arg(&two)
        .output()
        .expect("the package openssl is installed");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_member_leaves_the_record_first_and_then_its_token_is_empty() {
    let room = born();
    let tokens = tokens_of(&room, &["b"], Some("init"));
    room.prepare("rehearsal", DECOMMISSION, &record_of(&room, "born"), &tokens);
    room.rehearse(usual).ended_with(0);
    room.verified();
    let text = fs::read_to_string(room.bundle().join("artefacts/record-1.record")).unwrap();
    let chain = Chain::parse(&text).unwrap();
    let names: Vec<&str> = chain
        .last()
        .record
        .members
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["a"]);
    assert_eq!(fact(&room, "wipe-b", "label"), "retired b");
    assert_eq!(fact(&room, "wipe-b", "objects that are left"), "none");
}

/// Custodian 5 leaves, and the alternate, who had no share, has one from now on. What Custodian 5 has is worthless.
#[test]
fn a_custodian_is_replaced_and_the_old_shares_are_worthless() {
    let room = born();
    let tokens = tokens_of(&room, &["origin", "a", "b"], Some("init"));
    let seats = "of = [\"c1\", \"c2\", \"c3\", \"c4\", \"c6\"]\nalternates = [\"c5\"]";
    let script = REPLACE.replace(
        "of = [\"c1\", \"c2\", \"c3\", \"c4\", \"c5\"]\nalternates = [\"c6\"]",
        seats,
    );
    assert_ne!(script, REPLACE);
    room.prepare("rehearsal", &script, &record_of(&room, "born"), &tokens);
    // Who leaves is not even here.
    let ran = room.rehearse(|id| match id {
        "roll-call/Custodian 5" => say("no"),
        _ => Reply::Usual,
    });
    ran.ended_with(0);
    room.verified();
    let text = fs::read_to_string(room.bundle().join("artefacts/record-1.record")).unwrap();
    let chain = Chain::parse(&text).unwrap();
    let roster = &chain.last().record.roster;
    let names: Vec<&str> = roster.custodians().iter().map(|one| one.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Custodian 1",
            "Custodian 2",
            "Custodian 3",
            "Custodian 4",
            "Custodian 6"
        ]
    );
    room.archive("replaced");

    // The PINs of before are refused, by the token itself.
    room.prepare("rehearsal", BACKUP, "", &tokens_of(&room, &["origin"], Some("init")));
    room.rehearse(|id| match id {
        "exception/what" => Reply::Leave,
        _ => Reply::Usual,
    })
    .ended_with(10);
    let failed = room.events("failed")[0]["what"].as_str().unwrap().to_owned();
    assert!(
        failed.contains("the token refused the security officer's PIN"),
        "{failed}"
    );
}

/// The program is killed after each intent of a step that changes a token, and before its result.
#[test]
fn killed_in_a_step_that_changes_a_token_it_is_resumed_to_a_clean_end() {
    let plain = initialised();
    let asked = plain.rehearse(usual).asked;
    drop(plain);
    for (step, at) in [
        ("generate", At::First),
        ("generate", At::Last),
        ("back-up", At::First),
        ("back-up", At::Last),
        ("join-a", At::First),
        ("join-a", At::Last),
        ("record", At::First),
        ("record", At::Last),
    ] {
        let room = initialised();
        let ran = kill_in(&room, &asked, step, at);
        assert!(ran.code.is_none(), "{step} {at:?}: {}", ran.said);
        let resumed = room.resume(usual);
        resumed.ended_with(0);
        room.verified();
        assert_eq!(room.events("interrupted").len(), 1, "{step} {at:?}");
        if let ("generate", At::Last) = (step, at) {
            assert!(resumed.said.contains("had left 3 objects"), "{}", resumed.said);
        }
    }
}

/// The same of the other ceremonies that make something on a token.
#[test]
fn killed_while_something_is_made_anywhere_it_is_resumed_to_a_clean_end() {
    let joining = || {
        let room = born();
        initialise(&room, "c", "typed");
        let tokens = tokens_of(&room, &["origin", "c"], Some("init"));
        room.prepare("rehearsal", &softhsm(JOIN), &record_of(&room, "born"), &tokens);
        room
    };
    let backing_up = || {
        let room = born();
        room.prepare("rehearsal", BACKUP, "", &tokens_of(&room, &["origin"], Some("init")));
        room
    };
    let restoring = || {
        let room = born();
        initialise(&room, "scratch", "typed");
        let settings = record_of(&room, "born") + &backup_of(&room, "born");
        room.prepare("rehearsal", DRILL, &settings, &tokens_of(&room, &["scratch"], None));
        room
    };
    let making_a_root_key = || {
        let room = empty();
        initialise(&room, "root", "shared");
        room.prepare("rehearsal", ROOT, "", &tokens_of(&room, &["root"], Some("init-root")));
        room
    };
    let ceremonies: [(&dyn Fn() -> Room, &[&str]); 4] = [
        (&joining, &["join-c", "record"]),
        (&backing_up, &["back-up"]),
        (&restoring, &["restore", "destroy"]),
        (&making_a_root_key, &["generate"]),
    ];
    for (lay, steps) in ceremonies {
        let asked = lay().rehearse(usual).asked;
        for step in steps {
            for at in [At::First, At::Last] {
                let room = lay();
                let ran = kill_in(&room, &asked, step, at);
                assert!(ran.code.is_none(), "{step} {at:?}: {}", ran.said);
                room.resume(usual).ended_with(0);
                room.verified();
                assert_eq!(room.events("interrupted").len(), 1, "{step} {at:?}");
            }
        }
    }
}

#[test]
fn killed_while_a_token_is_initialised_it_is_resumed_with_pins_that_work() {
    let plain = empty();
    let asked = plain.rehearse(usual).asked;
    drop(plain);
    for at in [At::First, At::Last] {
        let room = empty();
        let ran = kill_in(&room, &asked, "init-origin", at);
        assert!(ran.code.is_none(), "{at:?}: {}", ran.said);
        room.resume(usual).ended_with(0);
        room.verified();
    }
}

/// What an interrupted attempt leaves when it was over the point of no return: a token with a PIN of which the shares are out.
#[test]
fn a_token_that_is_initialised_already_is_finished_with_the_shares_that_are_out() {
    let room = empty();
    let mut repeated = false;
    let ran = room.rehearse(|id| match id {
        "sign/sign-off/init-origin/Witness" if !repeated => {
            repeated = true;
            say("!exception")
        }
        "exception/what" | "exception/effect" | "decide/1/reason" => say("The lights went out."),
        "exception/noticed-by" => say("Witness"),
        "decide/1" => say("repeat"),
        _ => Reply::Usual,
    });
    ran.ended_with(0);
    assert!(
        ran.said
            .contains("An earlier attempt of this step had initialised the token"),
        "{}",
        ran.said
    );
    room.verified();
    let artefacts = room.bundle().join("artefacts");
    for (name, is_there) in [
        ("init-origin-1-officer.shares", true),
        ("init-origin-2-officer.shares", false),
        ("init-origin-2-user.shares", true),
    ] {
        assert_eq!(artefacts.join(name).exists(), is_there, "{name}");
    }
}

#[test]
fn an_abort_keeps_the_shares_of_a_token_that_stays_initialised() {
    let room = empty();
    room.rehearse(|id| match id {
        "begin/init-a" => say("!abort"),
        "abort/why" => say("a drill"),
        _ => Reply::Usual,
    })
    .ended_with(21);
    room.verified();
    let residue = room.events("aborted")[0]["residue"][0].as_str().unwrap().to_owned();
    assert!(
        residue.contains("origin, which step init-origin initialised"),
        "{residue}"
    );
    assert!(room.bundle().join("artefacts/init-origin-1-officer.shares").exists());
}

/// Whoever aborts after the PINs of a token became others must not lose the shares of the new ones.
#[test]
fn an_abort_keeps_the_shares_of_pins_that_were_renewed() {
    let room = born();
    let tokens = tokens_of(&room, &["origin", "a", "b"], Some("init"));
    room.prepare("rehearsal", REPLACE, &record_of(&room, "born"), &tokens);
    room.rehearse(|id| match id {
        "begin/renew-a" => say("!abort"),
        "abort/why" => say("a drill"),
        _ => Reply::Usual,
    })
    .ended_with(21);
    room.verified();
    let residue = room.events("aborted")[0]["residue"][0].as_str().unwrap().to_owned();
    assert!(
        residue.contains("origin, whose PINs step renew-origin renews"),
        "{residue}"
    );
    // With them a new backup can be made.
    room.archive("aborted");
    let shares = |whose: &str| {
        room.path(&format!("aborted/artefacts/renew-origin-1-{whose}.shares"))
            .display()
            .to_string()
    };
    let tokens = tokens_of(&room, &["origin"], None)
        + &format!(
            "officer_shares = \"{}\"\nuser_shares = \"{}\"\n",
            shares("officer"),
            shares("user")
        );
    room.prepare("rehearsal", BACKUP, "", &tokens);
    room.rehearse(usual).ended_with(0);
    room.verified();
}

#[test]
fn an_abort_destroys_what_was_made_and_says_what_remains() {
    let plain = initialised();
    let asked = plain.rehearse(usual).asked;
    drop(plain);
    // The keys are there, and the program is killed before it could say so.
    let room = initialised();
    kill_in(&room, &asked, "generate", At::Last);
    let ran = room.abort("a drill", usual);
    ran.ended_with(20);
    assert!(
        ran.said.contains("3 objects of step generate were destroyed"),
        "{}",
        ran.said
    );
    room.verified();
    assert_eq!(room.events("aborted")[0]["swept"], serde_json::json!(["generate"]));
    // It can be held from the beginning: the token has nothing of it.
    room.archive("aborted");
    generation(&room);
    let again = room.rehearse(usual);
    again.ended_with(0);
    assert!(!again.said.contains("had left"), "{}", again.said);

    // Nobody destroys it.
    let room = initialised();
    kill_in(&room, &asked, "join-a", At::Last);
    room.abort("a drill", |id| {
        if id.starts_with("sweep/") {
            say("leave")
        } else {
            Reply::Usual
        }
    })
    .ended_with(21);
    room.verified();
    let residue = room.events("aborted")[0]["residue"].as_array().unwrap().len();
    assert_eq!(residue, 3, "on the origin, on the member, and the backup");
}

#[test]
fn a_wrong_pin_does_not_end_the_ceremony_and_too_many_end_the_step() {
    let room = initialised();
    let mut wrong = 2;
    let ran = room.rehearse(|id| match id {
        "pin/a" if wrong > 0 => {
            wrong -= 1;
            say("not-the-pin")
        }
        _ => Reply::Usual,
    });
    ran.ended_with(0);
    assert!(ran.said.contains("the token refused the user's PIN"), "{}", ran.said);
    assert!(ran.said.contains("Attempts left: 1."), "{}", ran.said);
    assert!(
        !ran.said.contains(MEMBER_PIN) && !ran.said.contains("not-the-pin"),
        "{}",
        ran.said
    );
    room.verified();

    let room = initialised();
    room.rehearse(|id| match id {
        "pin/a" => say("not-the-pin"),
        "exception/what" => Reply::Leave,
        _ => Reply::Usual,
    })
    .ended_with(10);
    let failed = room.events("failed")[0]["what"].as_str().unwrap().to_owned();
    assert_eq!(failed, "a accepted none of the PINs that were typed");
    room.resume(|id| match id {
        "exception/what" | "exception/effect" => say("The operator had the PIN of another member."),
        "exception/noticed-by" => say("Operator"),
        "decide/1" => say("repeat"),
        "decide/1/reason" => say("The right one was brought."),
        _ => Reply::Usual,
    })
    .ended_with(0);
    room.verified();
}

/// Nothing rests on shares that somebody cannot decrypt.
#[test]
fn a_custodian_who_cannot_decrypt_keeps_the_token_from_being_touched() {
    let room = empty();
    let before = tree(&room.path("tokens"));
    let other = room.path("c4.identity").display().to_string();
    room.rehearse(|id| match id {
        "identity/Custodian 3" => say(&other),
        "exception/what" => Reply::Leave,
        _ => Reply::Usual,
    })
    .ended_with(10);
    let failed = room.events("failed")[0]["what"].as_str().unwrap().to_owned();
    assert!(failed.contains("Custodian 3 could not decrypt a share"), "{failed}");
    assert_eq!(tree(&room.path("tokens")), before);
}

#[test]
fn three_custodians_suffice_and_two_do_not() {
    let nobody = |room: &Room| room.path("nobody").display().to_string();
    let room = initialised();
    let path = nobody(&room);
    // Two bring something that is no identity.
    room.rehearse(|id| match id {
        "identity/Custodian 1" | "identity/Custodian 4" => say(&path),
        "exception/what" => Reply::Leave,
        _ => Reply::Usual,
    });
    let results: Vec<_> = room
        .events("result")
        .into_iter()
        .map(|event| event["step"].clone())
        .collect();
    assert!(results.contains(&"generate".into()), "{results:?}");

    let room = initialised();
    let path = nobody(&room);
    room.rehearse(|id| match id {
        "identity/Custodian 1" | "identity/Custodian 4" | "identity/Custodian 5" => say(&path),
        "exception/what" => Reply::Leave,
        _ => Reply::Usual,
    })
    .ended_with(10);
    let failed = room.events("failed")[0]["what"].as_str().unwrap().to_owned();
    assert!(failed.contains("2 shares are there, 3 are needed"), "{failed}");
}

#[test]
fn what_was_done_with_a_token_cannot_be_postponed() {
    let room = initialised();
    let mut asked = 0;
    let ran = room.rehearse(|id| match id {
        "bag/bag" if asked == 0 => {
            asked += 1;
            say("!postpone")
        }
        _ => Reply::Usual,
    });
    ran.ended_with(0);
    assert!(ran.said.contains("it cannot be postponed any more"), "{}", ran.said);
    assert!(room.events("postponed").is_empty());
}

#[test]
fn production_refuses_these_tokens() {
    let room = initialised();
    let tokens = tokens_of(&room, &["origin", "a", "b"], Some("init"));
    let script = softhsm(crate::cluster::GENERATE).replace("rehearsal = \"required\"", "rehearsal = \"optional\"");
    room.prepare("production", &script, "", &tokens);
    let before = tree(&room.path("tokens"));
    room.run(&[], |id| match id {
        "exception/what" => Reply::Leave,
        _ => Reply::Usual,
    })
    .ended_with(10);
    assert_eq!(tree(&room.path("tokens")), before);
}

fn identity(room: &Room, seat: &str) -> String {
    let text = fs::read_to_string(room.path(&format!("{seat}.identity"))).unwrap();
    let line = text.lines().find(|line| !line.starts_with('#')).unwrap();
    line.parse::<Identity>().expect("an identity");
    line.to_owned()
}

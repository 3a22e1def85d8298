//! People at a terminal: a whole ceremony in a pseudo-terminal, answered by what the screen says.

use crate::room::{Room, now, program};
use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
};

#[test]
fn whoever_reads_the_screen_can_hold_a_ceremony() {
    let room = Room::new();
    crate::keys::encrypt(&room.path("c3.key"));
    let screen = at_a_terminal(&room, |question| {
        if question.contains("Ready") || question.contains("Sign \"") {
            String::new()
        } else if question.contains("Are you here") {
            "yes".to_owned()
        } else if question.contains("Type the words") {
            room.script_words()
        } else if question.contains("by your own clock") {
            now()
        } else if question.contains("Its number?") {
            "B-0001".to_owned()
        } else if question.contains("The passphrase of your key") {
            crate::keys::PASSPHRASE.to_owned()
        } else {
            panic!("what is asked here? {question}")
        }
    });
    room.verified();
    assert_eq!(room.transcript()[0]["event"]["front"], "terminal");
    for expected in [
        "step 1 of 6: everyone",
        "step 6 of 6: end",
        "!exception",
        "Everyone follows on the printed plan",
        "Now: Administrator, Witness",
    ] {
        assert!(screen.contains(expected), "{expected} in\n{screen}");
    }
    for line in screen.lines().filter(|line| line.starts_with("  ")) {
        assert!(
            line.trim_end().chars().count() <= 80 || !line.trim().contains(' ') || line.contains("> "),
            "{line}"
        );
    }
}

/// Runs a rehearsal under `script`, which gives it a terminal; returns everything that was on the screen.
fn at_a_terminal(room: &Room, mut answer: impl FnMut(&str) -> String) -> String {
    let command = format!(
        "'{}' run '{}' --env '{}' --bundle '{}' --rehearsal",
        program().get_program().display(),
        room.path("script.toml").display(),
        room.path("env.toml").display(),
        room.bundle().display()
    );
    let child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the package bsdutils is installed");
    let mut terminal = Terminal(child);
    let mut keyboard = terminal.0.stdin.take().unwrap();
    let mut output = terminal.0.stdout.take().unwrap();
    let mut screen = String::new();
    let mut asked = 0;
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 1024];
        let read = output.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        bytes.extend(&buffer[..read]);
        screen = String::from_utf8_lossy(&bytes).replace('\r', "");
        if screen.ends_with("> ") {
            let question = screen[asked..].to_owned();
            asked = screen.len();
            let typed = answer(&question.split_whitespace().collect::<Vec<_>>().join(" "));
            writeln!(keyboard, "{typed}").unwrap();
        }
    }
    drop(keyboard);
    let ended = terminal.0.wait().unwrap();
    assert!(ended.success(), "{ended}\n{screen}");
    screen
}

/// A terminal that does not outlive its test.
struct Terminal(Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

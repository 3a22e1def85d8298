//! A room: a directory with a script, people and their keys, and a program that answers for all of them.

use age::{secrecy::ExposeSecret, x25519::Identity};
use portcullis_provisioning::signing_key::{SigningKey, SigningKeyKind};
use serde_json::Value;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};
use tempfile::TempDir;
use time::{OffsetDateTime, macros::format_description};

pub(crate) const INSPECTION: &str = include_str!("../../scripts/inspection.toml");

/// Those whom the inspection needs.
pub(crate) const PEOPLE: [(&str, &str); 8] = [
    ("Administrator", "admin"),
    ("Witness", "witness"),
    ("Custodian 1", "c1"),
    ("Custodian 2", "c2"),
    ("Custodian 3", "c3"),
    ("Custodian 4", "c4"),
    ("Custodian 5", "c5"),
    ("Custodian 6", "c6"),
];

pub(crate) struct Room {
    directory: TempDir,
    media: TempDir,
    // What was said last to be read aloud.
    heard: RefCell<String>,
}

/// What is in a room, to be put into others.
pub(crate) struct Snapshot {
    directory: (String, BTreeMap<PathBuf, Vec<u8>>),
    media: (String, BTreeMap<PathBuf, Vec<u8>>),
}

/// What is done at a question.
pub(crate) enum Reply {
    Say(String),
    /// What everyone would say.
    Usual,
    /// The program is killed while it waits.
    Kill,
    /// Nobody answers any more.
    Leave,
}

/// What a run of the program did.
pub(crate) struct Ran {
    /// The exit code; nothing after a kill.
    pub(crate) code: Option<i32>,
    /// The questions, in order.
    pub(crate) asked: Vec<String>,
    /// Everything that was written to standard output.
    pub(crate) said: String,
    /// Everything that was written to standard error.
    pub(crate) errors: String,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self::with("rehearsal", INSPECTION)
    }

    /// With a script, and an environment of this class.
    pub(crate) fn with(class: &str, script: &str) -> Self {
        Self::for_people(class, script, &PEOPLE)
    }

    /// With these people.
    pub(crate) fn for_people(class: &str, script: &str, people: &[(&str, &str)]) -> Self {
        let room = Self::empty();
        let mut environment = String::new();
        for (name, seat) in people {
            let kind = if *seat == "c2" {
                SigningKeyKind::EcdsaP256
            } else {
                SigningKeyKind::Ed25519
            };
            let (key, pem) = SigningKey::generate(kind).unwrap();
            let path = room.path(&format!("{seat}.key"));
            fs::write(&path, pem.as_str()).unwrap();
            let identity = Identity::generate();
            let identity_file = room.path(&format!("{seat}.identity"));
            let secret = identity.to_string();
            fs::write(&identity_file, format!("# for {name}\n{}\n", secret.expose_secret())).unwrap();
            environment += &format!(
                "\n[[person]]\nname = \"{name}\"\nseats = [\"{seat}\"]\nkey = \"{}\"\nkey_file = \"{}\"\nreceives = \"{}\"\n\
                 identity_file = \"{}\"\n",
                String::from(key.public().clone()),
                path.display(),
                identity.to_public(),
                identity_file.display()
            );
        }
        fs::write(room.path("people"), environment).unwrap();
        room.prepare(class, script, "", "");
        room
    }

    fn empty() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            // Another file system than the first, as production wants it.
            media: tempfile::tempdir_in("/dev/shm").unwrap(),
            heard: RefCell::default(),
        }
    }

    /// Lays another script on the table. `settings` and `tokens` stand in the environment before and after the people.
    pub(crate) fn prepare(&self, class: &str, script: &str, settings: &str, tokens: &str) {
        let people = fs::read_to_string(self.path("people")).unwrap();
        let environment = format!(
            "format = \"ceremony-environment/1\"\nclass = \"{class}\"\nsecond_medium = \"{}\"\n{settings}{people}{tokens}",
            self.media.path().display()
        );
        fs::write(self.path("env.toml"), environment).unwrap();
        fs::write(self.path("script.toml"), script).unwrap();
    }

    /// Puts the bundle away under another name, on both media.
    pub(crate) fn archive(&self, name: &str) -> PathBuf {
        fs::rename(self.bundle(), self.path(name)).unwrap();
        fs::rename(self.second_bundle(), self.media.path().join(name)).unwrap();
        self.path(name)
    }

    /// What is in it. It is closed.
    pub(crate) fn into_snapshot(self) -> Snapshot {
        let take = |directory: &TempDir| (directory.path().display().to_string(), tree(directory.path()));
        Snapshot {
            directory: take(&self.directory),
            media: take(&self.media),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    pub(crate) fn second_bundle(&self) -> PathBuf {
        self.media.path().join("bundle")
    }

    /// Where SoftHSM2 is told of its tokens, if there are any.
    pub(crate) fn softhsm_configuration(&self) -> PathBuf {
        self.path("softhsm2.conf")
    }

    /// Changes the environment.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("env.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(self.path("env.toml"), text.replace(from, to)).unwrap();
    }

    /// Holds the rehearsal, with these answers.
    pub(crate) fn rehearse(&self, answer: impl FnMut(&str) -> Reply) -> Ran {
        self.run(&["--rehearsal"], answer)
    }

    pub(crate) fn run(&self, arguments: &[&str], answer: impl FnMut(&str) -> Reply) -> Ran {
        let mut command = program();
        command
            .arg("run")
            .arg(self.path("script.toml"))
            .arg("--env")
            .arg(self.path("env.toml"))
            .arg("--bundle")
            .arg(self.bundle())
            .args(arguments)
            .arg("--dialogue");
        self.drive(command, answer)
    }

    pub(crate) fn resume(&self, answer: impl FnMut(&str) -> Reply) -> Ran {
        let mut command = program();
        command.arg("resume").arg(self.bundle()).arg("--dialogue");
        self.drive(command, answer)
    }

    pub(crate) fn abort(&self, why: &str, answer: impl FnMut(&str) -> Reply) -> Ran {
        let mut command = program();
        command
            .arg("abort")
            .arg(self.bundle())
            .args(["--why", why, "--dialogue"]);
        self.drive(command, answer)
    }

    pub(crate) fn verify(&self) -> Output {
        run(&["verify", self.bundle().to_str().unwrap()])
    }

    /// The bundle holds, and so does its copy.
    pub(crate) fn verified(&self) {
        for bundle in [self.bundle(), self.second_bundle()] {
            let output = run(&["verify", bundle.to_str().unwrap()]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert_eq!(tree(&self.bundle()), tree(&self.second_bundle()));
    }

    /// The transcript, entry by entry.
    pub(crate) fn transcript(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.bundle().join("transcript.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The entries of a kind.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let entries = self.transcript().into_iter().map(|entry| entry["event"].clone());
        entries.filter(|event| event["is"] == kind).collect()
    }

    fn drive(&self, mut command: Command, mut answer: impl FnMut(&str) -> Reply) -> Ran {
        let child = command
            .env("SOFTHSM2_CONF", self.softhsm_configuration())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Killed(child);
        let mut answers = child.0.stdin.take();
        let questions = BufReader::new(child.0.stdout.take().unwrap());
        let mut ran = Ran {
            code: None,
            asked: Vec::new(),
            said: String::new(),
            errors: String::new(),
        };
        for line in questions.lines() {
            let line = line.unwrap();
            ran.said += &line;
            ran.said.push('\n');
            let message: Value = serde_json::from_str(&line).expect("a line of JSON");
            if let Some(words) = message["say"].as_str().and_then(|said| said.strip_prefix("    ")) {
                *self.heard.borrow_mut() = words.to_owned();
            }
            let Some(id) = message["ask"].as_str() else {
                continue;
            };
            ran.asked.push(id.to_owned());
            let text = match answer(id) {
                Reply::Say(text) => text,
                Reply::Usual => self.usual(id),
                Reply::Kill => {
                    child.0.kill().unwrap();
                    break;
                }
                Reply::Leave => {
                    answers = None;
                    continue;
                }
            };
            writeln!(answers.as_mut().expect("somebody who answers"), "{text}").unwrap();
        }
        drop(answers);
        let mut errors = child.0.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut errors, &mut ran.errors).unwrap();
        ran.code = child.0.wait().unwrap().code();
        ran
    }

    /// What everyone says where nothing goes wrong.
    pub(crate) fn usual(&self, id: &str) -> String {
        let topic = id.split('/').next().unwrap();
        match topic {
            "roll-call" | "task" => "yes".to_owned(),
            "words" => self.script_words(),
            "clock" => now(),
            "bag" => "B-0001".to_owned(),
            "label" => "STICK-7".to_owned(),
            "heard" => self.heard.borrow().clone(),
            "pin" | "new-pin" => MEMBER_PIN.to_owned(),
            "sweep" => "destroy".to_owned(),
            "begin" | "sign" | "identity" => String::new(),
            _ => panic!("nobody was told what to say to {id}"),
        }
    }

    pub(crate) fn script_words(&self) -> String {
        let output = run(&["plan", self.path("script.toml").to_str().unwrap()]);
        let plan = String::from_utf8(output.stdout).unwrap();
        let words: Vec<&str> = plan
            .lines()
            .skip_while(|line| !line.starts_with("Hash of the script"))
            .skip(1)
            .take(4)
            .map(str::trim)
            .collect();
        words.join(" ")
    }
}

impl Snapshot {
    /// Another room with the same in it.
    pub(crate) fn room(&self) -> Room {
        let room = Room::empty();
        let here = [&room.directory, &room.media].map(|directory| directory.path().display().to_string());
        for ((_, files), directory) in [&self.directory, &self.media]
            .into_iter()
            .zip([&room.directory, &room.media])
        {
            for (name, content) in files {
                let path = directory.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let is_ours = ["env.toml", "people", "softhsm2.conf"]
                    .iter()
                    .any(|one| name == Path::new(one));
                if is_ours {
                    let text = String::from_utf8(content.clone()).unwrap();
                    let text = text
                        .replace(&self.directory.0, &here[0])
                        .replace(&self.media.0, &here[1]);
                    fs::write(path, text).unwrap();
                } else {
                    fs::write(path, content).unwrap();
                }
            }
        }
        room
    }
}

/// A program that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ran {
    pub(crate) fn ended_with(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.said, self.errors);
        self
    }
}

/// What the operator chose for members.
pub(crate) const MEMBER_PIN: &str = "a-member-s-pin-4711";

pub(crate) fn usual(_: &str) -> Reply {
    Reply::Usual
}

pub(crate) fn say(text: &str) -> Reply {
    Reply::Say(text.to_owned())
}

pub(crate) fn now() -> String {
    let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    OffsetDateTime::now_utc().format(form).unwrap()
}

pub(crate) fn program() -> Command {
    // Tests of another package find it beside themselves.
    let beside = || {
        let test = std::env::current_exe().unwrap();
        let mut directories = test
            .ancestors()
            .skip(1)
            .take(2)
            .map(|directory| directory.join("portcullis-ceremony"));
        directories
            .find(|path| path.is_file())
            .expect("portcullis-ceremony is not built; run: cargo build --workspace")
    };
    Command::new(option_env!("CARGO_BIN_EXE_portcullis-ceremony").map_or_else(beside, PathBuf::from))
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    program().args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Every file below a directory, with what is in it.
pub(crate) fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

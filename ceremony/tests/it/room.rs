//! A room: a directory with a script, people and their keys, and a program that answers for all of them.

use portcullis_provisioning::signing_key::{SigningKey, SigningKeyKind};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};
use tempfile::TempDir;
use time::{OffsetDateTime, macros::format_description};

pub(crate) const INSPECTION: &str = include_str!("../../scripts/inspection.toml");

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
        let room = Self {
            directory: tempfile::tempdir().unwrap(),
            // Another file system than the first, as production wants it.
            media: tempfile::tempdir_in("/dev/shm").unwrap(),
        };
        let mut environment = format!(
            "format = \"ceremony-environment/1\"\nclass = \"{class}\"\nsecond_medium = \"{}\"\n",
            room.media.path().display()
        );
        for (name, seat) in PEOPLE {
            let kind = if seat == "c2" {
                SigningKeyKind::EcdsaP256
            } else {
                SigningKeyKind::Ed25519
            };
            let (key, pem) = SigningKey::generate(kind).unwrap();
            let path = room.path(&format!("{seat}.key"));
            fs::write(&path, pem.as_str()).unwrap();
            environment += &format!(
                "\n[[person]]\nname = \"{name}\"\nseats = [\"{seat}\"]\nkey = \"{}\"\nkey_file = \"{}\"\n",
                String::from(key.public().clone()),
                path.display()
            );
        }
        fs::write(room.path("env.toml"), environment).unwrap();
        fs::write(room.path("script.toml"), script).unwrap();
        room
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
            "begin" | "sign" => String::new(),
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
    Command::new(env!("CARGO_BIN_EXE_portcullis-ceremony"))
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

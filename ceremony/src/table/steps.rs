//! What each step asks and does.

use super::{Detour, Facts, Table};
use crate::{
    clock::Clock,
    failure::Failure,
    front::Front,
    name::Name,
    script::{Action, FileHash, Spoken, Step},
    token::permitted,
    transcript::Event,
};
use portcullis_provisioning::custodian::CustodianName;
use std::{collections::BTreeMap, fs, path::Path};
use time::{
    OffsetDateTime, PrimitiveDateTime, format_description::StaticFormatDescription, macros::format_description,
};

/// How a step ends by itself.
pub(super) enum StepEnd {
    Done {
        facts: Facts,
        artefacts: BTreeMap<String, FileHash>,
    },
    Failed(String),
}

impl StepEnd {
    fn done<const N: usize>(facts: [(&str, String); N]) -> Self {
        Self::Done {
            facts: facts.map(|(name, value)| (name.to_owned(), value)).into(),
            artefacts: BTreeMap::new(),
        }
    }
}

impl<F: Front, C: Clock> Table<'_, F, C> {
    pub(super) fn perform(&mut self, step: &Step, by: &[CustodianName]) -> Result<StepEnd, Detour> {
        let first = by.first().map(CustodianName::to_string).unwrap_or_default();
        match &step.action {
            Action::RollCall => self.roll_call(),
            Action::AttestTime { within } => self.attest_time(by, i64::from(*within)),
            Action::AttestHost { offline } => self.attest_host(*offline),
            Action::AttestHsm { on } => self.attest_hsm(step, on),
            Action::ReadAloud { what } => self.read_aloud(step, by, what),
            Action::MediaRegister { what } => {
                let id = format!("label/{}", step.id);
                let label = self.ask_text(&id, &first, &format!("What is printed on it? ({what})"))?;
                Ok(StepEnd::done([("label", label), ("medium", what.clone())]))
            }
            Action::SealBag { what } => {
                let id = format!("bag/{}", step.id);
                let number = self.ask_text(&id, &first, &format!("Seal the bag. Its number? ({what})"))?;
                Ok(StepEnd::done([("bag", number), ("content", what.clone())]))
            }
            Action::Task { what } => {
                let id = format!("task/{}", step.id);
                let done = self.ask(&id, &first, &format!("Is it done? {what}"), &["yes", "no"])?;
                Ok(match done.as_str() {
                    "yes" => StepEnd::done([("done", what.clone())]),
                    _ => StepEnd::Failed(format!("{first} says that it is not done")),
                })
            }
            Action::Photo { what } => self.photo(step, &first, what),
            Action::Token { on, deed } => self.perform_deed(step, by, on, deed),
            Action::Record {
                cluster,
                activation,
                without,
            } => self.make_record(step, cluster, *activation, without),
            Action::SignOff | Action::Close => Ok(StepEnd::done([])),
        }
    }

    fn roll_call(&mut self) -> Result<StepEnd, Detour> {
        for person in &self.environment.people {
            let id = format!("roll-call/{}", person.name);
            let prompt = format!(
                "Are you here, and did you read the script? Seats: {}",
                person.seats_in_words()
            );
            let answer = self.ask(&id, person.name.as_str(), &prompt, &["yes", "no"])?;
            let person = person.name.clone();
            self.append(match answer.as_str() {
                "yes" => Event::Present { person },
                _ => Event::Absent { person },
            })?;
        }
        match self.progress.roll_call_suffices() {
            Err(missing) => Ok(StepEnd::Failed(missing)),
            Ok(()) => {
                let present = self.progress.present().len();
                let custodians = self.progress.acting_custodians().len();
                Ok(StepEnd::done([
                    ("custodians", custodians.to_string()),
                    ("present", present.to_string()),
                ]))
            }
        }
    }

    fn attest_time(&mut self, by: &[CustodianName], within: i64) -> Result<StepEnd, Detour> {
        let mut facts = Facts::new();
        for person in by {
            let id = format!("clock/{person}");
            let difference = loop {
                let prompt =
                    "What time is it by your own clock, in UTC, as 2026-12-01 08:30:05? Press Enter at that second";
                let typed = self.ask(&id, person.as_str(), prompt, &[])?;
                let host = self.clock.now();
                match PrimitiveDateTime::parse(&typed, CLOCK) {
                    Ok(read) => break (read.assume_utc() - host).whole_seconds(),
                    Err(_) => self.say("Expected a date and a time, such as 2026-12-01 08:30:05.")?,
                }
            };
            facts.insert(
                format!("difference to the clock of {person}"),
                format!("{difference} s"),
            );
            if difference.abs() > within {
                return Ok(StepEnd::Failed(format!(
                    "the clock of {person} differs by {difference} s from the host's, at most {within} s are permitted"
                )));
            }
        }
        let host: OffsetDateTime = self.clock.now();
        let host = host
            .format(CLOCK)
            .map_err(|error| Failure::Environment(error.to_string()))?;
        facts.insert("host".to_owned(), format!("{host} UTC"));
        Ok(StepEnd::Done {
            facts,
            artefacts: BTreeMap::new(),
        })
    }

    fn attest_host(&mut self, offline: bool) -> Result<StepEnd, Detour> {
        let facts = self
            .host
            .facts()
            .map_err(Failure::file("read what the system says of itself"))?;
        Ok(match self.progress.host_suffices(offline, &facts) {
            Err(why) => StepEnd::Failed(why),
            Ok(()) => StepEnd::Done {
                facts,
                artefacts: BTreeMap::new(),
            },
        })
    }

    fn attest_hsm(&mut self, step: &Step, on: &Name) -> Result<StepEnd, Detour> {
        let Some(token) = self.environment.token(on) else {
            return Ok(StepEnd::Failed(format!("the environment has no token {on}")));
        };
        let described = match token.describe() {
            Ok(described) => described,
            Err(error) => return Ok(StepEnd::Failed(error.to_string())),
        };
        if let Err(why) = permitted(self.environment.class, self.script, described.is_software()) {
            return Ok(StepEnd::Failed(format!("{on}: {why}")));
        }
        let mut abilities = described.abilities.join("\n");
        abilities.push('\n');
        let name = self.artefact(step, "txt");
        self.bundle
            .keep(&name, abilities.as_bytes())
            .map_err(Failure::file("keep what the token can do in the bundle"))?;
        Ok(StepEnd::Done {
            facts: described.facts(),
            artefacts: [(name, FileHash::of(abilities.as_bytes()))].into(),
        })
    }

    fn read_aloud(&mut self, step: &Step, by: &[CustodianName], what: &Spoken) -> Result<StepEnd, Detour> {
        let [reader, typist] = by else {
            return Ok(StepEnd::Failed(format!(
                "{} people act, expected a reader and a typist",
                by.len()
            )));
        };
        let hash = match what {
            Spoken::Script => self.script.hash,
            Spoken::Environment => self.environment.hash,
        };
        // The words are not shown: whoever types must have heard them.
        self.say(&format!(
            "{reader} reads {what} aloud from the printed plan, word by word."
        ))?;
        for left in (0..ATTEMPTS_TO_TYPE).rev() {
            let id = format!("words/{}", step.id);
            let typed = self.ask(&id, typist.as_str(), "Type the words that you hear", &[])?;
            match hash.words().compare(&typed) {
                Ok(()) => {
                    return Ok(StepEnd::done([
                        ("hash", hash.to_string()),
                        ("read by", reader.to_string()),
                        ("typed by", typist.to_string()),
                    ]));
                }
                Err(difference) => self.say(&format!("{difference}. Attempts left: {left}."))?,
            }
        }
        Ok(StepEnd::Failed(format!(
            "what {typist} typed was never what the program has as {what}"
        )))
    }

    fn photo(&mut self, step: &Step, who: &str, what: &str) -> Result<StepEnd, Detour> {
        let id = format!("photo/{}", step.id);
        loop {
            let path = self.ask_text(&id, who, &format!("Take a picture. Where is its file? ({what})"))?;
            let path = Path::new(&path);
            let size = fs::metadata(path).map(|metadata| metadata.len());
            let content = match size {
                Ok(size) if size > LARGEST_PICTURE => {
                    self.say(&format!("It has {size} bytes, at most {LARGEST_PICTURE} are kept."))?;
                    continue;
                }
                Ok(_) => fs::read(path),
                Err(error) => Err(error),
            };
            match content {
                Err(error) => self.say(&format!("It cannot be read: {error}"))?,
                Ok(content) => {
                    let name = match path.extension().and_then(|extension| extension.to_str()) {
                        Some(extension @ ("jpg" | "jpeg" | "png")) => self.artefact(step, extension),
                        _ => {
                            self.say("Expected a file that ends in .jpg, .jpeg or .png.")?;
                            continue;
                        }
                    };
                    self.bundle
                        .keep(&name, &content)
                        .map_err(Failure::file("keep the picture in the bundle"))?;
                    return Ok(StepEnd::Done {
                        facts: [("picture".to_owned(), what.to_owned())].into(),
                        artefacts: [(name, FileHash::of(&content))].into(),
                    });
                }
            }
        }
    }

    /// What a file of the attempt that was begun is called. Every attempt has names of its own: a step that is repeated leaves what
    /// the attempts before it made, of which the transcript speaks.
    pub(super) fn artefact(&self, step: &Step, extension: &str) -> String {
        format!("{}-{}.{extension}", step.id, self.progress.attempts(&step.id))
    }
}

const CLOCK: StaticFormatDescription = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
const ATTEMPTS_TO_TYPE: u32 = 3;
const LARGEST_PICTURE: u64 = 64 * 1024 * 1024;

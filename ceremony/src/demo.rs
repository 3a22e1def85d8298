//! A whole ceremony without people: what somebody who has never seen one can look at.

use crate::{
    bundle::{self, Bundle},
    clock::HostClock,
    environment::Environment,
    failure::Failure,
    front::{Front, Question, Scene},
    host::Host,
    lint::lint,
    script::Script,
    table::{End, Setting, Table},
    transcript::FrontKind,
};
use portcullis_provisioning::signing_key::{PublicKey, SigningKey, SigningKeyKind};
use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};
use time::{OffsetDateTime, format_description::StaticFormatDescription, macros::format_description};
use zeroize::Zeroizing;

/// Makes the directory, and people with keys in it; holds the shipped inspection with them, an absence and an exception included,
/// and verifies the bundle that it leaves.
pub fn hold(directory: &Path, host: &Host, out: &mut impl Write) -> Result<(), Failure> {
    let file = |what: &str| {
        let what = format!("{what} in {}", directory.display());
        move |source| Failure::File { what, source }
    };
    let directory = &std::path::absolute(directory).map_err(file("work"))?;
    fs::create_dir(directory).map_err(file("begin"))?;
    let media = directory.join("second-medium");
    fs::create_dir(&media).map_err(file("make a directory"))?;
    let environment_text = people(directory, &media)?;
    for (name, text) in [("script.toml", SCRIPT), ("env.toml", &environment_text)] {
        fs::write(directory.join(name), text).map_err(file("write"))?;
    }
    let invalid = |problems| Failure::Invalid {
        path: directory.clone(),
        problems,
    };
    let script = Script::parse(SCRIPT).map_err(invalid)?;
    let environment = Environment::parse(&environment_text).map_err(invalid)?;
    lint(&script, &environment).map_err(invalid)?;
    let bundle_directory = directory.join("bundle");
    let bundle = Bundle::create(
        &bundle_directory,
        &media,
        SCRIPT.as_bytes(),
        environment_text.as_bytes(),
    )
    .map_err(file("make the bundle"))?;
    let setting = Setting {
        script: &script,
        environment: &environment,
        host,
        rehearsal: None,
        bundle,
    };
    let players = Players {
        words: script.hash.words().to_string(),
        raised: false,
        out: &mut *out,
    };
    let end = Table::begin(setting, players, HostClock::default())?.hold()?;
    if !matches!(end, End::Over(_)) {
        return Err(Failure::Environment(
            "the demonstration did not come to its end".to_owned(),
        ));
    }
    let verified = bundle::verify(&bundle_directory)?;
    writeln!(
        out,
        "\nVerified: {} signatures, head {}\nLook at {}",
        verified.signatures,
        verified.head,
        bundle_directory.join("report.html").display()
    )
    .map_err(Failure::Front)
}

/// Everyone whom the shipped scripts need, with keys of both kinds. Returns the environment.
fn people(directory: &Path, media: &Path) -> Result<String, Failure> {
    let refused = |error: portcullis_provisioning::Error| Failure::Environment(error.to_string());
    let mut text = format!(
        "format = \"ceremony-environment/1\"\nclass = \"rehearsal\"\nsecond_medium = {:?}\n",
        media.display().to_string()
    );
    for (place, (name, seat)) in PEOPLE.into_iter().enumerate() {
        let kind = if place % 2 == 0 {
            SigningKeyKind::Ed25519
        } else {
            SigningKeyKind::EcdsaP256
        };
        let (key, pem) = SigningKey::generate(kind).map_err(refused)?;
        let path = directory.join(format!("{seat}.key"));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(pem.as_bytes()))
            .map_err(|source| Failure::File {
                what: format!("write {}", path.display()),
                source,
            })?;
        // Invariant: writing to a text does not fail.
        write!(
            text,
            "\n[[person]]\nname = \"{name}\"\nseats = [\"{seat}\"]\nkey = \"{}\"\nkey_file = {:?}\n",
            String::from(PublicKey::clone(key.public())),
            path.display().to_string()
        )
        .expect("writing to a text");
    }
    Ok(text)
}

/// Answers as people would, and shows what is asked and answered.
struct Players<'a, W> {
    words: String,
    raised: bool,
    out: &'a mut W,
}

impl<W: Write> Front for Players<'_, W> {
    fn kind(&self) -> FrontKind {
        FrontKind::Descriptor
    }

    fn scene(&mut self, scene: &Scene) -> io::Result<()> {
        writeln!(self.out, "\n{} of {}  {}", scene.number, scene.count, scene.words)
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "    {text}")
    }

    fn ask(&mut self, question: &Question) -> io::Result<Option<String>> {
        let answer = self.answer(&question.id);
        writeln!(self.out, "  {}: {}", question.who, question.prompt)?;
        writeln!(self.out, "  > {answer}")?;
        Ok(Some(answer))
    }

    fn ask_secret(&mut self, _: &Question) -> io::Result<Option<Zeroizing<String>>> {
        // No key of theirs has a passphrase.
        Ok(None)
    }
}

impl<W> Players<'_, W> {
    fn answer(&mut self, id: &str) -> String {
        let (topic, rest) = id.split_once('/').unwrap_or((id, ""));
        match topic {
            // One custodian could not come: the alternate stands in.
            "roll-call" if rest == ABSENT => "no",
            "roll-call" | "task" => "yes",
            "words" => &self.words,
            "clock" => return OffsetDateTime::now_utc().format(CLOCK).unwrap_or_default(),
            "bag" if !self.raised => {
                self.raised = true;
                "!exception"
            }
            "bag" => "B-0002",
            "exception" => match rest {
                "what" => "The bag B-0001 tore when it was closed.",
                "noticed-by" => "Witness",
                _ => "None: the stick was not out of sight. A second bag is used.",
            },
            "decide" if rest.ends_with("reason") => "The torn bag is kept with the papers of this ceremony.",
            "decide" => "go-on",
            // Enter: to begin a step, and for the key that the environment names.
            _ => "",
        }
        .to_owned()
    }
}

const SCRIPT: &str = include_str!("../scripts/inspection.toml");
const ABSENT: &str = "Custodian 5";
const PEOPLE: [(&str, &str); 8] = [
    ("Administrator", "admin"),
    ("Witness", "witness"),
    ("Custodian 1", "c1"),
    ("Custodian 2", "c2"),
    ("Custodian 3", "c3"),
    ("Custodian 4", "c4"),
    ("Custodian 5", "c5"),
    ("Custodian 6", "c6"),
];
const CLOCK: StaticFormatDescription = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");

//! The commands.

use clap::{Args, Parser, Subcommand};
use portcullis_ceremony::{
    bundle::{self, Bundle, ENVIRONMENT, ReportCheck, SCRIPT},
    clock::{Clock, HostClock},
    demo,
    environment::{Class, Environment},
    exit::Exit,
    failure::Failure,
    front::{Dialogue, Front, Terminal},
    host::Host,
    lint::lint,
    progress::Outcome,
    script::Script,
    table::{End, Setting, Table},
    transcript::RehearsalLink,
};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Scripted ceremonies of several people for the keys on which everything rests.
#[derive(Debug, Parser)]
#[command(name = "portcullis-ceremony", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks a script, and whether the people of an environment can hold it: says everything that is wrong.
    Lint {
        /// The script, script.toml
        script: PathBuf,
        /// The environment, env.toml
        #[arg(long)]
        env: Option<PathBuf>,
    },
    /// Prints every step of a script in words, with who does it, and the hashes as words to read aloud. Print it for everyone.
    Plan {
        /// The script, script.toml
        script: PathBuf,
        /// The environment, env.toml
        #[arg(long)]
        env: Option<PathBuf>,
    },
    /// Holds a ceremony.
    Run {
        /// The script, script.toml
        script: PathBuf,
        /// The environment, env.toml
        #[arg(long)]
        env: PathBuf,
        /// The directory to make, in which the ceremony leaves everything
        #[arg(long)]
        bundle: PathBuf,
        /// This is a rehearsal: the environment must say the same
        #[arg(long)]
        rehearsal: bool,
        #[command(flatten)]
        answers: Answers,
    },
    /// Goes on with a ceremony that was paused, or whose program was ended.
    Resume {
        /// The ceremony's bundle
        bundle: PathBuf,
        #[command(flatten)]
        answers: Answers,
    },
    /// Ends a ceremony without its purpose.
    Abort {
        /// The ceremony's bundle
        bundle: PathBuf,
        /// Why
        #[arg(long)]
        why: String,
        #[command(flatten)]
        answers: Answers,
    },
    /// Checks a bundle, without an HSM and without a network: names the first thing that is wrong.
    Verify {
        /// The bundle
        bundle: PathBuf,
    },
    /// Holds a whole ceremony by itself, with people and keys that it makes up, and leaves it to look at.
    Demo {
        /// The directory to make
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Answers {
    /// A program answers: questions as lines of JSON on standard output, answers as lines on standard input
    #[arg(long)]
    dialogue: bool,
}

/// Runs the command that was given.
pub(crate) fn run() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap knows whether this belongs on standard output or standard error. Where that is closed, nobody reads it.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    match perform(arguments.command) {
        Ok(exit) => exit,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{failure}");
            failure.exit()
        }
    }
}

fn perform(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Lint { script, env } => {
            let (script, environment) = read_both(&script, env.as_deref())?;
            let people = match environment {
                Some(environment) => format!(", held by {} people", environment.people.len()),
                None => String::new(),
            };
            print(&[
                format!("{}: a valid script of kind {}{people}", script.title, script.kind),
                script.hash.to_string(),
            ])?;
            Ok(Exit::Done)
        }
        Command::Plan { script, env } => {
            let (script, environment) = read_both(&script, env.as_deref())?;
            let mut lines = script.plan();
            lines.extend(environment.iter().flat_map(Environment::in_words));
            print(&lines)?;
            Ok(Exit::Done)
        }
        Command::Run {
            script,
            env,
            bundle,
            rehearsal,
            answers,
        } => begin(&script, &env, &bundle, rehearsal, &answers),
        Command::Resume { bundle, answers } => take_up(&bundle, &answers, None),
        Command::Abort { bundle, why, answers } => take_up(&bundle, &answers, Some(&why)),
        Command::Verify { bundle } => verify(&bundle),
        Command::Demo { directory } => {
            let host = examine()?;
            let mut out = io::stdout();
            demo::hold(&directory, &host, &mut out)?;
            Ok(Exit::Done)
        }
    }
}

fn begin(script: &Path, env: &Path, directory: &Path, rehearsal: bool, answers: &Answers) -> Result<Exit, Failure> {
    let (script_text, env_text) = (read_text(script)?, read_text(env)?);
    let script = parse(script, Script::parse(&script_text))?;
    let environment = parse(env, Environment::parse(&env_text))?;
    parse(env, lint(&script, &environment))?;
    match (environment.class, rehearsal) {
        (Class::Rehearsal, true) | (Class::Production, false) => {}
        (class, _) => {
            return Err(Failure::Environment(format!(
                "{} is of class {class}: a rehearsal is run with --rehearsal, and nothing else is",
                env.display()
            )));
        }
    }
    if !script.window.contains(HostClock::default().now()) {
        return Err(Failure::Environment(
            "it is outside of the window in which the script may be held: valid_from to valid_until".to_owned(),
        ));
    }
    let link = rehearsal_link(&script, &environment)?;
    media_differ(directory, &environment)?;
    let host = examine()?;
    let bundle = Bundle::create(
        directory,
        &environment.second_medium,
        script_text.as_bytes(),
        env_text.as_bytes(),
    )
    .map_err(|source| Failure::File {
        what: "make the bundle and its copy on the second medium".to_owned(),
        source,
    })?;
    let setting = Setting {
        script: &script,
        environment: &environment,
        host: &host,
        rehearsal: link,
        bundle,
    };
    hold(setting, answers, Start::Begin)
}

fn take_up(directory: &Path, answers: &Answers, abort: Option<&str>) -> Result<Exit, Failure> {
    let (script_path, env_path) = (directory.join(SCRIPT), directory.join(ENVIRONMENT));
    let script = parse(&script_path, Script::parse(&read_text(&script_path)?))?;
    let environment = parse(&env_path, Environment::parse(&read_text(&env_path)?))?;
    let host = examine()?;
    let bundle = Bundle::at(directory, &environment.second_medium).map_err(|source| Failure::File {
        what: "find the bundle".to_owned(),
        source,
    })?;
    // Once the ceremony has begun, its transcript says what was rehearsed.
    let [transcript, _] = bundle.transcripts();
    let begun = fs::metadata(transcript).is_ok_and(|metadata| metadata.len() > 0);
    let rehearsal = if begun {
        None
    } else {
        rehearsal_link(&script, &environment)?
    };
    let setting = Setting {
        script: &script,
        environment: &environment,
        host: &host,
        rehearsal,
        bundle,
    };
    hold(setting, answers, abort.map_or(Start::Resume, Start::Abort))
}

enum Start<'a> {
    Begin,
    Resume,
    Abort(&'a str),
}

fn hold(setting: Setting<'_>, answers: &Answers, start: Start<'_>) -> Result<Exit, Failure> {
    if answers.dialogue {
        hold_with(setting, Dialogue::new(io::stdin().lock(), io::stdout()), start)
    } else {
        hold_with(setting, Terminal::default(), start)
    }
}

fn hold_with(setting: Setting<'_>, front: impl Front, start: Start<'_>) -> Result<Exit, Failure> {
    let clock = HostClock::default();
    let end = match start {
        Start::Begin => Table::begin(setting, front, clock)?.hold()?,
        Start::Resume => Table::resume(setting, front, clock)?.hold()?,
        Start::Abort(why) => Table::resume(setting, front, clock)?.end_here(why)?,
    };
    Ok(match end {
        End::Over(outcome) => outcome.into(),
        End::Paused => Exit::Paused,
    })
}

fn verify(directory: &Path) -> Result<Exit, Failure> {
    let verified = bundle::verify(directory)?;
    let outcome = match verified.outcome {
        Outcome::Done => "done",
        Outcome::AbortedClean => "aborted, nothing remains",
        Outcome::AbortedWithResidue => "aborted, something may remain",
        Outcome::Postponed => "postponed",
        _ => "over",
    };
    let report = match verified.report {
        ReportCheck::Holds => "the report says what the transcript says",
        ReportCheck::NotChecked => {
            "REPORT NOT CHECKED: another version of the program took part in this ceremony, and the report is not what this \
             one makes of it. Believe the transcript alone, or verify the bundle by that version"
        }
    };
    print(&[
        format!("{}: {outcome}", verified.script.title),
        format!("ceremony {}, a {}", verified.ceremony, verified.class),
        format!("script {}", verified.script.hash),
        format!("{} signatures, {} exceptions", verified.signatures, verified.exceptions),
        format!("head {}", verified.head),
        report.to_owned(),
    ])?;
    Ok(Exit::Done)
}

/// Checks the rehearsal that production is based on.
fn rehearsal_link(script: &Script, environment: &Environment) -> Result<Option<RehearsalLink>, Failure> {
    let Some(directory) = &environment.rehearsal else {
        return Ok(None);
    };
    let refused = |what: &str| Failure::Environment(format!("the rehearsal {}: {what}", directory.display()));
    let verified = bundle::verify(directory).map_err(|fault| refused(&fault.to_string()))?;
    if verified.script.hash != script.hash {
        return Err(refused("it is of another script; expected one of this very script"));
    }
    if verified.class != Class::Rehearsal || verified.outcome != Outcome::Done {
        return Err(refused("it is no rehearsal that was done to its end"));
    }
    Ok(Some(RehearsalLink {
        ceremony: verified.ceremony,
        head: verified.head,
        durations: verified.durations,
    }))
}

/// In production the second medium is one: not the same file system under another name.
fn media_differ(directory: &Path, environment: &Environment) -> Result<(), Failure> {
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let device = |path: &Path| {
        fs::metadata(path)
            .map(|metadata| metadata.dev())
            .map_err(|source| Failure::File {
                what: format!("look at {}", path.display()),
                source,
            })
    };
    let same = device(parent)? == device(&environment.second_medium)?;
    if same && environment.class == Class::Production {
        return Err(Failure::Environment(format!(
            "{} is on the same file system as the bundle: expected a second medium, which survives the first",
            environment.second_medium.display()
        )));
    }
    Ok(())
}

fn examine() -> Result<Host, Failure> {
    Host::examine().map_err(|source| Failure::File {
        what: "read the program's own file".to_owned(),
        source,
    })
}

fn read_both(script: &Path, env: Option<&Path>) -> Result<(Script, Option<Environment>), Failure> {
    let parsed = parse(script, Script::parse(&read_text(script)?))?;
    let Some(env) = env else {
        return Ok((parsed, None));
    };
    let environment = parse(env, Environment::parse(&read_text(env)?))?;
    parse(env, lint(&parsed, &environment))?;
    Ok((parsed, Some(environment)))
}

fn parse<T>(path: &Path, parsed: Result<T, portcullis_ceremony::problem::Problems>) -> Result<T, Failure> {
    parsed.map_err(|problems| Failure::Invalid {
        path: path.to_owned(),
        problems,
    })
}

fn read_text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))
}

fn print(lines: &[String]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    lines
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
        .map_err(Failure::Front)
}

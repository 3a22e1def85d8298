//! What a ceremony reads: scripts and environments that people wrote, keys that they bring, and the bundle that it left.

use crate::{Memory, Pure, Target, Verdict};
use portcullis_ceremony::{
    bundle::Manifest,
    environment::Environment,
    key_file::{PrivateKeyFile, parse_public},
    progress::{Progress, Stage},
    script::Script,
    transcript::{Event, Lines},
};
use std::collections::BTreeSet;

/// `script.toml`.
pub(super) const SCRIPTS: Target = Target {
    name: "ceremony_scripts",
    prepare: || {
        pure(
            || {
                [SCRIPT]
                    .iter()
                    .chain(&SHIPPED)
                    .map(|text| text.as_bytes().to_vec())
                    .collect()
            },
            judge_script,
        )
    },
};

/// `env.toml`.
pub(super) const ENVIRONMENTS: Target = Target {
    name: "ceremony_environments",
    prepare: || pure(|| vec![ENVIRONMENT.as_bytes().to_vec()], judge_environment),
};

/// `transcript.jsonl`.
pub(super) const TRANSCRIPTS: Target = Target {
    name: "ceremony_transcripts",
    prepare: || pure(transcripts, judge_transcript),
};

/// `MANIFEST`.
pub(super) const MANIFESTS: Target = Target {
    name: "ceremony_manifests",
    prepare: || pure(|| vec![MANIFEST.to_vec()], judge_manifest),
};

/// Keys in the forms of other tools.
pub(super) const KEYS: Target = Target {
    name: "ceremony_keys",
    prepare: || pure(keys, judge_key),
};

fn pure(samples: fn() -> Vec<Vec<u8>>, judge: fn(&[u8]) -> Verdict) -> Box<dyn crate::Subject> {
    Box::new(Pure {
        samples,
        judge,
        memory: Memory {
            // The script and the environment to which a transcript is held are read anew for each.
            fixed: 1024 * 1024,
            per_byte: 256,
        },
    })
}

fn judge_script(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused;
    };
    let read = Script::parse(text);
    match &read {
        Err(problems) => assert!(problems.iter().next().is_some(), "what is refused has a reason"),
        Ok(script) => {
            if let Some(quorum) = &script.quorum {
                assert!(quorum.need >= 2, "nobody meets a quorum alone");
                assert!(usize::from(quorum.need) <= quorum.of.len(), "a quorum can be met");
                let seats: BTreeSet<_> = quorum.of.iter().chain(&quorum.alternates).collect();
                assert_eq!(seats.len(), quorum.of.len() + quorum.alternates.len());
            }
            let ids: BTreeSet<_> = script.steps.iter().map(|step| &step.id).collect();
            assert_eq!(ids.len(), script.steps.len(), "a step has one name");
            let plan = script.plan().join("\n");
            assert!(script.steps.iter().all(|step| plan.contains(&step.in_words())));
            assert!(!plan.chars().any(|c| c.is_control() && c != '\n'), "a plan is text");
        }
    }
    Verdict::of(&read)
}

fn judge_environment(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused;
    };
    let read = Environment::parse(text);
    if let Ok(environment) = &read {
        let keys: BTreeSet<_> = environment.people.iter().map(|person| person.key.id()).collect();
        assert_eq!(keys.len(), environment.people.len(), "nobody counts as two");
        assert!(environment.second_medium.is_absolute());
    }
    Verdict::of(&read)
}

/// Held against the script and the environment of the sample: nothing that is signed can be changed.
fn judge_transcript(input: &[u8]) -> Verdict {
    let script = Script::parse(SCRIPT).expect("the sample");
    let environment = Environment::parse(ENVIRONMENT).expect("the sample");
    let mut progress = Progress::new(&script, &environment);
    let mut signed = 0;
    for (line, length) in Lines::new(input).zip(line_lengths(input)) {
        let Ok(line) = line else {
            return Verdict::Refused;
        };
        if progress.apply(&line.entry).is_err() {
            return Verdict::Refused;
        }
        if matches!(line.entry.event, Event::Signed { .. }) {
            // Everything before this line is what was signed.
            signed = length.0;
        }
    }
    assert!(TRANSCRIPT.starts_with(&input[..signed]), "what was signed was changed");
    match progress.stage() {
        Stage::Unopened => Verdict::Refused,
        _ => Verdict::Accepted,
    }
}

/// Where each line begins and ends.
fn line_lengths(input: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut begin = 0;
    input.split_inclusive(|byte| *byte == b'\n').map(move |line| {
        let place = (begin, begin + line.len());
        begin = place.1;
        place
    })
}

fn judge_manifest(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused;
    };
    let read = text.parse::<Manifest>();
    if let Ok(manifest) = &read {
        assert_eq!(manifest.to_string(), text, "a manifest has one form");
        for path in manifest.files.keys() {
            assert!(
                !path.starts_with('/') && !path.contains(".."),
                "{path} stays in the bundle"
            );
        }
    }
    Verdict::of(&read)
}

fn judge_key(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused;
    };
    let public = parse_public(text);
    if let Ok(key) = &public {
        let again = parse_public(&String::from(key.clone())).expect("a key in its own form");
        assert_eq!(again.id(), key.id());
    }
    let private = PrivateKeyFile::parse(text);
    if let Ok(PrivateKeyFile::Open(key)) = &private {
        let signature = key.sign(b"message").expect("a signature");
        assert!(key.public().verifies(b"message", &signature));
    }
    Verdict::of(&public).or(Verdict::of(&private))
}

/// The whole, and parts of it: a ceremony that is under way is read too.
fn transcripts() -> Vec<Vec<u8>> {
    let ends: Vec<usize> = line_lengths(TRANSCRIPT).map(|(_, end)| end).collect();
    [ends.len() - 1, ends.len() / 2, 1]
        .map(|place| TRANSCRIPT[..ends[place]].to_vec())
        .into()
}

fn keys() -> Vec<Vec<u8>> {
    [
        include_str!("../../samples/ceremony/ed25519"),
        include_str!("../../samples/ceremony/ed25519.pub"),
        include_str!("../../samples/ceremony/ecdsa"),
        include_str!("../../samples/ceremony/ecdsa.pub"),
        include_str!("../../samples/ceremony/ed25519.pem"),
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

const SHIPPED: [&str; 4] = [
    include_str!("../../../ceremony/scripts/inspection.toml"),
    include_str!("../../../ceremony/scripts/domain-key-generate.toml"),
    include_str!("../../../ceremony/scripts/init-token.toml"),
    include_str!("../../../ceremony/scripts/root-activate.toml"),
];
const SCRIPT: &str = include_str!("../../samples/ceremony/script.toml");
const ENVIRONMENT: &str = include_str!("../../samples/ceremony/env.toml");
const TRANSCRIPT: &[u8] = include_bytes!("../../samples/ceremony/transcript.jsonl");
const MANIFEST: &[u8] = include_bytes!("../../samples/ceremony/MANIFEST");

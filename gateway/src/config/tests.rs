use super::*;

const SAMPLE: &str = include_str!("../../../docs/portcullis.toml");

fn problems(text: &str) -> Vec<String> {
    let problems = Settings::parse(text, Path::new("/etc/portcullis")).expect_err("a configuration with problems");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_sample_is_valid_and_shows_the_defaults() {
    let settings = Settings::parse(SAMPLE, Path::new("/etc/portcullis")).expect("a valid sample");
    assert_eq!(settings.members[0].sessions, 4);
    // Every setting that is commented out there has the value that it shows.
    let spelt_out = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest
                    .split_once(" = ")
                    .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_')) =>
            {
                rest
            }
            _ => line,
        })
        .filter(|line| !line.starts_with("token_serial_number"))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(spelt_out.contains("\nsessions = 4"), "{spelt_out}");
    let same = Settings::parse(&spelt_out, Path::new("/etc/portcullis")).expect("a valid sample");
    assert_eq!(format!("{settings:?}"), format!("{same:?}"));
}

#[test]
fn every_problem_is_reported_at_once_with_its_place() {
    let text = r#"
state_directory = 7
colour = "blue"

[listen.tls]
address = "localhost"
certificate = "server.pem"
private_key = "server.key"
client_authorities = ""

[audit]

[domain]
fingerprint = "abc"

[[member]]
name = "A"
module = "m.so"
sessions = 0
pin = "1234"

[[policy.grant]]
name = "x"
role = "dancer"
principals = ["everyone"]

[[policy.grant]]
name = "x"
role = "signer"
principals = ["unix:uid=1"]

[[policy.grant]]
name = "y"
role = "auditor"
principals = []
rings = ["*", "A"]
keys = ["key"]
"#;
    let found = problems(text);
    let expected = [
        "line 2: state_directory: expected a path as text, found 7",
        "line 3: colour: is not a known setting",
        "line 6: listen.tls.address: expected an address and port as text",
        "line 9: listen.tls.client_authorities: expected a path as text, found \"\"",
        "line 11: audit.file: is missing",
        "provisioning.record: is missing; expected the file of the provisioning records",
        "line 14: domain.fingerprint: expected the domain's fingerprint",
        "line 16: member[1].token_label: neither token_label nor token_serial_number is given",
        "line 16: member[1].pin_file: is missing",
        "line 17: member[1].name: expected a name",
        "line 19: member[1].sessions: expected a whole number from 1 to 256, found 0",
        "line 20: member[1].pin: is not a known setting",
        "line 22: policy.grant[1].role: \"dancer\" is no role: expected key-admin, reader, signer",
        "line 22: policy.grant[1].principals: \"everyone\" is no principal",
        "line 27: policy.grant[2].name: \"x\" is used by another grant",
        "line 27: policy.grant[2].rings: neither rings nor keys are given",
        "line 32: policy.grant[3].principals: names nobody",
        "line 32: policy.grant[3].rings: \"A\" is neither a ring's id nor \"*\"",
        "line 32: policy.grant[3].keys: \"key\" is no key",
        "line 32: policy.grant[3].rings: the role auditor concerns the whole gateway",
    ];
    for expected in expected {
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "missing: {expected}\nfound: {found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

/// Who forgets the record gets no gateway; who means a development gateway says so.
#[test]
fn what_vouches_for_the_domain_is_said_once() {
    let with = |section: &str| SAMPLE.replace("record = \"/etc/portcullis/provisioning.record\"", section);
    let provisioning = |section: &str| {
        let settings = Settings::parse(&with(section), Path::new("/etc/portcullis")).expect("a configuration");
        settings.provisioning
    };
    let file = PathBuf::from("/etc/portcullis/alpha.record");
    assert_eq!(provisioning("record = \"alpha.record\""), Provisioning::Record(file));
    assert_eq!(provisioning("development = true"), Provisioning::Development);
    for (section, expected) in [
        ("", "provisioning.record: is missing"),
        ("development = false", "provisioning.record: is missing"),
        (
            "development = \"yes\"",
            "provisioning.development: expected true or false",
        ),
        ("record = 7", "provisioning.record: expected a path as text, found 7"),
        (
            "record = \"a\"\ndevelopment = true",
            "provisioning.record: is given together with development = true",
        ),
        ("records = []", "provisioning.records: is not a known setting"),
    ] {
        let found = problems(&with(section));
        assert!(found.iter().any(|one| one.contains(expected)), "{section}: {found:?}");
    }
}

#[test]
fn broken_toml_names_the_line() {
    let found = problems("state_directory = \"x\"\n[audit\nfile = 1\n");
    assert!(
        found
            .iter()
            .any(|problem| problem.starts_with("line 2: not valid TOML")),
        "{found:?}"
    );
}

#[test]
fn no_listener_and_no_member_are_problems() {
    let found = problems("state_directory = \"x\"\n[audit]\nfile = \"a\"\n");
    assert!(
        found.iter().any(|problem| problem.starts_with("listen: names neither")),
        "{found:?}"
    );
    assert!(
        found.iter().any(|problem| problem.starts_with("member: no [[member]]")),
        "{found:?}"
    );
}

/// The sample with another source of the member's PIN.
fn with_pin_source(source: &str) -> String {
    SAMPLE.replace("pin_file = \"/etc/portcullis/member-a.pin\"", source)
}

#[test]
fn a_pin_in_the_place_of_its_source_is_not_shown() {
    for source in [
        "pin = \"73915/5083\"",
        "pin = 73915/5083",
        "pin_file = 739155083",
        "pin_credential = \"73915/5083\"",
        "pin_command = \"73915/5083\"",
        "pin_command = [\"73915/5083\"]",
        "pin_command = [739155083]",
        "pin_file = \"a\"\npin_command_timeout = 739155083",
    ] {
        let said = problems(&with_pin_source(source)).join("\n");
        assert!(!said.contains("73915") && !said.contains("5083"), "{source}: {said}");
    }
}

#[test]
fn a_member_has_exactly_one_source_of_its_pin() {
    let read = |source: &str| {
        let settings = Settings::parse(&with_pin_source(source), Path::new("/etc/portcullis"));
        settings.map(|settings| settings.members[0].pin.clone())
    };
    assert_eq!(
        read("pin_credential = \"hsm-a\""),
        Ok(PinSource::Credential("hsm-a".to_owned()))
    );
    assert_eq!(
        read("pin_command = [\"/usr/bin/pin\", \"a\"]\npin_command_timeout = \"2s\""),
        Ok(PinSource::Command {
            words: vec!["/usr/bin/pin".to_owned(), "a".to_owned()],
            timeout: Duration::from_secs(2),
        })
    );
    for (source, expected) in [
        (
            "",
            "pin_file: is missing; expected pin_file, pin_credential or pin_command",
        ),
        (
            "pin_file = \"a\"\npin_credential = \"b\"",
            "the PIN has several sources (pin_file, pin_credential); expected one",
        ),
        (
            "pin_credential = \"../a\"",
            "pin_credential: expected the name of a credential",
        ),
        (
            "pin_command = [\"pin\"]",
            "pin_command: expected a program by its absolute path",
        ),
        (
            "pin_command = []",
            "pin_command: expected a program by its absolute path",
        ),
        (
            "pin_file = \"a\"\npin_command_timeout = \"2s\"",
            "pin_command_timeout: is given without pin_command",
        ),
    ] {
        let found = problems(&with_pin_source(source));
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{source}: {found:?}"
        );
        assert_eq!(found.len(), 1, "{source}: {found:?}");
    }
}

#[test]
fn revocation_and_trust_domains_are_read() {
    let text = SAMPLE
        .replace("# revocation_lists = []", "revocation_lists = [\"a.crl\"]")
        .replace("#   revocation_policy = \"require\"", "revocation_policy = \"prefer\"");
    let settings = Settings::parse(&text, Path::new("/etc/portcullis")).expect("a configuration");
    let tls = settings.tls.expect("[listen.tls]");
    assert_eq!(tls.revocation_lists, vec![PathBuf::from("/etc/portcullis/a.crl")]);
    assert_eq!(tls.revocation_policy, RevocationPolicy::Prefer);
    let wrong = SAMPLE
        .replace("\"partner.example\" =", "\"Partner.example\" =")
        .replace("#   revocation_policy = \"require\"", "revocation_policy = \"maybe\"");
    let found = problems(&wrong);
    assert!(
        found
            .iter()
            .any(|one| one.contains("\"Partner.example\" is no trust domain")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|one| one.contains("expected \"require\" or \"prefer\"")),
        "{found:?}"
    );
    assert_eq!(found.len(), 2, "{found:?}");
}

/// Found when its fuzz target was made: no clock counts so far, so that waiting for it ended the gateway.
#[test]
fn a_duration_that_cannot_be_waited_for_is_refused() {
    for duration in ["101years", "99999999999999s"] {
        let text = SAMPLE.replacen("[cluster]", &format!("[cluster]\nprobe_interval = \"{duration}\""), 1);
        let problems = problems(&text);
        assert!(
            problems.iter().any(|one| one.contains("of at most 100 years")),
            "{problems:?}"
        );
    }
}

/// Who asks for revocation to be checked and names no list would go on in the belief that it is.
#[test]
fn revocation_that_is_required_without_lists_is_a_mistake() {
    let required = SAMPLE.replace("#   revocation_policy = \"require\"", "revocation_policy = \"require\"");
    let found = problems(&required);
    assert!(
        found.len() == 1 && found[0].contains("revocation_lists names no list"),
        "{found:?}"
    );
    let with_list = required.replace("# revocation_lists = []", "revocation_lists = [\"a.crl\"]");
    Settings::parse(&with_list, Path::new("/etc/portcullis")).expect("a configuration");
    let preferred = required.replace("revocation_policy = \"require\"", "revocation_policy = \"prefer\"");
    Settings::parse(&preferred, Path::new("/etc/portcullis")).expect("a configuration");
}

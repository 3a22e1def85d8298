//! What is wrong with policies is said with file and line, and a reload changes all or nothing.

use super::*;

fn problems(text: &str) -> Vec<(Option<usize>, String)> {
    let error = try_cedar(text).expect_err("a policy with problems");
    let file = |problem: &PolicyProblem| problem.file.as_ref().is_some_and(|file| file.ends_with("policy.cedar"));
    assert!(error.problems.iter().all(file), "{error}");
    error
        .problems
        .into_iter()
        .map(|problem| (problem.line, problem.message))
        .collect()
}

#[track_caller]
fn one_problem(text: &str, line: usize, words: &str) {
    let found = problems(text);
    let fits = |(at, message): &(Option<usize>, String)| *at == Some(line) && message.contains(words);
    assert!(
        found.len() == 1 && fits(&found[0]),
        "expected line {line}: {words}; found {found:#?}"
    );
}

#[test]
fn what_is_no_cedar_is_refused_with_its_line() {
    one_problem(
        "permit (principal, action, resource);\n\npermit (principal, action resource);",
        3,
        "unexpected token",
    );
    one_problem("permit (principal, action, resource)", 1, "unexpected end");
}

#[test]
fn what_the_schema_does_not_know_is_refused_with_its_line() {
    for (line, words) in [
        ("permit (principal, action == Action::\"dance\", resource);", "dance"),
        ("permit (principal == User::\"me\", action, resource);", "User"),
        (
            "permit (principal, action == Action::\"sign\", resource) when { resource.colour == \"red\" };",
            "colour",
        ),
        (
            "permit (principal, action == Action::\"sign\", resource) when { resource.purpose == Purpose::\"SIGN\" };",
            "SIGN",
        ),
        (
            "permit (principal, action == Action::\"sign\", resource) when { resource.purpose == \"MAC\" };",
            "types",
        ),
        (
            "permit (principal, action == Action::\"sign\", resource) when { context.mechanism == Mechanism::\"ECDH\" };",
            "mechanism",
        ),
        (
            "permit (principal, action == Action::\"sign\", resource) when { resource.getTag(\"a\") == \"b\" };",
            "tag",
        ),
        (
            "permit (principal, action == Action::\"sign\", resource == Gateway::\"gateway\");",
            "never apply",
        ),
        (
            "permit (principal == Principal::\"me\", action, resource);",
            "is no principal",
        ),
        (
            "permit (principal == Principal::\"unix:uid=*\", action, resource);",
            "principal in Pattern",
        ),
        (
            "permit (principal in Pattern::\"unix:uid=1\", action, resource);",
            "principal == Principal",
        ),
        (
            "permit (principal, action == Action::\"key.read\", resource in KeyRing::\"Pay\");",
            "no id of a ring",
        ),
        (
            "permit (principal, action == Action::\"sign\", resource == Key::\"pay\");",
            "ring/key",
        ),
        (
            "permit (principal, action == Action::\"sign\", resource in ?resource);",
            "grants of roles",
        ),
        ("@id(\"\") permit (principal, action, resource);", "@id is empty"),
    ] {
        one_problem(&format!("// A comment.\n\n{line}\n"), 3, words);
    }
}

#[test]
fn all_problems_of_all_files_and_grants_are_said_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut settings = file_in(
        directory.path(),
        "permit (principal, action == Action::\"dance\", resource);\n\n\n@id(\"x\")\npermit (principal == Principal::\"me\", action, resource);\n",
    );
    settings.files.push(directory.path().join("absent.cedar"));
    for _ in 0..2 {
        settings.grants.push(Grant {
            name: "x".to_owned(),
            role: Role::parse("auditor").expect("a role"),
            principals: vec![pattern("*")],
            places: Vec::new(),
        });
    }
    let error = Policy::load(&settings).expect_err("problems");
    let said: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
    let expected = [
        "policy.cedar line 1: ",
        "policy.cedar line 4: \"me\" is no principal",
        "absent.cedar: cannot be read",
        "the name \"x\" is used by a policy and by a grant",
        "the name \"x\" is used by a policy and by a grant",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_reload_takes_all_or_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = file_in(
        directory.path(),
        "@id(\"old\") permit (principal, action == Action::\"sign\", resource);",
    );
    let policy = Policy::load(&settings).expect("a policy");
    let sign = || ask(&policy, &peer(TELLER), Action::Sign, Circumstances::NONE);
    let verify = || ask(&policy, &peer(TELLER), Action::Verify, Circumstances::NONE);
    assert_eq!((sign(), verify()), (by("old"), Decision::Deny(None)));
    let broken = file_in(
        directory.path(),
        "@id(\"new\") permit (principal, action == Action::\"verify\", resource);\npermit (principal, action == Action::\"dance\", resource);",
    );
    let reload = |settings| Policy::load(&settings).map(|other| policy.replace(other));
    let error = reload(broken).expect_err("a problem");
    assert_eq!(error.problems[0].line, Some(2));
    assert_eq!((sign(), verify()), (by("old"), Decision::Deny(None)));
    let better = file_in(
        directory.path(),
        "@id(\"new\") permit (principal, action == Action::\"verify\", resource);",
    );
    reload(better).expect("a policy");
    assert_eq!((sign(), verify()), (Decision::Deny(None), by("new")));
    reload(PolicySettings::default()).expect("no policy");
    assert_eq!((sign(), verify()), (Decision::Deny(None), Decision::Deny(None)));
}

#[test]
fn what_a_policy_may_ask_is_what_the_schema_promises() {
    // Every question is put as Cedar's own check of requests and entities against the schema would have it.
    use crate::policy::{
        facts as put,
        vocabulary::{Kind, schema},
    };
    use cedar_policy::{Entities, Request};
    let (key, ring, some) = (
        name("keyRings/payments/keys/release"),
        id("payments"),
        labels(&[("stage", "test")]),
    );
    let context = labels(&[("department", "legal")]);
    let patterns = [pattern("*"), pattern("spiffe://example.org/*")];
    for who in [
        peer(TELLER),
        peer("unix:uid=1000"),
        peer("x509:0123:CN=pay"),
        peer("spiffe://example.org"),
    ] {
        for action in Action::grantable() {
            for target in action.targets() {
                let resource = match target {
                    Target::Gateway => Resource::Gateway,
                    Target::KeyRing => Resource::KeyRing(&ring),
                    Target::Key => Resource::Key(facts(&key, &some)),
                };
                let circumstances = Circumstances {
                    mechanism: Some(Mechanism::EcdsaSha256),
                    encryption_context: Some(&context),
                    primary_version: Some(true),
                };
                let entity = put::resource(resource).expect("a resource");
                let request = Request::new(
                    Kind::Principal.entity(who.principal.as_str()),
                    Kind::Action.entity(action.name()),
                    entity.uid(),
                    put::context(&who, circumstances, noon()).expect("a context"),
                    Some(schema()),
                );
                request.unwrap_or_else(|error| panic!("{action}: {error}"));
                let entities = [
                    entity,
                    put::principal(&who, &patterns).expect("a principal"),
                    put::encryption_context(circumstances)
                        .expect("a context")
                        .expect("one was given"),
                ];
                Entities::from_entities(entities, Some(schema())).unwrap_or_else(|error| panic!("{action}: {error}"));
            }
        }
    }
}

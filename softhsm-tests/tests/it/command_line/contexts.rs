//! Named contexts in a configuration file.

use super::CommandLine;
use portcullis_softhsm_tests::{Gateway, TestCluster, temporary_directory};
use serde_json::{Value, json};
use std::{fs, path::Path};

#[tokio::test(flavor = "multi_thread")]
async fn a_context_says_where_the_gateway_is_and_who_calls() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let portcullis = CommandLine::with(directory.path(), Vec::new());

    // Nothing is known yet.
    let said = portcullis.fails_with(2, "ring list");
    assert!(said.contains("--endpoint") && said.contains("context"), "{said}");
    assert_eq!(portcullis.ask("context list")["contexts"], json!([]));
    assert_eq!(portcullis.ask("context show")["endpoint"], Value::Null);

    let file = |name: &str| cluster.pki(name).to_string_lossy().into_owned();
    let set = format!(
        "context set prod --endpoint {} --cert {} --key-file {} --ca {}",
        gateway.tls_endpoint(),
        file("developer.pem"),
        file("developer.key"),
        file("ca.pem")
    );
    assert!(portcullis.run(&set).text().starts_with("prod is set ("));
    portcullis.ask(&format!("context set dev --endpoint {} --use", gateway.unix_endpoint()));
    portcullis.run("ring create demo");
    portcullis.run("ring list --context prod");
    let by_variable = CommandLine::with(directory.path(), Vec::new()).set("PORTCULLIS_CONTEXT", "prod");
    by_variable.run("ring list");

    let listed = portcullis.ask("context list");
    let names: Vec<_> = listed["contexts"]
        .as_array()
        .expect("contexts")
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, [&json!("dev"), &json!("prod")]);
    assert_eq!(listed["contexts"][0]["current"], true);
    assert!(portcullis.run("context list").text().contains("prod"));
    portcullis.run("context use prod");
    assert_eq!(portcullis.ask("context use prod")["name"], "prod");
    let shown = portcullis.run("context show").text();
    assert!(
        shown.contains("(from context prod)") && shown.contains("developer.pem"),
        "{shown}"
    );
    portcullis.run("context remove dev");
    let said = portcullis.fails_with(2, "context use dev");
    assert!(said.contains("there is no context dev; there are: prod"), "{said}");
    portcullis.fails_with(2, "--json context remove dev");
    portcullis.fails_with(2, "context set a/b --endpoint unix:x");
    portcullis.fails_with(2, "context set other");
    // The one in use goes, and nothing is used any more.
    portcullis.ask("context remove prod");
    portcullis.fails_with(2, "ring list");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_closer_to_the_command_counts_more() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let real = gateway.unix_endpoint().to_string();
    let line = |environment: &[(&str, &str)], arguments: &str| {
        let mut portcullis = CommandLine::with(directory.path(), Vec::new());
        for (name, value) in environment {
            portcullis = portcullis.set(name, *value);
        }
        portcullis.try_run(arguments).status.code()
    };
    let elsewhere = "unix:elsewhere.sock";
    let portcullis = CommandLine::with(directory.path(), Vec::new());
    portcullis.run(&format!("context set real --endpoint {real}"));
    portcullis.run(&format!("context set elsewhere --endpoint {elsewhere} --use"));
    for (environment, arguments, exit) in [
        (&[][..], "ring list", Some(6)),
        (&[("PORTCULLIS_ENDPOINT", real.as_str())], "ring list", Some(0)),
        (&[("PORTCULLIS_CONTEXT", "real")], "ring list", Some(0)),
        (
            &[("PORTCULLIS_CONTEXT", "real"), ("PORTCULLIS_ENDPOINT", elsewhere)],
            "ring list",
            Some(6),
        ),
        (
            &[("PORTCULLIS_ENDPOINT", elsewhere)],
            "ring list --context real",
            Some(0),
        ),
        (
            &[("PORTCULLIS_CONTEXT", "real")],
            "ring list --endpoint unix:elsewhere.sock",
            Some(6),
        ),
        (&[("PORTCULLIS_ENDPOINT", "nonsense")], "ring list", Some(2)),
        (&[("PORTCULLIS_ENDPOINT", "")], "ring list --context real", Some(0)),
    ] {
        assert_eq!(line(environment, arguments), exit, "{environment:?} {arguments}");
    }
}

#[test]
fn what_is_wrong_in_the_file_is_said_with_its_line() {
    let directory = temporary_directory();
    let file = directory.path().join("contexts.toml");
    let portcullis =
        CommandLine::with(directory.path(), Vec::new()).set("PORTCULLIS_CONFIG", file.to_string_lossy().into_owned());
    let said = |text: &str| {
        fs::write(&file, text).expect("the file");
        portcullis.fails_with(2, "ring list")
    };
    for (text, expected) in [
        (
            "current = \"a\"\n\n[context.a]\ncolour = \"blue\"\n",
            "contexts.toml, line 4: unknown field `colour`",
        ),
        (
            "[context.a]\nendpoint = \"http://x:1\"\n",
            "contexts.toml, line 2: http:// is not possible",
        ),
        (
            "current = \"b\"\n[context.a]\n",
            "contexts.toml, line 1: current: there is no context b; there are: a",
        ),
        ("[context\n", "contexts.toml, line 1: "),
    ] {
        let said = said(text);
        assert!(said.contains(expected), "{said}");
    }
    // What cannot be read is not written over either.
    let before = "[context.a]\ncolour = \"blue\"\n";
    fs::write(&file, before).expect("the file");
    portcullis.fails_with(2, "context set a --endpoint unix:x");
    assert_eq!(fs::read_to_string(&file).expect("the file"), before);
    fs::remove_file(&file).expect("the file goes");
    let said = portcullis.fails_with(2, "ring list");
    assert!(
        said.contains("there is no file") && said.contains("PORTCULLIS_CONFIG"),
        "{said}"
    );
    portcullis.run("context set a --endpoint unix:relative.sock");
    let text = fs::read_to_string(&file).expect("the file");
    assert!(
        Path::new(&text)
            .to_string_lossy()
            .contains(&format!("unix:{}/relative.sock", directory.path().display()))
    );
}

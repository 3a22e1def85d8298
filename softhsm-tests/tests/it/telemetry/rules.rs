//! Alert rules, recording rules and the dashboard: valid by Prometheus's own tool, and made for metrics that exist.

use super::{documentation::repository_file, scrapes::busy_gateway};
use portcullis_softhsm_tests::{Scrape, find_tool, run};
use serde_json::Value;
use std::{collections::BTreeSet, path::Path, process::Command};

fn promtool(arguments: &[&str]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus");
    run(Command::new(find_tool("promtool", "prometheus"))
        .args(arguments)
        .current_dir(directory))
    .succeeded();
}

#[test]
fn the_rules_are_valid_and_alerts_fire_when_they_should() {
    promtool(&["check", "rules", "recording.yml", "alerts.yml"]);
    promtool(&["test", "rules", "alerts_test.yml"]);
}

#[test]
fn every_alert_has_a_test_a_severity_and_words_for_who_is_called() {
    let (alerts, tests) = (
        repository_file("deploy/prometheus/alerts.yml"),
        repository_file("deploy/prometheus/alerts_test.yml"),
    );
    let blocks: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
    assert!(blocks.len() > 10, "{}", blocks.len());
    for block in blocks {
        let name = block.lines().next().expect("a name");
        for word in ["severity: ", "summary: ", "runbook: "] {
            assert!(block.contains(word), "{name} has no {word}");
        }
        assert!(tests.contains(name), "{name} has no test");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_dashboard_ask_for_metrics_that_a_gateway_has() {
    let (cluster, gateway, _client) = busy_gateway().await;
    let scrape = Scrape::of(&cluster.path().join("metrics.sock"));
    let (recording, alerts) = (
        repository_file("deploy/prometheus/recording.yml"),
        repository_file("deploy/prometheus/alerts.yml"),
    );
    let mut known = scrape.names();
    known.extend(settings(&recording, "- record: "));
    let rules = settings(&recording, "expr: ").chain(settings(&alerts, "expr: "));
    let mut expressions: Vec<String> = rules.collect();
    assert!(expressions.len() > 20);
    let dashboard: Value = serde_json::from_str(&repository_file("deploy/grafana/portcullis.json")).expect("JSON");
    let before = expressions.len();
    collect_expressions(&dashboard, &mut expressions);
    assert!(expressions.len() > before + 20);
    for expression in &expressions {
        let asked = metrics_in(expression);
        assert!(!asked.is_empty(), "no metric in {expression}");
        let unknown: Vec<_> = asked.difference(&known).collect();
        assert!(
            unknown.is_empty(),
            "{unknown:?} in {expression}\nis not in\n{}",
            scrape.text()
        );
    }
    gateway.stop();
}

/// The values of a setting that stand on its line.
fn settings<'t>(yaml: &'t str, setting: &'t str) -> impl Iterator<Item = String> + 't {
    yaml.lines()
        .filter_map(move |line| line.trim_start().strip_prefix(setting))
        .map(str::to_owned)
}

fn collect_expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|one| collect_expressions(one, found));
        }
        Value::Array(all) => all.iter().for_each(|one| collect_expressions(one, found)),
        _ => {}
    }
}

/// The metrics that a query names: its words, without functions, keywords, and what stands in braces, brackets or after a
/// keyword that takes labels.
fn metrics_in(query: &str) -> BTreeSet<String> {
    let mut metrics = BTreeSet::new();
    let mut rest = query;
    let mut takes_labels = false;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '{' => 1 + rest.find('}').expect("a closed brace"),
            '[' => 1 + rest.find(']').expect("a closed bracket"),
            '(' if takes_labels => 1 + rest.find(')').expect("a closed parenthesis"),
            'a'..='z' | 'A'..='Z' | '_' => rest
                .find(|one: char| !(one.is_ascii_alphanumeric() || one == '_' || one == ':'))
                .unwrap_or(rest.len()),
            '0'..='9' => rest
                .find(|one: char| !(one.is_ascii_digit() || one == '.'))
                .unwrap_or(rest.len()),
            other => other.len_utf8(),
        };
        let (word, after) = rest.split_at(end);
        if first.is_ascii_alphabetic() {
            takes_labels = ["by", "without", "on", "ignoring", "group_left", "group_right"].contains(&word);
            let is_function = after.starts_with('(') || ["sum", "min", "max", "count"].contains(&word);
            let is_keyword = ["and", "or", "unless", "bool", "offset"].contains(&word);
            if !takes_labels && !is_function && !is_keyword {
                metrics.insert(word.to_owned());
            }
        } else if !first.is_whitespace() {
            takes_labels = false;
        }
        rest = after;
    }
    metrics
}

#[test]
fn queries_are_taken_apart_rightly() {
    let found = metrics_in(
        r#"histogram_quantile(0.99, sum by (le, portcullis_member) (rate(a_bucket{x="b"}[5m]))) > 2 and c:d:p5 > on (x) group_left () (4 * min by (y) (e))"#,
    );
    assert_eq!(found, ["a_bucket", "c:d:p5", "e"].map(str::to_owned).into());
}

//! `docs/telemetry.md` against the code.

use portcullis_gateway::telemetry::{attribute, catalog};
use std::{collections::BTreeSet, fs, path::Path};

/// A file of the repository.
pub(super) fn repository_file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_table_of_metrics_is_what_the_code_registers() {
    let documentation = repository_file("docs/telemetry.md");
    let written: BTreeSet<&str> = documentation
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 4)
        .collect();
    let registered: BTreeSet<String> = catalog::ALL.iter().map(row).collect();
    assert_eq!(written, registered.iter().map(String::as_str).collect());
}

#[test]
fn the_table_of_span_attributes_is_the_allow_list() {
    let documentation = repository_file("docs/telemetry.md");
    let (_, spans) = documentation.split_once("## Spans").expect("the section about spans");
    let written: BTreeSet<&str> = spans
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(written, attribute::ON_SPANS.into());
}

fn row(metric: &catalog::Definition) -> String {
    let attributes: Vec<_> = metric.attributes.iter().map(|name| format!("`{name}`")).collect();
    let attributes = if attributes.is_empty() {
        "–".to_owned()
    } else {
        attributes.join(", ")
    };
    format!(
        "| `{}` | {} | {} | {attributes} | {} |",
        metric.name,
        metric.kind.name(),
        metric.unit,
        metric.description
    )
}

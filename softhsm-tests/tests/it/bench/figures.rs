//! What is counted adds up.

use super::{Setting, list, measured, number};
use portcullis_softhsm_tests::AuditLog;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_in_every_mode_over_both_transports_gives_figures_that_agree() {
    let setting = Setting::new();
    let quick = "all --callers 1 --callers 3 --time 120ms --warm-up 30ms --repeats 2 --cold-keys 6";
    let report = measured(&mut setting.directly(setting.over_both(quick), &setting.token.module()));

    let groups = list(&report["closed_loop"]);
    assert_eq!(groups.len(), 10 * 2, "ten operations, two numbers of callers");
    for group in groups {
        let operation = group["operation"].as_str().expect("its name");
        let repeatable = !["create-key", "cold-key"].contains(&operation);
        let ways = list(&group["through"]);
        // Batches are for several callers alone.
        let modes = match (repeatable, group["callers"] == 1) {
            (true, false) => 3,
            (true, true) => 2,
            (false, _) => 1,
        };
        assert_eq!(ways.len(), 2 * modes, "{operation}");
        for way in ways {
            agrees(operation, way, 2);
            assert_eq!(way["echo"].is_object(), repeatable, "{operation}");
            if repeatable {
                agrees(operation, &merged(way, &way["echo"]), 2);
                let share = &way["share_of_direct"];
                assert!(number(&share["least"]) <= number(&share["median"]), "{way}");
                assert!(number(&share["median"]) <= number(&share["most"]), "{way}");
            }
        }
        assert_eq!(group["direct"].is_object(), repeatable, "{operation}");
        if repeatable {
            let direct = &group["direct"];
            agrees(operation, direct, 2);
            let one_caller = group["callers"] == 1;
            assert!(!one_caller || direct["sessions"] == 1, "{direct}");
        }
    }
    assert_eq!(report["failed"], 0, "{}", report["closed_loop"]);
    assert_eq!(list(&report["keys_left"]).len(), 0);
    assert!(
        report["machine"]["processor"]
            .as_str()
            .is_some_and(|name| !name.is_empty())
    );

    // Whoever knows nothing of the measurement counted the same: each operation that the report tells was done and logged.
    let told: f64 = groups
        .iter()
        .filter(|group| group["operation"] == "p256")
        .flat_map(|group| list(&group["through"]))
        .flat_map(|way| list(&way["runs"]))
        .map(|run| number(&run["operations"]))
        .sum();
    let log = AuditLog::read(&setting.cluster.audit_file());
    let logged = log.outcomes().filter(|entry| {
        let resource = entry["resource"].as_str().unwrap_or_default();
        resource.contains("/keys/p256-") && entry["action"] == "sign"
    });
    let logged = logged.count();
    assert!(told > 0.0 && logged as f64 >= told, "told {told}, logged {logged}");
}

/// What the runs of a way say agrees with itself, and with what they say together.
#[track_caller]
fn agrees(operation: &str, way: &Value, repeats: usize) {
    let runs = list(&way["runs"]);
    assert_eq!(runs.len(), repeats, "{operation}: {way}");
    for run in runs {
        let (operations, calls) = (number(&run["operations"]), number(&run["calls"]));
        let in_one_call = if way["mode"] == "batch" { 64.0 } else { 1.0 };
        assert!((operations - calls * in_one_call).abs() < 0.5, "{operation}: {run}");
        let rate = operations / number(&run["seconds"]);
        assert!(
            (rate - number(&run["rate"])).abs() < 1e-6 * rate.max(1.0),
            "{operation}: {run}"
        );
        assert_eq!(run["failed"], 0, "{operation}: {run}");
        assert!(number(&run["p50"]) <= number(&run["p99"]), "{operation}: {run}");
    }
    let rates: Vec<f64> = runs.iter().map(|run| number(&run["rate"])).collect();
    let together = &way["rate"];
    let (least, most) = (rates[0].min(rates[1]), rates[0].max(rates[1]));
    assert!((number(&together["least"]) - least).abs() < 1e-6, "{operation}: {way}");
    assert!((number(&together["most"]) - most).abs() < 1e-6, "{operation}: {way}");
    assert!(
        (number(&together["median"]) - f64::midpoint(least, most)).abs() < 1e-6,
        "{operation}: {way}"
    );
    for quantile in ["p50", "p90", "p99", "p999", "longest"] {
        assert!(way["latency"][quantile].is_object(), "{operation}: {way}");
    }
}

/// The echo's figures with the mode of its way.
fn merged(way: &Value, echo: &Value) -> Value {
    let mut echo = echo.clone();
    echo["mode"] = way["mode"].clone();
    echo
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_fail_are_counted_with_their_reasons() {
    let setting = Setting::with(|cluster| {
        cluster.edit_config(|config| {
            let limits = toml::Table::from_iter([("principal_concurrency".to_owned(), 2.into())]);
            config.insert("limits".to_owned(), limits.into());
        });
    });
    let report = measured(&mut setting.command("p256 --callers 32 --time 300ms --warm-up 20ms --repeats 1 --no-echo"));
    let ways = list(&report["closed_loop"][0]["through"]);
    for mode in ["unary", "pipelined", "batch"] {
        let way = ways.iter().find(|way| way["mode"] == mode).expect("the way");
        let run = &way["runs"][0];
        let failures = run["failures"].as_object().expect("failures by reason");
        let counted: f64 = failures.values().map(number).sum();
        assert!(counted > 0.0 && (counted - number(&run["failed"])).abs() < 0.5, "{run}");
        assert!(
            failures
                .keys()
                .all(|reason| reason.ends_with("_SATURATED") || reason == "RATE_LIMITED"),
            "{run}"
        );
    }
    let failed: f64 = ways.iter().map(|way| number(&way["runs"][0]["failed"])).sum();
    assert!((number(&report["failed"]) - failed).abs() < 0.5);
}

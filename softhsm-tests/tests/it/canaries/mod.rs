//! Key material, PINs and plaintexts are in nothing that the gateway writes, and in its memory no longer than something holds them.

mod driving;
mod memory;
mod search;

use driving::{Caller, Traces};
use portcullis_client::v1::MemberState;
use portcullis_proto::FILE_DESCRIPTOR_SET;
use portcullis_softhsm_tests::{
    Collector, Gateway, LONG, MEMBERS, SHORT, Scrape, TestCluster, run, wait_until, workspace_binary,
};
use prost::Message;
use prost_types::FileDescriptorSet;
use search::{Canary, Search};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// What is in the names of rings, and so in all that may name them.
const VISIBLE: &str = "that-may-be-seen";
const NEW_PIN: &str = "nf7zq2kwm4hx8ctb6vyd3rju";
const WRONG_PIN: &str = "gk5wp9sm2xfq7hzc4tdv6yrb";

/// Something the gateway wrote, with what must be in it, so that it is known that the search finds things there.
struct Place {
    what: String,
    content: Vec<u8>,
    must_show: String,
}

impl Place {
    fn new(what: impl Into<String>, content: impl Into<Vec<u8>>, must_show: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            content: content.into(),
            must_show: must_show.into(),
        }
    }
}

/// A cluster whose members have their PINs from a file, a credential and a command, and a gateway that tells all it can.
fn talkative(cluster: &TestCluster, collector: &Collector) -> Gateway {
    cluster.edit_config(|config| {
        let log = toml::Table::from_iter([("filter".to_owned(), "trace".into())]);
        config.insert("log".to_owned(), log.into());
    });
    cluster.set_in_telemetry("otlp_endpoint", format!("http://{}", collector.address()));
    cluster.set_in_telemetry("otlp_interval", "200ms");
    cluster.set_in_telemetry("trace_sample_ratio", 1.0);
    cluster.serve_metrics();
    cluster.set_in_cluster("restart_pause", "1ms");
    // A probe in the moment of a PIN's change may find the token half-written.
    cluster.set_in_cluster("probe_interval", "10min");
    let credentials = cluster.path().join("credentials");
    fs::create_dir(&credentials).expect("a directory");
    cluster.place("credentials/pin-b", &cluster.user_pin("b"));
    let command = vec!["/bin/cat".to_owned(), pin_file(cluster, "c").display().to_string()];
    cluster.edit_member("b", |member| {
        member.remove("pin_file");
        member.insert("pin_credential".to_owned(), "pin-b".into());
    });
    cluster.edit_member("c", |member| {
        member.remove("pin_file");
        member.insert("pin_command".to_owned(), command.into());
    });
    let scratch = cluster.path().join("scratch");
    fs::create_dir(&scratch).expect("a directory");
    memory::readable(cluster)
        .with_environment("CREDENTIALS_DIRECTORY", credentials)
        .with_environment("TMPDIR", scratch)
        .start()
}

fn pin_file(cluster: &TestCluster, member: &str) -> PathBuf {
    cluster.member_directory(member).join("user.pin")
}

fn pins(cluster: &TestCluster) -> Vec<Canary> {
    let canary = |what: String, pin: &str| Canary {
        what,
        value: pin.as_bytes().to_vec(),
    };
    let mut pins = vec![
        canary("the new PIN".to_owned(), NEW_PIN),
        canary("the wrong PIN".to_owned(), WRONG_PIN),
    ];
    for member in MEMBERS {
        pins.push(canary(
            format!("the user PIN of member {member}"),
            &cluster.user_pin(member),
        ));
        pins.push(canary(
            format!("the SO PIN of member {member}"),
            &cluster.so_pin(member),
        ));
    }
    pins
}

/// A wrong PIN for member b, and a new one for member a.
async fn change_pins(cluster: &TestCluster, gateway: &Gateway) -> Vec<Place> {
    let right = cluster.user_pin("b");
    cluster.place("credentials/pin-b", WRONG_PIN);
    tokio::task::block_in_place(|| gateway.kill_worker("b"));
    gateway.wait_for_member("b", MemberState::Stopped).await;
    cluster.place("credentials/pin-b", &right);
    gateway.hang_up();
    gateway.wait_for_member("b", MemberState::Ready).await;

    let new = cluster.place("new.pin", NEW_PIN);
    let output = tokio::task::block_in_place(|| {
        run(Command::new(workspace_binary("portcullisd"))
            .args(["member", "change-pin", "--member", "a", "--config"])
            .arg(cluster.config_file())
            .arg("--new-pin-file")
            .arg(new))
    });
    assert!(output.status.success(), "{output}");
    cluster.place("members/a/user.pin", NEW_PIN);
    gateway.hang_up();
    tokio::task::block_in_place(|| gateway.kill_worker("a"));
    gateway.wait_for_worker("a", 2).await;
    vec![Place::new("what change-pin says", output.to_string(), "portcullis-a")]
}

/// Renames the audit log under the gateway, which goes on in a new file.
fn rotate_audit_log(cluster: &TestCluster, before: &str) {
    let rotated = cluster.path().join(format!("audit-before-{before}.jsonl"));
    fs::rename(cluster.audit_file(), rotated).expect("a rotated log");
}

/// Makes a backup beside the running gateway.
fn back_up(cluster: &TestCluster, file: &Path) {
    run(Command::new(workspace_binary("portcullisd"))
        .args(["backup", "create", "--config"])
        .arg(cluster.config_file())
        .arg("--output")
        .arg(file))
    .succeeded();
}

/// What the processes were started with.
fn starts(cluster: &TestCluster, gateway: &Gateway) -> Vec<Place> {
    let mut places = Vec::new();
    for (what, pid) in memory::processes(gateway) {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).expect("the process");
        let (arguments, variable) = if pid == gateway.pid() {
            (cluster.config_file().display().to_string(), "CREDENTIALS_DIRECTORY")
        } else {
            ("portcullisd\0hsm-worker".to_owned(), "SOFTHSM2_CONF")
        };
        places.push(Place::new(
            format!("the arguments of {what}"),
            read("cmdline"),
            arguments,
        ));
        places.push(Place::new(
            format!("the environment of {what}"),
            read("environ"),
            variable,
        ));
    }
    places
}

/// All files below the cluster's directory, but those from which the PINs were read.
fn files(directory: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, into);
        } else if path.is_file() && !is_source(&path) {
            into.push((path.clone(), fs::read(&path).expect("a file")));
        }
    }
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pin") || path.ends_with("credentials/pin-b")
}

#[track_caller]
fn nothing_in(place: &Place, search: &Search) {
    let control = Canary {
        what: place.must_show.clone(),
        value: place.must_show.clone().into_bytes(),
    };
    assert!(
        !Search::new([&control]).find(&place.content).is_empty(),
        "{} does not show {}, which it must: is the search at fault?",
        place.what,
        place.must_show
    );
    let found = search.find(&place.content);
    assert!(found.is_empty(), "{} shows {found:#?}", place.what);
}

/// The methods of two services were all called, and those of the third that carry keys.
fn everything_was_called(scrape: &Scrape) {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let services = set.file.iter().flat_map(|file| &file.service);
    let methods = services.flat_map(|service| service.method.iter().map(move |method| (service.name(), method.name())));
    let carry_keys = |method: &str| {
        ["Import", "Export", "Ephemeral"]
            .iter()
            .any(|word| method.contains(word) && method != "GetImportJob" && method != "RevokeEphemeralKeys")
    };
    let mut expected = 0;
    for (service, method) in methods {
        if matches!(service, "CryptoService" | "ObjectService") || (service == "KeyService" && carry_keys(method)) {
            let label = format!("portcullis.v1.{service}/{method}");
            let calls = scrape.sum("rpc_server_call_duration_seconds_count", &[("rpc_method", &label)]);
            assert!(calls.is_some_and(|calls| calls > 0.0), "{label} was not called");
            expected += 1;
        }
    }
    assert!(expected > 25, "{expected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_anything_that_the_gateway_writes_or_leaves_in_memory() {
    let cluster = TestCluster::new();
    // Before the change, so that the old ones are among them.
    let pins = pins(&cluster);
    let collector = Collector::start().await;
    let gateway = talkative(&cluster, &collector);
    for member in MEMBERS {
        gateway.wait_for_member(member, MemberState::Ready).await;
    }
    let mut traces = Traces::default();
    for (transport, client) in gateway.clients().await {
        rotate_audit_log(&cluster, transport);
        Caller::new(client.with_deadline(LONG), transport, &mut traces)
            .await
            .do_everything()
            .await;
    }
    let mut places = change_pins(&cluster, &gateway).await;
    places.extend(starts(&cluster, &gateway));

    let scrape = Scrape::of(&cluster.path().join("metrics.sock"));
    everything_was_called(&scrape);
    places.push(Place::new("a scrape", scrape.text(), "CryptoService/Encrypt"));
    collector
        .wait_for_span("of the last call", |span| {
            span.name.ends_with("ObjectService/DeleteObject")
        })
        .await;
    collector.wait_for_metric("rpc.server.call.duration").await;
    places.push(Place::new("the errors", traces.errors.clone(), VISIBLE));
    let backup = cluster.path().join("the-backup");
    tokio::task::block_in_place(|| back_up(&cluster, &backup));

    // In memory: what stays in the HSMs was never there, and PINs are not any more. Whatever else passed is gone with the
    // connections that it came or went by.
    let never = Search::new(traces.outside.iter().chain(&pins));
    let passed = Search::new(traces.passing.iter().chain(&traces.outside).chain(&pins));
    let control = Search::new([&visible()]);
    tokio::task::block_in_place(|| {
        let remembered = || memory::search(gateway.pid(), &never);
        assert!(
            !memory::search(gateway.pid(), &control).is_empty(),
            "the search finds nothing in memory"
        );
        assert!(remembered().is_empty(), "portcullisd remembers {:#?}", remembered());
        wait_until("the end of all connections", SHORT, || {
            let open = Scrape::of(&cluster.path().join("metrics.sock")).sum("portcullis_connections_open", &[]);
            (open == Some(0.0)).then_some(())
        });
        // A connection is counted no longer a moment before its buffers are gone.
        let started = Instant::now();
        loop {
            let found = memory::search(gateway.pid(), &passed);
            if found.is_empty() {
                break;
            }
            assert!(started.elapsed() < SHORT, "portcullisd remembers {found:#?}");
        }
    });
    // A worker keeps its PIN, for a login that is lost, and nothing else. Members a and b have new workers since; c has had all.
    for (member, pid) in gateway.workers() {
        let own = if member == "a" {
            "the new PIN".to_owned()
        } else {
            format!("the user PIN of member {member}")
        };
        let found = tokio::task::block_in_place(|| memory::search(pid, &passed));
        let others: Vec<_> = found.iter().filter(|(what, _)| *what != own).collect();
        assert!(others.is_empty(), "the worker of member {member} remembers {others:#?}");
        assert!(
            !found.is_empty(),
            "the search finds nothing in the memory of the worker of member {member}"
        );
    }

    let ended = tokio::task::block_in_place(|| gateway.stop());
    places.push(Place::new("the log", ended.log, "a request ended"));
    assert!(
        ended.stdout.is_empty(),
        "after the ready line it said {:?}",
        ended.stdout
    );
    places.push(Place::new(
        "the collector",
        collector.everything(),
        "CryptoService/Encrypt",
    ));
    // Objects are stored, and ephemeral keys are remembered, as they are: elsewhere they are as secret as the others.
    let everywhere = Search::new(
        traces
            .stored
            .iter()
            .chain(&traces.passing)
            .chain(&traces.outside)
            .chain(&pins),
    );
    for place in &places {
        nothing_in(place, &everywhere);
    }
    let mut written = Vec::new();
    files(cluster.path(), &mut written);
    let mut shown = BTreeSet::new();
    for (path, content) in &written {
        let name = path.file_name().expect("a file").to_str().expect("UTF-8");
        let stores = name.starts_with("portcullis.sqlite") || name == "the-backup";
        let found = if stores { &passed } else { &everywhere }.find(content);
        assert!(found.is_empty(), "{} shows {found:#?}", path.display());
        if !control.find(content).is_empty() {
            shown.insert(name.to_owned());
        }
    }
    for file in [
        "audit.jsonl",
        "audit-before-tls.jsonl",
        "portcullis.sqlite",
        "the-backup",
    ] {
        assert!(shown.contains(file), "{file} is not searched: only {shown:?} are");
    }
    assert_eq!(
        fs::read_dir(cluster.path().join("scratch"))
            .expect("a directory")
            .count(),
        0
    );
}

fn visible() -> Canary {
    Canary {
        what: "a ring's name".to_owned(),
        value: VISIBLE.as_bytes().to_vec(),
    }
}

//! A production gateway starts on a record that its custodians signed, and on nothing else.

use portcullis_client::v1::MemberState;
use portcullis_gateway::{config::Settings, provisioning::Acceptance};
use portcullis_provisioning::{
    document::SignedDocument,
    record::{MemberIdentity, ProvisioningRecord},
};
use portcullis_softhsm_tests::{
    AuditLog, Custodians, Gateway, LONG, Launch, Output, TestCluster, run, wait_until, workspace_binary,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tokio::{runtime::Handle, task::block_in_place};

/// A cluster whose configuration names a file of records.
struct Production {
    cluster: TestCluster,
    custodians: Custodians,
    // What three custodians would sign first.
    record: ProvisioningRecord,
}

impl Production {
    async fn new() -> Self {
        let cluster = TestCluster::new();
        let custodians = Custodians::new();
        let gateway = Gateway::start(&cluster);
        for member in portcullis_softhsm_tests::MEMBERS {
            gateway.wait_for_member(member, MemberState::Ready).await;
        }
        let record = custodians.record_of(&cluster, &gateway).await;
        block_in_place(|| gateway.stop());
        cluster.edit_config(|config| {
            let provisioning = toml::Table::from_iter([("record".to_owned(), "provisioning.record".into())]);
            config.insert("provisioning".to_owned(), provisioning.into());
        });
        Self {
            cluster,
            custodians,
            record,
        }
    }

    fn note(&self) -> PathBuf {
        self.cluster.path().join("db/provisioning.accepted")
    }

    /// Puts these records into the file.
    fn place(&self, records: &[&SignedDocument]) {
        let texts: Vec<_> = records.iter().map(ToString::to_string).collect();
        self.cluster.place("provisioning.record", &texts.join("\n"));
    }

    /// The first record, signed by three.
    fn first(&self) -> SignedDocument {
        self.custodians.signed(&self.record, &[1, 2, 3])
    }

    /// The record after another, with a change, signed by three.
    fn next(&self, before: &SignedDocument, change: impl FnOnce(&mut ProvisioningRecord)) -> SignedDocument {
        let earlier = ProvisioningRecord::parse(before.document().as_bytes()).expect("a record");
        let mut record = ProvisioningRecord {
            sequence: earlier.sequence + 1,
            previous: Some(before.digest()),
            ..earlier
        };
        change(&mut record);
        self.custodians.signed(&record, &[1, 2, 3])
    }

    /// Starts the gateway, which must not serve, and say these words.
    #[track_caller]
    fn refuses(&self, words: &[&str]) {
        let ended = block_in_place(|| Launch::new(&self.cluster).start_in_vain());
        assert!(!ended.status.success());
        for word in words {
            assert!(ended.log.contains(word), "{word:?} is not in:\n{}", ended.log);
        }
    }

    /// Starts the gateway, which must serve with all of its members.
    async fn serves(&self) -> Gateway {
        let gateway = block_in_place(|| Gateway::start(&self.cluster));
        for member in gateway.cluster_status().await.members {
            let name = member.name.trim_start_matches("members/").to_owned();
            gateway.wait_for_member(&name, MemberState::Ready).await;
        }
        gateway
    }

    /// Says in the configuration what the gateway is to start on.
    fn provision(&self, key: &str, value: impl Into<toml::Value>) {
        let provisioning = toml::Table::from_iter([(key.to_owned(), value.into())]);
        self.cluster
            .edit_config(|config| drop(config.insert("provisioning".to_owned(), provisioning.into())));
    }

    /// Asks for a reload, which must be refused with these words.
    fn refuses_to_reload(&self, gateway: &Gateway, words: &[&str]) {
        let before = self.reloads().len();
        gateway.hang_up();
        let outcome = block_in_place(|| {
            wait_until("the end of the reload", LONG, || {
                let ended = self.reloads().into_iter().skip(before);
                ended.into_iter().find(|entry| entry["phase"] == "gateway")
            })
        });
        assert_eq!(outcome["outcome"], "CONFIGURATION_INVALID", "{}", gateway.log());
        // The line is read from the gateway's output, which may come after the entry.
        let refused = block_in_place(|| {
            wait_until("a word on the refused reload", LONG, || {
                let log = gateway.log();
                let line = log.lines().rfind(|line| line.contains("nothing was reloaded"));
                line.map(str::to_owned)
            })
        });
        for word in words {
            assert!(refused.contains(word), "{word:?} is not in: {refused}");
        }
    }

    /// Runs a command of `portcullisd` with the configuration.
    fn command(&self, command: &[&str], arguments: &[&Path]) -> Output {
        block_in_place(|| {
            run(Command::new(workspace_binary("portcullisd"))
                .args(command)
                .arg("--config")
                .arg(self.cluster.config_file())
                .args(arguments))
        })
    }

    /// What the audit log says of reloads.
    fn reloads(&self) -> Vec<serde_json::Value> {
        let entries = AuditLog::read(&self.cluster.audit_file()).entries;
        let reloads = entries.into_iter().filter(|entry| entry["action"] == "gateway.reload");
        reloads.collect()
    }

    fn set(&self, section: &str, key: &str, value: impl Into<toml::Value>) {
        self.cluster.edit_config(|config| {
            let section = config[section].as_table_mut().expect("the section");
            section.insert(key.to_owned(), value.into());
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_starts_on_what_a_quorum_signed_and_says_so() {
    let production = Production::new().await;
    let first = production.first();
    production.place(&[&first]);
    let gateway = production.serves().await;
    block_in_place(|| gateway.stop());
    let log = AuditLog::read(&production.cluster.audit_file());
    let starts: Vec<_> = log
        .entries
        .iter()
        .filter(|entry| entry["action"] == "gateway.start")
        .collect();
    let digest = hex::encode(first.digest());
    assert_eq!(starts.len(), 2);
    assert_eq!(starts[0]["context"]["provisioning"], "development");
    assert_eq!(
        starts[1]["context"]["provisioning"],
        format!("record 1 of cluster alpha, digest {digest}")
    );
    assert_eq!(
        fs::read_to_string(production.note()).expect("the note"),
        format!("1 {digest}\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_record_it_does_not_start_unless_it_is_for_development() {
    let production = Production::new().await;
    production.refuses(&["provisioning.record", "No such file"]);
    let provisioning = |settings: &[(&str, toml::Value)]| {
        production.cluster.edit_config(|config| {
            let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
            config.insert("provisioning".to_owned(), toml::Table::from_iter(settings).into());
        });
    };
    production
        .cluster
        .edit_config(|config| drop(config.remove("provisioning")));
    production.refuses(&["provisioning.record: is missing", "development = true"]);
    provisioning(&[("development", false.into())]);
    production.refuses(&["provisioning.record: is missing"]);
    provisioning(&[("development", true.into()), ("record", "provisioning.record".into())]);
    production.refuses(&["provisioning.record: is given together with development = true"]);
    provisioning(&[("development", true.into())]);
    block_in_place(|| Gateway::start(&production.cluster).stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_quorum_signed_is_refused_by_name() {
    let production = Production::new().await;
    let (record, custodians) = (&production.record, &production.custodians);
    for (who, words) in [
        (
            &[][..],
            &["0 of the custodians of record 1 signed (nobody), 3 are needed"][..],
        ),
        (
            &[1, 4],
            &["2 of the custodians of record 1 signed (custodian 1, custodian 4), 3 are needed"],
        ),
        (&[1, 1, 2, 3], &["custodian 1 signed more than once"]),
        (&[1, 2, 3, 6], &["which no custodian has"]),
    ] {
        production.place(&[&custodians.signed(record, who)]);
        production.refuses(words);
    }
    let signed = production.first().to_string();
    let changed = |from: &str, to: &str| {
        let text = signed.replacen(from, to, 1);
        assert_ne!(text, signed);
        production.cluster.place("provisioning.record", &text);
    };
    changed("\"provisioning\": 3", "\"provisioning\": 2");
    production.refuses(&["the signature of custodian 1 does not hold"]);
    changed("\"provisioning\": 3", "\"provisioning\": 1");
    production.refuses(&["a threshold of 1 is below 2"]);
    changed("\"activation\": 3", "\"activation\": 6");
    production.refuses(&["a threshold of 6 is above the number of custodians (5)"]);
    changed("custodian 2", "custodian 1");
    production.refuses(&["two custodians have the name custodian 1"]);
    changed("  \"cluster\"", "\t\"cluster\"");
    production.refuses(&["not written in the form of its format"]);
    // Nothing of all this was ever in use.
    assert!(!production.note().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_says_something_else_is_refused_by_name() {
    let production = Production::new().await;
    production.place(&[&production.first()]);
    let config = fs::read_to_string(production.cluster.config_file()).expect("the configuration");
    let other = "ab".repeat(32);
    let cases: [(&dyn Fn(), &[&str]); 5] = [
        (
            &|| production.set("domain", "fingerprint", other.as_str()),
            &["domain.fingerprint: is abab", "provisioning record 1 says"],
        ),
        (
            &|| production.set("domain", "epoch", 2),
            &["domain.epoch: is 2; provisioning record 1 says 1"],
        ),
        (
            &|| {
                production
                    .cluster
                    .edit_member("b", |member| drop(member.insert("name".to_owned(), "d".into())))
            },
            &["member d: name: is not in provisioning record 1, whose members are a, b, c"],
        ),
        (
            &|| {
                production.cluster.edit_member("b", |member| {
                    member.insert("token_label".to_owned(), "portcullis-c".into());
                });
            },
            &["member b: token_label: is \"portcullis-c\"; provisioning record 1 says \"portcullis-b\""],
        ),
        (
            &|| {
                production.cluster.edit_member("c", |member| {
                    member.insert("token_serial_number".to_owned(), "0123".into());
                });
            },
            &["member c: token_serial_number: is \"0123\"; provisioning record 1 says"],
        ),
    ];
    for (change, words) in cases {
        change();
        production.refuses(words);
        fs::write(production.cluster.config_file(), &config).expect("the configuration");
    }
    let gateway = production.serves().await;
    block_in_place(|| gateway.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_in_the_record_is_not_used_whatever_its_label() {
    let production = Production::new().await;
    production.place(&[&production.first()]);
    let another = block_in_place(TestCluster::with_another_domain);
    production.cluster.take_member_from(&another, "b");
    let gateway = block_in_place(|| Gateway::start(&production.cluster));
    let member = gateway.wait_for_member("b", MemberState::Stopped).await;
    let recorded = production
        .record
        .member("b")
        .expect("the member")
        .token_serial_number
        .as_str();
    assert!(
        member.reason.contains("no token matches") && member.reason.contains(recorded),
        "{}",
        member.reason
    );
    gateway.wait_for_member("a", MemberState::Ready).await;
    block_in_place(|| gateway.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_use_cannot_be_put_aside() {
    let production = Production::new().await;
    let first = production.first();
    let second = production.next(&first, |record| record.ceremony = "policy-change".to_owned());
    production.place(&[&first, &second]);
    let gateway = production.serves().await;
    block_in_place(|| gateway.stop());

    let in_use = format!("provisioning record 2 (digest {}", hex::encode(second.digest()));
    production.place(&[&first]);
    production.refuses(&[&in_use, "it is of another cluster, or older"]);
    production.place(&[&second]);
    production.refuses(&["the chain begins with record 2; expected record 1"]);
    // Other people make a record of their own about the same domain.
    let others = Custodians::new();
    let mut theirs = production.record.clone();
    theirs.roster = others.roster(&[1, 2, 3, 4, 5]);
    production.place(&[&others.signed(&theirs, &[1, 2, 3])]);
    production.refuses(&[&in_use]);
    // They put it after the right ones.
    let mut after = theirs.clone();
    (after.sequence, after.previous) = (3, Some(second.digest()));
    production.place(&[&first, &second, &others.signed(&after, &[1, 2, 3])]);
    production.refuses(&["0 of the custodians of record 2, the one before signed (nobody), 3 are needed"]);
    production.cluster.edit_config(|config| {
        let development = toml::Table::from_iter([("development".to_owned(), true.into())]);
        config.insert("provisioning".to_owned(), development.into());
    });
    production.refuses(&["says that this is a development gateway", &in_use]);
    production.cluster.edit_config(|config| {
        let record = toml::Table::from_iter([("record".to_owned(), "provisioning.record".into())]);
        config.insert("provisioning".to_owned(), record.into());
    });

    let third = production.next(&second, |record| record.ceremony = "member-join".to_owned());
    production.place(&[&first, &second, &third]);
    let gateway = production.serves().await;
    block_in_place(|| gateway.stop());
    fs::write(production.note(), "3 abc\n").expect("the note");
    production.refuses(&["provisioning.accepted is damaged"]);
}

/// The file is read once: what was held against the configuration is what comes into use.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_after_it_was_checked_changes_nothing() {
    let production = Production::new().await;
    let first = production.first();
    production.place(&[&first]);
    let settings = Settings::load(&production.cluster.config_file()).expect("a configuration");
    // A record of another domain, with which this configuration would be refused.
    let second = production.next(&first, |record| {
        record.domain.epoch += 1;
        record.domain.fingerprint = [7; 32];
    });
    production.place(&[&first, &second]);
    let acceptance = Acceptance::check(&settings, &settings.state_directory).expect("the record that was checked");
    acceptance.keep().expect("a note");
    let digest = hex::encode(first.digest());
    assert_eq!(
        acceptance.to_string(),
        format!("record 1 of cluster alpha, digest {digest}")
    );
    let noted = fs::read_to_string(production.note()).expect("the note");
    assert_eq!(noted, format!("1 {digest}\n"));
    production.refuses(&["domain.epoch: is 1; provisioning record 2 says 2"]);
    let unchecked = Settings::read(&production.cluster.config_file()).expect("a configuration");
    let refused =
        Acceptance::check(&unchecked, &unchecked.state_directory).expect_err("records that nothing was held against");
    assert!(refused.to_string().contains("were not read"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_record_is_taken_into_use_by_a_reload_and_an_invalid_one_is_not() {
    let production = Production::new().await;
    let all = production.record.members.clone();
    let mut first = production.record.clone();
    first.members.retain(|member: &MemberIdentity| member.name != "c");
    let first = production.custodians.signed(&first, &[2, 3, 5]);
    production.place(&[&first]);
    let config = fs::read_to_string(production.cluster.config_file()).expect("the configuration");
    production.cluster.edit_config(|config| {
        let members = config["member"].as_array_mut().expect("[[member]]");
        members.retain(|member| member["name"].as_str() != Some("c"));
    });
    let gateway = production.serves().await;
    assert_eq!(gateway.cluster_status().await.members.len(), 2);

    // A member that no record names stays out.
    fs::write(production.cluster.config_file(), &config).expect("the configuration");
    gateway.hang_up();
    block_in_place(|| {
        wait_until("a word on the refused reload", LONG, || {
            let log = gateway.log();
            let refused =
                log.contains("nothing was reloaded") && log.contains("member c: name: is not in provisioning record 1");
            refused.then_some(())
        });
    });
    assert_eq!(gateway.cluster_status().await.members.len(), 2);

    let second = production.next(&first, |record| record.members = all);
    production.place(&[&first, &second]);
    gateway.hang_up();
    block_in_place(|| {
        wait_until("the new member in the list", LONG, || {
            let members = Handle::current().block_on(gateway.cluster_status()).members;
            (members.len() == 3).then_some(())
        });
    });
    gateway.wait_for_member("c", MemberState::Ready).await;
    block_in_place(|| gateway.stop());
    let digest = hex::encode(second.digest());
    let noted = fs::read_to_string(production.note()).expect("the note");
    assert_eq!(noted, format!("2 {digest}\n"));
    // The audit log says since when.
    let last = production.reloads().pop().expect("a reload");
    assert_eq!(last["outcome"], "OK");
    assert_eq!(
        last["context"]["provisioning"],
        format!("record 2 of cluster alpha, digest {digest}")
    );
}

/// Members are fenced by the domain with which the gateway was started: a record of another one is not in force by a reload, and so
/// not noted either.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_does_not_take_a_record_of_another_domain_into_use() {
    let production = Production::new().await;
    let first = production.first();
    production.place(&[&first]);
    let gateway = production.serves().await;
    let noted = fs::read_to_string(production.note()).expect("the note");
    let second = production.next(&first, |record| {
        record.domain.epoch = 2;
        record.domain.fingerprint = [7; 32];
    });
    production.place(&[&first, &second]);
    production.set("domain", "epoch", 2);
    production.set("domain", "fingerprint", hex::encode([7; 32]));
    production.refuses_to_reload(
        &gateway,
        &[
            "domain: the gateway was started for epoch 1",
            "now say epoch 2, fingerprint 0707",
            "needs a restart",
        ],
    );
    assert_eq!(fs::read_to_string(production.note()).expect("the note"), noted);
    block_in_place(|| gateway.stop());
}

/// The note lies where the gateway runs. Another state directory in a new configuration has none, and is not asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_finds_the_note_in_the_directory_in_which_the_gateway_was_started() {
    let production = Production::new().await;
    let first = production.first();
    let second = production.next(&first, |record| record.ceremony = "policy-change".to_owned());
    production.place(&[&first, &second]);
    let gateway = production.serves().await;
    let noted = fs::read_to_string(production.note()).expect("the note");
    let elsewhere = production.cluster.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    production.place(&[&first]);
    production.cluster.edit_config(|config| {
        config.insert("state_directory".to_owned(), elsewhere.display().to_string().into());
    });
    let in_use = format!("provisioning record 2 (digest {}", hex::encode(second.digest()));
    production.refuses_to_reload(&gateway, &[&in_use, "it is of another cluster, or older"]);
    assert_eq!(fs::read_to_string(production.note()).expect("the note"), noted);
    assert_eq!(fs::read_dir(&elsewhere).expect("the directory").count(), 0);
    block_in_place(|| gateway.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_makes_no_production_gateway_of_one_for_development_nor_the_other_way_round() {
    let production = Production::new().await;
    production.place(&[&production.first()]);
    production.provision("development", true);
    let gateway = production.serves().await;
    production.provision("record", "provisioning.record");
    production.refuses_to_reload(
        &gateway,
        &[
            "was started for development",
            "now to run on a provisioning record",
            "needs a restart",
        ],
    );
    assert!(!production.note().exists());
    block_in_place(|| gateway.stop());

    let gateway = production.serves().await;
    let elsewhere = production.cluster.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    production.provision("development", true);
    production.cluster.edit_config(|config| {
        config.insert("state_directory".to_owned(), elsewhere.display().to_string().into());
    });
    production.refuses_to_reload(
        &gateway,
        &[
            "was started on a provisioning record",
            "now to run for development",
            "needs a restart",
        ],
    );
    block_in_place(|| gateway.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_the_configuration_says_what_a_start_would_say() {
    let production = Production::new().await;
    let first = production.first();
    let second = production.next(&first, |record| record.ceremony = "policy-change".to_owned());
    production.place(&[&first, &second]);
    production.command(&["config", "check"], &[]).succeeded();
    let gateway = production.serves().await;
    block_in_place(|| gateway.stop());
    production.command(&["config", "check"], &[]).succeeded();
    production.place(&[&first]);
    let checked = production.command(&["config", "check"], &[]);
    assert_eq!(checked.status.code(), Some(1), "{checked}");
    assert!(
        checked.stderr.contains("it is of another cluster, or older"),
        "{checked}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_and_a_backup_are_at_hand_without_the_record() {
    let production = Production::new().await;
    production.place(&[&production.first()]);
    let gateway = production.serves().await;
    block_in_place(|| gateway.stop());
    fs::remove_file(production.cluster.path().join("provisioning.record")).expect("the records are gone");
    production.refuses(&["provisioning.record", "No such file"]);
    let log = production.cluster.audit_file();
    production.command(&["audit", "verify"], &[&log]).succeeded();
    let backup = production.cluster.path().join("the.backup");
    production
        .command(&["backup", "create"], &[Path::new("--output"), &backup])
        .succeeded();
    assert!(backup.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_note_its_record_does_not_say_that_it_started() {
    let production = Production::new().await;
    production.place(&[&production.first()]);
    // In the way of the note.
    fs::create_dir(production.note().with_extension("new")).expect("a directory");
    production.refuses(&["provisioning.accepted"]);
    let log = AuditLog::read(&production.cluster.audit_file());
    let outcomes: Vec<_> = log
        .entries
        .iter()
        .filter(|entry| entry["action"] == "gateway.start")
        .map(|entry| {
            (
                entry["context"]["provisioning"] == "development",
                entry["outcome"].as_str(),
            )
        })
        .collect();
    assert_eq!(outcomes, [(true, Some("OK")), (false, Some("FAILED"))]);
}

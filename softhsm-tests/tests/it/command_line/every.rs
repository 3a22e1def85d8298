//! Every command, done and refused, for people and for programs.

use super::CommandLine;
use portcullis_softhsm_tests::{Gateway, TestCluster, openssl, temporary_directory};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Runs commands and remembers which were tried, and how they ended.
struct Trial<'d> {
    portcullis: CommandLine<'d>,
    tried: RefCell<BTreeMap<&'static str, BTreeSet<String>>>,
}

impl<'d> Trial<'d> {
    fn new(portcullis: CommandLine<'d>) -> Self {
        Self {
            portcullis,
            tried: RefCell::default(),
        }
    }

    /// What is done and said to people.
    #[track_caller]
    fn said(&self, line: &str) -> String {
        self.note("said", line);
        let output = self.portcullis.run(line);
        let text = output.text();
        assert!(!text.contains('\u{1b}'), "colours in a pipe: {text:?}");
        text
    }

    /// What is done and answered to a program.
    #[track_caller]
    fn told(&self, line: &str) -> Value {
        self.note("told", line);
        self.portcullis.ask(line)
    }

    /// What is refused with an exit code, to both.
    #[track_caller]
    fn refused(&self, code: i32, line: &str) -> String {
        self.note("refused", line);
        let said = self.portcullis.fails_with(code, line);
        assert!(said.starts_with("error: "), "{line}: {said}");
        let told = self.portcullis.fails_with(code, &format!("--json {line}"));
        let told: Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{line}: {error} in {told}"));
        assert_eq!(told["error"]["exit_code"], code, "{line}: {told}");
        assert!(
            told["error"]["message"].as_str().is_some_and(|text| !text.is_empty()),
            "{line}: {told}"
        );
        said
    }

    fn note(&self, how: &'static str, line: &str) {
        let mut tried = self.tried.borrow_mut();
        tried.entry(how).or_default().insert(line.to_owned());
    }

    /// The commands that were not tried in a way.
    fn untried(&self, how: &'static str) -> Vec<String> {
        let tried = self.tried.borrow();
        let lines = tried.get(how);
        let is_tried = |command: &String| {
            lines.is_some_and(|lines| {
                lines
                    .iter()
                    .any(|line| line == command || line.starts_with(&format!("{command} ")))
            })
        };
        commands().into_iter().filter(|command| !is_tried(command)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_does_what_it_says_and_is_refused_by_name() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let directory = directory.path();
    let trial = Trial::new(CommandLine::new(directory, &gateway));
    fs::write(directory.join("document"), "a document").expect("a document");
    fs::write(directory.join("other"), "another document").expect("a document");

    rings_and_keys(&trial);
    versions(&trial);
    uses(&trial, directory);
    beside_keys(&trial, directory);
    transfers(&trial, directory);
    ephemeral_keys(&trial, directory);
    members(&trial);

    for how in ["said", "told", "refused"] {
        let untried = trial.untried(how);
        assert!(untried.is_empty(), "never {how}: {untried:?}");
    }
}

fn rings_and_keys(trial: &Trial<'_>) {
    assert_eq!(
        trial.said("ring create demo --label team=ops"),
        "created keyRings/demo\n"
    );
    let ring = trial.told("ring create slow --least-destroy-window 3days");
    assert_eq!(ring["least_destroy_window_seconds"], 3 * 24 * 3600);
    trial.refused(7, "ring create demo");
    assert!(
        trial
            .said("ring list")
            .lines()
            .any(|line| line.starts_with("demo ") && line.ends_with("team=ops"))
    );
    assert_eq!(trial.told("ring list")["key_rings"].as_array().map(Vec::len), Some(2));
    trial.refused(6, "ring list --endpoint unix:nowhere.sock");
    assert!(trial.said("ring show demo").contains("team=ops"));
    let etag = trial.told("ring show demo")["etag"].clone();
    trial.refused(4, "ring show absent");
    let etag = etag.as_str().expect("an etag");
    trial.said(&format!(
        "ring update demo --label team=payments --label tier=1 --etag {etag}"
    ));
    assert_eq!(
        trial.told("ring update demo --remove-label tier")["labels"],
        json!({ "team": "payments" })
    );
    trial.refused(7, &format!("ring update demo --label team=ops --etag {etag}"));
    trial.refused(2, "ring update demo");

    let made = trial.said("key create demo/tls --type ec-p256 --label use=tls");
    assert_eq!(
        made,
        "created keyRings/demo/keys/tls (ec-p256, wrapped; sign: ecdsa-sha256)\n"
    );
    assert_eq!(trial.told("key create demo/data --type aes-256")["type"], "aes-256");
    trial.said("key create demo/mac --type hmac-sha256");
    trial.refused(7, "key create demo/tls --type ec-p256");
    // SoftHSM2 wraps no Ed25519 keys.
    let said = trial.refused(3, "key create demo/ed --type ed25519");
    assert!(
        said.contains("help: ") && said.contains("--protection resident"),
        "{said}"
    );
    trial.said("key create demo/ed --type ed25519 --protection resident --allow-single-replica");
    let before = trial.told("key list demo")["keys"].as_array().map(Vec::len);
    assert_eq!(
        trial.said("key create demo/checked --type aes-128 --validate-only"),
        "this can be done; nothing was\n"
    );
    assert_eq!(trial.told("key list demo")["keys"].as_array().map(Vec::len), before);
    assert!(trial.said("key list demo --filter labels.use=tls").contains("tls  "));
    trial.refused(3, "key list demo --filter colour=blue");
    assert!(trial.said("key show demo/tls").contains("primary version"));
    assert_eq!(trial.told("key show demo/ed")["primary"]["single_replica"], true);
    assert_eq!(
        trial.told("key show demo/tls/1")["name"],
        "keyRings/demo/keys/tls/versions/1"
    );
    trial.refused(4, "key show demo/absent");
    trial.said("key update demo/tls --label use=web --destroy-window 40days");
    let updated = trial.told("key update demo/tls --remove-label use");
    assert_eq!(
        (&updated["labels"], &updated["destroy_window_seconds"]),
        (&json!({}), &json!(40 * 24 * 3600))
    );
    trial.refused(2, "key update demo/tls --label use=a --remove-label use");

    assert!(
        trial
            .said("key public demo/tls")
            .starts_with("-----BEGIN PUBLIC KEY-----")
    );
    assert_eq!(trial.told("key public demo/tls --format jwk")["format"], "jwk");
    trial.refused(3, "key public demo/data");
    let set: Value = serde_json::from_str(&trial.said("ring jwks demo")).expect("JSON");
    assert_eq!(set, trial.told("ring jwks demo"));
    assert_eq!(set["keys"].as_array().map(Vec::len), Some(2));
    trial.refused(4, "ring jwks absent");
}

fn versions(trial: &Trial<'_>) {
    let rotated = trial.said("key rotate demo/tls");
    assert_eq!(rotated, "rotated keyRings/demo/keys/tls: its primary version is 2\n");
    assert_eq!(trial.told("key rotate demo/tls --pre-active")["primary_version"], 2);
    trial.refused(4, "key rotate demo/absent");
    let versions = trial.said("key versions demo/tls");
    let states: Vec<_> = versions
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(states, ["active", "active", "pre-active"], "{versions}");
    let found = trial.told("key versions demo/tls --filter state=PRE_ACTIVE");
    assert_eq!(found["versions"][0]["version"], 3);
    trial.refused(4, "key versions demo/absent");
    trial.refused(3, "key set-primary demo/tls 3");
    let activated = trial.said("key state demo/tls/3 activate");
    assert_eq!(activated, "keyRings/demo/keys/tls/versions/3 is active\n");
    trial.said("key set-primary demo/tls 3");
    assert_eq!(trial.told("key set-primary demo/tls 2")["primary_version"], 2);

    for (verb, state) in [
        ("disable", "disabled"),
        ("enable", "active"),
        ("deactivate", "deactivated"),
        ("mark-compromised", "compromised"),
    ] {
        let changed = trial.told(&format!("key state demo/tls/1 {verb} --reason exercise"));
        assert_eq!(
            (&changed["state"], &changed["state_reason"]),
            (&json!(state), &json!("exercise")),
            "{verb}"
        );
    }
    let said = trial.refused(3, "key state demo/tls/1 enable");
    assert!(
        said.contains("KEY_STATE_FORBIDS_OPERATION") && said.contains("key versions"),
        "{said}"
    );
    trial.refused(2, "key state demo/tls enable");

    let scheduled = trial.said("key destroy demo/tls/3 --window 2days");
    assert!(
        scheduled.starts_with("keyRings/demo/keys/tls/versions/3 will be destroyed at 20"),
        "{scheduled}"
    );
    assert_eq!(trial.told("key destroy demo/tls/3")["state"], "destroy-scheduled");
    trial.said("key create slow/kept --type aes-128");
    let said = trial.refused(3, "key destroy slow/kept/1 --window 1h");
    assert!(said.contains("FIELD_INVALID"), "{said}");
    let restored = trial.said("key restore demo/tls/3");
    assert_eq!(restored, "keyRings/demo/keys/tls/versions/3 is disabled\n");
    trial.said("key destroy demo/tls/3");
    assert_eq!(trial.told("key restore demo/tls/3")["state"], "disabled");
    trial.refused(3, "key restore demo/tls/2");
}

fn uses(trial: &Trial<'_>, directory: &Path) {
    trial.said("sign demo/tls --in document --out document.sig");
    assert_eq!(
        trial.told("sign demo/tls --in document --out again.sig")["mechanism"],
        "ecdsa-sha256"
    );
    trial.refused(2, "sign demo/tls --in absent --out document.sig");
    trial.refused(3, "sign demo/data --in document --out absent.sig");
    assert!(!directory.join("absent.sig").exists());
    assert_eq!(
        trial.said("verify demo/tls --in document --signature document.sig"),
        "valid\n"
    );
    assert_eq!(
        trial.told("verify demo/tls --in document --signature again.sig")["valid"],
        true
    );
    trial.refused(4, "verify demo/absent --in document --signature document.sig");
    trial
        .portcullis
        .fails_with(1, "verify demo/tls --in other --signature document.sig");

    trial.said("mac sign demo/mac --in document --out document.mac");
    assert_eq!(
        trial.told("mac sign demo/mac --in document")["mac"]
            .as_str()
            .map(str::len),
        Some(44)
    );
    trial.refused(3, "mac sign demo/tls --in document");
    assert_eq!(
        trial.said("mac verify demo/mac --in document --mac document.mac"),
        "valid\n"
    );
    assert_eq!(
        trial.told("mac verify demo/mac --in document --mac document.mac")["valid"],
        true
    );
    trial.refused(2, "mac verify demo/mac --in document --mac absent");
    trial
        .portcullis
        .fails_with(1, "mac verify demo/mac --in other --mac document.mac");

    trial.said("random 32 --out random.bin");
    assert_eq!(fs::read(directory.join("random.bin")).expect("random bytes").len(), 32);
    assert_eq!(trial.told("random 3")["data"].as_str().map(str::len), Some(4));
    assert_eq!(trial.said("random 2 --hex").trim().len(), 4);
    trial.refused(2, "random 0");
}

fn beside_keys(trial: &Trial<'_>, directory: &Path) {
    let made = trial.said("alias create demo/current demo/tls");
    assert_eq!(
        made,
        "keyRings/demo/aliases/current stands for keyRings/demo/keys/tls\n"
    );
    trial.told("alias create demo/second demo/tls/2");
    trial.refused(7, "alias create demo/current demo/tls");
    let signed = trial.told("sign demo/@second --in document");
    assert_eq!(signed["name"], "keyRings/demo/keys/tls/versions/2");
    trial.said("key show demo/@current");
    // What is encrypted by an alias is decrypted by it and by the key's own name.
    trial.said("alias create demo/vault demo/data");
    trial.said("encrypt demo/@vault --in document --out by-alias.enc");
    for name in ["demo/@vault", "demo/data", "demo/data/1"] {
        trial.said(&format!("decrypt {name} --in by-alias.enc --out by-alias.dec"));
        let found = fs::read(directory.join("by-alias.dec")).expect("the plaintext");
        assert_eq!(found, b"a document", "{name}");
    }
    trial.said("alias delete demo/vault");
    trial.said("alias update demo/second demo/tls/1");
    assert_eq!(
        trial.told("alias update demo/second demo/ed")["target"],
        "keyRings/demo/keys/ed"
    );
    trial.refused(4, "alias update demo/absent demo/tls");
    assert!(
        trial
            .said("alias list demo")
            .contains("current  keyRings/demo/keys/tls ")
    );
    assert_eq!(
        trial.told("alias list demo")["aliases"].as_array().map(Vec::len),
        Some(2)
    );
    trial.refused(4, "alias list absent");
    assert_eq!(
        trial.said("alias delete demo/second"),
        "deleted keyRings/demo/aliases/second\n"
    );
    assert_eq!(trial.told("alias delete demo/current")["deleted"], true);
    trial.refused(4, "alias delete demo/current");

    let certificate = [
        "req",
        "-x509",
        "-key",
        "outside.key",
        "-out",
        "outside.pem",
        "-subj",
        "/CN=outside",
        "-days",
        "2",
    ];
    let pair = [
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        "outside.key",
    ];
    openssl(directory, pair).succeeded();
    openssl(directory, certificate).succeeded();
    let made = trial.said("object create demo/certificate --certificate outside.pem --label outside --object-id 0a0b");
    assert_eq!(made, "created keyRings/demo/objects/certificate (certificate)\n");
    let data = trial.told("object create demo/settings --data document --application demo");
    assert_eq!(data["data"]["value"], "YSBkb2N1bWVudA==");
    trial.refused(7, "object create demo/settings --data document");
    trial.refused(3, "object create demo/empty");
    assert!(trial.said("object get demo/certificate").contains("outside"));
    trial.said("object get demo/certificate --out back.pem");
    let pem = |file: &str| fs::read_to_string(directory.join(file)).expect("a certificate");
    assert_eq!(pem("back.pem"), pem("outside.pem"));
    trial.said("object get demo/settings --out back.data");
    assert_eq!(fs::read(directory.join("back.data")).expect("data"), b"a document");
    assert_eq!(trial.told("object get demo/certificate")["object_id"], "0a0b");
    trial.refused(4, "object get demo/absent");
    assert!(trial.said("object list demo").contains("settings"));
    let found = trial.told("object list demo --filter kind=certificate");
    assert_eq!(found["objects"].as_array().map(Vec::len), Some(1));
    trial.refused(3, "object list demo --filter colour=blue");
    trial.said("object update demo/settings --data other");
    assert_eq!(
        trial.told("object update demo/settings --label words")["label"],
        "d29yZHM="
    );
    trial.refused(2, "object update demo/settings");
    trial.said("object delete demo/settings");
    trial.told("object delete demo/certificate");
    trial.refused(4, "object delete demo/certificate");
}

fn transfers(trial: &Trial<'_>, directory: &Path) {
    // A key pair that was made outside becomes a key, and signs as the same.
    trial.said("key create demo/outside --type ec-p256 --import-only");
    let imported = trial.said("key import demo/outside --in outside.key");
    assert_eq!(
        imported,
        "imported keyRings/demo/keys/outside/versions/1 (imported-wrapped, active)\n"
    );
    assert_eq!(
        trial.told("key import demo/outside --in outside.key --clear")["origin"],
        "imported-clear"
    );
    trial.said("sign demo/outside --in document --out outside.sig");
    openssl(
        directory,
        ["pkey", "-in", "outside.key", "-pubout", "-out", "outside.pub"],
    )
    .succeeded();
    let verify = [
        "dgst",
        "-sha256",
        "-verify",
        "outside.pub",
        "-signature",
        "outside.sig",
        "document",
    ];
    assert_eq!(openssl(directory, verify).succeeded().text().trim(), "Verified OK");
    let said = trial.refused(2, "key import demo/outside --in document");
    assert!(said.contains("document: ") && !said.contains("a document\""), "{said}");
    let said = trial.refused(2, "key import demo/ed --in outside.key");
    assert!(said.contains("no private key of type ed25519"), "{said}");

    // One that is wrapped elsewhere.
    let made = trial.said("import-job create demo --method rsa-oaep-sha1-aes-kwp --out job.pem --lifetime 1h");
    let job = made.split_whitespace().nth(1).expect("the job's name").to_owned();
    assert!(
        fs::read_to_string(directory.join("job.pem"))
            .expect("a key")
            .starts_with("-----BEGIN PUBLIC KEY-----")
    );
    let other = trial.told("import-job create demo --type rsa-2048");
    assert_eq!(
        (&other["method"], &other["type"]),
        (&json!("rsa-oaep-sha1-aes-kwp"), &json!("rsa-2048"))
    );
    trial.refused(2, "import-job create demo --lifetime 1500ms");
    assert!(
        trial
            .said(&format!("import-job show {job}"))
            .contains("rsa-oaep-sha1-aes-kwp")
    );
    assert_eq!(trial.told(&format!("import-job show {job}"))["name"], job.as_str());
    trial.refused(4, "import-job show demo/absent");
    fs::write(directory.join("wrapped"), [0; 300]).expect("rubbish");
    trial.refused(
        3,
        &format!("key import demo/outside --in wrapped --import-job {job} --public-key outside.pub"),
    );

    // Out under an HSM's key and in again.
    trial.said("key create demo/wrapper --type aes-256 --purpose wrap");
    trial.said("key create demo/movable --type aes-256 --exportable");
    trial.said("key export demo/movable --wrapping-key demo/wrapper --out movable.wrapped");
    let again = trial.told("key export demo/movable --wrapping-key demo/wrapper");
    assert_eq!(
        (&again["mechanism"], again["wrapped_key"].is_string()),
        (&json!("aes-kwp"), true)
    );
    trial.refused(3, "key export demo/data --wrapping-key demo/wrapper");
    trial.said("key create demo/moved --type aes-256 --import-only");
    trial.said("key import demo/moved --in movable.wrapped --unwrapping-key demo/wrapper");

    // To somebody outside.
    openssl(directory, ["genpkey", "-algorithm", "RSA", "-out", "partner.key"]).succeeded();
    openssl(
        directory,
        ["pkey", "-in", "partner.key", "-pubout", "-out", "partner.pub"],
    )
    .succeeded();
    let partner = trial.told("recipient create demo/partner --public-key partner.pub --description partner");
    let said = trial.said("recipient create demo/second --public-key partner.pub");
    let fingerprint = partner["fingerprint"].as_str().expect("a fingerprint");
    assert!(said.contains(fingerprint), "{said}");
    trial.refused(3, "recipient create demo/third --public-key document");
    assert!(trial.said("recipient list demo").contains(fingerprint));
    assert_eq!(
        trial.told("recipient list demo")["recipients"].as_array().map(Vec::len),
        Some(2)
    );
    trial.refused(4, "recipient list absent");
    assert!(trial.said("recipient show demo/partner").contains("partner"));
    assert_eq!(trial.told("recipient show demo/partner")["description"], "partner");
    trial.refused(4, "recipient show demo/absent");
    trial.said("key export demo/movable --recipient demo/partner --mechanism rsa-oaep-sha1 --out movable.oaep");
    let wrapped = fs::read(directory.join("movable.oaep")).expect("the wrapped key");
    let (under_rsa, _) = wrapped.split_at(256);
    fs::write(directory.join("transport"), under_rsa).expect("the wrapped transport key");
    let decrypt = [
        "pkeyutl",
        "-decrypt",
        "-inkey",
        "partner.key",
        "-in",
        "transport",
        "-pkeyopt",
        "rsa_padding_mode:oaep",
    ];
    assert_eq!(openssl(directory, decrypt).succeeded().stdout.len(), 32);
    trial.said("recipient delete demo/second");
    trial.told("recipient delete demo/partner");
    trial.refused(4, "recipient delete demo/partner");
}

fn ephemeral_keys(trial: &Trial<'_>, directory: &Path) {
    let made = trial.said("ephemeral create demo --type ec-p256 --out short.token --public-out short.pub");
    assert!(made.contains("its name is token:short.token"), "{made}");
    assert_eq!(
        trial.told("ephemeral create demo --type aes-256 --out other.token --lifetime 10min")["type"],
        "aes-256"
    );
    trial.refused(4, "ephemeral create absent --type ec-p256 --out absent.token");
    trial.said("sign token:short.token --in document --out short.sig");
    let verify = [
        "dgst",
        "-sha256",
        "-verify",
        "short.pub",
        "-signature",
        "short.sig",
        "document",
    ];
    assert_eq!(openssl(directory, verify).succeeded().text().trim(), "Verified OK");
    trial.said("ephemeral renew --in short.token --out short.token --lifetime 2h");
    trial.told("ephemeral renew --in short.token --out short.token");
    trial.refused(3, "ephemeral renew --in document --out new.token");
    trial.said("verify token:short.token --in document --signature short.sig");
    let uid = own_uid();
    trial.said(&format!("ephemeral revoke demo --principal unix:uid={uid}"));
    trial.told(&format!("ephemeral revoke demo --principal unix:uid={uid}"));
    let said = trial.refused(3, "sign token:short.token --in document");
    assert!(said.contains("KEY_TOKEN_REVOKED"), "{said}");
    trial.refused(4, "ephemeral revoke absent --principal unix:uid=0");
}

fn members(trial: &Trial<'_>) {
    assert!(trial.said("cluster status").contains("a       ready"));
    assert_eq!(
        trial.told("cluster status")["members"].as_array().map(Vec::len),
        Some(3)
    );
    trial.refused(6, "cluster status --endpoint unix:nowhere.sock");
    assert!(trial.said("cluster drain a").starts_with("a is drained"));
    assert_eq!(trial.told("cluster drain a")["state"], "drained");
    trial.refused(4, "cluster drain absent");
    assert!(trial.said("cluster resume a").starts_with("a is ready"));
    trial.said("cluster drain a");
    assert_eq!(trial.told("cluster resume a")["state"], "ready");
    trial.refused(4, "cluster resume absent");
    trial.said("cluster roll b");
    assert_eq!(
        trial.told("cluster roll c")["members"].as_array().map(Vec::len),
        Some(3)
    );
    trial.refused(4, "cluster roll absent");
}

/// The commands that do something at a gateway, by the help on file.
fn commands() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/help");
    let mut commands = Vec::new();
    for entry in fs::read_dir(&directory).expect("the help on file") {
        let help = fs::read_to_string(entry.expect("an entry").path()).expect("a file");
        let usage = help
            .lines()
            .find_map(|line| line.strip_prefix("Usage: portcullis"))
            .expect("a usage");
        let words: Vec<&str> = usage
            .split_whitespace()
            .take_while(|word| {
                word.chars()
                    .all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-')
            })
            .collect();
        let is_group = usage.contains("<COMMAND>");
        let is_elsewhere = words.first().is_some_and(|first| ELSEWHERE.contains(first));
        if !is_group && !is_elsewhere {
            commands.push(words.join(" "));
        }
    }
    assert!(commands.len() > 40, "{commands:?}");
    commands
}

/// Commands that other modules try.
const ELSEWHERE: &[&str] = &[
    "audit",
    "backup",
    "bench",
    "completion",
    "context",
    "decrypt",
    "encrypt",
    "man",
    "pkcs11",
    "policy",
    "reencrypt",
];

/// Who the tests are to the gateway.
fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

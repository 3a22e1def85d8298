//! Running the program `adversary`, which knows PKCS#11 and none of the gateway's code.

use crate::{
    cluster::TestCluster,
    program::{run_with_input, workspace_binary},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, fmt, process::Command};

/// Somebody with the user PIN of one member, and no part of the gateway.
pub struct Adversary<'c> {
    cluster: &'c TestCluster,
    member: &'c str,
}

/// What the adversary tried.
#[derive(Debug, Deserialize)]
pub struct ForbiddenReport {
    /// What must work, so that a token that refuses everything does not pass.
    pub controls: Vec<Control>,
    /// What must be refused.
    pub attempts: Vec<Attempt>,
}

/// One thing that must work.
#[derive(Debug, Deserialize)]
pub struct Control {
    /// The deed, in words.
    pub what: String,
    /// Whether it worked.
    pub worked: bool,
    /// Why not.
    pub code: String,
}

/// One thing that must be refused.
#[derive(Debug, Deserialize)]
pub struct Attempt {
    /// The deed, in words.
    pub what: String,
    /// Whether the token refused it.
    pub refused: bool,
    /// With which return code.
    pub code: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.what, self.code)
    }
}

/// A ciphertext as the adversary reads it.
#[derive(Debug, Deserialize)]
pub struct Decrypted {
    /// The key's identity in the header, in hexadecimal.
    pub uid: String,
    /// The version in the header.
    pub version: u32,
    /// The plaintext in hexadecimal.
    pub plaintext: String,
}

impl<'c> Adversary<'c> {
    /// At one member of a cluster.
    pub fn at(cluster: &'c TestCluster, member: &'c str) -> Self {
        Self { cluster, member }
    }

    /// Tries everything that is forbidden, with the key token of a signing key of each kind.
    #[track_caller]
    pub fn try_forbidden(&self, key_tokens: &[Vec<u8>]) -> ForbiddenReport {
        let tokens: Vec<_> = key_tokens.iter().map(hex::encode).collect();
        serde_json::from_value(self.run("forbidden", json!({ "key_tokens": tokens }))).expect("a report")
    }

    /// Decrypts a ciphertext whose suffix of associated data is given: the caller's data, or its sorted context.
    #[track_caller]
    pub fn decrypt(&self, key_token: &[u8], ciphertext: &[u8], authenticated: Value) -> Decrypted {
        let job = json!({
            "key_token": hex::encode(key_token),
            "ciphertext": hex::encode(ciphertext),
            "authenticated": authenticated,
        });
        serde_json::from_value(self.run("decrypt", job)).expect("a decrypted ciphertext")
    }

    /// Replaces the member's domain by one whose keys may do everything; returns the key token of an AES key under it.
    #[track_caller]
    pub fn replace_domain_by_a_careless_one(&self) -> Vec<u8> {
        let value = self.run("careless", json!({}));
        hex::decode(value["key_token"].as_str().expect("a key token")).expect("hexadecimal")
    }

    /// The ids of the private keys that live on the token, in hexadecimal: uid, version and making of resident keys.
    #[track_caller]
    pub fn resident_objects(&self) -> BTreeSet<String> {
        let value = self.run("resident", json!({}));
        serde_json::from_value(value["ids"].clone()).expect("a list of ids")
    }

    /// The resident keys that live on the token: uid and version, in hexadecimal.
    #[track_caller]
    pub fn resident_keys(&self) -> BTreeSet<String> {
        let objects = self.resident_objects();
        let keys: BTreeSet<_> = objects.iter().map(|id| id[..2 * 20].to_owned()).collect();
        assert_eq!(
            keys.len(),
            objects.len(),
            "no version has objects of two makings: {objects:?}"
        );
        keys
    }

    /// Takes a resident key (uid and version, in hexadecimal) off the token. Says how many objects there were.
    #[track_caller]
    pub fn destroy_resident_key(&self, key: &str) -> u64 {
        let objects = self.resident_objects();
        let id = objects.iter().find(|id| id.starts_with(key)).expect("a resident key");
        let value = self.run("destroy", json!({ "id": id }));
        value["destroyed"].as_u64().expect("a number")
    }

    /// Makes a token that is authentic, because the user PIN lets one use the mac key, and that nothing can unwrap.
    #[track_caller]
    pub fn forge_unwrappable(&self, key_token: &[u8]) -> Vec<u8> {
        let value = self.run("forge", json!({ "key_token": hex::encode(key_token) }));
        hex::decode(value["key_token"].as_str().expect("a key token")).expect("hexadecimal")
    }

    /// The tag that makes a row authentic, whatever stands in it.
    #[track_caller]
    pub fn authenticate_row(&self, canonical: &[u8]) -> Vec<u8> {
        let value = self.run("row", json!({ "row": hex::encode(canonical) }));
        hex::decode(value["tag"].as_str().expect("a tag")).expect("hexadecimal")
    }

    /// Whether the token takes the user PIN.
    #[track_caller]
    pub fn can_log_in(&self) -> bool {
        let value = self.run("login", json!({}));
        value["accepted"].as_bool().expect("an answer")
    }

    #[track_caller]
    fn run(&self, task: &str, job: Value) -> Value {
        let mut whole = Map::from_iter([
            ("module".to_owned(), json!(self.cluster.module())),
            ("token_label".to_owned(), json!(format!("portcullis-{}", self.member))),
            ("pin".to_owned(), json!(self.cluster.user_pin(self.member))),
        ]);
        whole.extend(job.as_object().expect("an object").clone());
        let mut command = Command::new(workspace_binary("adversary"));
        command.arg(task).envs(self.cluster.member_environment(self.member));
        let output = run_with_input(&mut command, Value::from(whole).to_string().as_bytes()).succeeded();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output}"))
    }
}

//! The keys that people bring, and what becomes of their secrets.

use crate::room::{Reply, Room, say, tree};
use portcullis_ceremony::key_file::{KeyRefused, PrivateKeyFile, parse_public};
use std::{fs, path::Path, process::Command};

pub(crate) const PASSPHRASE: &str = "canary-passphrase-5dd1";

/// A key with a passphrase; a wrong one does not end the ceremony, and neither is seen anywhere.
#[test]
fn a_passphrase_is_asked_for_and_left_nowhere() {
    let room = Room::new();
    encrypt(&room.path("c1.key"));
    let mut asked = 0;
    let ran = room.rehearse(|id| match id {
        "passphrase/Custodian 1" => {
            asked += 1;
            say(if asked == 1 { "canary-wrong-77aa" } else { PASSPHRASE })
        }
        _ => Reply::Usual,
    });
    ran.ended_with(0);
    room.verified();
    assert_eq!(asked, 1 + 3, "one wrong, and one for each signature");
    assert!(
        ran.said.contains("the passphrase is wrong. Attempts left: 4."),
        "{}",
        ran.said
    );

    let mut planted = vec![PASSPHRASE.to_owned(), "canary-wrong-77aa".to_owned()];
    for (_, seat) in crate::room::PEOPLE {
        let pem = fs::read_to_string(room.path(&format!("{seat}.key"))).unwrap();
        planted.push(pem.lines().nth(1).unwrap().to_owned());
    }
    let mut seen = vec![ran.said.into_bytes(), ran.errors.into_bytes()];
    for bundle in [room.bundle(), room.second_bundle()] {
        seen.extend(tree(&bundle).into_values());
    }
    assert!(seen.len() > 20);
    for secret in &planted {
        for bytes in &seen {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} was found");
        }
    }
}

#[test]
fn five_wrong_passphrases_ask_for_another_key() {
    let room = Room::new();
    let good = fs::read_to_string(room.path("c1.key")).unwrap();
    encrypt(&room.path("c1.key"));
    fs::write(room.path("spare.key"), good).unwrap();
    let mut asked = 0;
    let mut paths = 0;
    let ran = room.rehearse(|id| match id {
        "passphrase/Custodian 1" => {
            asked += 1;
            say("wrong")
        }
        _ if id.starts_with("sign/") && id.ends_with("/Custodian 1") => {
            paths += 1;
            if paths == 1 {
                say("")
            } else {
                Reply::Say(room.path("spare.key").display().to_string())
            }
        }
        _ => Reply::Usual,
    });
    ran.ended_with(0);
    assert_eq!(asked, 5);
    assert!(ran.said.contains("Attempts left: 0."), "{}", ran.said);
    room.verified();
}

#[test]
fn nobody_signs_with_the_key_of_another() {
    let room = Room::new();
    let mut tried = 0;
    let ran = room.rehearse(|id| match id {
        "sign/present/Custodian 1" => {
            tried += 1;
            match tried {
                1 => Reply::Say(room.path("c2.key").display().to_string()),
                2 => say("/nowhere"),
                3 => Reply::Say(room.path("script.toml").display().to_string()),
                _ => Reply::Usual,
            }
        }
        _ => Reply::Usual,
    });
    ran.ended_with(0);
    assert_eq!(tried, 4);
    assert!(ran.said.contains("of Custodian 1."), "{}", ran.said);
    room.verified();
}

/// The forms that `ssh-keygen` and `openssl` write, held against each other.
#[test]
fn keys_of_other_tools_are_read() {
    let scratch = tempfile::tempdir().unwrap();
    for kind in ["ed25519", "ecdsa"] {
        let path = scratch.path().join(kind);
        keygen(&path, kind, "");
        let public = parse_public(&fs::read_to_string(path.with_extension("pub")).unwrap()).expect("a public key");
        let text = fs::read_to_string(&path).unwrap();
        let Ok(PrivateKeyFile::Open(key)) = PrivateKeyFile::parse(&text) else {
            panic!("{kind} of ssh-keygen");
        };
        assert_eq!(*key.public(), public);
        assert!(public.verifies(b"message", &key.sign(b"message").unwrap()));
        // Cut off anywhere, it is refused.
        for end in (0..text.trim_end().len()).step_by(7) {
            assert!(PrivateKeyFile::parse(&text[..end]).is_err());
        }

        let locked = scratch.path().join(format!("{kind}-locked"));
        keygen(&locked, kind, PASSPHRASE);
        let refused = PrivateKeyFile::parse(&fs::read_to_string(&locked).unwrap()).err();
        assert_eq!(refused, Some(KeyRefused::EncryptedOpenSsh));
    }
    let refused = parse_public("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7").err();
    assert!(refused.is_some());
}

fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-C", "", "-f"])
        .arg(path)
        .output()
        .expect("the package openssh-client is installed");
    assert!(output.status.success(), "{output:?}");
}

pub(crate) fn encrypt(path: &Path) {
    let encrypted = path.with_extension("encrypted");
    let output = Command::new("openssl")
        .args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout"])
        .arg(format!("pass:{PASSPHRASE}"))
        .arg("-in")
        .arg(path)
        .arg("-out")
        .arg(&encrypted)
        .output()
        .expect("the package openssl is installed");
    assert!(output.status.success(), "{output:?}");
    fs::rename(encrypted, path).unwrap();
}

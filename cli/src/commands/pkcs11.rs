//! `portcullis pkcs11`.

use crate::{
    arguments::{CheckModuleArguments, Pkcs11Command},
    console::Console,
    failure::{Exit, Failure},
    paint::Paint,
};
use aws_lc_rs::digest;
use cryptoki_sys::{
    CKA_CLASS, CKA_KEY_TYPE, CKA_LABEL, CKA_SIGN, CKK_EC, CKK_EC_EDWARDS, CKK_RSA, CKM_ECDSA, CKM_EDDSA, CKM_RSA_PKCS,
    CKO_CERTIFICATE, CKO_DATA, CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKO_SECRET_KEY, CKR_ACTION_PROHIBITED,
    CKR_DEVICE_ERROR, CKR_DEVICE_MEMORY, CKR_GENERAL_ERROR, CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_TOKEN_NOT_PRESENT,
    CKR_USER_NOT_LOGGED_IN,
};
use portcullis_hsm::pkcs11::{
    Attribute, CallError, CallMechanism, CallResult, LoadError, Module, ObjectHandle, Session, SessionKind, SlotId,
    Template,
};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) fn run(console: Console, command: Pkcs11Command) -> Result<Exit, Failure> {
    let Pkcs11Command::Check(arguments) = command;
    let findings = check(&arguments);
    let exit = findings
        .iter()
        .find_map(|finding| finding.problem.map(|(exit, _)| exit));
    let text: Vec<_> = findings.iter().map(|finding| finding.text(console.paint())).collect();
    let findings: Vec<_> = findings.iter().map(Finding::document).collect();
    console.result(&text.join("\n"), &json!({ "findings": findings }))?;
    Ok(exit.unwrap_or(Exit::Done))
}

/// Something that was tried.
struct Finding {
    /// What it is about.
    subject: String,
    /// What was found.
    words: String,
    /// Where it does not work: how the program ends, and what to do.
    problem: Option<(Exit, &'static str)>,
}

impl Finding {
    fn works(subject: impl Into<String>, words: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            words: words.into(),
            problem: None,
        }
    }

    fn fails(subject: impl Into<String>, error: CallError) -> Self {
        Self {
            subject: subject.into(),
            words: error.to_string(),
            problem: Some(advice(error)),
        }
    }

    fn text(&self, paint: Paint) -> String {
        let Self { subject, words, .. } = self;
        match self.problem {
            None => format!("{}  {subject}: {words}", paint.head("works")),
            Some((_, advice)) => format!("{}  {subject}: {words}\n       {advice}", paint.failure("fails")),
        }
    }

    fn document(&self) -> Value {
        json!({
            "subject": self.subject,
            "works": self.problem.is_none(),
            "words": self.words,
            "advice": self.problem.map(|(_, advice)| advice),
        })
    }
}

fn check(arguments: &CheckModuleArguments) -> Vec<Finding> {
    let subject = format!("module {}", arguments.module.display());
    let module = match Module::load(&arguments.module) {
        Ok(module) => Arc::new(module),
        Err(LoadError::Initialise { source, .. }) => return vec![Finding::fails(subject, source)],
        Err(error) => {
            let advice = "--module names the library, as cargo build -p portcullis-pkcs11-shim makes it";
            return vec![Finding {
                subject,
                words: error.to_string(),
                problem: Some((Exit::Usage, advice)),
            }];
        }
    };
    let slots = match module.slots_with_token() {
        Ok(slots) => slots,
        Err(error) => return vec![Finding::fails(subject, error)],
    };
    let mut findings = vec![Finding::works(
        subject,
        format!("it is initialised and shows {}", counted(slots.len(), "key ring")),
    )];
    if slots.is_empty() {
        findings.push(Finding {
            subject: "key rings".to_owned(),
            words: "there is none that the caller may see".to_owned(),
            problem: Some((Exit::NotFound, "the gateway's policy has to permit key.read in a ring")),
        });
    }
    for slot in slots {
        check_ring(&module, slot, arguments.sign, &mut findings);
    }
    findings
}

fn check_ring(module: &Arc<Module>, slot: SlotId, sign: bool, findings: &mut Vec<Finding>) {
    let label = module.token_info(slot).map(|info| info.label);
    let ring = format!("key ring {}", label.as_deref().unwrap_or("?"));
    let looked_at = label.and_then(|_| {
        let mut session = Session::open(module, slot, SessionKind::ReadOnly)?;
        let counts = count(&mut session)?;
        Ok((session, counts))
    });
    let (mut session, counts) = match looked_at {
        Ok(found) => found,
        Err(error) => return findings.push(Finding::fails(ring, error)),
    };
    findings.push(Finding::works(&ring, counts));
    if !sign {
        return;
    }
    let private = Template::new([
        Attribute::number(CKA_CLASS, CKO_PRIVATE_KEY),
        Attribute::flag(CKA_SIGN, true),
    ]);
    let keys = match session.find_objects(&private, MOST) {
        Ok(keys) => keys,
        Err(error) => return findings.push(Finding::fails(ring, error)),
    };
    for key in keys {
        let label = session.attribute(key, CKA_LABEL, 256).unwrap_or_default();
        let subject = format!("{ring}, key {}", String::from_utf8_lossy(&label));
        findings.push(match signature(&mut session, key) {
            Ok(signature) => Finding::works(subject, format!("it made a signature of {} bytes", signature.len())),
            Err(error) => Finding::fails(subject, error),
        });
    }
}

fn count(session: &mut Session) -> CallResult<String> {
    let classes = [
        (CKO_PRIVATE_KEY, "private key"),
        (CKO_PUBLIC_KEY, "public key"),
        (CKO_SECRET_KEY, "secret key"),
        (CKO_CERTIFICATE, "certificate"),
        (CKO_DATA, "data object"),
    ];
    let mut counts = Vec::new();
    for (class, name) in classes {
        let found = session.find_objects(&Template::new([Attribute::number(CKA_CLASS, class)]), MOST)?;
        if !found.is_empty() {
            counts.push(counted(found.len(), name));
        }
    }
    Ok(match counts.is_empty() {
        true => "it is empty, or nothing in it may be seen".to_owned(),
        false => counts.join(", "),
    })
}

/// A signature over the digest of this program's name.
fn signature(session: &mut Session, key: ObjectHandle) -> CallResult<Vec<u8>> {
    let digest = digest::digest(&digest::SHA256, b"portcullis pkcs11 check");
    let kind = session.attribute(key, CKA_KEY_TYPE, 8)?;
    let is = |one: u64| kind == one.to_ne_bytes();
    let (mechanism, data) = match () {
        () if is(CKK_RSA) => (CKM_RSA_PKCS, [SHA256_INFO, digest.as_ref()].concat()),
        () if is(CKK_EC_EDWARDS) => (CKM_EDDSA, digest.as_ref().to_vec()),
        () => {
            debug_assert!(is(CKK_EC), "keys that sign are of three kinds");
            (CKM_ECDSA, digest.as_ref().to_vec())
        }
    };
    session.sign(CallMechanism::Plain(mechanism), key, &data, 1024)
}

/// How the program ends after a failure, and what whoever runs it can do.
fn advice(error: CallError) -> (Exit, &'static str) {
    match error.code.value() {
        CKR_GENERAL_ERROR => (
            Exit::Connection,
            "its configuration or its certificates cannot be used: its log says which, and why",
        ),
        CKR_DEVICE_ERROR => (
            Exit::Connection,
            "the gateway cannot be reached, or no HSM serves: its log says which; see `portcullis cluster status`",
        ),
        CKR_USER_NOT_LOGGED_IN => (Exit::Connection, "the gateway does not accept the module's certificate"),
        CKR_DEVICE_MEMORY => (Exit::Unavailable, "the gateway has too much to do: try again"),
        CKR_TOKEN_NOT_PRESENT => (
            Exit::NotFound,
            "there is no such key ring, or nothing in it may be seen: see `rings` in the module's configuration",
        ),
        CKR_ACTION_PROHIBITED => (
            Exit::Denied,
            "an operator can permit it in the gateway's policy; `portcullis policy explain` on its host says why",
        ),
        CKR_KEY_FUNCTION_NOT_PERMITTED => (
            Exit::Refused,
            "the key does not permit it, or its state does not: see `portcullis key show`",
        ),
        _ => (Exit::Internal, "the module's log may say more, with the level debug"),
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// More than anybody looks at.
const MOST: usize = 100_000;

/// DigestInfo for SHA-256, before the digest (RFC 8017, section 9.2, note 1).
const SHA256_INFO: &[u8] = &[
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
];

//! What each protection costs alone: the gateway's own code for it, called over and over in this process.

use crate::setting::{Effort, directly, report};
use anyhow::{Context, Result};
use portcullis_bench::{Spread, Table};
use portcullis_gateway::{
    audit::{AuditLog, Entry, Phase},
    crypto::signature::{Encoding, Input, verify},
    identity::{AuthenticationMethod, Peer, Principal, PrincipalPattern},
    keys::{name::KeyName, purpose::Purpose, record::Protection},
    policy::{Action, Circumstances, KeyFacts, Policy, PolicySettings, Question, Resource},
};
use portcullis_hsm::algorithm::{KeyType, Mechanism};
use portcullis_softhsm_tests::{Gateway, TestCluster, temporary_directory};
use rsa::{pkcs1v15::SigningKey, signature::Signer};
use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    time::{Duration, Instant},
};
use time::OffsetDateTime;

/// Prints how long each takes.
pub(crate) fn measure(effort: &Effort) -> Result<()> {
    let mut table = Table::new(
        "One step alone, in one thread, microseconds",
        &["step", "when", "takes"],
    );
    let mut add = |step: &str, when: &str, takes: Spread| {
        let Spread { median, least, most } = takes;
        table.row([
            step.to_owned(),
            when.to_owned(),
            format!("{median:.2} [{least:.2} – {most:.2}]"),
        ]);
    };
    let (remembered, anew) = policy(effort)?;
    add("policy decision, remembered", "every operation", remembered);
    add(
        "policy decision by Cedar",
        "the first of a key, and where it depends on time, context or address",
        anew,
    );
    add("audit entry: chain and write", "every operation", audit(effort)?);
    let (p256, rsa) = verification(effort)?;
    let when = "the first signature of a loaded key, and verified_share of the others";
    add("P-256 signature verified", when, p256);
    add("RSA-2048 signature verified", when, rsa);
    let when = "the first use of a key: its row and its token have a tag each";
    add("tag checked by the HSM: one HMAC", when, tag(effort)?);
    println!("{}\n", table.text());
    Ok(())
}

/// The time of one round, several times; rounds enough for a clock.
fn timed(effort: &Effort, mut step: impl FnMut() -> Result<()>) -> Result<Spread> {
    let long_enough = if effort.is_quick {
        Duration::from_millis(5)
    } else {
        Duration::from_millis(300)
    };
    let mut found = Vec::new();
    // The first is for caches.
    for _ in 0..=effort.repeats {
        let (started, mut rounds) = (Instant::now(), 0_u32);
        while started.elapsed() < long_enough {
            for _ in 0..16 {
                step()?;
            }
            rounds += 16;
        }
        found.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    }
    Spread::of(found.into_iter().skip(1)).context("no run")
}

fn policy(effort: &Effort) -> Result<(Spread, Spread)> {
    let directory = temporary_directory();
    let file = directory.path().join("policy.cedar");
    fs::write(&file, POLICIES)?;
    let policy = Policy::load(&PolicySettings {
        files: vec![file],
        grants: Vec::new(),
    })?;
    let peer = |name: &str| -> Result<Peer> {
        let pattern = PrincipalPattern::parse(name).map_err(anyhow::Error::msg)?;
        let principal = Principal::named(&pattern).context("one principal")?;
        let address = "192.0.2.7:4711".to_owned();
        Ok(Peer::new(principal, AuthenticationMethod::ClientCertificate, address))
    };
    let name = KeyName::parse("keyRings/ring/keys/key")?;
    let labels = BTreeMap::new();
    let now = OffsetDateTime::now_utc();
    let decide = |peer: &Peer| {
        timed(effort, || {
            let decision = policy.decide(
                Question {
                    peer,
                    action: Action::Sign,
                    resource: Resource::Key(KeyFacts {
                        name: &name,
                        labels: &labels,
                        purpose: Purpose::SignVerify,
                        key_type: KeyType::EcP256,
                        protection: Protection::Wrapped,
                        exportable: false,
                    }),
                    circumstances: Circumstances {
                        mechanism: Some(Mechanism::EcdsaSha256),
                        encryption_context: None,
                        primary_version: Some(true),
                    },
                },
                now,
            );
            anyhow::ensure!(decision.is_allowed(), "the policy does not allow it");
            black_box(decision);
            Ok(())
        })
    };
    let remembered = decide(&peer("spiffe://example.org/always")?)?;
    let anew = decide(&peer("spiffe://example.org/timed")?)?;
    Ok((remembered, anew))
}

const POLICIES: &str = r#"
@id("always")
permit (principal == Principal::"spiffe://example.org/always", action, resource);
@id("timed")
permit (principal == Principal::"spiffe://example.org/timed", action, resource)
when { context.time > datetime("2000-01-01") };
"#;

fn audit(effort: &Effort) -> Result<Spread> {
    let directory = temporary_directory();
    let log = AuditLog::open(
        &directory.path().join("audit.jsonl"),
        &directory.path().join("audit.head"),
    )?;
    let mut entry = Entry::gateway("sign", "OK");
    entry.phase = Phase::Outcome;
    entry.request = Some("0199d6f0-7a3c-7c32-9c1b-5b1c4a7f0e11".to_owned());
    entry.principal = Some("spiffe://example.org/payments".to_owned());
    entry.method = Some("client certificate");
    entry.peer = Some("192.0.2.7:4711".to_owned());
    entry.resource = "keyRings/payments/keys/receipts/versions/1".to_owned();
    entry.rule = Some("payment service".to_owned());
    entry.mechanism = Some("ECDSA_SHA256");
    entry.member = Some("a".to_owned());
    let takes = timed(effort, || Ok(log.append(&entry)?))?;
    log.close();
    Ok(takes)
}

/// As long as an HMAC takes in one session of SoftHSM2, driven directly.
fn tag(effort: &Effort) -> Result<Spread> {
    let cluster = effort.cluster();
    let gateway = Gateway::start(&cluster);
    let token = TestCluster::new();
    let more = format!("hmac --repeats {} --callers 1 --mode unary --no-echo", effort.repeats);
    let mut command = effort.bench(&cluster, &gateway, &more);
    directly(&mut command, &token);
    let found = report(&mut command)?;
    let milliseconds = &found["closed_loop"][0]["direct"]["latency"]["p50"];
    let microseconds = |what: &str| {
        let found = milliseconds[what].as_f64().context("a latency in the report")?;
        Ok::<_, anyhow::Error>(found * 1e3)
    };
    Ok(Spread {
        median: microseconds("median")?,
        least: microseconds("least")?,
        most: microseconds("most")?,
    })
}

fn verification(effort: &Effort) -> Result<(Spread, Spread)> {
    use p256::ecdsa::signature::Signer as _;
    use p256::{elliptic_curve::Generate, pkcs8::EncodePublicKey};
    let message = b"a message";
    let key = p256::ecdsa::SigningKey::generate();
    let public_key = key.verifying_key().to_public_key_der()?.into_vec();
    let signature: p256::ecdsa::Signature = key.sign(message);
    let signature = signature.to_bytes().to_vec();
    let check = |key_type, mechanism, public_key: &[u8], signature: &[u8]| {
        timed(effort, || {
            let valid = verify(
                key_type,
                mechanism,
                public_key,
                Input::Message(message),
                signature,
                Encoding::P1363,
            )?;
            anyhow::ensure!(valid, "a good signature is not valid");
            Ok(())
        })
    };
    let p256 = check(KeyType::EcP256, Mechanism::EcdsaSha256, &public_key, &signature)?;
    let key = rsa::RsaPrivateKey::new(&mut rand::rng(), 2048)?;
    let public_key = key.to_public_key().to_public_key_der()?.into_vec();
    let signature = Signer::<rsa::pkcs1v15::Signature>::sign(&SigningKey::<sha2::Sha256>::new(key), message);
    let signature: Box<[u8]> = signature.into();
    let rsa = check(KeyType::Rsa2048, Mechanism::RsaPkcs1Sha256, &public_key, &signature)?;
    Ok((p256, rsa))
}

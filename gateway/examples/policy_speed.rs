//! How long the policy takes to decide: `cargo run --release -p portcullis-gateway --example policy_speed`.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the figures are for people")]

use anyhow::{Context, Result, anyhow};
use portcullis_gateway::{
    identity::{AuthenticationMethod, Peer, Principal, PrincipalPattern},
    keys::{name::KeyName, purpose::Purpose, record::Protection},
    policy::{Action, Circumstances, Grant, KeyFacts, Place, Policy, PolicySettings, Question, Resource, Role},
};
use portcullis_hsm::algorithm::{KeyType, Mechanism};
use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    time::{Duration, Instant},
};
use time::OffsetDateTime;

fn main() -> Result<()> {
    let file = std::env::temp_dir().join(format!("policy-speed-{}.cedar", std::process::id()));
    fs::write(&file, OWN)?;
    let settings = PolicySettings {
        files: vec![file.clone()],
        grants: grants()?,
    };
    let started = Instant::now();
    let loaded = Policy::load(&settings);
    fs::remove_file(&file)?;
    let policy = loaded?;
    println!("{} policies loaded in {:?}", policy.len(), started.elapsed());

    let (signer, decrypter) = (
        peer("spiffe://example.org/service-7/a")?,
        peer("spiffe://example.org/hours/a")?,
    );
    let labels = BTreeMap::from([("stage".to_owned(), "test".to_owned())]);
    let context = BTreeMap::from([("department".to_owned(), "legal".to_owned())]);
    let names = (0..KEYS)
        .map(|number| KeyName::parse(&format!("keyRings/ring-7/keys/key-{number}")))
        .collect::<Result<Vec<_>, _>>()?;
    let question = |peer, action, number: usize| Question {
        peer,
        action,
        resource: Resource::Key(KeyFacts {
            name: &names[number % KEYS],
            labels: &labels,
            purpose: Purpose::SignVerify,
            key_type: KeyType::EcP256,
            protection: Protection::Wrapped,
            exportable: false,
        }),
        circumstances: Circumstances {
            mechanism: Some(Mechanism::EcdsaSha256),
            encryption_context: Some(&context),
            primary_version: Some(true),
        },
    };
    let now = OffsetDateTime::now_utc();
    let report = |what: &str, rounds: usize, mut decide: Box<dyn FnMut(usize) + '_>| {
        let started = Instant::now();
        (0..rounds).for_each(&mut decide);
        let each: Duration = started.elapsed() / u32::try_from(rounds).unwrap_or(u32::MAX);
        println!("{what}: {each:?}");
    };
    let decide = |peer, action, number| {
        let decision = policy.decide(question(peer, action, number), now);
        assert!(decision.is_allowed());
        black_box(decision);
    };
    report(
        "first decision about each of the keys",
        KEYS,
        Box::new(|number| decide(&signer, Action::Sign, number)),
    );
    report(
        "the same again, remembered",
        100 * KEYS,
        Box::new(|number| decide(&signer, Action::Sign, number)),
    );
    report(
        "whether anything could allow it",
        100 * KEYS,
        Box::new(|_| {
            black_box(policy.could_allow(&signer, Action::Sign));
        }),
    );
    report(
        "a decision that depends on time and encryption context",
        10 * KEYS,
        Box::new(|number| {
            decide(&decrypter, Action::Decrypt, number);
        }),
    );
    Ok(())
}

/// A thousand services, each with a ring of its own.
fn grants() -> Result<Vec<Grant>> {
    let grant = |number: usize| -> Result<Grant> {
        let said = |message: String| anyhow!(message);
        Ok(Grant {
            name: format!("service {number}"),
            role: Role::parse("signer").map_err(said)?,
            principals: vec![
                PrincipalPattern::parse(&format!("spiffe://example.org/service-{number}/*")).map_err(said)?,
            ],
            places: vec![Place::parse_ring(&format!("ring-{number}")).map_err(said)?],
        })
    };
    (0..1000).map(grant).collect()
}

fn peer(name: &str) -> Result<Peer> {
    let pattern = PrincipalPattern::parse(name).map_err(|message| anyhow!(message))?;
    let principal = Principal::named(&pattern).context("one principal")?;
    let address = "192.0.2.7:4711".to_owned();
    Ok(Peer::new(principal, AuthenticationMethod::ClientCertificate, address))
}

const KEYS: usize = 1000;

const OWN: &str = r#"
@id("in working hours, for the legal department")
permit (principal in Pattern::"spiffe://example.org/hours/*", action == Action::"decrypt", resource)
when {
    context.time > datetime("2020-01-01") && context.time.toTime() >= duration("0h")
    && context.encryption_context.hasTag("department") && context.encryption_context.getTag("department") == "legal"
};
"#;

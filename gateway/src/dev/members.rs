//! The members of a development cluster: tokens with random PINs, and one domain on all of them.

use super::{make_directory, write_file};
use crate::cluster::worker::Worker;
use anyhow::{Context, Result, bail};
use portcullis_hsm::{
    domain::{Fingerprint, OaepHash},
    worker::protocol::{
        Attempts, CloneStep, CloneStepBody, Domain, Empty, Failure, FindDomain, InitialiseToken, Open, ReplyBody,
        RequestBody, WrapTo,
    },
};
use rand::{RngExt, rng};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// The members' names.
pub(super) const NAMES: [&str; 3] = ["a", "b", "c"];
/// The domain's epoch.
pub(super) const EPOCH: u32 = 1;

/// Where a member is kept.
pub(super) fn directory(state: &Path, name: &str) -> PathBuf {
    state.join("members").join(name)
}

/// The label of a member's token.
pub(super) fn label(name: &str) -> String {
    format!("portcullis-{name}")
}

/// Makes all members: a token each, then the domain on the first and cloned to all; returns its fingerprint.
pub(super) async fn make(state: &Path, module: &Path, progress: &impl Fn(&str)) -> Result<Fingerprint> {
    let mut members = Vec::new();
    for name in NAMES {
        let member = Provisioned::make(state, module, name)
            .await
            .with_context(|| format!("member {name}"))?;
        progress(&format!(
            "member {name}: initialised token {} (serial {})",
            label(name),
            member.serial
        ));
        members.push(member);
    }
    let fingerprint = make_domain(&members, progress).await?;
    for member in members {
        // A worker that is told to stop closes its token before it ends.
        member.ask(RequestBody::Stop(Empty {})).await?;
    }
    Ok(fingerprint)
}

/// The same steps as a ceremony takes, without people.
async fn make_domain(members: &[Provisioned], progress: &impl Fn(&str)) -> Result<Fingerprint> {
    let [origin, ..] = members else {
        bail!("a cluster has at least one member")
    };
    origin
        .done(RequestBody::CreateOrigin(FindDomain { epoch: EPOCH }))
        .await?;
    let mut common = None;
    for member in members {
        let hash = clone_to(origin, member)
            .await
            .with_context(|| format!("member {}", member.name))?;
        let fingerprint = member.fingerprint().await?;
        if *common.get_or_insert(fingerprint) != fingerprint {
            bail!(
                "member {} holds another domain than the first after cloning",
                member.name
            );
        }
        progress(&format!(
            "member {}: holds domain {EPOCH}, cloned by RSA-OAEP with {hash}, fingerprint {}",
            member.name,
            &fingerprint.to_string()[..16]
        ));
    }
    origin.done(RequestBody::DestroyOrigin(Empty {})).await?;
    for member in members {
        let tried = member.try_forbidden().await?;
        progress(&format!(
            "member {}: refused {tried} of {tried} forbidden operations",
            member.name
        ));
    }
    common.context("no member was made")
}

/// Clones the origin to a member, with the better hash if both tokens have it.
async fn clone_to(origin: &Provisioned, member: &Provisioned) -> Result<OaepHash> {
    let mut refused = None;
    for hash in [OaepHash::Sha256, OaepHash::Sha1] {
        let step = |step| RequestBody::Clone(CloneStep { step: Some(step) });
        let transport_key = match member.ask(step(CloneStepBody::MakeTransport(Empty {}))).await? {
            ReplyBody::Bytes(key) => key,
            _ => bail!("the worker answered out of turn"),
        };
        let wrap = CloneStepBody::WrapTo(WrapTo {
            transport_key,
            sha1: hash == OaepHash::Sha1,
        });
        let wrapped: Domain = match origin.try_ask(step(wrap)).await? {
            Ok(ReplyBody::Domain(domain)) => domain,
            Ok(_) => bail!("the worker answered out of turn"),
            Err(failure) => {
                refused = Some(failure);
                continue;
            }
        };
        match member.try_ask(step(CloneStepBody::Receive(wrapped))).await? {
            Ok(_) => return Ok(hash),
            Err(failure) => refused = Some(failure),
        }
    }
    bail!(
        "the domain cannot be cloned: {}",
        refused.map(|failure| failure.message).unwrap_or_default()
    )
}

/// A member whose worker is open for provisioning.
struct Provisioned {
    name: &'static str,
    serial: String,
    worker: Arc<Worker>,
}

impl Provisioned {
    async fn make(state: &Path, module: &Path, name: &'static str) -> Result<Self> {
        let directory = directory(state, name);
        let tokens = directory.join("tokens");
        make_directory(&tokens)?;
        let conf = directory.join("softhsm2.conf");
        write_file(
            &conf,
            format!(
                "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
                tokens.display()
            )
            .as_bytes(),
        )?;
        let (so_pin, user_pin) = (random_pin(), random_pin());
        write_file(&directory.join("so.pin"), &so_pin)?;
        write_file(&directory.join("user.pin"), &user_pin)?;
        let environment = BTreeMap::from([("SOFTHSM2_CONF".to_owned(), conf.display().to_string())]);
        let module = module.display().to_string();

        // A worker of its own, because a module that has seen the uninitialised token may not see the new one.
        let initialiser = Self {
            name,
            serial: String::new(),
            worker: spawn(name, &environment)?,
        };
        let initialise = RequestBody::InitialiseToken(InitialiseToken {
            module: module.clone(),
            label: label(name),
            so_pin: so_pin.to_vec(),
            user_pin: user_pin.to_vec(),
        });
        let serial = match initialiser.ask(initialise).await? {
            ReplyBody::Opened(opened) => opened.serial_number,
            _ => bail!("the worker answered out of turn"),
        };
        initialiser.ask(RequestBody::Stop(Empty {})).await?;

        let member = Self {
            name,
            serial,
            worker: spawn(name, &environment)?,
        };
        let open = RequestBody::Open(Open {
            module,
            token_label: Some(label(name)),
            token_serial_number: None,
            user_pin: user_pin.to_vec(),
            sessions: 1,
            generation_sessions: 1,
            generation_queue: 1,
            queue: 16,
            loaded_keys: 16,
            ephemeral_share: 1,
        });
        member.ask(open).await?;
        Ok(member)
    }

    async fn fingerprint(&self) -> Result<Fingerprint> {
        let reply = self.ask(RequestBody::FindDomain(FindDomain { epoch: EPOCH })).await?;
        match reply {
            ReplyBody::DomainFound(found) => match found.fingerprint.as_slice().try_into() {
                Ok(bytes) => Ok(Fingerprint::from_bytes(bytes)),
                Err(_) => bail!("the fingerprint is malformed"),
            },
            _ => bail!("the worker answered out of turn"),
        }
    }

    /// Tries what must fail on the domain keys; returns how many attempts were refused, all of them.
    async fn try_forbidden(&self) -> Result<usize> {
        let Attempts { attempts } = match self.ask(RequestBody::TryForbidden(Empty {})).await? {
            ReplyBody::Attempts(attempts) => attempts,
            _ => bail!("the worker answered out of turn"),
        };
        let allowed: Vec<_> = attempts
            .iter()
            .filter(|one| one.refused_with == 0)
            .map(|one| one.what.as_str())
            .collect();
        if !allowed.is_empty() {
            bail!(
                "member {} allows what it must forbid: {}",
                self.name,
                allowed.join("; ")
            );
        }
        Ok(attempts.len())
    }

    async fn done(&self, body: RequestBody) -> Result<()> {
        self.ask(body).await.map(|_| ())
    }

    async fn ask(&self, body: RequestBody) -> Result<ReplyBody> {
        match self.try_ask(body).await? {
            Ok(reply) => Ok(reply),
            Err(failure) => bail!("{}", failure.message),
        }
    }

    async fn try_ask(&self, body: RequestBody) -> Result<Result<ReplyBody, Failure>> {
        match self
            .worker
            .request(body, None)
            .await
            .with_context(|| format!("member {}", self.name))?
        {
            ReplyBody::Failure(failure) => Ok(Err(failure)),
            reply => Ok(Ok(reply)),
        }
    }
}

fn spawn(name: &str, environment: &BTreeMap<String, String>) -> Result<Arc<Worker>> {
    Worker::spawn(name, environment, &[], |_| {}).context("the worker cannot be started")
}

/// 24 characters of 32: 120 bits.
fn random_pin() -> Zeroizing<Vec<u8>> {
    let mut random = rng();
    Zeroizing::new(
        (0..24)
            .map(|_| PIN_ALPHABET[random.random_range(0..PIN_ALPHABET.len())])
            .collect(),
    )
}

const PIN_ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

//! The members of a development cluster: tokens with random PINs, and one domain on all of them. What a token cannot do is
//! found on the first one: if it cannot hold sealing keys, it stays the only one and gets a resident domain.

use super::{make_directory, write_file};
use crate::cluster::worker::Worker;
use anyhow::{Context, Result, bail};
use portcullis_hsm::{
    domain::{Fingerprint, OaepHash},
    worker::protocol::{
        Attempts, CloneStep, CloneStepBody, Domain, Empty, Failure, FindDomain, InitialiseToken, Obstacle, Open,
        ReplyBody, RequestBody, WrapTo,
    },
};
use rand::{RngExt, rng};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// The members' names, where there are as many as there should be.
const NAMES: [&str; 3] = ["a", "b", "c"];
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

/// How the members' module is told where its token is.
pub(super) struct Environment(Vec<(String, String)>);

impl Environment {
    /// These variables, in whose values `{member}` stands for a member's directory; those of SoftHSM2 if there are none.
    pub(super) fn new(variables: &[(String, String)]) -> Self {
        Self(variables.to_vec())
    }

    /// The variables for a member.
    pub(super) fn of(&self, directory: &Path) -> BTreeMap<String, String> {
        if self.is_softhsm() {
            let conf = directory.join(SOFTHSM_CONF).display().to_string();
            return BTreeMap::from([("SOFTHSM2_CONF".to_owned(), conf)]);
        }
        let directory = directory.display().to_string();
        let variable = |(name, value): &(String, String)| (name.clone(), value.replace("{member}", &directory));
        self.0.iter().map(variable).collect()
    }

    fn is_softhsm(&self) -> bool {
        self.0.is_empty()
    }
}

/// What was made.
pub(super) struct Made {
    /// The names of the members.
    pub(super) names: Vec<&'static str>,
    /// The fingerprint of the domain that they hold.
    pub(super) fingerprint: Fingerprint,
}

/// Makes the members, a token each, and one domain on them: born on the first and cloned to all, or a resident one where the
/// first one's token cannot hold another.
pub(super) async fn make(
    state: &Path,
    module: &Path,
    environment: &Environment,
    progress: &impl Fn(&str),
) -> Result<Made> {
    let mut members = Vec::new();
    for name in NAMES {
        let member = Provisioned::make(state, module, environment, name)
            .await
            .with_context(|| format!("member {name}"))?;
        progress(&format!(
            "member {name}: initialised token {} (serial {})",
            label(name),
            member.serial
        ));
        let is_last = !member.obstacles.is_empty();
        members.push(member);
        if is_last {
            break;
        }
    }
    let fingerprint = match members.as_slice() {
        [only] if !only.obstacles.is_empty() => make_resident_domain(only, progress).await?,
        members => make_domain(members, progress).await?,
    };
    let names = members.iter().map(|member| member.name).collect();
    for member in members {
        // A worker that is told to stop closes its token before it ends.
        member.ask(RequestBody::Stop(Empty {})).await?;
    }
    Ok(Made { names, fingerprint })
}

/// A mac key alone, on the only member: it never leaves its token, so no other member could have it.
async fn make_resident_domain(member: &Provisioned, progress: &impl Fn(&str)) -> Result<Fingerprint> {
    let name = member.name;
    for Obstacle { code, message } in &member.obstacles {
        progress(&format!("member {name}: cannot hold wrapped keys: {message} [{code}]"));
    }
    member
        .done(RequestBody::CreateResidentDomain(FindDomain { epoch: EPOCH }))
        .await?;
    let fingerprint = member.fingerprint().await?;
    progress(&format!(
        "member {name}: holds resident domain {EPOCH}, fingerprint {}; it is the only member, for keys with protection RESIDENT",
        &fingerprint.to_string()[..16]
    ));
    progress(&format!("member {name}: {}", member.try_forbidden().await?));
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
        progress(&format!("member {}: {}", member.name, member.try_forbidden().await?));
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
    // Why its token cannot hold sealing keys.
    obstacles: Vec<Obstacle>,
    worker: Arc<Worker>,
}

impl Provisioned {
    async fn make(state: &Path, module: &Path, environment: &Environment, name: &'static str) -> Result<Self> {
        let directory = directory(state, name);
        make_directory(&directory)?;
        if environment.is_softhsm() {
            configure_softhsm(&directory)?;
        }
        let (so_pin, user_pin) = (random_pin(), random_pin());
        write_file(&directory.join("so.pin"), &so_pin)?;
        write_file(&directory.join("user.pin"), &user_pin)?;
        let environment = environment.of(&directory);
        let module = module.display().to_string();

        // A worker of its own, because a module that has seen the uninitialised token may not see the new one.
        let initialiser = Self {
            name,
            serial: String::new(),
            obstacles: Vec::new(),
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

        let mut member = Self {
            name,
            serial,
            obstacles: Vec::new(),
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
            log_in_again: true,
        });
        match member.ask(open).await? {
            ReplyBody::Opened(opened) => member.obstacles = opened.sealing_obstacles().to_vec(),
            _ => bail!("the worker answered out of turn"),
        }
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

    /// Tries what must fail on the domain keys; says how many attempts came to nothing, all of them.
    async fn try_forbidden(&self) -> Result<String> {
        let Attempts { attempts } = match self.ask(RequestBody::TryForbidden(Empty {})).await? {
            ReplyBody::Attempts(attempts) => attempts,
            _ => bail!("the worker answered out of turn"),
        };
        let allowed: Vec<_> = attempts
            .iter()
            .filter(|one| one.refused_with == 0 && !one.forced)
            .map(|one| one.what.as_str())
            .collect();
        if !allowed.is_empty() {
            bail!(
                "member {} allows what it must forbid: {}",
                self.name,
                allowed.join("; ")
            );
        }
        let (all, forced) = (attempts.len(), attempts.iter().filter(|one| one.forced).count());
        let refused = all - forced;
        Ok(match forced {
            0 => format!("refused {refused} of {all} forbidden operations"),
            _ => format!(
                "refused {refused} of {all} forbidden operations, and made the keys of the other {forced} as its unwrap \
                 templates say"
            ),
        })
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

fn configure_softhsm(directory: &Path) -> Result<()> {
    let tokens = directory.join("tokens");
    make_directory(&tokens)?;
    write_file(
        &directory.join(SOFTHSM_CONF),
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            tokens.display()
        )
        .as_bytes(),
    )
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

const SOFTHSM_CONF: &str = "softhsm2.conf";
const PIN_ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

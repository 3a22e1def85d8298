//! From a question to what Cedar is asked: the entities it is about, and its context.

use super::{
    Circumstances, Resource,
    vocabulary::{Kind, gateway},
};
use crate::identity::{AuthenticationMethod, Peer, PrincipalPattern};
use cedar_policy::{Context, Entity, EntityUid, RestrictedExpression as Value};
use std::{collections::HashSet, net::SocketAddr};
use time::{OffsetDateTime, UtcOffset};

/// A fact that Cedar does not take: a mistake in the gateway.
#[derive(Debug, thiserror::Error)]
#[error("a fact for the policy cannot be put into words: {0}")]
pub(super) struct Unspeakable(String);

impl Unspeakable {
    /// For this reason.
    pub(super) fn new(error: &impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// The caller, in the groups of the patterns that fit.
pub(super) fn principal(peer: &Peer, patterns: &[PrincipalPattern]) -> Result<Entity, Unspeakable> {
    let name = peer.principal.as_str();
    let mut attributes = vec![
        ("name".to_owned(), text(name)),
        ("method".to_owned(), entity(Kind::Method, peer.method.name())),
    ];
    let mut note = |key: &str, value: Value| attributes.push((key.to_owned(), value));
    if let Some(rest) = name.strip_prefix("spiffe://") {
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        note("namespace", text("spiffe"));
        note("trust_domain", text(domain));
        note("path", text(path));
    } else if let Some(uid) = name.strip_prefix("unix:uid=") {
        note("namespace", text("unix"));
        if let Ok(uid) = uid.parse() {
            note("uid", Value::new_long(uid));
        }
    } else {
        note("namespace", text("x509"));
        let certified = name.strip_prefix("x509:").and_then(|rest| rest.split_once(':'));
        if let Some((issuer, subject)) = certified {
            note("issuer", text(issuer));
            note("subject", text(subject));
        }
    }
    let groups = patterns
        .iter()
        .filter(|pattern| pattern.matches(&peer.principal))
        .map(|pattern| Kind::Pattern.entity(&pattern.to_string()));
    Entity::new(
        Kind::Principal.entity(name),
        attributes.into_iter().collect(),
        groups.collect(),
    )
    .map_err(|error| Unspeakable::new(&error))
}

/// What something is done to. It lies in all that holds it.
pub(super) fn resource(resource: Resource<'_>) -> Result<Entity, Unspeakable> {
    let key = match resource {
        Resource::Gateway => return Ok(Entity::with_uid(gateway())),
        Resource::KeyRing(ring) => {
            let uid = Kind::KeyRing.entity(ring.as_str());
            return Ok(Entity::new_no_attrs(uid, HashSet::from([gateway()])));
        }
        Resource::Key(key) => key,
    };
    let attributes = [
        ("purpose".to_owned(), entity(Kind::Purpose, key.purpose.name())),
        ("type".to_owned(), entity(Kind::KeyType, key.key_type.name())),
        ("protection".to_owned(), entity(Kind::Protection, key.protection.name())),
        ("exportable".to_owned(), Value::new_bool(key.exportable)),
    ];
    let labels = key.labels.iter().map(|(name, value)| (name.clone(), text(value)));
    Entity::new_with_tags(
        Kind::Key.entity(&format!("{}/{}", key.name.ring, key.name.key)),
        attributes,
        [Kind::KeyRing.entity(key.name.ring.as_str()), gateway()],
        labels,
    )
    .map_err(|error| Unspeakable::new(&error))
}

/// The encryption context as an entity, if the caller gave one.
pub(super) fn encryption_context(circumstances: Circumstances<'_>) -> Result<Option<Entity>, Unspeakable> {
    let Some(context) = circumstances.encryption_context else {
        return Ok(None);
    };
    let tags = context.iter().map(|(name, value)| (name.clone(), text(value)));
    match Entity::new_with_tags(given_context(), [], [], tags) {
        Ok(entity) => Ok(Some(entity)),
        Err(error) => Err(Unspeakable::new(&error)),
    }
}

/// The circumstances.
pub(super) fn context(
    peer: &Peer,
    circumstances: Circumstances<'_>,
    now: OffsetDateTime,
) -> Result<Context, Unspeakable> {
    let now = now.to_offset(UtcOffset::UTC);
    let (date, time) = (now.date(), now.time());
    let written = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    );
    let mut pairs = vec![
        ("time".to_owned(), Value::new_datetime(written)),
        ("weekday".to_owned(), text(&now.weekday().to_string())),
        (
            "connection".to_owned(),
            entity(Kind::Connection, connection(peer.method)),
        ),
        ("encryption_context".to_owned(), Value::new_entity_uid(given_context())),
    ];
    if let Ok(address) = peer.address.parse::<SocketAddr>() {
        let address = address.ip().to_canonical().to_string();
        pairs.push(("peer".to_owned(), Value::new_ip(address)));
    }
    if let Some(mechanism) = circumstances.mechanism {
        pairs.push(("mechanism".to_owned(), entity(Kind::Mechanism, mechanism.name())));
    }
    if let Some(primary) = circumstances.primary_version {
        pairs.push(("primary_version".to_owned(), Value::new_bool(primary)));
    }
    Context::from_pairs(pairs).map_err(|error| Unspeakable::new(&error))
}

fn connection(method: AuthenticationMethod) -> &'static str {
    match method {
        AuthenticationMethod::UnixPeer => "unix",
        AuthenticationMethod::ClientCertificate => "tls",
    }
}

fn given_context() -> EntityUid {
    Kind::EncryptionContext.entity("given")
}

fn text(value: &str) -> Value {
    Value::new_string(value.to_owned())
}

fn entity(kind: Kind, id: &str) -> Value {
    Value::new_entity_uid(kind.entity(id))
}

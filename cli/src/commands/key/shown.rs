//! Keys and versions as people see them.

use crate::{
    console::Console,
    paint::Paint,
    table::{fields, labels, time, window},
    uses::purpose_word,
    words::word,
};
use portcullis_client::v1::{
    Key, KeyDestruction, KeyOperation, KeyOrigin, KeyProtection, KeyType, KeyVersion, KeyVersionState, Mechanism,
};

/// A key, with its primary version.
pub(super) fn key_text(paint: Paint, key: &Key) -> String {
    let primary = key.primary.as_ref();
    let primary = primary.map(|version| format!("\n\nprimary version\n{}", version_text(paint, version)));
    own_text(paint, key) + &primary.unwrap_or_default()
}

fn own_text(paint: Paint, key: &Key) -> String {
    fields(
        paint,
        &[
            ("name", key.name.clone()),
            ("uid", key.uid.clone()),
            ("type", word::<KeyType>(key.r#type)),
            ("purpose", purpose_word(key.purpose)),
            ("uses", uses_text(key)),
            ("protection", word::<KeyProtection>(key.protection)),
            ("exportable", if key.exportable { "yes" } else { "no" }.to_owned()),
            ("labels", labels(&key.labels)),
            ("destroy window", window(key.destroy_window)),
            ("created", time(key.create_time)),
            ("etag", key.etag.clone()),
        ],
    )
}

/// A version.
pub(super) fn version_text(paint: Paint, version: &KeyVersion) -> String {
    fields(
        paint,
        &[
            ("name", version.name.clone()),
            ("state", word::<KeyVersionState>(version.state)),
            ("reason", version.state_reason.clone()),
            ("origin", word::<KeyOrigin>(version.origin)),
            ("domain epoch", version.domain_epoch.to_string()),
            ("members", version.members.join(" ")),
            ("created", time(version.create_time)),
            ("activated", time(version.activation_time)),
            ("deactivated", time(version.deactivation_time)),
            ("compromised", time(version.compromise_time)),
            ("destruction", time(version.destroy_time)),
            ("destroyed", destruction_text(version.destruction()).to_owned()),
            (
                "use count",
                version.use_count.map(|count| count.to_string()).unwrap_or_default(),
            ),
            ("etag", version.etag.clone()),
        ],
    )
}

/// What it means that a version is destroyed.
fn destruction_text(destruction: KeyDestruction) -> &'static str {
    match destruction {
        KeyDestruction::Unspecified => "",
        KeyDestruction::StoredToken => "from the store; backups from before still hold it, sealed",
        KeyDestruction::HsmObject => "in every HSM that held it",
        KeyDestruction::Nothing => "there was no key material",
    }
}

/// The permitted uses in one line: each operation with its mechanisms.
pub(super) fn uses_text(key: &Key) -> String {
    let mut operations: Vec<(i32, Vec<String>)> = Vec::new();
    for permitted in &key.permitted_uses {
        let mechanism = word::<Mechanism>(permitted.mechanism);
        match operations
            .iter_mut()
            .find(|(operation, _)| *operation == permitted.operation)
        {
            Some((_, mechanisms)) => mechanisms.push(mechanism),
            None => operations.push((permitted.operation, vec![mechanism])),
        }
    }
    let texts: Vec<String> = operations
        .iter()
        .map(|(operation, mechanisms)| format!("{}: {}", word::<KeyOperation>(*operation), mechanisms.join(", ")))
        .collect();
    texts.join("; ")
}

/// Warns of a version that has no failover.
pub(super) fn note_single_replica(console: Console, version: Option<&KeyVersion>) {
    if let Some(version) = version.filter(|version| version.single_replica) {
        let member = version
            .members
            .first()
            .map_or("one member", |name| name.trim_start_matches("members/"));
        console.note(&format!(
            "this key lives on {member} alone: it is unavailable while that is, and dies with it"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_client::v1::PermittedUse;

    #[test]
    fn uses_are_grouped_by_operation() {
        let used = |operation: KeyOperation, mechanism: Mechanism| PermittedUse {
            operation: operation as i32,
            mechanism: mechanism as i32,
        };
        let key = Key {
            permitted_uses: vec![
                used(KeyOperation::Sign, Mechanism::RsaPkcs1Sha256),
                used(KeyOperation::Decrypt, Mechanism::RsaOaepSha256),
                used(KeyOperation::Sign, Mechanism::RsaPssSha256),
            ],
            ..Default::default()
        };
        assert_eq!(
            uses_text(&key),
            "sign: rsa-pkcs1-sha256, rsa-pss-sha256; decrypt: rsa-oaep-sha256"
        );
    }
}

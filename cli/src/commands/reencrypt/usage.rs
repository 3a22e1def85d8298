//! What the gateway knows of a key's older versions: their states, and how often they were used.

use crate::words::word;
use portcullis_client::{
    Client,
    envelope::VersionName,
    v1::{GetKeyVersionRequest, KeyVersionState, ListKeyVersionsRequest},
};
use std::collections::BTreeMap;

/// The older versions by number; nothing where the caller may not look at them.
#[derive(Default)]
pub(super) struct Usage(pub(super) BTreeMap<u32, OlderVersion>);

pub(super) struct OlderVersion {
    pub(super) name: String,
    pub(super) state: String,
    /// How often it was used, as far as the gateway says.
    pub(super) uses: Option<u64>,
}

impl Usage {
    pub(super) async fn of_older_versions(client: &Client, primary: &VersionName) -> Self {
        let mut found = BTreeMap::new();
        let mut request = ListKeyVersionsRequest {
            parent: primary.key().to_owned(),
            ..Default::default()
        };
        // Whoever may not look at versions can re-encrypt nevertheless, and is not told about them.
        while let Ok(page) = client.list_key_versions(request.clone()).await {
            for version in page.versions {
                let Ok(name) = version.name.parse::<VersionName>() else {
                    continue;
                };
                if name.number() >= primary.number() || version.state() == KeyVersionState::Destroyed {
                    continue;
                }
                let request = GetKeyVersionRequest {
                    name: version.name.clone(),
                };
                let uses = client.get_key_version(request).await.ok().and_then(|one| one.use_count);
                let older = OlderVersion {
                    name: version.name,
                    state: word::<KeyVersionState>(version.state),
                    uses,
                };
                found.insert(name.number(), older);
            }
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        Self(found)
    }
}

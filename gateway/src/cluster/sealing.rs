//! Whether keys can be wrapped at all: members whose tokens cannot hold sealing keys share a resident domain.

use super::{
    core::MemberState,
    error::ClusterError,
    shell::{Cluster, lock},
};
use portcullis_hsm::key_token::Storage;
use std::time::Instant;

impl Cluster {
    /// Whether the members that serve can keep a key so.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NothingSeals`] for a key that is to be wrapped where no member's token can do that, with what each
    /// worker found when it tried.
    pub fn require_storage(&self, storage: Storage) -> Result<(), ClusterError> {
        if storage == Storage::Resident {
            return Ok(());
        }
        let status = lock(&self.core).status(Instant::now());
        let (mut members, mut obstacles) = (Vec::new(), Vec::new());
        for (member, status) in self.slots().iter().zip(status) {
            if status.state != MemberState::Ready {
                continue;
            }
            let Some(found) = lock(&member.opened)
                .as_ref()
                .map(|opened| opened.sealing_obstacles().to_vec())
            else {
                continue;
            };
            if found.is_empty() {
                return Ok(());
            }
            members.push(member.name.to_string());
            obstacles.extend(
                found
                    .into_iter()
                    .filter(|one| !obstacles.contains(one))
                    .collect::<Vec<_>>(),
            );
        }
        if members.is_empty() {
            // Nobody knows yet; whoever asks for a member finds none.
            return Ok(());
        }
        Err(ClusterError::NothingSeals { members, obstacles })
    }
}

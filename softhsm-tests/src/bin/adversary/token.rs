//! The token, logged in by the user PIN.

use crate::text;
use anyhow::{Context, bail};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    object::{Attribute, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use serde_json::Value;

/// A token, logged in as long as this lives.
pub(crate) struct Token {
    module: Pkcs11,
    slot: Slot,
    /// Keeps the login and the objects that the adversary makes.
    pub(crate) session: Session,
}

impl Token {
    /// Finds the token that the job names and logs in.
    pub(crate) fn open(job: &Value) -> anyhow::Result<Self> {
        let module = Pkcs11::new(text(job, "module")?)?;
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        let label = text(job, "token_label")?;
        let slots = module.get_slots_with_initialized_token()?;
        let slot = slots.into_iter().find(|slot| {
            module
                .get_token_info(*slot)
                .is_ok_and(|info| info.label().trim_end() == label)
        });
        let slot = slot.with_context(|| format!("no token {label}"))?;
        let session = module.open_rw_session(slot)?;
        session.login(UserType::User, Some(&AuthPin::new(text(job, "pin")?.into())))?;
        Ok(Self { module, slot, session })
    }

    /// A session for one deed: a refused operation may leave its session stuck.
    pub(crate) fn another_session(&self) -> anyhow::Result<Session> {
        Ok(self.module.open_rw_session(self.slot)?)
    }

    /// One of the domain's keys.
    pub(crate) fn domain_key(&self, name: &str) -> anyhow::Result<ObjectHandle> {
        let label = format!("portcullis-domain-1-{name}");
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::Token(true),
            Attribute::Label(label.clone().into()),
        ];
        match self.session.find_objects(&template)?[..] {
            [key] => Ok(key),
            ref found => bail!("{} keys have the label {label}; expected one", found.len()),
        }
    }
}

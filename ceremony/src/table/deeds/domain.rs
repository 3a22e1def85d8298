//! A domain on its origin token, its backup, the way back, and its end.

use super::{
    Bench, Detour, Facts, OrFail, StepEnd, as_user,
    custody::{SharedSecret, ToShare},
    or_undone,
    pins::{Whose, accepted, to_pin},
    refused,
};
use crate::{
    clock::Clock,
    failure::Failure,
    front::Front,
    name::Name,
    progress::{EPOCH, FINGERPRINT, NOTHING, PROVED},
    script::{Deed, RestoredAs, Step},
    shares::Secret,
    table::Table,
    token::identity_facts,
};
use portcullis_hsm::{
    domain::{
        BackupKey, DomainBackup, DomainKeys, Fingerprint, OriginDomain, destroy_epoch, try_forbidden,
        try_forbidden_on_origin,
    },
    offline_token::OfflineToken,
    pkcs11::{Session, TokenInfo},
};
use portcullis_provisioning::{chain::Chain, custodian::CustodianName};
use secrecy::SecretSlice;
use std::{collections::BTreeMap, fs, path::PathBuf};
use zeroize::Zeroizing;

impl<F: Front, C: Clock> Table<'_, F, C> {
    pub(super) fn generate_domain(
        &mut self,
        step: &Step,
        by: &[CustodianName],
        on: &Name,
        epoch: u32,
    ) -> Result<StepEnd, Detour> {
        let mut bench = Bench::default();
        let mut token = self.open_token(&mut bench, on)?;
        let (key_wrap, id) = (token.key_wrap().or_fail()?, self.object_id(step)?);
        let mut facts = domain_facts(token.info(), epoch);
        let pin = self.user_pin(on, &mut token)?;
        as_user(&mut token, &pin, |session| {
            self.begin_anew(session, &id)?;
            let origin = OriginDomain::create(session, epoch, key_wrap, &id).or_fail()?;
            let looked_at = self.look_at_origin(session, step, by, &origin, &mut facts);
            or_undone(session, &id, looked_at)
        })?;
        facts.insert("objects".to_owned(), id.to_string());
        Ok(StepEnd::Done {
            facts,
            artefacts: BTreeMap::new(),
        })
    }

    fn look_at_origin(
        &mut self,
        session: &mut Session,
        step: &Step,
        by: &[CustodianName],
        origin: &OriginDomain,
        facts: &mut Facts,
    ) -> Result<(), Detour> {
        let fingerprint = origin.fingerprint(session).or_fail()?;
        refused(&try_forbidden_on_origin(session, origin).or_fail()?, facts)?;
        facts.insert(FINGERPRINT.to_owned(), fingerprint.to_string());
        self.read_back(step, by, "the fingerprint of the domain", fingerprint.as_bytes())
    }

    pub(super) fn back_up_domain(&mut self, step: &Step, on: &Name, epoch: u32) -> Result<StepEnd, Detour> {
        let mut bench = Bench::default();
        let mut token = self.open_token(&mut bench, on)?;
        let key_wrap = token.key_wrap().or_fail()?;
        let [officer, user] = self.origin_pins(on, &mut token)?;
        let key = token
            .as_user(&user, |session| {
                OriginDomain::find(session, epoch, key_wrap)?;
                BackupKey::draw(session, None)
            })
            .or_fail()?;
        let secret = Secret::new(Zeroizing::new(key.expose().to_vec())).or_fail()?;
        // The key goes out and is proved before anything is wrapped under it.
        let mut shared = self.distribute(
            step,
            &[ToShare {
                secret: &secret,
                purpose: format!("the backup key of domain epoch {epoch}"),
                part: KEY_PART,
            }],
        )?;
        let trusted = token
            .as_officer(&officer, |session| key.trust(session, key_wrap))
            .or_fail()?;
        let backup = token
            .as_user(&user, |session| {
                OriginDomain::find(session, epoch, key_wrap)?.back_up(session, &key, &trusted)
            })
            .or_fail()?;
        token
            .as_officer(&officer, |session| trusted.destroy(session))
            .or_fail()?;
        token.forget_session_objects().or_fail()?;
        let name = self.artefact(step, "backup");
        self.keep(&mut shared.artefacts, name, &backup.to_bytes())?;
        let mut facts = domain_facts(token.info(), epoch);
        facts.insert(FINGERPRINT.to_owned(), backup.fingerprint.to_string());
        facts.insert(PROVED.to_owned(), shared.proved_by);
        for set in &shared.sets {
            facts.insert(format!("set of {}", set.purpose), set.set.to_string());
        }
        Ok(StepEnd::Done {
            facts,
            artefacts: shared.artefacts,
        })
    }

    pub(super) fn restore_domain(
        &mut self,
        step: &Step,
        on: &Name,
        epoch: u32,
        to_be: RestoredAs,
    ) -> Result<StepEnd, Detour> {
        let (file, set) = self.backup_of(epoch)?;
        let bytes = fs::read(&file).map_err(Failure::file(format!("read {}", file.display())))?;
        let backup = DomainBackup::from_bytes(&bytes).or_fail()?;
        if backup.epoch != epoch {
            return Err(Detour::Failed(format!(
                "the backup is of domain epoch {}, expected {epoch}",
                backup.epoch
            )));
        }
        self.is_recorded(epoch, &backup.fingerprint)?;
        let mut bench = Bench::default();
        let mut token = self.open_token(&mut bench, on)?;
        let (key_wrap, id) = (token.key_wrap().or_fail()?, self.object_id(step)?);
        let pin = self.user_pin(on, &mut token)?;
        let set_id = set.description.set;
        let [secret] = &self.collect(&[set])?[..] else {
            return Err(Detour::Failed("the shares of one set give one secret".to_owned()));
        };
        let bytes: [u8; 32] = secret
            .expose()
            .try_into()
            .map_err(|_| Detour::Failed("the shares give no backup key: it has 32 bytes".to_owned()))?;
        let key = BackupKey::from_bytes(Zeroizing::new(bytes));
        let mut facts = domain_facts(token.info(), epoch);
        let restored = as_user(&mut token, &pin, |session| {
            self.begin_anew(session, &id)?;
            let fingerprint = backup
                .restore(session, &key, key_wrap, to_be.restore_as(), &id)
                .or_fail()?;
            let tried = match to_be {
                RestoredAs::Origin => OriginDomain::find(session, epoch, key_wrap)
                    .and_then(|origin| try_forbidden_on_origin(session, &origin)),
                RestoredAs::Member => {
                    DomainKeys::find(session, epoch, Some(key_wrap)).and_then(|keys| try_forbidden(session, &keys))
                }
            };
            let looked_at = tried.or_fail().and_then(|attempts| refused(&attempts, &mut facts));
            or_undone(session, &id, looked_at)?;
            Ok(fingerprint)
        })?;
        facts.insert(FINGERPRINT.to_owned(), restored.to_string());
        facts.insert("restored as".to_owned(), to_be.to_string());
        facts.insert("from the shares of set".to_owned(), set_id.to_string());
        facts.insert("objects".to_owned(), id.to_string());
        Ok(StepEnd::Done {
            facts,
            artefacts: BTreeMap::new(),
        })
    }

    pub(super) fn destroy_domain(&mut self, step: &Step, on: &Name, epoch: u32) -> Result<StepEnd, Detour> {
        let mut bench = Bench::default();
        let mut token = self.open_token(&mut bench, on)?;
        let pin = self.user_pin(on, &mut token)?;
        let count = token.as_user(&pin, |session| destroy_epoch(session, epoch)).or_fail()?;
        // An attempt before this one may have been interrupted when it was done.
        if count == 0 && self.progress.attempts(&step.id) == 1 {
            return Err(Detour::Failed(format!("{on} has no keys of domain epoch {epoch}")));
        }
        // Looked for again by a login of its own: what was seen is what the token has.
        let left = token.as_user(&pin, |session| destroy_epoch(session, epoch)).or_fail()?;
        if left > 0 {
            return Err(Detour::Failed(format!(
                "{on} still had {left} keys of domain epoch {epoch} when they were looked for again"
            )));
        }
        let mut facts = domain_facts(token.info(), epoch);
        facts.insert("keys that were destroyed".to_owned(), count.to_string());
        facts.insert("keys that are left".to_owned(), NOTHING.to_owned());
        Ok(StepEnd::Done {
            facts,
            artefacts: BTreeMap::new(),
        })
    }

    /// The backup of an epoch with the shares of its key: of this ceremony, or that which the environment names.
    fn backup_of(&self, epoch: u32) -> Result<(PathBuf, SharedSecret), Detour> {
        let made = self.made_by(|_, deed| *deed == Deed::BackUpDomain { epoch });
        if let Some(artefacts) = made {
            let find = |ending: &str| artefacts.keys().find(|name| name.ends_with(ending));
            let ending = format!("-{KEY_PART}.shares");
            if let (Some(backup), Some(shares)) = (find(".backup"), find(&ending)) {
                let shares = SharedSecret::read(&self.bundle.artefact(shares))?;
                return Ok((self.bundle.artefact(backup), shares));
            }
        }
        match &self.environment.backup {
            Some(backup) => Ok((backup.file.clone(), SharedSecret::read(&backup.shares)?)),
            None => Err(Detour::Failed(
                "the environment does not say where the backup is: backup = { file = …, shares = … }".to_owned(),
            )),
        }
    }

    /// Holds a fingerprint against the provisioning record, where the environment names one of this epoch.
    fn is_recorded(&self, epoch: u32, fingerprint: &Fingerprint) -> Result<(), Detour> {
        let Some(path) = &self.environment.record else {
            return Ok(());
        };
        let text = fs::read_to_string(path).map_err(Failure::file(format!("read {}", path.display())))?;
        let recorded = Chain::parse(&text).or_fail()?.last().record.domain;
        if recorded.epoch == epoch && recorded.fingerprint != *fingerprint.as_bytes() {
            return Err(Detour::Failed(format!(
                "the backup is of a domain with the fingerprint {fingerprint}, the provisioning record has {}",
                hex::encode(recorded.fingerprint)
            )));
        }
        Ok(())
    }

    /// The PINs of an origin token in one go: each custodian decrypts both shares.
    pub(super) fn origin_pins(
        &mut self,
        name: &Name,
        token: &mut OfflineToken,
    ) -> Result<[SecretSlice<u8>; 2], Detour> {
        let sets = [
            self.required_set(name, Whose::Officer)?,
            self.required_set(name, Whose::User)?,
        ];
        let [officer, user] = &self.collect(&sets)?[..] else {
            return Err(Detour::Failed("the shares of two sets give two secrets".to_owned()));
        };
        let officer = to_pin(officer);
        token.as_officer(&officer, |_| Ok(())).or_fail()?;
        Ok([officer, accepted(token, to_pin(user))?])
    }
}

/// What is recorded of every deed with a domain.
pub(super) fn domain_facts(info: &TokenInfo, epoch: u32) -> Facts {
    let mut facts = identity_facts(info);
    facts.insert(EPOCH.to_owned(), epoch.to_string());
    facts
}

/// The part of a backup key's set in the names of its files.
const KEY_PART: &str = "key";

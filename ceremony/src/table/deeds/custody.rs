//! Shares that are handed out and shown to be there, and shares that come back.

use super::{ATTEMPTS, Detour, OrFail};
use crate::{
    clock::Clock,
    front::Front,
    script::{FileHash, Step},
    shares::{AllNeeded, Collection, Distribution, Secret, SetDescription, ShareSet, Voided, open},
    table::Table,
};
use portcullis_provisioning::{
    custodian::{Custodian, CustodianName},
    quorum::Roster,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// A secret that custodians have in shares: the description of the set, beside which the encrypted shares are.
#[derive(Debug, Clone)]
pub(super) struct SharedSecret {
    pub(super) description: SetDescription,
    at: PathBuf,
}

/// A secret that is to be shared.
pub(super) struct ToShare<'a> {
    pub(super) secret: &'a Secret,
    /// What it is, in words.
    pub(super) purpose: String,
    /// Its part in the names of the files.
    pub(super) part: &'static str,
}

/// Sets whose shares every custodian has shown to have.
pub(super) struct Shared {
    /// In the order in which the secrets were given.
    pub(super) sets: Vec<SetDescription>,
    /// The descriptions and the encrypted shares.
    pub(super) artefacts: BTreeMap<String, FileHash>,
    /// Who has shown to have theirs.
    pub(super) proved_by: String,
}

impl SharedSecret {
    /// Reads the description of a set.
    pub(super) fn read(path: &Path) -> Result<Self, Detour> {
        let unusable = |why: String| Detour::Failed(format!("{}: {why}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            description: toml::from_str(&text).map_err(|error| unusable(error.message().to_owned()))?,
            at: path.to_owned(),
        })
    }

    fn share_of(&self, name: &CustodianName) -> Option<PathBuf> {
        let place = self.description.custodians.iter().position(|one| one == name)?;
        Some(share_path(&self.at, place + 1))
    }
}

impl<F: Front, C: Clock> Table<'_, F, C> {
    /// The custodians who act, as those to whom secrets are encrypted. All seats must be taken.
    pub(super) fn roster(&self) -> Result<(Roster, u32), Detour> {
        let Some(quorum) = &self.script.quorum else {
            return Err(Detour::Failed("the script has no quorum".to_owned()));
        };
        let acting = self.progress.acting_custodians();
        if acting.len() != quorum.of.len() {
            return Err(Detour::Failed(format!(
                "{} custodians are here, and each of the {} seats is needed: whoever is not here gets no share",
                acting.len(),
                quorum.of.len()
            )));
        }
        let custodian = |person: &&crate::environment::Person| {
            let missing = || Detour::Failed(format!("{} has no recipient in the environment", person.name));
            Ok(Custodian {
                name: person.name.clone(),
                signing_key: person.key.clone(),
                age_recipient: person.receives.clone().ok_or_else(missing)?,
            })
        };
        let custodians: Result<Vec<_>, Detour> = acting.iter().map(custodian).collect();
        Ok((Roster::new(custodians?).or_fail()?, quorum.need.into()))
    }

    /// Splits secrets among the custodians, writes the encrypted shares to both media, and has every custodian show that they can
    /// be decrypted, as they stand on the medium. Only then may anything depend on the secrets.
    pub(super) fn distribute(&mut self, step: &Step, secrets: &[ToShare<'_>]) -> Result<Shared, Detour> {
        let (roster, need) = self.roster()?;
        let all_needed = match &self.script.quorum {
            Some(quorum) if quorum.all_needed => AllNeeded::Meant,
            _ => AllNeeded::Refused,
        };
        let random = &mut rand::rng();
        let mut artefacts = BTreeMap::new();
        let mut handed_out = Vec::new();
        for one in secrets {
            let set = ShareSet::split(one.secret, &one.purpose, &roster, need, all_needed, random).or_fail()?;
            let distribution = set.encrypt(random).or_fail()?;
            let name = self.artefact(step, "");
            let name = format!("{}-{}.shares", name.trim_end_matches('.'), one.part);
            for share in distribution.encrypted() {
                let file = share_path(Path::new(&name), share.index.into());
                self.keep(&mut artefacts, file.display().to_string(), &share.file)?;
            }
            let text = toml::to_string(distribution.description()).or_fail()?;
            self.keep(&mut artefacts, name.clone(), text.as_bytes())?;
            handed_out.push((distribution, self.bundle.artefact(&name)));
        }
        let names: Vec<CustodianName> = roster.custodians().iter().map(|one| one.name.clone()).collect();
        self.say("Every custodian shows now that the shares can be decrypted. Nothing rests on them before all have.")?;
        for name in &names {
            self.prove(name, &mut handed_out)?;
        }
        let sets: Result<Vec<_>, _> = handed_out.iter().map(|(set, _)| set.activate()).collect();
        let proved_by: Vec<&str> = names.iter().map(CustodianName::as_str).collect();
        Ok(Shared {
            sets: sets.or_fail()?,
            artefacts,
            proved_by: proved_by.join(", "),
        })
    }

    fn prove(&mut self, name: &CustodianName, sets: &mut [(Distribution, PathBuf)]) -> Result<(), Detour> {
        for left in (0..ATTEMPTS).rev() {
            let Some(identity) = self.bring_identity(name)? else {
                continue;
            };
            let mut answer = || -> Result<(), String> {
                for (set, at) in sets.iter_mut() {
                    let place = set.description().custodians.iter().position(|one| one == name);
                    let place = place.ok_or_else(|| format!("{name} has no share"))?;
                    let file = fs::read(share_path(at, place + 1)).map_err(|error| error.to_string())?;
                    let share = open(&file, &identity).map_err(|error| error.to_string())?;
                    set.description().check(&share).map_err(|error| error.to_string())?;
                    let challenge = set.challenge(name).map_err(|error| error.to_string())?;
                    set.prove(name, &share.answer(&challenge))
                        .map_err(|error| error.to_string())?;
                }
                Ok(())
            };
            match answer() {
                Ok(()) => return Ok(()),
                Err(why) => self.say(&format!("{why}. Attempts left: {left}."))?,
            }
        }
        Err(Detour::Failed(format!(
            "{name} could not decrypt a share: nothing rests on these shares, and the next attempt makes others"
        )))
    }

    /// Lets custodians hand in their shares until there are enough of each set, and puts the secrets together.
    pub(super) fn collect(&mut self, sets: &[SharedSecret]) -> Result<Vec<Secret>, Detour> {
        let made: Result<Vec<_>, _> = sets
            .iter()
            .map(|set| Collection::new(set.description.clone(), &Voided::default()))
            .collect();
        let mut collections = made.or_fail()?;
        for set in sets {
            self.say(&format!(
                "The shares of set {} are handed in: {}. {} are needed.",
                set.description.set, set.description.purpose, set.description.threshold
            ))?;
        }
        let here: Vec<CustodianName> = self
            .progress
            .acting_custodians()
            .iter()
            .map(|one| one.name.clone())
            .collect();
        for name in &here {
            if collections.iter().all(|one| one.missing() == 0) {
                break;
            }
            if sets.iter().any(|set| set.share_of(name).is_some()) {
                self.hand_in(name, sets, &mut collections)?;
            }
        }
        let secrets: Result<Vec<_>, _> = collections.into_iter().map(Collection::combine).collect();
        secrets.or_fail()
    }

    fn hand_in(
        &mut self,
        name: &CustodianName,
        sets: &[SharedSecret],
        collections: &mut [Collection],
    ) -> Result<(), Detour> {
        let mut handed_in = vec![false; sets.len()];
        for left in (0..ATTEMPTS).rev() {
            let Some(identity) = self.bring_identity(name)? else {
                continue;
            };
            let mut wrong = None;
            for ((set, collection), is_in) in sets.iter().zip(collections.iter_mut()).zip(&mut handed_in) {
                let Some(path) = set.share_of(name).filter(|_| !*is_in) else {
                    continue;
                };
                let file = self.bring_share(name, &path)?;
                let share = open(&file, &identity).map_err(|error| error.to_string());
                let added = share.and_then(|share| collection.add(name, share).map_err(|error| error.to_string()));
                match added {
                    Ok(_) => *is_in = true,
                    Err(why) => wrong = Some(why),
                }
            }
            match wrong {
                None => return Ok(()),
                Some(why) => self.say(&format!("{why}. Attempts left: {left}."))?,
            }
        }
        self.say(&format!("It goes on without the shares of {name}."))?;
        Ok(())
    }

    /// The file of a share: from where it was left, or from where the custodian has it.
    fn bring_share(&mut self, name: &CustodianName, usual: &Path) -> Result<Vec<u8>, Detour> {
        let mut path = usual.to_owned();
        loop {
            match fs::read(&path) {
                Ok(file) => return Ok(file),
                Err(error) => self.say(&format!("{} cannot be read: {error}", path.display()))?,
            }
            let id = format!("share-file/{name}");
            path = self
                .ask_text(&id, name.as_str(), "The path of your encrypted share")?
                .into();
        }
    }

    /// The identity by which a custodian decrypts; nothing when what was brought is none.
    fn bring_identity(&mut self, name: &CustodianName) -> Result<Option<Zeroizing<String>>, Detour> {
        let usual = self
            .environment
            .person(name)
            .and_then(|person| person.identity_file.clone());
        let hint = match &usual {
            Some(path) => format!("Enter for {}, or the path of your identity", path.display()),
            None => "the path of your identity".to_owned(),
        };
        let typed = self.ask(
            &format!("identity/{name}"),
            name.as_str(),
            &format!("Put in your medium and type {hint}"),
            &[],
        )?;
        let path = match (usual, typed.as_str()) {
            (Some(usual), "") => usual,
            (_, typed) => PathBuf::from(typed),
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => {
                self.say(&format!("{} cannot be read: {error}", path.display()))?;
                return Ok(None);
            }
        };
        // As age-keygen writes it: comments, and a line with the identity.
        match text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")) {
            Some(line) => Ok(Some(Zeroizing::new(line.to_owned()))),
            None => {
                self.say(&format!(
                    "{} has no identity: expected a line that begins with AGE-SECRET-KEY-1",
                    path.display()
                ))?;
                Ok(None)
            }
        }
    }
}

/// The encrypted share of a number is beside the description of its set.
fn share_path(description: &Path, index: usize) -> PathBuf {
    let stem = description.with_extension("");
    let name = stem.file_name().map(|name| name.to_string_lossy().into_owned());
    stem.with_file_name(format!("{}-{index}.age", name.unwrap_or_default()))
}

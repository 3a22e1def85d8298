//! The provisioning record: what a ceremony adds up to, and what the gateway starts on.

use super::{Detour, Facts, OrFail, StepEnd};
use crate::{
    clock::Clock,
    environment::Class,
    failure::Failure,
    front::Front,
    name::Name,
    progress::{EPOCH, FINGERPRINT, deed_of},
    script::{Deed, RestoredAs, Step},
    table::Table,
    transcript::Event,
};
use portcullis_provisioning::{
    chain::Chain,
    custodian::CustodianName,
    record::{DomainIdentity, MemberIdentity, ProvisioningRecord},
};
use std::{collections::BTreeMap, fs};

impl<F: Front, C: Clock> Table<'_, F, C> {
    /// Follows the records that the environment names, or begins with the first. What a rehearsal makes is of a cluster of another
    /// name, so that it never follows a record that counts, and none follows it.
    pub(in crate::table) fn make_record(
        &mut self,
        step: &Step,
        cluster: &str,
        activation: u8,
        without: &[Name],
    ) -> Result<StepEnd, Detour> {
        let earlier = match &self.environment.record {
            None => None,
            Some(path) => {
                let text = fs::read_to_string(path).map_err(Failure::file(format!("read {}", path.display())))?;
                let chain = Chain::parse(&text).or_fail()?;
                Some((text, chain))
            }
        };
        let cluster = match self.environment.class {
            Class::Production => cluster.to_owned(),
            Class::Rehearsal => format!("rehearsal of {cluster}"),
        };
        let (roster, need) = self.roster()?;
        let before = earlier.as_ref().map(|(_, chain)| chain.last());
        let (received, joined) = self.members_of_this_ceremony()?;
        let domain = received.or(before.map(|before| before.record.domain)).ok_or_else(|| {
            Detour::Failed(
                "no member received a domain in this ceremony, and the environment names no record".to_owned(),
            )
        })?;
        let mut members = Vec::new();
        if let Some(before) = before.filter(|before| before.record.domain == domain) {
            members.clone_from(&before.record.members);
        }
        for one in joined {
            match members
                .iter_mut()
                .find(|known: &&mut MemberIdentity| known.name == one.name)
            {
                Some(known) => *known = one,
                None => members.push(one),
            }
        }
        for gone in without {
            let known = members.len();
            members.retain(|member: &MemberIdentity| member.name != gone.as_str());
            if members.len() == known {
                return Err(Detour::Failed(format!(
                    "the record has no member {gone} that could leave it"
                )));
            }
        }
        let record = ProvisioningRecord {
            cluster: cluster.clone(),
            sequence: before.map_or(1, |before| before.record.sequence + 1),
            previous: before.map(|before| before.digest),
            made_at: self.moment()?,
            ceremony: self.ceremony()?,
            domain,
            members,
            provisioning: roster.threshold(need).or_fail()?,
            activation: roster.threshold(activation.into()).or_fail()?,
            roster,
        };
        let mut document = record.to_document().or_fail()?;
        for member in &record.members {
            self.say(&format!("Member {}: token {}", member.name, member.token_serial_number))?;
        }
        for name in &self.progress.custodians_of(step) {
            let what = format!("provisioning record {} of cluster {cluster}", record.sequence);
            self.sign_document(name, &format!("sign/record/{}/{name}", step.id), &what, &mut document)?;
        }
        let digest = document.digest();
        let text = match earlier {
            None => document.to_string(),
            Some((mut text, mut chain)) => {
                chain.extend(&document).or_fail()?;
                text.push('\n');
                text.push_str(&document.to_string());
                text
            }
        };
        // As the gateway will read it.
        let signers = Chain::parse(&text).or_fail()?.last().signers.clone();
        let names: Vec<&str> = signers.names().into_iter().map(CustodianName::as_str).collect();
        let members: Vec<&str> = record.members.iter().map(|member| member.name.as_str()).collect();
        let facts: Facts = [
            (EPOCH, domain.epoch.to_string()),
            (FINGERPRINT, hex::encode(domain.fingerprint)),
            ("cluster", cluster),
            ("record", record.sequence.to_string()),
            ("digest", hex::encode(digest)),
            ("members", members.join(", ")),
            ("signed by", names.join(", ")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let mut artefacts = BTreeMap::new();
        let name = self.artefact(step, "record");
        self.keep(&mut artefacts, name, text.as_bytes())?;
        Ok(StepEnd::Done { facts, artefacts })
    }

    /// The domain that members received here, and those members.
    fn members_of_this_ceremony(&self) -> Result<(Option<DomainIdentity>, Vec<MemberIdentity>), Detour> {
        let mut domain = None;
        let mut members: BTreeMap<Name, MemberIdentity> = BTreeMap::new();
        for line in &self.lines {
            let Event::Result { step, facts, .. } = &line.entry.event else {
                continue;
            };
            let Some((on, deed)) = self.script.step(step).and_then(deed_of) else {
                continue;
            };
            let becomes_member = match deed {
                Deed::JoinDomain { .. } => true,
                Deed::RestoreDomain { to_be, .. } => *to_be == RestoredAs::Member,
                _ => false,
            };
            if becomes_member {
                let fact = |name: &str| facts.get(name).cloned().unwrap_or_default();
                domain = Some((fact(EPOCH), fact(FINGERPRINT)));
                let member = MemberIdentity {
                    name: on.to_string(),
                    token_label: fact("label"),
                    token_serial_number: fact("serial number"),
                    manufacturer: fact("manufacturer"),
                    model: fact("model"),
                };
                members.insert(on.clone(), member);
            }
        }
        let Some((epoch, fingerprint)) = domain else {
            return Ok((None, Vec::new()));
        };
        let mut bytes = [0; 32];
        hex::decode_to_slice(&fingerprint, &mut bytes).or_fail()?;
        let domain = DomainIdentity {
            epoch: epoch
                .parse()
                .map_err(|_| Detour::Failed(format!("\"{epoch}\" is no epoch")))?,
            fingerprint: bytes,
        };
        Ok((Some(domain), members.into_values().collect()))
    }
}

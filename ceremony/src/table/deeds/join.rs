//! A member receives the domain from its origin token.

use super::{Bench, Detour, Facts, OrFail, StepEnd, as_user, domain::domain_facts, or_undone, refused};
use crate::{
    clock::Clock,
    front::Front,
    name::Name,
    progress::FINGERPRINT,
    script::{FileHash, Step, TransportHash},
    table::Table,
};
use portcullis_hsm::{
    domain::{DomainKeys, OriginDomain, Transport, TrustedKey, WrappedDomain, try_forbidden},
    object_id::ObjectId,
    offline_token::OfflineToken,
    pkcs11::{Session, TokenInfo},
};
use portcullis_provisioning::{
    Moment,
    custodian::CustodianName,
    document::SignedDocument,
    join_request::{JoinRequest, OaepHashName, PrivateKeyFacts},
    record::MemberIdentity,
};
use rand::Rng;
use secrecy::SecretSlice;
use std::collections::BTreeMap;

/// The origin token, with the PINs that the custodians' shares gave.
struct Source {
    token: OfflineToken,
    officer: SecretSlice<u8>,
    user: SecretSlice<u8>,
    key_wrap: u64,
}

/// What is known of the joining member and of the step.
struct Joining<'j> {
    step: &'j Step,
    by: &'j [CustodianName],
    member: MemberIdentity,
    firmware: String,
    epoch: u32,
    hash: TransportHash,
    id: ObjectId,
    key_wrap: u64,
}

impl<F: Front, C: Clock> Table<'_, F, C> {
    /// The member's login lasts from its request to the end: a logout takes the private half of its transport key with it.
    pub(super) fn join_domain(
        &mut self,
        step: &Step,
        by: &[CustodianName],
        (on, from): (&Name, &Name),
        epoch: u32,
        hash: TransportHash,
    ) -> Result<StepEnd, Detour> {
        let mut bench = Bench::default();
        let mut member = self.open_token(&mut bench, on)?;
        let mut origin = self.open_token(&mut bench, from)?;
        if same_token(member.info(), origin.info()) {
            return Err(Detour::Failed(format!("{on} and {from} are one token")));
        }
        let [officer, user] = self.origin_pins(from, &mut origin)?;
        let mut source = Source {
            key_wrap: origin.key_wrap().or_fail()?,
            token: origin,
            officer,
            user,
        };
        let joining = Joining {
            step,
            by,
            member: identity(on, member.info()),
            firmware: member.info().firmware_version.clone(),
            epoch,
            hash,
            id: self.object_id(step)?,
            key_wrap: member.key_wrap().or_fail()?,
        };
        let mut facts = domain_facts(member.info(), epoch);
        let mut artefacts = BTreeMap::new();
        let pin = self.user_pin(on, &mut member)?;
        as_user(&mut member, &pin, |there| {
            self.begin_anew(there, &joining.id)?;
            let transport = Transport::generate(there).or_fail()?;
            self.approve(there, &joining, &transport, &mut facts, &mut artefacts)?;
            let wrapped = send(&joining, &mut source, there, &transport)?;
            let (origin_fingerprint, wrapped) = wrapped;
            let keys = transport
                .receive_in_step(there, &wrapped, joining.key_wrap, &joining.id)
                .or_fail()?;
            let looked_at = look_at(there, &keys, &origin_fingerprint, &mut facts);
            or_undone(there, &joining.id, looked_at)?;
            transport.destroy(there).or_fail()
        })?;
        facts.insert("objects".to_owned(), joining.id.to_string());
        facts.insert("from".to_owned(), from.to_string());
        facts.insert("hash of RSA-OAEP".to_owned(), hash.to_string());
        Ok(StepEnd::Done { facts, artefacts })
    }

    /// The member asks; what it asks with is read aloud and typed back, and a quorum of the custodians signs it.
    fn approve(
        &mut self,
        there: &mut Session,
        joining: &Joining<'_>,
        transport: &Transport,
        facts: &mut Facts,
        artefacts: &mut BTreeMap<String, FileHash>,
    ) -> Result<(), Detour> {
        let said = transport.facts(there).or_fail()?;
        let (ceremony, now) = (self.ceremony()?, self.moment()?);
        let mut nonce = [0; 32];
        rand::rng().fill_bytes(&mut nonce);
        let request = JoinRequest {
            ceremony: ceremony.clone(),
            nonce,
            valid_until: now.plus_seconds(REQUEST_LASTS),
            member: joining.member.clone(),
            firmware_version: joining.firmware.clone(),
            transport_key: transport.public_key().to_vec(),
            oaep_hash: match joining.hash {
                TransportHash::Sha256 => OaepHashName::Sha256,
                TransportHash::Sha1 => OaepHashName::Sha1,
            },
            private_key: PrivateKeyFacts {
                local: said.local,
                sensitive: said.sensitive,
                always_sensitive: said.always_sensitive,
                extractable: said.extractable,
                never_extractable: said.never_extractable,
                modifiable: said.modifiable,
            },
        };
        let mut document = request.to_document().or_fail()?;
        self.read_back(
            joining.step,
            joining.by,
            "the fingerprint of the member's key",
            &request.fingerprint(),
        )?;
        let (roster, need) = self.roster()?;
        let threshold = roster.threshold(need).or_fail()?;
        let requester = joining.by.first();
        for name in &self.progress.custodians_of(joining.step) {
            if Some(name) == requester {
                continue;
            }
            let signed = document.signers(&[&roster]).or_fail()?;
            if signed.names().len() >= usize::from(threshold.need()) {
                break;
            }
            let what = format!("that {} receives the domain", joining.member.name);
            self.sign_document(
                name,
                &format!("sign/request/{}/{name}", joining.step.id),
                &what,
                &mut document,
            )?;
        }
        let signers = document
            .check_quorum("the custodians", &roster, threshold, requester)
            .or_fail()?;
        request.check_answer(&ceremony, &nonce, self.moment()?).or_fail()?;
        facts.insert("key of the member".to_owned(), hex::encode(request.fingerprint()));
        let names: Vec<&str> = signers.names().into_iter().map(CustodianName::as_str).collect();
        facts.insert("approved by".to_owned(), names.join(", "));
        let name = self.artefact(joining.step, "request");
        self.keep(artefacts, name, document.to_string().as_bytes())?;
        Ok(())
    }

    /// Lets somebody sign a document with the key that is theirs.
    pub(super) fn sign_document(
        &mut self,
        name: &CustodianName,
        id: &str,
        what: &str,
        document: &mut SignedDocument,
    ) -> Result<(), Detour> {
        let person = self.environment.person(name);
        let person = person.ok_or_else(|| Detour::Failed(format!("nobody is called {name}")))?;
        let key = self.bring_key(person, id, what)?;
        document.sign(&key).or_fail()
    }

    /// The ceremony, as documents name it.
    pub(super) fn ceremony(&self) -> Result<String, Detour> {
        let opened = self.progress.opened().map(|opened| opened.ceremony.to_string());
        opened.ok_or_else(|| Detour::Failed("the ceremony was never opened".to_owned()))
    }

    /// Now, as documents say it.
    pub(super) fn moment(&self) -> Result<Moment, Detour> {
        let now = Moment::from_unix(self.clock.now().unix_timestamp());
        now.ok_or_else(|| Detour::Failed("the host's clock shows no time that can be written".to_owned()))
    }
}

/// The origin's side: trusts the member's key for as long as its session lasts, sends a worthless key, and, when the answer is
/// right, the domain.
fn send(
    joining: &Joining<'_>,
    source: &mut Source,
    there: &mut Session,
    transport: &Transport,
) -> Result<(String, WrappedDomain), Detour> {
    let Source {
        token,
        officer,
        user,
        key_wrap,
    } = source;
    let hash = joining.hash.oaep();
    let trusted = token
        .as_officer(officer, |here| TrustedKey::transport(here, transport.public_key()))
        .or_fail()?;
    for allowed in [
        token.as_user(user, |here| trusted.try_forbidden(here)).or_fail()?,
        token
            .as_officer(officer, |here| trusted.try_forbidden(here))
            .or_fail()?,
    ] {
        if !allowed.is_empty() {
            return Err(Detour::Failed(format!(
                "the origin token allowed what it must refuse: {}",
                allowed.join("; ")
            )));
        }
    }
    let (canary, expected) = token
        .as_user(user, |here| trusted.send_canary(here, hash, *key_wrap))
        .or_fail()?;
    let answer = transport
        .answer_canary(there, &canary, hash, joining.key_wrap)
        .or_fail()?;
    if answer != expected {
        return Err(Detour::Failed(
            "the member made another key of the worthless one that it was sent: nothing else was sent".to_owned(),
        ));
    }
    let sent = token
        .as_user(user, |here| {
            let origin = OriginDomain::find(here, joining.epoch, *key_wrap)?;
            let fingerprint = origin.fingerprint(here)?;
            Ok((fingerprint.to_string(), origin.wrap_to(here, &trusted, hash)?))
        })
        .or_fail()?;
    token.as_user(user, |here| trusted.destroy(here)).or_fail()?;
    token.forget_session_objects().or_fail()?;
    Ok(sent)
}

fn look_at(there: &mut Session, keys: &DomainKeys, expected: &str, facts: &mut Facts) -> Result<(), Detour> {
    let fingerprint = keys.fingerprint(there).or_fail()?.to_string();
    if fingerprint != expected {
        return Err(Detour::Failed(format!(
            "the member's domain has the fingerprint {fingerprint}, the origin's has {expected}"
        )));
    }
    refused(&try_forbidden(there, keys).or_fail()?, facts)?;
    facts.insert(FINGERPRINT.to_owned(), fingerprint);
    Ok(())
}

/// A member as its token names itself.
pub(super) fn identity(name: &Name, info: &TokenInfo) -> MemberIdentity {
    MemberIdentity {
        name: name.to_string(),
        token_label: info.label.clone(),
        token_serial_number: info.serial_number.clone(),
        manufacturer: info.manufacturer.clone(),
        model: info.model.clone(),
    }
}

fn same_token(one: &TokenInfo, other: &TokenInfo) -> bool {
    one.serial_number == other.serial_number && one.manufacturer == other.manufacturer
}

/// An hour: the ceremony does not leave the room in between.
const REQUEST_LASTS: u32 = 3600;

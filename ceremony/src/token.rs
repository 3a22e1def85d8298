//! Tokens: where they are, and what they say of themselves.

use crate::{
    environment::Class,
    name::Name,
    script::{Permission, Script},
};
use portcullis_hsm::{
    capability::Capabilities,
    pkcs11::{Module, TokenInfo},
    token::{TokenSelector, find_token},
};
use std::{collections::BTreeMap, path::PathBuf};

/// A token of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What the script calls it.
    pub name: Name,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// Which of its tokens.
    pub selector: TokenSelector,
    /// The description of the set of shares of the security officer's PIN, from a ceremony before this one; the shares are beside it.
    pub officer_shares: Option<PathBuf>,
    /// The same of the user's PIN. Where there is none, the PIN is typed.
    pub user_shares: Option<PathBuf>,
}

/// What a token says of itself, and what it lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// `CK_TOKEN_INFO`.
    pub info: TokenInfo,
    /// What it can do, a line each.
    pub abilities: Vec<String>,
}

impl Token {
    /// Asks it. Needs no PIN, and changes nothing.
    pub fn describe(&self) -> Result<Description, portcullis_hsm::Error> {
        let module = Module::load(&self.module)?;
        let (slot, info) = find_token(&module, &self.selector)?;
        let abilities = Capabilities::ask(&module, slot)?.describe();
        Ok(Description { info, abilities })
    }
}

/// Whether a token is software, by what it says of itself.
pub(crate) fn is_software(info: &TokenInfo) -> bool {
    let said = format!("{} {}", info.manufacturer, info.model).to_lowercase();
    SOFTWARE.iter().any(|name| said.contains(name))
}

/// What is recorded of a token with which something is done.
pub(crate) fn identity_facts(info: &TokenInfo) -> BTreeMap<String, String> {
    let software = if is_software(info) { SOFTWARE_YES } else { SOFTWARE_NO };
    [
        ("label", info.label.as_str()),
        ("serial number", info.serial_number.as_str()),
        ("manufacturer", info.manufacturer.as_str()),
        ("model", info.model.as_str()),
        (SOFTWARE_FACT, software),
    ]
    .map(|(name, value)| {
        (
            name.to_owned(),
            value.chars().filter(|c| !c.is_control()).collect::<String>(),
        )
    })
    .into()
}

impl Description {
    /// What is recorded of it. `software` says whether it is.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = identity_facts(&self.info);
        for (name, value) in [
            ("hardware", self.info.hardware_version.as_str()),
            ("firmware", self.info.firmware_version.as_str()),
            // There is no standard one, and none of a vendor is known here.
            ("attestation by the vendor", "none"),
        ] {
            facts.insert(name.to_owned(), value.chars().filter(|c| !c.is_control()).collect());
        }
        facts
    }

    /// Whether it is software that plays a token.
    pub fn is_software(&self) -> bool {
        is_software(&self.info)
    }
}

/// Whether a token may be used: a rehearsal touches nothing but software, and production no software unless the script says so.
pub(crate) fn permitted(class: Class, script: &Script, is_software: bool) -> Result<(), &'static str> {
    match (class, is_software) {
        (Class::Rehearsal, true) | (Class::Production, false) => Ok(()),
        (Class::Rehearsal, false) => Err("it is no token that is software: a rehearsal uses nothing else"),
        (Class::Production, true) if script.policy.software_tokens == Permission::Allowed => Ok(()),
        (Class::Production, true) => Err("it is software, which the script refuses in production"),
    }
}

/// The fact that says whether a token is software.
pub(crate) const SOFTWARE_FACT: &str = "software";
pub(crate) const SOFTWARE_YES: &str = "yes";
pub(crate) const SOFTWARE_NO: &str = "no";

/// As they say of themselves.
const SOFTWARE: [&str; 2] = ["softhsm", "kryoptic"];

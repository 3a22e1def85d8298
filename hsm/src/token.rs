//! Finding and initialising tokens.

use crate::{
    Error,
    pkcs11::{Module, Session, SessionKind, SlotId, TokenInfo, UserType},
};
use secrecy::SecretSlice;
use std::{fmt, sync::Arc, thread, time::Duration};

/// Which token a member is: slot ids change, so it is found by what it says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenSelector {
    /// `CK_TOKEN_INFO.label`, without padding.
    pub label: Option<String>,
    /// `CK_TOKEN_INFO.serialNumber`, without padding.
    pub serial_number: Option<String>,
}

/// Finds the one token that matches. An empty slot list is asked for again for a moment: a token that another process
/// logs in to can be invisible while it is rewritten.
///
/// # Errors
///
/// [`Error::TokenAbsent`] when none matches, [`Error::TokenSelection`] when several do.
pub fn find_token(module: &Module, selector: &TokenSelector) -> Result<(SlotId, TokenInfo), Error> {
    let matches = |info: &TokenInfo| {
        selector.label.as_ref().is_none_or(|label| *label == info.label)
            && selector
                .serial_number
                .as_ref()
                .is_none_or(|serial| *serial == info.serial_number)
    };
    let mut seen = Vec::new();
    let mut unread = None;
    for attempt in 0..TOKEN_SEARCHES {
        if attempt > 0 {
            thread::sleep(TOKEN_SEARCH_PAUSE);
        }
        seen.clear();
        unread = None;
        let mut found = Vec::new();
        for slot in module.slots_with_token()? {
            let info = match module.token_info(slot) {
                Ok(info) => info,
                // Somebody else's broken token, unless nothing is found.
                Err(error) => {
                    unread = Some(error);
                    continue;
                }
            };
            if info.initialised && matches(&info) {
                found.push((slot, info));
            } else if info.initialised {
                seen.push(format!("\"{}\" (serial {})", info.label, info.serial_number));
            }
        }
        match found.len() {
            0 => {}
            1 => return Ok(found.remove(0)),
            several => {
                return Err(Error::TokenSelection(format!(
                    "{several} tokens match {selector}: name the serial number of the one that is meant"
                )));
            }
        }
    }
    // It may be the one that is meant, and come back.
    if let Some(error) = unread {
        return Err(error.into());
    }
    let seen = if seen.is_empty() {
        "no initialised token".to_owned()
    } else {
        seen.join(", ")
    };
    Err(Error::TokenAbsent(format!(
        "no token matches {selector}; the module shows {seen}"
    )))
}

/// Initialises the first uninitialised token of the module: label, security officer's PIN, user's PIN.
///
/// # Errors
///
/// [`Error::TokenSelection`] when there is no uninitialised token: nothing is ever overwritten.
pub fn initialise_token(
    module: &Arc<Module>,
    label: &str,
    so_pin: &SecretSlice<u8>,
    user_pin: &SecretSlice<u8>,
) -> Result<TokenInfo, Error> {
    let mut free = None;
    for slot in module.slots_with_token()? {
        let info = module.token_info(slot)?;
        if !info.initialised {
            free = Some(slot);
        } else if info.label == label {
            return Err(Error::TokenSelection(format!(
                "a token with the label \"{label}\" exists already (serial {}); nothing was changed",
                info.serial_number
            )));
        }
    }
    let slot = free.ok_or_else(|| Error::TokenSelection("the module shows no uninitialised token".to_owned()))?;
    module.init_token(slot, so_pin, label)?;
    // The slot may have another number now.
    let (slot, _) = find_token(
        module,
        &TokenSelector {
            label: Some(label.to_owned()),
            serial_number: None,
        },
    )?;
    let mut session = Session::open(module, slot, SessionKind::ReadWrite)?;
    session.login(UserType::SecurityOfficer, so_pin)?;
    session.init_pin(user_pin)?;
    session.logout()?;
    Ok(module.token_info(slot)?)
}

/// Changes a token's user PIN (`C_SetPIN`). The old one is tried once.
pub fn change_user_pin(
    module: &Arc<Module>,
    selector: &TokenSelector,
    old: &SecretSlice<u8>,
    new: &SecretSlice<u8>,
) -> Result<TokenInfo, Error> {
    let (slot, info) = find_token(module, selector)?;
    let mut session = Session::open(module, slot, SessionKind::ReadWrite)?;
    session.set_pin(old, new)?;
    Ok(info)
}

impl fmt::Display for TokenSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.label, &self.serial_number) {
            (Some(label), Some(serial)) => write!(formatter, "the label \"{label}\" and the serial number {serial}"),
            (Some(label), None) => write!(formatter, "the label \"{label}\""),
            (None, Some(serial)) => write!(formatter, "the serial number {serial}"),
            (None, None) => write!(formatter, "anything"),
        }
    }
}

const TOKEN_SEARCHES: u32 = 5;
const TOKEN_SEARCH_PAUSE: Duration = Duration::from_millis(100);

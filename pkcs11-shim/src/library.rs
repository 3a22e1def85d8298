//! The module's state in a process, from `C_Initialize` to `C_Finalize`, and what a forked child has of it.

use crate::{
    abilities::Abilities,
    config::{Config, PinMode},
    error::{Error, Result},
    gateway::Pool,
    log::Level,
    mechanism::{MECHANISMS, Row},
    object::Object,
    session::{Session, Sessions},
    token::{Objects, Token, lock},
};
use arc_swap::ArcSwapOption;
use cryptoki_sys::*;
use portcullis_proto::v1;
use std::{
    mem,
    sync::{Arc, Mutex},
};

/// The module, initialised in this process.
pub(crate) struct Library {
    pid: u32,
    pub(crate) config: Config,
    pub(crate) pool: Pool,
    pub(crate) sessions: Mutex<Sessions>,
    pub(crate) objects: Mutex<Objects>,
    tokens: Mutex<Vec<Arc<Token>>>,
    /// As far as it was asked; `Some(None)` where the caller may not know.
    abilities: Mutex<Option<Option<Arc<Abilities>>>>,
}

/// No lock: a child may be forked while another thread looks here.
static CURRENT: ArcSwapOption<Library> = ArcSwapOption::const_empty();

/// `C_Initialize`: reads the configuration, and asks nobody anything. In a child of the process that had initialised it, begins
/// afresh.
pub(crate) fn initialize() -> Result<()> {
    let found = CURRENT.load_full();
    if found.as_ref().is_some_and(|library| library.pid == std::process::id()) {
        return Err(CKR_CRYPTOKI_ALREADY_INITIALIZED.into());
    }
    let config = Config::load().map_err(|error| Error::new(CKR_GENERAL_ERROR, error.to_string()))?;
    let new = Arc::new(Library::new(config));
    let before = CURRENT.compare_and_swap(&found, Some(new));
    match (found, before.as_ref()) {
        // Another thread did the same at the same time.
        (None, Some(_)) => Err(CKR_CRYPTOKI_ALREADY_INITIALIZED.into()),
        (Some(found), Some(before)) if !Arc::ptr_eq(&found, before) => Err(CKR_CRYPTOKI_ALREADY_INITIALIZED.into()),
        (Some(found), _) => {
            leave_to_the_parent(found);
            Ok(())
        }
        (None, None) => Ok(()),
    }
}

/// `C_Finalize`.
pub(crate) fn finalize() -> Result<()> {
    let found = CURRENT
        .swap(None)
        .ok_or_else(|| Error::from(CKR_CRYPTOKI_NOT_INITIALIZED))?;
    if found.pid != std::process::id() {
        leave_to_the_parent(found);
    }
    Ok(())
}

/// The module as it is in this process.
pub(crate) fn current() -> Result<Arc<Library>> {
    let found = CURRENT
        .load_full()
        .ok_or_else(|| Error::from(CKR_CRYPTOKI_NOT_INITIALIZED))?;
    if found.pid == std::process::id() {
        return Ok(found);
    }
    let inherited = Arc::new(found.inherited());
    let before = CURRENT.compare_and_swap(&found, Some(Arc::clone(&inherited)));
    match before.as_ref() {
        Some(before) if Arc::ptr_eq(before, &found) => {
            leave_to_the_parent(found);
            Ok(inherited)
        }
        // Another thread of the child was first.
        Some(_) => CURRENT.load_full().ok_or_else(|| CKR_CRYPTOKI_NOT_INITIALIZED.into()),
        None => Err(CKR_CRYPTOKI_NOT_INITIALIZED.into()),
    }
}

/// Forgets what is the parent's: its runtimes must not be dropped here, its locks may be held for ever, and its connections must
/// not be told anything.
fn leave_to_the_parent(library: Arc<Library>) {
    library.pool.close_inherited();
    mem::forget(library);
}

impl Library {
    fn new(config: Config) -> Self {
        let rings = config.rings.clone().unwrap_or_default();
        let tokens = (0..).zip(rings).map(|(slot, ring)| Arc::new(Token::new(slot, ring)));
        Self {
            pid: std::process::id(),
            pool: Pool::new(&config),
            sessions: Mutex::default(),
            objects: Mutex::default(),
            tokens: Mutex::new(tokens.collect()),
            abilities: Mutex::default(),
            config,
        }
    }

    /// What a forked child has: the same sessions, handles and logins, and no connection. What another thread of the parent was
    /// changing at that moment is as if it had not been there.
    fn inherited(&self) -> Self {
        let sessions = self.sessions.try_lock().map(|sessions| sessions.inherited());
        let tokens = self
            .tokens
            .try_lock()
            .map(|tokens| tokens.iter().map(|token| Arc::new(token.inherited())).collect());
        let fresh = Self::new(self.config.clone());
        Self {
            sessions: Mutex::new(sessions.unwrap_or_default()),
            objects: Mutex::new(
                self.objects
                    .try_lock()
                    .map(|objects| objects.clone())
                    .unwrap_or_default(),
            ),
            tokens: tokens.map_or(fresh.tokens, Mutex::new),
            ..fresh
        }
    }

    /// The slots. A ring that was seen once keeps its slot.
    pub(crate) fn tokens(&self) -> Result<Vec<Arc<Token>>> {
        if self.config.rings.is_none() {
            let mut rings = Vec::new();
            let mut page_token = String::new();
            loop {
                let page = self.pool.list_key_rings(v1::ListKeyRingsRequest {
                    page_size: 1000,
                    page_token,
                })?;
                rings.extend(
                    page.key_rings
                        .into_iter()
                        .filter_map(|ring| ring.name.strip_prefix("keyRings/").map(str::to_owned)),
                );
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            let mut tokens = lock(&self.tokens);
            for ring in rings {
                if !tokens.iter().any(|token| token.ring == ring) {
                    let slot = tokens.len() as CK_SLOT_ID;
                    tokens.push(Arc::new(Token::new(slot, ring)));
                }
            }
        }
        Ok(lock(&self.tokens).clone())
    }

    /// What the cluster can do, as it said when it was asked first. `None` while it cannot be asked, and where the caller may not
    /// know.
    pub(crate) fn abilities(&self) -> Option<Arc<Abilities>> {
        if let Some(known) = &*lock(&self.abilities) {
            return known.clone();
        }
        let abilities = match self.pool.list_mechanisms(v1::ListMechanismsRequest {}) {
            Ok(answer) => Some(Arc::new(Abilities::new(&answer))),
            Err(error) => {
                self.log("the list of mechanisms", &error);
                if error.code() != CKR_ACTION_PROHIBITED {
                    return None;
                }
                None
            }
        };
        *lock(&self.abilities) = Some(abilities.clone());
        abilities
    }

    /// The mechanisms that are listed: what is carried here and the cluster has; all that is carried while it cannot be asked.
    pub(crate) fn mechanisms(&self) -> Vec<Row> {
        self.abilities()
            .map_or_else(|| MECHANISMS.to_vec(), |abilities| abilities.rows())
    }

    /// A slot's token.
    pub(crate) fn token(&self, slot: CK_SLOT_ID) -> Result<Arc<Token>> {
        let find = || lock(&self.tokens).iter().find(|token| token.slot == slot).cloned();
        match find() {
            Some(token) => Ok(token),
            // A caller may know the number from an earlier process.
            None if self.config.rings.is_none() => {
                self.tokens()?;
                find().ok_or_else(|| CKR_SLOT_ID_INVALID.into())
            }
            None => Err(CKR_SLOT_ID_INVALID.into()),
        }
    }

    /// A session with its token.
    pub(crate) fn session(&self, handle: CK_SESSION_HANDLE) -> Result<(Session, Arc<Token>)> {
        let session = lock(&self.sessions).find(handle)?;
        let token = self.token(session.slot)?;
        Ok((session, token))
    }

    /// Whether private objects of a token are shown.
    pub(crate) fn shows_private(&self, token: &Token) -> bool {
        self.config.pin == PinMode::Ignored || token.is_logged_in()
    }

    /// An object that a session may see.
    pub(crate) fn object(&self, token: &Token, handle: CK_OBJECT_HANDLE) -> Result<Arc<Object>> {
        let object = lock(&self.objects).find(token.slot, handle)?;
        match object.is_private() && !self.shows_private(token) {
            true => Err(CKR_OBJECT_HANDLE_INVALID.into()),
            false => Ok(object),
        }
    }

    /// A key that a session uses.
    pub(crate) fn key(&self, token: &Token, handle: CK_OBJECT_HANDLE) -> Result<Arc<Object>> {
        self.object(token, handle).map_err(|error| match error.code() {
            CKR_OBJECT_HANDLE_INVALID => CKR_KEY_HANDLE_INVALID.into(),
            _ => error,
        })
    }

    /// Notes that a call failed.
    pub(crate) fn log(&self, function: &str, error: &Error) {
        let level = match error.code() {
            CKR_GENERAL_ERROR | CKR_DEVICE_ERROR => Level::Error,
            _ if error.detail().is_some() => Level::Warn,
            _ => Level::Debug,
        };
        self.config.log.write(level, &format!("{function}: {error}"));
    }
}

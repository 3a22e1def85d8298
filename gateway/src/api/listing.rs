//! Pages of lists (AIP-158): by name, so that they stay right while things are made and removed.
//!
//! A page token says where the next page starts. It is sealed: it tells nothing of what it names, and serves only the principal and the
//! list that it was made for. Its key is in the store, so that any gateway over the store reads it, also after a restart.

use super::{ApiError, call::Call};
use crate::keys::directory::Page;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac::{self, HMAC_SHA256},
    rand,
};

/// A page size within its limits: 100 when none is given, at most 1000 whatever is given.
pub(super) fn page_size(size: i32) -> Result<u32, ApiError> {
    match u32::try_from(size) {
        Ok(0) => Ok(100),
        Ok(size) => Ok(size.min(LARGEST_PAGE)),
        Err(_) => Err(ApiError::field(
            "page_size",
            format!("expected no negative number, found {size}"),
        )),
    }
}

/// The key from which those of lists are derived.
pub struct PageTokens(hmac::Key);

impl PageTokens {
    /// With the store's key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(HMAC_SHA256, key))
    }

    /// The key of one principal's tokens of one list: a token for one is none for another.
    fn key(&self, texts: [&str; 4]) -> LessSafeKey {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"portcullis page token v1\0");
        for text in texts {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        // Invariant: a SHA-256 digest is as long as a key of AES-256.
        let key = UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).expect("a digest of 32 bytes");
        LessSafeKey::new(key)
    }
}

impl std::fmt::Debug for PageTokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PageTokens")
    }
}

/// Which list a page is of.
pub(super) struct List(LessSafeKey);

impl List {
    /// A kind of list, what it is a list of, and what it leaves out.
    pub(super) fn of(call: &Call, kind: &str, parent: &str, filter: &str) -> Self {
        let tokens = &call.gateway().page_tokens;
        Self(tokens.key([kind, call.principal(), parent, filter]))
    }

    /// The token of the page that starts after an id. It has the same length for all usual ids.
    pub(super) fn token(&self, last: &[u8]) -> Result<String, ApiError> {
        let failed = |_| ApiError::new(super::Reason::Internal, "a page token could not be made");
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(failed)?;
        let mut sealed = last.to_vec();
        sealed.push(END);
        sealed.resize(sealed.len().next_multiple_of(PADDED), 0);
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
            .map_err(failed)?;
        Ok(hex::encode([&nonce[..], &sealed].concat()))
    }

    /// The token of the next page, if there is one.
    pub(super) fn next(&self, next: Option<Vec<u8>>) -> Result<String, ApiError> {
        next.map_or(Ok(String::new()), |last| self.token(&last))
    }

    /// Where a page starts; `None` for the first.
    pub(super) fn read_token(&self, token: &str) -> Result<Option<Vec<u8>>, ApiError> {
        if token.is_empty() {
            return Ok(None);
        }
        let unknown = || {
            let message = "it is not the next_page_token of such a list with this filter, for this caller";
            ApiError::field("page_token", message)
        };
        let bytes = hex::decode(token).map_err(|_| unknown())?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(unknown)?;
        let mut sealed = sealed.to_vec();
        let opened = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut sealed)
            .map_err(|_| unknown())?;
        let end = opened.iter().rposition(|byte| *byte == END).ok_or_else(unknown)?;
        Ok(Some(opened[..end].to_vec()))
    }
}

/// A page of what a caller may see of a list, as it is put together from pieces.
///
/// That something follows is said only when something was found that the caller may see, so that what is hidden does not show
/// as a page with nothing on it. Only where [`LOOKED_AT_FOR_A_PAGE`] were looked at in vain, a page may be short or empty, and goes on.
pub(super) struct Gathering<T> {
    /// The names of what is listed, up to the id.
    prefix: String,
    limit: usize,
    piece: u32,
    looked_at: u32,
    after: Option<Vec<u8>>,
    /// The last one that is on a full page.
    last: Vec<u8>,
    state: Gathered,
    shown: Vec<T>,
    unauthentic: Vec<String>,
}

enum Gathered {
    /// More has to be looked at.
    Going,
    /// Something follows after this id, or may follow.
    More(Vec<u8>),
    End,
}

impl<T> Gathering<T> {
    /// Begins after an id. `sees_most` says whether the caller probably sees most of what there is.
    pub(super) fn new(prefix: String, after: Option<Vec<u8>>, limit: u32, sees_most: bool) -> Self {
        Self {
            prefix,
            limit: limit as usize,
            piece: if sees_most { limit + 1 } else { LARGEST_PAGE },
            looked_at: 0,
            after,
            last: Vec::new(),
            state: Gathered::Going,
            shown: Vec::new(),
            unauthentic: Vec::new(),
        }
    }

    /// The next piece to look at: after which id, and how many; `None` when the page is put together.
    pub(super) fn wanted(&self) -> Option<(Option<&[u8]>, u32)> {
        match self.state {
            Gathered::Going => Some((self.after.as_deref(), self.piece)),
            _ => None,
        }
    }

    /// Takes a piece. `shows` says what the caller sees of an item, if anything.
    pub(super) fn take<R>(&mut self, piece: Page<R>, id: impl Fn(&R) -> &str, shows: impl Fn(&R) -> Option<T>) {
        self.looked_at += self.piece;
        self.piece = LARGEST_PAGE;
        self.unauthentic.extend(piece.unauthentic);
        for item in &piece.found {
            let Some(shown) = shows(item) else { continue };
            if self.shown.len() == self.limit {
                // It is on the next page, and so is what cannot be read from here on.
                let last = std::mem::take(&mut self.last);
                let name = format!("{}{}", self.prefix, String::from_utf8_lossy(&last));
                self.unauthentic.retain(|unauthentic| *unauthentic <= name);
                self.state = Gathered::More(last);
                return;
            }
            self.shown.push(shown);
            if self.shown.len() == self.limit {
                self.last = id(item).as_bytes().to_vec();
            }
        }
        self.state = match piece.next {
            None => Gathered::End,
            Some(next) if self.looked_at >= LOOKED_AT_FOR_A_PAGE => Gathered::More(next),
            Some(next) => {
                self.after = Some(next);
                return;
            }
        };
    }

    /// What is shown, what could not be read, and the id after which the next page starts.
    pub(super) fn end(self) -> (Vec<T>, Vec<String>, Option<Vec<u8>>) {
        let next = match self.state {
            Gathered::More(next) => Some(next),
            _ => None,
        };
        (self.shown, self.unauthentic, next)
    }
}

/// So many things are looked at for one page of a filtered list, so that a filter that fits nothing costs no more than a
/// page of a few thousand.
pub(super) const LOOKED_AT_FOR_A_PAGE: u32 = 5000;
pub(super) const LARGEST_PAGE: u32 = 1000;
/// What follows the id in a token, before the padding. No padding has it.
const END: u8 = 1;
/// Ids have at most 63 bytes, so that all tokens are of one length.
const PADDED: usize = 64;

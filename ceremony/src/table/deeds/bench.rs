//! The tokens of one step.

use super::{Detour, OrFail};
use crate::{
    clock::Clock,
    front::Front,
    name::Name,
    table::Table,
    token::{Token, is_software, permitted},
};
use portcullis_hsm::{
    Error,
    offline_token::OfflineToken,
    pkcs11::{Module, TokenInfo},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The modules that a step has loaded. With the step they are finalised, which closes every session and logs everybody out.
#[derive(Debug, Default)]
pub(super) struct Bench {
    modules: BTreeMap<PathBuf, Arc<Module>>,
}

impl Bench {
    /// The module at a path: loaded once in a step.
    pub(super) fn module(&mut self, path: &Path) -> Result<Arc<Module>, Error> {
        if let Some(module) = self.modules.get(path) {
            return Ok(Arc::clone(module));
        }
        let module = Arc::new(Module::load(path)?);
        self.modules.insert(path.to_owned(), Arc::clone(&module));
        Ok(module)
    }

    /// Opens a token. Nobody is logged in.
    pub(super) fn open(&mut self, token: &Token) -> Result<OfflineToken, Error> {
        OfflineToken::open(self.module(&token.module)?, &token.selector)
    }
}

impl<F: Front, C: Clock> Table<'_, F, C> {
    /// The token of a name, as the environment has it.
    pub(super) fn token(&self, name: &Name) -> Result<Token, Detour> {
        let token = self.environment.token(name).cloned();
        token.ok_or_else(|| Detour::Failed(format!("the environment has no token {name}")))
    }

    /// Opens a token, if it is one that this ceremony may touch.
    pub(super) fn open_token(&self, bench: &mut Bench, name: &Name) -> Result<OfflineToken, Detour> {
        let open = bench.open(&self.token(name)?).or_fail()?;
        self.may_touch(name, open.info())?;
        Ok(open)
    }

    /// A rehearsal touches nothing but software, and production no software unless the script says so.
    pub(super) fn may_touch(&self, name: &Name, info: &TokenInfo) -> Result<(), Detour> {
        permitted(self.environment.class, self.script, is_software(info))
            .map_err(|why| Detour::Failed(format!("{name}: {why}")))
    }
}

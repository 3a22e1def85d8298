//! What can go wrong.

use super::{kills, load::Patience, modules, operators, stage::Stage, tokens};
use crate::{cluster::TestCluster, faulty::FaultyModule};
use std::{pin::Pin, time::Duration};

/// Something that goes wrong, and is put right.
pub struct Scenario {
    /// By which it is asked for.
    pub name: &'static str,
    /// What happens, in words.
    pub what: &'static str,
    /// What callers do who are refused.
    pub patience: Patience,
    /// Whether member `b` is on the faulty module.
    pub(super) faulty: bool,
    /// Settings, and what is wrong from the beginning.
    pub(super) prepare: fn(&TestCluster, Option<&FaultyModule>),
    /// Makes the fault, waits for what must come of it, and undoes it.
    pub(super) play: Play,
}

pub(super) type Play = for<'s> fn(&'s mut Stage) -> Playing<'s>;
pub(super) type Playing<'s> = Pin<Box<dyn Future<Output = ()> + 's>>;

/// How much load there is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How many call at once.
    pub callers: usize,
    /// So many calls are made before the fault, and after it.
    pub calls: usize,
    /// How long a call may take; as long as the gateway gives it if it is not said.
    pub deadline: Option<Duration>,
}

impl Scenario {
    /// All of them.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        let lists: [&[Self]; 4] = [
            &kills::SCENARIOS,
            &tokens::SCENARIOS,
            &modules::SCENARIOS,
            &operators::SCENARIOS,
        ];
        lists.into_iter().flatten()
    }

    /// The scenario of a name.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn named(name: &str) -> &'static Self {
        let names: Vec<_> = Self::all().map(|scenario| scenario.name).collect();
        let found = Self::all().find(|scenario| scenario.name == name);
        found.unwrap_or_else(|| panic!("no scenario {name:?}; there are {names:?}"))
    }
}

/// As the cluster comes.
pub(super) fn as_it_comes(_: &TestCluster, _: Option<&FaultyModule>) {}

//! What the host must be.

use super::Progress;
use crate::environment::Class;
use std::collections::BTreeMap;

impl Progress<'_> {
    /// Whether the host is one that production may be held on: it forgets what it had in memory.
    pub fn host_suffices(&self, offline: bool, facts: &BTreeMap<String, String>) -> Result<(), String> {
        let is = |name: &str, expected: &str| facts.get(name).map(String::as_str) == Some(expected);
        if offline && !is("network", "down") {
            return Err(format!(
                "network interfaces are up: {}; expected none but loopback",
                facts.get("network").map_or("nothing is said", String::as_str)
            ));
        }
        if self.environment.class == Class::Rehearsal {
            return Ok(());
        }
        for (name, expected) in [("swap", "none"), ("hardening", "complete")] {
            if !is(name, expected) {
                return Err(format!(
                    "{name}: {}; expected {expected}, or secrets of this ceremony could stay on the host",
                    facts.get(name).map_or("nothing is said", String::as_str)
                ));
            }
        }
        Ok(())
    }
}

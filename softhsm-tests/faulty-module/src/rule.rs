//! What a rule says.

use crate::Function;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The content of the control file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// The path of the real module. Read once, when the module is loaded.
    pub module: String,
    /// In the order in which they are tried; of those that answer a call, the first does.
    #[serde(default)]
    pub rule: Vec<Rule>,
}

/// When something goes wrong, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its number, below [`LIMIT_OF_RULES`], under which it is counted. One number means one rule for the life of a counts file.
    pub number: usize,
    /// The functions that it is about; empty for all.
    #[serde(default)]
    pub functions: Vec<Function>,
    /// Only with this mechanism: that of the call, or of the operation that is active in its session.
    pub mechanism: Option<u64>,
    /// So many calls are spared first.
    #[serde(default)]
    pub skip: u64,
    /// Then every such call is struck: 1 is each, 3 the third, sixth, …
    #[serde(default = "one")]
    pub every: u64,
    /// At most so many times in all.
    pub limit: Option<u64>,
    /// By chance: so many of a million calls, as a seed decides.
    pub per_million: Option<u32>,
    /// For `per_million`.
    #[serde(default)]
    pub seed: u64,
    /// Until this time, in milliseconds since 1970.
    pub until_ms: Option<u64>,
    /// What happens.
    pub fault: Fault,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The call returns a code, and the real module does not see it. With 0 it is a lie that it was done.
    FailBefore {
        /// The `CKR_*`.
        code: u64,
    },
    /// The real module does it, and the caller gets a code instead of the answer.
    FailAfter {
        /// The `CKR_*`.
        code: u64,
    },
    /// The call takes longer.
    Delay {
        /// By so many milliseconds.
        milliseconds: u64,
    },
    /// The call does not come back while the rule is there, and is then done.
    Hang {},
    /// The process dies.
    Crash {
        /// How.
        how: Crash,
    },
    /// One bit of what `C_Sign`, `C_Encrypt`, `C_WrapKey` and the like put out is wrong.
    FlipBit {
        /// Where.
        place: Place,
    },
    /// `C_OpenSession` answers `CKR_SESSION_COUNT` while so many are open in the process.
    CapSessions {
        /// The most.
        most: u64,
        /// What `C_GetTokenInfo` says is the most: the truth, a lie, or (absent) what the real module says.
        told: Option<u64>,
    },
    /// What needs a login answers `CKR_USER_NOT_LOGGED_IN` from here to the next `C_Login`. Handles stay what they are.
    LoseLogin {},
    /// All sessions that are open now are closed, and their session objects with them.
    LoseSessions {
        /// Whether the login goes with them, as it does with the last session of a token.
        login_too: bool,
    },
    /// All object handles given out until now mean nothing any more.
    LoseHandles {},
    /// Each object handle given out until now means another object of the same class and key type, where there is one.
    SwapHandles {
        /// Only objects of this class (`CKO_*`).
        class: Option<u64>,
    },
}

/// How a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crash {
    /// By `SIGABRT`.
    Abort,
    /// By `SIGSEGV`.
    Segfault,
    /// By `_exit(0)`, as if all were well.
    Exit,
}

/// Where in a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the first byte: an AES-GCM ciphertext.
    First,
    /// In the last byte: an AES-GCM tag.
    Last,
}

/// Numbers of rules are below this.
pub const LIMIT_OF_RULES: usize = 256;

impl Rule {
    /// Strikes every call of these functions, or of all if none is named. The number is given when it is placed.
    pub fn on(functions: impl IntoIterator<Item = Function>, fault: Fault) -> Self {
        Self {
            number: 0,
            functions: functions.into_iter().collect(),
            mechanism: None,
            skip: 0,
            every: 1,
            limit: None,
            per_million: None,
            seed: 0,
            until_ms: None,
            fault,
        }
    }

    /// The functions return a code, and nothing was done.
    pub fn fail_before(functions: impl IntoIterator<Item = Function>, code: u64) -> Self {
        Self::on(functions, Fault::FailBefore { code })
    }

    /// The functions return a code although the real module did it: the reply is lost.
    pub fn fail_after(functions: impl IntoIterator<Item = Function>, code: u64) -> Self {
        Self::on(functions, Fault::FailAfter { code })
    }

    /// The functions take longer.
    pub fn delay(functions: impl IntoIterator<Item = Function>, by: Duration) -> Self {
        let milliseconds = milliseconds(by);
        Self::on(functions, Fault::Delay { milliseconds })
    }

    /// The functions do not come back until the rule is removed.
    pub fn hang(functions: impl IntoIterator<Item = Function>) -> Self {
        Self::on(functions, Fault::Hang {})
    }

    /// The functions kill the process.
    pub fn crash(functions: impl IntoIterator<Item = Function>, how: Crash) -> Self {
        Self::on(functions, Fault::Crash { how })
    }

    /// The functions put out a wrong bit.
    pub fn flip_bit(functions: impl IntoIterator<Item = Function>, place: Place) -> Self {
        Self::on(functions, Fault::FlipBit { place })
    }

    /// At most so many sessions; `told` is what the token says of that.
    pub fn cap_sessions(most: u64, told: Option<u64>) -> Self {
        Self::on(
            [Function::C_OpenSession, Function::C_GetTokenInfo],
            Fault::CapSessions { most, told },
        )
    }

    /// The login is lost, once, with the next call of one of the functions.
    pub fn lose_login(functions: impl IntoIterator<Item = Function>) -> Self {
        Self::on(functions, Fault::LoseLogin {}).first(1)
    }

    /// The sessions are lost, once, with the next call of one of the functions; the login stays.
    pub fn lose_sessions(functions: impl IntoIterator<Item = Function>) -> Self {
        Self::on(functions, Fault::LoseSessions { login_too: false }).first(1)
    }

    /// The sessions and the login are lost, once, with the next call of one of the functions.
    pub fn lose_sessions_and_login(functions: impl IntoIterator<Item = Function>) -> Self {
        Self::on(functions, Fault::LoseSessions { login_too: true }).first(1)
    }

    /// The object handles are lost, once, with the next call of one of the functions.
    pub fn lose_handles(functions: impl IntoIterator<Item = Function>) -> Self {
        Self::on(functions, Fault::LoseHandles {}).first(1)
    }

    /// The object handles of a class are exchanged, once, with the next call of one of the functions.
    pub fn swap_handles(functions: impl IntoIterator<Item = Function>, class: Option<u64>) -> Self {
        Self::on(functions, Fault::SwapHandles { class }).first(1)
    }

    /// The token is not there.
    pub fn absent_token() -> Self {
        Self::fail_before([Function::C_GetTokenInfo], cryptoki_sys::CKR_TOKEN_NOT_PRESENT)
    }

    /// Only with a mechanism (`CKM_*`).
    #[must_use]
    pub fn with_mechanism(mut self, mechanism: u64) -> Self {
        self.mechanism = Some(mechanism);
        self
    }

    /// Spares the first calls.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Strikes every n-th call.
    ///
    /// # Panics
    ///
    /// When `n` is 0.
    #[must_use]
    pub fn every(mut self, n: u64) -> Self {
        assert!(n > 0, "every 0th call is none");
        self.every = n;
        self
    }

    /// Strikes so many times at most.
    #[must_use]
    pub fn first(mut self, times: u64) -> Self {
        self.limit = Some(times);
        self
    }

    /// Strikes by chance, which a seed decides.
    #[must_use]
    pub fn with_chance(mut self, per_million: u32, seed: u64) -> Self {
        self.per_million = Some(per_million);
        self.seed = seed;
        self
    }

    /// Ends after a time.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.until_ms = Some(now_ms() + milliseconds(time));
        self
    }

    /// Whether the rule is about such a call at all.
    pub(crate) fn is_about(&self, function: Function, mechanism: Option<u64>) -> bool {
        (self.functions.is_empty() || self.functions.contains(&function))
            && self.mechanism.is_none_or(|wanted| mechanism == Some(wanted))
            && self.is_current()
    }

    /// Whether its time has not come to an end.
    pub(crate) fn is_current(&self) -> bool {
        self.until_ms.is_none_or(|until| now_ms() < until)
    }

    /// Whether it strikes a call, of which it has seen so many before, but for its limit.
    pub(crate) fn chooses(&self, seen: u64) -> bool {
        let Some(after) = seen.checked_sub(self.skip) else {
            return false;
        };
        (after + 1).is_multiple_of(self.every.max(1))
            && self
                .per_million
                .is_none_or(|chance| scattered(self.seed, seen) % 1_000_000 < u64::from(chance))
    }
}

/// SplitMix64: one number out of two, evenly.
fn scattered(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn now_ms() -> u64 {
    milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn one() -> u64 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rule: &Rule, calls: u64) -> Vec<u64> {
        (0..calls).filter(|seen| rule.chooses(*seen)).collect()
    }

    #[test]
    fn a_rule_chooses_its_calls_by_their_number() {
        let rule = Rule::hang([Function::C_Sign]);
        assert_eq!(chosen(&rule, 3), [0, 1, 2]);
        assert_eq!(chosen(&rule.clone().every(3), 9), [2, 5, 8]);
        assert_eq!(chosen(&rule.clone().after(2), 4), [2, 3]);
        assert_eq!(chosen(&rule.after(1).every(2), 6), [2, 4]);
    }

    #[test]
    fn chance_is_decided_by_the_seed_and_keeps_its_share() {
        let rule = Rule::hang([]).with_chance(100_000, 7);
        let some = chosen(&rule, 10_000);
        assert!((900..1100).contains(&some.len()), "{}", some.len());
        assert_eq!(some, chosen(&rule, 10_000));
        assert_ne!(some, chosen(&rule.with_chance(100_000, 8), 10_000));
    }

    #[test]
    fn a_rule_is_about_its_functions_and_its_mechanism_for_its_time() {
        let rule = Rule::hang([Function::C_Sign]).with_mechanism(1);
        assert!(rule.is_about(Function::C_Sign, Some(1)));
        assert!(!rule.is_about(Function::C_Sign, Some(2)));
        assert!(!rule.is_about(Function::C_Sign, None));
        assert!(!rule.is_about(Function::C_Login, Some(1)));
        assert!(Rule::hang([]).is_about(Function::C_Login, None));
        let over = Rule::hang([]).lasting(Duration::ZERO);
        assert!(!over.is_about(Function::C_Login, None));
        assert!(
            Rule::hang([])
                .lasting(Duration::from_secs(60))
                .is_about(Function::C_Login, None)
        );
    }

    #[test]
    fn every_fault_is_read_as_it_was_written() {
        let faults = [
            Fault::FailBefore { code: 0x8000_0001 },
            Fault::FailAfter { code: 5 },
            Fault::Delay { milliseconds: 3 },
            Fault::Hang {},
            Fault::Crash { how: Crash::Segfault },
            Fault::FlipBit { place: Place::Last },
            Fault::CapSessions { most: 3, told: Some(7) },
            Fault::LoseLogin {},
            Fault::LoseSessions { login_too: true },
            Fault::LoseHandles {},
            Fault::SwapHandles { class: Some(3) },
            Fault::SwapHandles { class: None },
        ];
        let control = Control {
            module: "/module.so".to_owned(),
            rule: faults
                .into_iter()
                .map(|fault| Rule::on([Function::C_Sign, Function::C_Login], fault).first(2))
                .collect(),
        };
        let text = toml::to_string(&control).expect("TOML");
        assert_eq!(toml::from_str::<Control>(&text).expect("the same"), control, "{text}");
    }
}

//! Schedules that broke a rule once, cut down, each by the name of what it showed.

use crate::schedule::{
    Call,
    End::{Busy, DiesAfter, Done, FailsBefore, Hangs, Lasting, Lies, Refused},
    Health::Faulty,
    Plan, Schedule,
    Start::OtherDomain,
    Step::{self, Ail, Ask, Begin, Configure, Die, Drain, Pass, Remove, Resume, Roll, Starve, Stop},
    What::{Create, CreateResident, RareUse, Use},
};
use std::time::Instant;

/// Fails if a schedule breaks a rule.
fn live_through(seed: u64, members: &[Plan], steps: &[Step]) {
    let schedule = Schedule {
        seed,
        members: members.to_vec(),
        steps: steps.to_vec(),
    };
    if let Err(broken) = crate::shrink::outcome(&schedule, Instant::now()) {
        panic!("{broken}");
    }
}

#[test]
fn what_can_begin_at_once_is_not_refused_for_what_a_less_loaded_worker_has_waiting() {
    live_through(
        1574,
        &[Plan {
            workers: 1,
            queue: 20,
            threads: 1,
            rich: true,
        }],
        &[
            Pass(63),
            Ask(
                1,
                Call {
                    what: Use,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Done, Done, Done, Done],
                },
            ),
            Starve(32),
            Configure(
                6,
                Plan {
                    workers: 3,
                    queue: 20,
                    threads: 2,
                    rich: true,
                },
            ),
            Pass(60),
            Ask(
                3,
                Call {
                    what: RareUse,
                    key: 0,
                    principal: 0,
                    patience: 20,
                    ends: [Done, Done, Done, Done],
                },
            ),
        ],
    );
}

#[test]
fn a_removed_member_that_shows_another_domain_stays_removed() {
    live_through(
        728,
        &[Plan {
            workers: 1,
            queue: 20,
            threads: 1,
            rich: true,
        }],
        &[Remove(7), Begin(8, OtherDomain), Pass(63)],
    );
}

/// And nobody is killed for it as it logs in.
#[test]
fn a_lie_of_a_life_before_the_resumption_does_not_fence_again() {
    live_through(
        2585,
        &[
            Plan {
                workers: 1,
                queue: 20,
                threads: 1,
                rich: true,
            },
            Plan {
                workers: 2,
                queue: 20,
                threads: 1,
                rich: true,
            },
            Plan {
                workers: 1,
                queue: 20,
                threads: 1,
                rich: true,
            },
        ],
        &[
            Pass(26559),
            Ask(
                1,
                Call {
                    what: CreateResident,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Done, Done, Done, Done],
                },
            ),
            Ask(
                3,
                Call {
                    what: Use,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Done, Done, Done, Done],
                },
            ),
            Ask(
                1,
                Call {
                    what: Use,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Busy, Busy, Refused, Done],
                },
            ),
            Pass(14058),
            Ask(
                6,
                Call {
                    what: Use,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Lies, Done, Done, Done],
                },
            ),
            Pass(4),
            Resume(4),
        ],
    );
}

#[test]
fn no_other_worker_logs_in_where_a_token_needs_a_person() {
    live_through(
        9,
        &[
            Plan {
                workers: 1,
                queue: 20,
                threads: 1,
                rich: true,
            },
            Plan {
                workers: 3,
                queue: 20,
                threads: 1,
                rich: true,
            },
            Plan {
                workers: 1,
                queue: 20,
                threads: 1,
                rich: true,
            },
        ],
        &[
            Pass(36),
            Pass(27),
            Ask(
                1,
                Call {
                    what: CreateResident,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [DiesAfter, Done, Done, Done],
                },
            ),
            Pass(81),
            Ask(
                1,
                Call {
                    what: Use,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Lies, Hangs, Done, Done],
                },
            ),
            Ask(
                1,
                Call {
                    what: RareUse,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Lasting, Done, Done, Done],
                },
            ),
        ],
    );
}

#[test]
fn the_end_of_an_attempt_after_the_stop_starts_nothing() {
    live_through(
        23591,
        &[
            Plan {
                workers: 1,
                queue: 20,
                threads: 1,
                rich: true,
            },
            Plan {
                workers: 1,
                queue: 20,
                threads: 1,
                rich: true,
            },
            Plan {
                workers: 3,
                queue: 20,
                threads: 1,
                rich: true,
            },
        ],
        &[
            Drain(0),
            Pass(117),
            Ask(
                1,
                Call {
                    what: CreateResident,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [DiesAfter, FailsBefore, Hangs, Done],
                },
            ),
            Pass(198),
            Configure(
                8,
                Plan {
                    workers: 1,
                    queue: 20,
                    threads: 1,
                    rich: true,
                },
            ),
            Stop,
        ],
    );
}

/// It had the core asked again at once, over and over.
#[test]
fn an_open_breaker_waits_for_a_probe_that_is_under_way() {
    live_through(
        8,
        &[
            Plan {
                workers: 1,
                queue: 20,
                threads: 3,
                rich: true,
            },
            Plan {
                workers: 3,
                queue: 20,
                threads: 2,
                rich: true,
            },
            Plan {
                workers: 2,
                queue: 2,
                threads: 1,
                rich: true,
            },
        ],
        &[
            Pass(198),
            Ail(10, Faulty),
            Ask(
                12,
                Call {
                    what: Use,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Hangs, Done, Done, Done],
                },
            ),
        ],
    );
}

/// Not those that are down.
#[test]
fn fewer_workers_are_those_that_serve() {
    live_through(
        173,
        &[
            Plan {
                workers: 3,
                queue: 20,
                threads: 1,
                rich: true,
            },
            Plan {
                workers: 1,
                queue: 20,
                threads: 1,
                rich: true,
            },
            Plan {
                workers: 1,
                queue: 20,
                threads: 1,
                rich: true,
            },
        ],
        &[
            Pass(36),
            Pass(54),
            Die(9, 10),
            Pass(36),
            Ask(
                4,
                Call {
                    what: Use,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Done, Done, Done, Done],
                },
            ),
            Configure(
                0,
                Plan {
                    workers: 1,
                    queue: 20,
                    threads: 1,
                    rich: true,
                },
            ),
        ],
    );
}

/// The core looked at one more than were left.
#[test]
fn a_worker_ends_for_good_while_all_are_looked_at() {
    live_through(
        13,
        &[Plan {
            workers: 1,
            queue: 20,
            threads: 1,
            rich: true,
        }],
        &[
            Pass(63),
            Ask(
                1,
                Call {
                    what: Use,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Hangs, Done, Done, Done],
                },
            ),
            Roll(5),
        ],
    );
}

#[test]
fn the_breaker_that_a_resumption_closes_is_told() {
    live_through(
        130,
        &[
            Plan {
                workers: 1,
                queue: 20,
                threads: 1,
                rich: true,
            },
            Plan {
                workers: 1,
                queue: 20,
                threads: 1,
                rich: true,
            },
            Plan {
                workers: 3,
                queue: 20,
                threads: 1,
                rich: true,
            },
        ],
        &[
            Ail(8, Faulty),
            Pass(198),
            Ask(
                6,
                Call {
                    what: Use,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Done, Done, Done, Done],
                },
            ),
            Ask(
                3,
                Call {
                    what: Create,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Done, Done, Done, Done],
                },
            ),
        ],
    );
}

/// Not the first alone, and also where the worker was being replaced.
#[test]
fn all_that_hung_at_a_worker_counts_as_hung() {
    live_through(
        6358,
        &[
            Plan {
                workers: 1,
                queue: 20,
                threads: 1,
                rich: true,
            },
            Plan {
                workers: 3,
                queue: 20,
                threads: 2,
                rich: true,
            },
            Plan {
                workers: 1,
                queue: 1,
                threads: 1,
                rich: true,
            },
        ],
        &[
            Pass(8586),
            Ask(
                1,
                Call {
                    what: RareUse,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Busy, Done, Done, Done],
                },
            ),
            Ask(
                1,
                Call {
                    what: CreateResident,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Done, Done, Done, Done],
                },
            ),
            Pass(6),
            Ask(
                6,
                Call {
                    what: Use,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Hangs, FailsBefore, Hangs, Done],
                },
            ),
        ],
    );
}

#[test]
fn a_lie_after_the_stop_is_not_released_with_what_else_that_member_said() {
    live_through(
        2102,
        &[Plan {
            workers: 1,
            queue: 20,
            threads: 1,
            rich: true,
        }],
        &[
            Pass(63),
            Ask(
                1,
                Call {
                    what: Create,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Done, Done, Done, Done],
                },
            ),
            Ask(
                1,
                Call {
                    what: Use,
                    key: 0,
                    principal: 0,
                    patience: 20000,
                    ends: [Lies, Done, Done, Done],
                },
            ),
            Stop,
        ],
    );
}

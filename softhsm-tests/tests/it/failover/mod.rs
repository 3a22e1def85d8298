//! Members fail in every way, and nobody notices: the scenarios of the drill at a size for everyday, each to its end.
//!
//! Callers are told of no failure, and every result is right. Where nobody can serve, or no gateway is there, callers ask again
//! when they are told to, and then the same holds.

mod burst;
mod pressure;

use portcullis_softhsm_tests::{
    LONG,
    drill::{Scenario, Size, Stage},
};

const SIZE: Size = Size {
    callers: 24,
    calls: 150,
    // On a machine that does much else at once, what is slow is not what is lost.
    deadline: Some(LONG),
};

async fn nobody_notices(scenario: &str) {
    Stage::play(Scenario::named(scenario), SIZE).await.expect_clean();
}

macro_rules! scenarios {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                nobody_notices($name).await;
            }
        )*

        #[test]
        fn every_scenario_is_played() {
            let played = [$($name),*];
            for scenario in Scenario::all() {
                assert!(played.contains(&scenario.name), "{} is not played", scenario.name);
            }
        }
    };
}

scenarios! {
    a_worker_that_is_killed_is_started_again: "killed",
    a_worker_that_stands_still_is_replaced: "stopped",
    a_worker_that_stood_still_for_a_while_goes_on_or_is_replaced: "continued",
    a_worker_without_file_descriptors_is_replaced: "descriptors",
    a_member_serves_on_while_one_of_its_workers_is_dead: "two-workers",
    when_all_members_come_back_every_caller_is_served: "all-down",
    a_gateway_that_is_stopped_and_started_loses_no_call_and_no_key: "gateway-stopped",
    a_gateway_that_is_killed_and_started_loses_no_call_and_no_key: "gateway-killed",
    a_token_directory_that_comes_back_ends_with_a_new_worker: "token-removed",
    a_lost_token_stops_its_member_which_says_what_to_do: "token-lost",
    a_member_that_is_short_of_something_keeps_its_place: "busy",
    what_a_token_loses_costs_no_call: "losses",
    a_member_that_fails_at_everything_is_given_a_new_worker: "failing",
    a_member_that_needs_a_person_waits_for_one: "fatal",
    a_call_that_hangs_costs_its_worker_alone: "hang",
    a_generation_that_hangs_costs_its_worker_alone: "generation-hang",
    a_slow_member_is_given_less: "slow",
    a_member_that_lies_is_fenced_before_its_first_signature_leaves: "lies",
    a_member_that_begins_to_lie_is_fenced_where_all_is_verified: "later-lies",
    a_member_is_drained_and_resumed: "drain",
    all_workers_are_replaced: "roll",
    a_member_is_changed_removed_and_added: "reload",
}

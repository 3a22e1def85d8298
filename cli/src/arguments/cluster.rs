//! `portcullis cluster`.

use super::value::timeout;
use clap::Subcommand;
use std::time::Duration;

#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the state of each member
    Status {
        /// Go on, and show it again whenever it changed, until interrupted
        #[arg(long)]
        watch: bool,
        /// How often to look, with --watch
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = timeout, requires = "watch")]
        interval: Duration,
    },
    /// Give a member nothing more to do, and wait until its workers have ended
    ///
    /// When --timeout is over the member stays without new work; the same command waits on.
    Drain {
        /// The member's name, as `cluster status` shows it
        member: String,
        /// Drain it although no other member serves: nothing will
        #[arg(long)]
        allow_last: bool,
    },
    /// Take a member that was drained, stopped or fenced into service again, after the checks of a start
    Resume {
        /// The member's name, as `cluster status` shows it
        member: String,
    },
    /// Replace all workers, each when another serves in its place, so that no call fails
    Roll {
        /// Only those of these members, in this order
        #[arg(value_name = "MEMBER")]
        members: Vec<String>,
    },
}

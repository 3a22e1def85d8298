//! The commands: each makes its calls and shows what came of them.

pub(crate) mod bench;
mod cipher;
mod cluster;
mod key;
mod random;
mod reencrypt;
mod ring;
mod signature;

use crate::{
    arguments::{Arguments, Command},
    connection::connect,
    console::Console,
    failure::{Exit, Failure},
};

/// Runs the command of a command line.
pub(crate) async fn run(arguments: Arguments, console: Console) -> Result<Exit, Failure> {
    let global = &arguments.global;
    match arguments.command {
        Command::Ring(command) => ring::run(&connect(global).await?, console, command).await,
        Command::Key(command) => key::run(&connect(global).await?, console, command).await,
        Command::Sign(arguments) => signature::sign(&connect(global).await?, console, arguments).await,
        Command::Verify(arguments) => signature::verify(&connect(global).await?, console, arguments).await,
        Command::Encrypt(arguments) => cipher::encrypt(&connect(global).await?, console, arguments).await,
        Command::Decrypt(arguments) => cipher::decrypt(&connect(global).await?, console, arguments).await,
        Command::Reencrypt(arguments) => reencrypt::run(&connect(global).await?, console, arguments).await,
        Command::Random(arguments) => random::run(&connect(global).await?, console, arguments).await,
        Command::Bench(arguments) => bench::run(global, console, *arguments).await,
        Command::BenchHelper(helper) => bench::help(helper),
        Command::Cluster(command) => cluster::run(&connect(global).await?, console, command).await,
    }
}

//! The commands: each makes its calls and shows what came of them.
//!
//! What several have: `change` for what is changed, `listing` for lists, `delivery` for bytes that are asked for.

mod alias;
pub(crate) mod bench;
mod change;
mod cipher;
mod cluster;
mod context;
mod delivery;
mod ephemeral;
mod import_job;
mod key;
mod listing;
mod mac;
mod object;
mod on_host;
pub(crate) mod pkcs11;
mod program;
mod random;
mod recipient;
mod reencrypt;
mod ring;
mod signature;

use crate::{
    arguments::{Arguments, Command},
    connection::connect,
    console::Console,
    failure::{Exit, Failure},
};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Runs the command of a command line.
pub(crate) async fn run(arguments: Arguments, console: Console) -> Result<Exit, Failure> {
    let global = &arguments.global;
    match arguments.command {
        Command::Ring(command) => ring::run(&connect(global).await?, console, command).await,
        Command::Key(command) => key::run(&connect(global).await?, console, command).await,
        Command::Alias(command) => alias::run(&connect(global).await?, console, command).await,
        Command::Sign(arguments) => signature::sign(&connect(global).await?, console, arguments).await,
        Command::Verify(arguments) => signature::verify(&connect(global).await?, console, arguments).await,
        Command::Encrypt(arguments) => cipher::encrypt(&connect(global).await?, console, arguments).await,
        Command::Decrypt(arguments) => cipher::decrypt(&connect(global).await?, console, arguments).await,
        Command::Reencrypt(arguments) => reencrypt::run(&connect(global).await?, console, arguments).await,
        Command::Mac(command) => mac::run(&connect(global).await?, console, command).await,
        Command::Random(arguments) => random::run(&connect(global).await?, console, arguments).await,
        Command::Bench(arguments) => bench::run(global, console, *arguments).await,
        Command::BenchHelper(helper) => bench::help(helper),
        Command::Object(command) => object::run(&connect(global).await?, console, command).await,
        Command::Ephemeral(command) => ephemeral::run(&connect(global).await?, console, command).await,
        Command::ImportJob(command) => import_job::run(&connect(global).await?, console, command).await,
        Command::Recipient(command) => recipient::run(&connect(global).await?, console, command).await,
        Command::Cluster(command) => cluster::run(&connect(global).await?, console, command).await,
        Command::Pkcs11(command) => pkcs11::run(console, command),
        Command::Context(command) => context::run(global, console, command),
        Command::Policy(handed) => on_host::hand_on(console, "policy", &handed.arguments),
        Command::Backup(handed) => on_host::hand_on(console, "backup", &handed.arguments),
        Command::Audit(handed) => on_host::hand_on(console, "audit", &handed.arguments),
        Command::Completion(arguments) => program::completion(&arguments),
        Command::Man(arguments) => program::man(console, &arguments),
    }
}

/// DER in a textual encoding (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so every place is between characters.
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_has_lines_of_64_characters() {
        assert_eq!(
            pem("TEST", &[0; 49]),
            format!("-----BEGIN TEST-----\n{}\nAA==\n-----END TEST-----\n", "A".repeat(64))
        );
    }
}

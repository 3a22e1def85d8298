//! `portcullisd`: the Portcullis gateway.

#![forbid(unsafe_code)]

mod commands;

use clap::{Parser, Subcommand};
use commands::{
    ConfigFile, audit, backup, config, console, dev, environment, member, policy, principal, serve, worker,
};
use mimalloc::MiMalloc;
use std::process::ExitCode;
use zeroizing_alloc::ZeroAlloc;

/// Whatever is freed is wiped, also by code that knows nothing of secrets: plaintexts pass through the buffers of HTTP/2, TLS and
/// protobuf. So a secret is in the memory of the gateway or a worker only while something still holds it.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

/// A signing and encryption gateway in front of a cluster of PKCS#11 HSMs.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM or SIGINT; prints one line beginning with `ready` when it does.
    Serve(ConfigFile),
    /// Looks at a configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Looks at who may do what.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Looks at an audit log.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Makes, checks and restores backups.
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Works on one HSM member.
    #[command(subcommand)]
    Member(member::MemberCommand),
    /// Prints who the holder of a client certificate is, as policies and the audit log name it.
    Principal(principal::PrincipalArguments),
    /// Makes a development cluster of three SoftHSM2 members, if there is none yet, and serves it.
    Dev(dev::DevArguments),
    /// The process in which a member's PKCS#11 module runs. Started by the gateway, not by people.
    #[command(hide = true)]
    HsmWorker(worker::WorkerArguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::HsmWorker(arguments) => worker::run(&arguments).map(done),
        Command::Serve(file) => environment::without_telemetry_variables()
            .and_then(|()| serve::run(&file))
            .map(done),
        Command::Config(command) => config::run(&command).map(done),
        Command::Audit(command) => audit::run(&command),
        Command::Backup(command) => backup::run(&command),
        Command::Member(command) => member::run(&command).map(done),
        Command::Principal(arguments) => principal::run(&arguments).map(done),
        Command::Policy(command) => policy::run(command).map(done),
        Command::Dev(arguments) => environment::without_telemetry_variables()
            .and_then(|()| dev::run(arguments))
            .map(done),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            console::say(
                &mut std::io::stderr(),
                &format!("portcullisd: {}", console::told_once(&error)),
            );
            ExitCode::FAILURE
        }
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

//! `portcullisd member`: works on one HSM member, with or without a running gateway.

use super::{console::say, runtime};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use portcullis_gateway::{
    config::{MemberSettings, Settings},
    pin::{Pin, PinSource, change},
};
use portcullis_hsm::worker::hardening;
use std::{
    io::{stderr, stdout},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Changes the user PIN of a member's token. The old PIN is read where the configuration says; the new one from a file or from
    /// the terminal.
    ChangePin(ChangePinArguments),
}

/// Whose PIN is changed to what.
#[derive(Debug, Args)]
pub(crate) struct ChangePinArguments {
    /// The configuration that names the member.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The member.
    #[arg(long, value_name = "NAME")]
    member: String,
    /// A file whose first line is the new PIN; only its owner may read it. Asked for at the terminal if it is not given.
    #[arg(long, value_name = "FILE")]
    new_pin_file: Option<PathBuf>,
}

/// Runs one of them.
pub(crate) fn run(command: &MemberCommand) -> Result<()> {
    match command {
        MemberCommand::ChangePin(arguments) => change_pin(arguments),
    }
}

fn change_pin(arguments: &ChangePinArguments) -> Result<()> {
    for missing in hardening::harden() {
        say(
            &mut stderr(),
            &format!("warning: this process lacks a protection: {missing}"),
        );
    }
    let settings = Settings::load(&arguments.config)?;
    let Some(member) = settings.members.iter().find(|member| member.name == arguments.member) else {
        let names: Vec<_> = settings.members.iter().map(|member| member.name.as_str()).collect();
        bail!(
            "{} names no member \"{}\"; expected one of {}",
            arguments.config.display(),
            arguments.member,
            names.join(", ")
        );
    };
    let new = new_pin(arguments.new_pin_file.as_deref())?;
    let token = runtime()?.block_on(async {
        let old = member.pin.read().await?;
        if old.expose() == new.expose() {
            bail!("the new PIN is the old one; nothing was changed");
        }
        Ok(change::change(member, &old, &new).await?)
    })?;
    say(
        &mut stdout(),
        &format!(
            "the user PIN of member {} (token {}, serial {}) is changed\n{}",
            member.name,
            token.label,
            token.serial_number,
            next_steps(member)
        ),
    );
    Ok(())
}

fn new_pin(file: Option<&Path>) -> Result<Pin> {
    if let Some(path) = file {
        return change::new_pin_in(path).map_err(anyhow::Error::msg);
    }
    let ask = |words: &str| {
        let typed = rpassword::prompt_password(words);
        let typed = typed.context("there is no terminal to ask for the new PIN: name a file with --new-pin-file")?;
        Ok::<_, anyhow::Error>(Zeroizing::new(typed))
    };
    let (first, second) = (ask("new user PIN: ")?, ask("once more: ")?);
    if first != second {
        bail!("the two PINs differ; nothing was changed");
    }
    if first.is_empty() {
        bail!("the new PIN is empty; nothing was changed");
    }
    Ok(Pin::from(Zeroizing::new(first.as_bytes().to_vec())))
}

fn next_steps(member: &MemberSettings) -> String {
    let store = match &member.pin {
        PinSource::File(path) => format!("write the new PIN to {}, readable by its owner alone", path.display()),
        PinSource::Credential(name) => {
            format!("put the new PIN where the service's credential {name} comes from, and restart the service")
        }
        PinSource::Command { words, .. } => {
            let program = words.first().map_or("", String::as_str);
            format!("let {program} print the new PIN")
        }
    };
    format!(
        "next:\n  1. {store}\n  2. reload a running gateway (systemctl reload portcullis.service, or SIGHUP)\n\
         Workers that run keep their login. Until step 1 is done, a worker that has to be started again stops its member."
    )
}

//! `portcullisd backup`: makes, checks and restores backups.

use super::{INCOMPLETE, console::say, runtime};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use portcullis_gateway::{
    backup::{
        container::Manifest,
        create::{Existing, create},
        restore::restore,
        verify::Verified,
    },
    config::Settings,
};
use portcullis_hsm::worker::hardening;
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io::{stderr, stdout},
    path::PathBuf,
    process::ExitCode,
};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Copies the database into one file, also while the gateway runs.
    Create(CreateArguments),
    /// Checks a backup. With --config every tag in it is checked too, by the HSM members of that configuration.
    Verify(VerifyArguments),
    /// Puts a backup's database in place where there is none. The gateway must not run. Ends with 3 where the audit log at hand does
    /// not tell all that happened after the backup.
    Restore(RestoreArguments),
}

/// What is backed up, and where to.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// The gateway's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The backup, a new file.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Replaces an existing file, once the new one is whole.
    #[arg(long)]
    overwrite: bool,
}

/// What is checked.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The backup.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// A configuration with HSM members that hold the domain.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What is restored, and where to.
#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// The backup.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The configuration of the gateway that shall have it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs one of them.
pub(crate) fn run(command: &BackupCommand) -> Result<ExitCode> {
    match command {
        BackupCommand::Create(arguments) => create_backup(arguments).map(|()| ExitCode::SUCCESS),
        BackupCommand::Verify(arguments) => runtime()?
            .block_on(verify_backup(arguments))
            .map(|()| ExitCode::SUCCESS),
        BackupCommand::Restore(arguments) => runtime()?.block_on(restore_backup(arguments)),
    }
}

fn create_backup(
    CreateArguments {
        config,
        output,
        overwrite,
    }: &CreateArguments,
) -> Result<()> {
    // A backup needs no file that the configuration names: neither a member's PIN nor the provisioning record.
    let settings = Settings::read(config)?;
    let existing = if *overwrite { Existing::Replace } else { Existing::Keep };
    let manifest = create(&settings, output, existing)?;
    say(
        &mut stdout(),
        &format!("{} is made: {}", output.display(), content(&manifest)),
    );
    Ok(())
}

async fn verify_backup(VerifyArguments { file, config }: &VerifyArguments) -> Result<()> {
    let settings = config.as_deref().map(Settings::load).transpose()?;
    if settings.is_some() {
        // PINs pass through this process.
        for missing in hardening::harden() {
            say(
                &mut stderr(),
                &format!("portcullisd: this process lacks a protection: {missing}"),
            );
        }
    }
    let verified = Verified::read(file).await?;
    let manifest = &verified.manifest;
    say(
        &mut stdout(),
        &format!(
            "{} is a backup of {}\nof domain epoch {}, fingerprint {}\nmade by portcullisd {}, schema {}\n{}\nchecked \
             without an HSM: format, digest, SQLite's integrity, schema, counts, the structure of every row and key token",
            file.display(),
            manifest.created,
            manifest.domain.epoch,
            manifest.domain.fingerprint,
            manifest.program,
            manifest.schema,
            content(manifest)
        ),
    );
    let tags = match &settings {
        Some(settings) => Some(verified.check_tags(settings).await),
        None => None,
    };
    verified.close().await;
    match tags {
        Some(report) => {
            let report = report.context("the file is good as far as can be seen without an HSM")?;
            let (tags, members) = (report.checked, report.members.join(", "));
            say(
                &mut stdout(),
                &format!("checked with HSM members {members}: all {tags} tags are authentic"),
            );
        }
        None => say(
            &mut stdout(),
            "not checked: whether rows and tokens are authentic; that needs an HSM: give --config",
        ),
    }
    Ok(())
}

async fn restore_backup(RestoreArguments { file, config }: &RestoreArguments) -> Result<ExitCode> {
    let settings = Settings::load(config)?;
    let restored = restore(&settings, file).await?;
    say(
        &mut stdout(),
        &format!(
            "{} is restored to {}: {}",
            file.display(),
            settings.state_directory.display(),
            content(&restored.manifest)
        ),
    );
    let since = match &restored.manifest.audit {
        Some(audit) => format!("after audit entry {} ({})", audit.sequence, restored.manifest.created),
        None => format!("after {}", restored.manifest.created),
    };
    let end = match restored.last_entry {
        Some(last) => format!("; the audit log goes on to entry {last}"),
        None => String::new(),
    };
    say(&mut stdout(), &format!("lost: every change {since}{end}"));
    if !restored.lost.is_empty() {
        say(&mut stdout(), "by the audit log these are:");
    }
    for change in restored.lost.iter().take(MOST_SHOWN) {
        say(&mut stdout(), &format!("  {change}"));
    }
    if restored.lost.len() > MOST_SHOWN {
        let more = restored.lost.len() - MOST_SHOWN;
        say(&mut stdout(), &format!("  and {more} more, which the audit log names"));
    }
    say_encryptions(&restored.encryptions);
    if !restored.taken.is_empty() {
        say(
            &mut stdout(),
            "taken away, because the time after the backup took it away or may have:",
        );
    }
    for taken in &restored.taken {
        say(&mut stdout(), &format!("  {taken}"));
    }
    if restored.unknown.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    say(
        &mut stdout(),
        "NOT KNOWN: which keys were compromised, disabled or destroyed after the backup, and what else was lost:",
    );
    for unknown in &restored.unknown {
        say(&mut stdout(), &format!("  {unknown}"));
    }
    Ok(INCOMPLETE.into())
}

/// Says how many encryptions are counted beyond what the backup has, the greatest numbers first.
fn say_encryptions(encryptions: &BTreeMap<String, u64>) {
    if encryptions.is_empty() {
        return;
    }
    let mut counts: Vec<_> = encryptions.iter().collect();
    counts.sort_by_key(|(version, count)| (Reverse(**count), *version));
    say(
        &mut stdout(),
        "counted again: AES-GCM encryptions after the backup, and 1,048,576 more for each version",
    );
    for (version, count) in counts.iter().take(MOST_SHOWN) {
        say(&mut stdout(), &format!("  {count} by {version}"));
    }
    if counts.len() > MOST_SHOWN {
        let more = counts.len() - MOST_SHOWN;
        say(&mut stdout(), &format!("  and fewer by {more} more versions"));
    }
}

fn content(manifest: &Manifest) -> String {
    let audit = match &manifest.audit {
        Some(audit) => format!(", every change up to audit entry {}", audit.sequence),
        None => String::new(),
    };
    format!(
        "{} key rings, {} keys, {} versions{audit}",
        manifest.rings, manifest.keys, manifest.versions
    )
}

const MOST_SHOWN: usize = 50;

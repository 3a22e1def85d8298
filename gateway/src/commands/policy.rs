//! `portcullisd policy`: looks at who may do what.

use super::{ConfigFile, console::say};
use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use portcullis_gateway::{
    config::Settings,
    identity::PrincipalPattern,
    keys::{purpose::Purpose, record::Protection},
    policy::{
        Action, Policy, Role,
        explain::{self, Assumed, Request, ResourceName, Row},
        review,
    },
};
use portcullis_hsm::algorithm::{KeyType, Mechanism};
use std::{collections::BTreeMap, io, net::IpAddr, path::Path};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Reads the policy, says everything that is wrong with it, and who holds duties that should be apart.
    Check(ConfigFile),
    /// Says whether a request would be allowed, and by which policy. With the principal, the action or the resource left out,
    /// says who may do what.
    Explain(Box<ExplainArguments>),
    /// Shows the roles that come with the gateway.
    Roles {
        /// The role whose text is shown [default: all roles, with what they are for].
        #[arg(value_parser = Role::parse)]
        role: Option<Role>,
    },
}

/// The arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Who asks: unix:uid=1000, spiffe://…, x509:…; a * at the end means all that start so.
    #[arg(long, value_name = "NAME", value_parser = PrincipalPattern::parse)]
    principal: Option<PrincipalPattern>,
    /// What for, such as sign or key.create.
    #[arg(long, value_name = "ACTION", value_parser = action)]
    action: Option<Action>,
    /// On what: gateway, keyRings/{ring} or keyRings/{ring}/keys/{key}.
    #[arg(long, value_name = "NAME", value_parser = ResourceName::parse)]
    resource: Option<ResourceName>,
    /// A label of the key; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// The key's purpose.
    #[arg(long, value_name = "PURPOSE", value_parser = purpose, default_value = "SIGN_VERIFY")]
    purpose: Purpose,
    /// The key's type.
    #[arg(long = "type", value_name = "TYPE", value_parser = key_type, default_value = "EC_P256")]
    key_type: KeyType,
    /// How the key is kept.
    #[arg(long, value_name = "PROTECTION", value_parser = protection, default_value = "WRAPPED")]
    protection: Protection,
    /// The key may be exported.
    #[arg(long)]
    exportable: bool,
    /// The mechanism, such as ECDSA_SHA256.
    #[arg(long, value_name = "MECHANISM", value_parser = mechanism)]
    mechanism: Option<Mechanism>,
    /// An entry of the encryption context; may be repeated.
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    /// A version that is not the primary one is used.
    #[arg(long)]
    older_version: bool,
    /// The caller's address.
    #[arg(long, value_name = "ADDRESS")]
    peer: Option<IpAddr>,
    /// When, such as 2026-11-22T09:00:00Z [default: now].
    #[arg(long, value_name = "TIME", value_parser = time)]
    time: Option<OffsetDateTime>,
}

/// Runs one of them.
pub(crate) fn run(command: PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::Check(ConfigFile { config }) => {
            let policy = load(&config)?;
            let mut lines: Vec<String> = policy.warnings().iter().map(|one| format!("warning: {one}")).collect();
            lines.extend(review::conflicts(&policy).iter().map(|one| format!("warning: {one}")));
            let warnings = match lines.len() {
                0 => "no warnings".to_owned(),
                1 => "1 warning".to_owned(),
                many => format!("{many} warnings"),
            };
            lines.push(format!("{}: the policy is valid, {warnings}", config.display()));
            print(&lines);
            Ok(())
        }
        PolicyCommand::Explain(arguments) => explain(*arguments),
        PolicyCommand::Roles { role: Some(role) } => {
            print(&[role.text().trim_end().to_owned()]);
            Ok(())
        }
        PolicyCommand::Roles { role: None } => {
            let cells = Role::all().map(|role| {
                let place = if role.needs_place() {
                    "rings or keys"
                } else {
                    "the gateway"
                };
                [role.name().to_owned(), place.to_owned(), role.description()]
            });
            print(&table(&["ROLE", "FOR", "WHAT IT IS FOR"], cells));
            Ok(())
        }
    }
}

/// Reads the policy. Who looks after it need not be able to read PIN files, so nothing else is looked at.
fn load(config: &Path) -> Result<Policy> {
    Ok(Policy::load(&Settings::read(config)?.policy)?)
}

fn explain(arguments: ExplainArguments) -> Result<()> {
    let policy = load(&arguments.config.config)?;
    let (Some(principal), Some(action), Some(resource)) = (
        arguments.principal.clone(),
        arguments.action,
        arguments.resource.clone(),
    ) else {
        let rows = explain::tabulate(
            &policy,
            arguments.principal.as_ref(),
            arguments.action,
            arguments.resource.as_ref(),
        );
        print(&rows_of(&rows));
        return Ok(());
    };
    let request = Request {
        principal,
        action,
        resource,
        assumed: Assumed {
            labels: arguments.labels.into_iter().collect(),
            purpose: arguments.purpose,
            key_type: arguments.key_type,
            protection: arguments.protection,
            exportable: arguments.exportable,
            mechanism: arguments.mechanism,
            encryption_context: (!arguments.context.is_empty())
                .then(|| arguments.context.into_iter().collect::<BTreeMap<_, _>>()),
            primary_version: Some(!arguments.older_version),
            peer: arguments.peer.map(|address| (address, 0).into()),
            time: arguments.time.unwrap_or_else(OffsetDateTime::now_utc),
        },
    };
    let answer = explain::ask(&policy, &request)?;
    let asked = format!("{} {} on {}", request.principal, request.action, request.resource);
    let mut lines = vec![match (answer.decision.is_allowed(), answer.decision.rule()) {
        (true, Some(rule)) => format!("allowed: {asked}, by \"{rule}\""),
        (false, Some(rule)) => format!("denied: {asked}, forbidden by \"{rule}\""),
        (_, None) => format!("denied: {asked}, no policy allows it"),
    }];
    for rule in answer.unmet {
        lines.push(format!("  the conditions of \"{rule}\" do not hold"));
    }
    print(&lines);
    Ok(())
}

fn rows_of(rows: &[Row]) -> Vec<String> {
    if rows.is_empty() {
        return vec!["nobody: no policy names this".to_owned()];
    }
    let cells = rows.iter().map(|row| {
        let effect = match (row.permits, row.conditions) {
            (true, false) => "may",
            (true, true) => "may, on conditions",
            (false, false) => "may not",
            (false, true) => "may not, on conditions",
        };
        let actions: Vec<_> = row.actions.iter().map(|action| action.name()).collect();
        [
            row.principals.clone(),
            effect.to_owned(),
            row.resource.clone(),
            row.rule.clone(),
            actions.join(" "),
        ]
    });
    table(&["PRINCIPAL", "DECISION", "RESOURCE", "POLICY", "ACTIONS"], cells)
}

/// Columns as wide as their widest cell; the last one is left as it is.
fn table<const N: usize>(head: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> Vec<String> {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn print(lines: &[String]) {
    for line in lines {
        say(&mut io::stdout(), line);
    }
}

fn action(text: &str) -> Result<Action> {
    Action::parse(text).ok_or_else(|| {
        let names: Vec<_> = Action::grantable().map(Action::name).collect();
        anyhow!("expected one of {}", names.join(", "))
    })
}

fn pair(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').ok_or_else(|| anyhow!("expected KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn purpose(text: &str) -> Result<Purpose> {
    one_of(text, &Purpose::ALL, Purpose::name)
}

fn key_type(text: &str) -> Result<KeyType> {
    one_of(text, KeyType::ALL, KeyType::name)
}

fn protection(text: &str) -> Result<Protection> {
    one_of(text, &Protection::ALL, Protection::name)
}

fn mechanism(text: &str) -> Result<Mechanism> {
    one_of(text, Mechanism::ALL, Mechanism::name)
}

/// Reads a name as policies write it, in any case and with hyphens as the command line has them.
fn one_of<T: Copy>(text: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T> {
    let wanted = text.to_ascii_uppercase().replace('-', "_");
    all.iter().copied().find(|one| name(*one) == wanted).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|one| name(*one)).collect();
        anyhow!("expected one of {}", names.join(", "))
    })
}

fn time(text: &str) -> Result<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| anyhow!("expected a time such as 2026-11-22T09:00:00Z"))
}

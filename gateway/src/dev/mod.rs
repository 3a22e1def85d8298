//! A development cluster: three SoftHSM2 members, a domain made by the code that a ceremony uses, certificates, and a
//! configuration that allows the developer everything. Where another module's token cannot hold such a domain, one member
//! with a resident domain.
//!
//! The configuration is written last, so a directory that has one is complete. A marker says that one is being made: only a
//! directory with the marker is cleared and made anew.

mod members;
mod pki;

use crate::config::Settings;
use anyhow::{Context, Result, bail};
use members::{Environment, Made};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What `portcullisd dev` was asked for.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// Where everything is kept.
    pub state: PathBuf,
    /// Where mTLS listens.
    pub listen: SocketAddr,
    /// The PKCS#11 module, if it was named; else SoftHSM2's.
    pub module: Option<PathBuf>,
    /// The environment of the workers of another module than SoftHSM2's; `{member}` stands for the member's directory.
    pub environment: Vec<(String, String)>,
}

/// Makes the cluster if there is none yet; returns the configuration's path. `progress` gets a line for each step.
pub async fn prepare(options: &DevOptions, progress: impl Fn(&str)) -> Result<PathBuf> {
    let state = std::path::absolute(&options.state)?;
    let config = state.join("portcullis.toml");
    if config
        .try_exists()
        .with_context(|| format!("{} cannot be read", state.display()))?
    {
        progress(&format!("using the development cluster in {}", state.display()));
        pki::renew(&state.join("pki")).context("the development certificates cannot be renewed")?;
        Settings::load(&config)?;
        return Ok(config);
    }
    let module = find_module(options.module.as_deref())?;
    make_directory(&state)?;
    claim(&state)?;
    progress(&format!("making a development cluster in {}", state.display()));
    let environment = Environment::new(&options.environment);
    let made = members::make(&state, &module, &environment, &progress).await?;
    pki::make(&state.join("pki")).context("the development certificates cannot be made")?;
    progress("made a certificate authority, and certificates for the gateway and the developer");
    let unfinished = state.join(UNFINISHED);
    write_file(&state.join("policy.cedar"), policy().as_bytes())?;
    write_file(
        &config,
        configuration(&state, &module, options.listen, &environment, &made).as_bytes(),
    )?;
    fs::remove_file(&unfinished).with_context(|| format!("{} cannot be removed", unfinished.display()))?;
    Settings::load(&config)?;
    Ok(config)
}

/// Makes an empty directory this command's own, or clears what an interrupted start left in one that is; nothing in it was ever
/// used. Never touches what somebody else put there.
fn claim(state: &Path) -> Result<()> {
    let unfinished = state.join(UNFINISHED);
    let unreadable = || format!("{} cannot be read", state.display());
    if !unfinished.try_exists().with_context(unreadable)? {
        if fs::read_dir(state).with_context(unreadable)?.next().is_some() {
            bail!(
                "{} holds something, and no portcullis.toml: it is not used for a development cluster. Name an empty or \
                 new directory with --state",
                state.display()
            );
        }
        return write_file(
            &unfinished,
            b"portcullisd dev was interrupted here; the next start begins anew\n",
        );
    }
    for leftover in ["members", "pki", "db"] {
        match fs::remove_dir_all(state.join(leftover)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                bail!("{} cannot be cleared: {error}", state.join(leftover).display())
            }
            _ => {}
        }
    }
    Ok(())
}

fn find_module(named: Option<&Path>) -> Result<PathBuf> {
    let candidates: Vec<PathBuf> = match named {
        Some(named) => vec![named.to_owned()],
        None => SOFTHSM_MODULES.iter().map(PathBuf::from).collect(),
    };
    match candidates.iter().find(|path| path.exists()) {
        Some(path) => Ok(std::path::absolute(path)?),
        None if named.is_some() => bail!("there is no PKCS#11 module {}", candidates[0].display()),
        None => {
            let searched: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
            bail!(
                "SoftHSM2 is not installed (looked for {}); on Debian run: apt-get install softhsm2",
                searched.join(", ")
            )
        }
    }
}

fn configuration(state: &Path, module: &Path, listen: SocketAddr, environment: &Environment, made: &Made) -> String {
    let text = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    let mut config = format!(
        r#"# A development cluster, made by `portcullisd dev`. docs/portcullis.toml explains every setting.
state_directory = "db"

[listen.unix]
path = "portcullis.sock"

[listen.tls]
address = "{listen}"
certificate = "pki/server.pem"
private_key = "pki/server.key"
client_authorities = "pki/ca.pem"

[audit]
file = "audit.jsonl"

# No custodians guard this domain.
[provisioning]
development = true

[domain]
epoch = {epoch}
fingerprint = "{fingerprint}"

# Keys that are tried out need not be kept for a day.
[keys]
least_destroy_window = "1s"
destruction_interval = "1s"

[policy]
files = ["policy.cedar"]
"#,
        epoch = members::EPOCH,
        fingerprint = made.fingerprint,
    );
    for name in &made.names {
        let variables = environment.of(&members::directory(state, name));
        let variables: toml::Table = variables
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        config.push_str(&format!(
            r#"
[[member]]
name = "{name}"
module = {module}
token_label = "{label}"
pin_file = "members/{name}/user.pin"
environment = {variables}
"#,
            module = text(module),
            label = members::label(name),
            variables = toml::Value::Table(variables),
        ));
    }
    config
}

/// What the developer may do. No role allows so much: roles keep duties apart.
fn policy() -> String {
    format!(
        r#"// A development policy, made by `portcullisd dev`. docs/policy.md explains how to write one.

@id("the developer may do everything")
permit (principal == Principal::"unix:uid={uid}", action, resource);

@id("the developer may do everything over TLS")
permit (principal == Principal::"{developer}", action, resource);
"#,
        uid = rustix::process::geteuid().as_raw(),
        developer = pki::DEVELOPER,
    )
}

/// Makes a directory for its owner alone.
fn make_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("{} cannot be made", path.display()))
}

/// Writes a file for its owner alone, whole or not at all.
fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = || {
        let temporary = path.with_extension("new");
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    written().with_context(|| format!("{} cannot be written", path.display()))
}

const UNFINISHED: &str = ".unfinished";

const SOFTHSM_MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

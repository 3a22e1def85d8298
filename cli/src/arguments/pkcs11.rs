//! `portcullis pkcs11`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Subcommand)]
pub(crate) enum Pkcs11Command {
    /// Load the PKCS#11 module as a program would, and say what works, what does not, and why
    ///
    /// The module reads its own configuration (PORTCULLIS_PKCS11_CONFIG), and neither --endpoint nor --context. What its log says on
    /// standard error comes first.
    Check(CheckModuleArguments),
}

#[derive(Args)]
pub(crate) struct CheckModuleArguments {
    /// The module, or its name where the system looks for libraries
    #[arg(long, value_name = "FILE", default_value = "libportcullis_pkcs11.so")]
    pub(crate) module: PathBuf,
    /// Also make a signature with each private key that signs
    #[arg(long)]
    pub(crate) sign: bool,
}

//! The PKCS#11 module as programs load it.

use crate::{
    gateway::Gateway,
    program::{Output, find_tool, run, temporary_directory, workspace_binary},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// The module with a configuration of its own, which names a gateway.
pub struct Shim {
    directory: TempDir,
}

impl Shim {
    /// Over the gateway's socket, with more lines of configuration.
    pub fn new(gateway: &Gateway, settings: &str) -> Self {
        Self::at(&format!("unix:{}", gateway.unix().display()), settings)
    }

    /// At an endpoint.
    pub fn at(endpoint: &str, settings: &str) -> Self {
        let shim = Self {
            directory: temporary_directory(),
        };
        fs::write(shim.config(), format!("endpoint = \"{endpoint}\"\n{settings}")).expect("the configuration");
        shim
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("pkcs11.toml")
    }

    /// A directory for what programs make.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The module, which lies beside the running test: cargo builds it with whatever depends on it.
    ///
    /// # Panics
    ///
    /// When it is not built.
    pub fn library() -> PathBuf {
        let test = env::current_exe().expect("the test's own path");
        // The one of the last build: what `cargo build` leaves one directory up may be older.
        let mut candidates = test.ancestors().skip(1).take(2).map(|place| place.join(LIBRARY));
        candidates.find(|path| path.is_file()).unwrap_or_else(|| {
            panic!(
                "{LIBRARY} is not built beside {}; run: cargo build -p portcullis-pkcs11-shim",
                test.display()
            )
        })
    }

    /// A program that finds the module's configuration, in the directory of what it makes.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .current_dir(self.path())
            .env("PORTCULLIS_PKCS11_CONFIG", self.config())
            .env("PKCS11_MODULE_PATH", Self::library());
        command
    }

    /// Runs OpenSC's `pkcs11-tool` with the module.
    #[track_caller]
    pub fn pkcs11_tool(&self, arguments: &str) -> Output {
        let mut command = self.command(find_tool("pkcs11-tool", "opensc"));
        command.arg("--module").arg(Self::library());
        run(command.args(arguments.split_whitespace()))
    }

    /// Runs OpenSSL, which finds the module by its engine `pkcs11`.
    #[track_caller]
    pub fn openssl(&self, arguments: &str) -> Output {
        run(self
            .command(find_tool("openssl", "openssl"))
            .args(arguments.split_whitespace()))
    }

    /// Compiles a program in C against the standard's header.
    ///
    /// # Panics
    ///
    /// When it does not compile.
    #[track_caller]
    pub fn compile(&self, source: &Path) -> PathBuf {
        let program = self.path().join(source.file_stem().expect("a file's name"));
        let mut command = Command::new(find_tool("gcc", "gcc"));
        command.args([
            "-std=gnu11",
            "-Wall",
            "-Werror",
            "-g",
            "-pthread",
            "-I/usr/include/p11-kit-1",
            "-o",
        ]);
        run(command.arg(&program).arg(source).arg("-ldl")).succeeded();
        program
    }

    /// The command line of this workspace, with the module's configuration.
    pub fn portcullis(&self) -> Command {
        self.command(workspace_binary(crate::PORTCULLIS))
    }
}

const LIBRARY: &str = "libportcullis_pkcs11.so";

//! Clusters of kryoptic's tokens, which are another kind than SoftHSM2's.

use crate::{
    cluster::TestCluster,
    program::{temporary_directory, workspace_binary},
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A release of kryoptic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kryoptic {
    /// 1.5.2 refuses `CKA_UNWRAP_TEMPLATE`, so that it cannot hold sealing keys.
    WithoutTemplates,
    /// 1.5.4 applies unwrap templates before what the caller says.
    WithTemplates,
}

impl Kryoptic {
    /// Its PKCS#11 module.
    ///
    /// # Panics
    ///
    /// When it is not built.
    pub fn module(self) -> PathBuf {
        let name = match self {
            Self::WithoutTemplates => "without-templates.so",
            Self::WithTemplates => "with-templates.so",
        };
        // target/debug/portcullisd
        let program = workspace_binary("portcullisd");
        let target = program.ancestors().nth(2).expect("the target directory");
        let module = target.join("kryoptic/modules").join(name);
        assert!(
            module.is_file(),
            "{} is not there; run: ./softhsm-tests/kryoptic/build",
            module.display()
        );
        module
    }

    /// The command that makes a development cluster of such tokens.
    pub fn prepare(self, state: &Path) -> Command {
        let mut command = Command::new(workspace_binary("portcullisd"));
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--prepare-only", "--state"])
            .arg(state)
            .arg("--module")
            .arg(self.module())
            .args(["--environment", "KRYOPTIC_CONF={member}/token.sql"]);
        command
    }

    /// A development cluster of such tokens: as many members as the tokens allow.
    pub fn cluster(self) -> TestCluster {
        let directory = temporary_directory();
        crate::program::run(&mut self.prepare(directory.path())).succeeded();
        TestCluster::made_in(directory)
    }
}

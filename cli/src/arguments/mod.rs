//! The command line: a file for each group of commands, and what several have in `global`, `change` and `value`.

mod alias;
mod change;
mod cipher;
mod cluster;
mod context;
mod ephemeral;
mod global;
#[cfg(test)]
mod help;
mod key;
mod mac;
mod object;
mod pkcs11;
mod program;
mod random;
mod ring;
mod signature;
mod transfer;
mod value;

pub(crate) use alias::AliasCommand;
pub(crate) use change::{ChangeArguments, CreationArguments, LabelArguments, UpdateArguments};
pub(crate) use cipher::{AuthenticatedArguments, CipherArguments, EncryptArguments, ReencryptArguments};
pub(crate) use cluster::ClusterCommand;
pub(crate) use context::{ContextCommand, SetContextArguments};
pub(crate) use ephemeral::EphemeralCommand;
pub(crate) use global::GlobalArguments;
pub(crate) use key::{
    CreateKeyArguments, DestroyArguments, KeyCommand, PublicArguments, ReasonArguments, RotateArguments, StateVerb,
    UpdateKeyArguments,
};
pub(crate) use mac::{MacCommand, MacSignArguments, MacVerifyArguments};
pub(crate) use object::{ContentArguments, ObjectCommand};
pub(crate) use pkcs11::{CheckModuleArguments, Pkcs11Command};
pub(crate) use program::{CompletionArguments, HandedOnArguments, ManArguments};
pub(crate) use random::RandomArguments;
pub(crate) use ring::RingCommand;
pub(crate) use signature::{MessageArguments, SignArguments, VerifyArguments};
pub(crate) use transfer::{ExportArguments, ImportArguments, ImportJobCommand, RecipientCommand, SecretEncoding};

use clap::{Parser, Subcommand};
use portcullis_bench::{BenchArguments, HELPER, Helper};

/// Use and operate a Portcullis gateway
///
/// A key is written RING/KEY, one version of it RING/KEY/VERSION, an alias RING/@ALIAS, and a key ring RING.
/// Full resource names (keyRings/RING/keys/KEY/versions/VERSION) are taken too.
/// A FILE that is - means standard input or standard output.
#[derive(Parser)]
#[command(name = "portcullis", version, verbatim_doc_comment, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: GlobalArguments,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create, list and change key rings
    #[command(subcommand)]
    Ring(RingCommand),
    /// Create, list and change keys and their versions; import and export them
    #[command(subcommand)]
    Key(KeyCommand),
    /// Give keys further names, which can be pointed elsewhere
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Sign a message or its digest
    Sign(SignArguments),
    /// Check a signature: exit code 0 if it is valid, 1 if it is not
    Verify(VerifyArguments),
    /// Encrypt a file or pipe of any size under a symmetric key
    Encrypt(EncryptArguments),
    /// Decrypt what `encrypt` made
    Decrypt(CipherArguments),
    /// Put encrypted files under the primary version of their key, each in one step
    ///
    /// A run that was interrupted is taken up by the same command. At the end it says what is still under older versions.
    Reencrypt(ReencryptArguments),
    /// Make and check message authentication codes
    #[command(subcommand)]
    Mac(MacCommand),
    /// Take random bytes from an HSM's generator
    Random(RandomArguments),
    /// Keep certificates and data beside the keys of a ring
    #[command(subcommand)]
    Object(ObjectCommand),
    /// Make keys that are not stored, and revoke them
    #[command(subcommand)]
    Ephemeral(EphemeralCommand),
    /// Prepare imports of keys that are wrapped elsewhere
    #[command(subcommand)]
    ImportJob(ImportJobCommand),
    /// Register those to whom keys may be exported
    #[command(subcommand)]
    Recipient(RecipientCommand),
    /// Look at and work on the HSM members behind the gateway
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Measure the gateway beside the PKCS#11 module that it uses
    ///
    /// Each run does one operation over and over: directly with the module, through the gateway, and with an echo that does nothing,
    /// in turns. Keys that are made for it have the label `portcullis-bench` and are scheduled for destruction at the end.
    Bench(Box<BenchArguments>),
    #[command(name = HELPER, hide = true, subcommand)]
    BenchHelper(Helper),
    /// Look at the PKCS#11 module by which programs use keys
    #[command(subcommand)]
    Pkcs11(Pkcs11Command),
    /// Name gateways and who you are to them, in a configuration file
    #[command(subcommand)]
    Context(ContextCommand),
    /// Check and explain policies, on the gateway's host: runs `portcullisd policy`
    #[command(disable_help_flag = true)]
    Policy(HandedOnArguments),
    /// Make, check and restore backups, on the gateway's host: runs `portcullisd backup`
    #[command(disable_help_flag = true)]
    Backup(HandedOnArguments),
    /// Check an audit log, on the gateway's host: runs `portcullisd audit`
    #[command(disable_help_flag = true)]
    Audit(HandedOnArguments),
    /// Print a completion script for a shell
    Completion(CompletionArguments),
    /// Write the manual pages to a directory
    Man(ManArguments),
}

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   not valid: a signature, an authentication code, or encrypted data that was changed or cut off
  2   usage: the command line, or a file that it names
  3   refused by the gateway: state or input
  4   not found
  5   unavailable or timed out; a retry may help
  6   no connection, or the credentials are not right
  7   it exists already, or somebody else changed it meanwhile
  8   denied by the gateway's policy
  70  internal: a failure of the gateway or of this program";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Form;
    use clap::CommandFactory;
    use portcullis_client::v1::KeyType;
    use std::time::Duration;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in [
            "portcullis --json --timeout 2s ring list",
            "portcullis ring list --json --timeout 2s",
        ] {
            let arguments = parse(line).expect(line);
            assert_eq!(arguments.global.form(), Form::Json);
            assert_eq!(arguments.global.timeout, Duration::from_secs(2));
        }
    }

    #[test]
    fn a_key_needs_only_its_type() {
        let arguments = parse("portcullis key create demo/tls --type ec-p256").expect("a command");
        let Command::Key(KeyCommand::Create(create)) = arguments.command else {
            panic!("another command")
        };
        assert!(create.key_type == KeyType::EcP256);
        assert!(create.uses.mechanisms.is_empty() && create.uses.purpose.is_none() && create.protection.is_none());
        assert!(parse("portcullis key create demo/tls").is_err());
        assert!(parse("portcullis key create demo/tls/1 --type ec-p256").is_err());
    }

    #[test]
    fn a_label_that_is_given_twice_is_refused() {
        let arguments =
            parse("portcullis key create demo/tls --type ec-p256 --label a=1 --label a=2").expect("a command");
        let Command::Key(KeyCommand::Create(create)) = arguments.command else {
            panic!("another command")
        };
        assert!(
            create
                .creation
                .labels()
                .is_err_and(|failure| failure.to_string().contains("a is given twice"))
        );
    }

    #[test]
    fn a_message_or_a_digest_is_required_and_not_both() {
        for line in [
            "portcullis sign demo/tls --in -",
            "portcullis sign demo/tls --in digest.bin --raw-digest",
            "portcullis sign demo/tls --digest 00ff",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "portcullis sign demo/tls",
            "portcullis sign demo/tls --raw-digest",
            "portcullis sign demo/tls --digest 00ff --in -",
            "portcullis sign demo/tls --digest 00ff --raw-digest",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn associated_data_has_one_source() {
        let command = "portcullis encrypt demo/data --in a --out b";
        for more in [
            "",
            " --aad text",
            " --aad-file c",
            " --encryption-context a=b --encryption-context c=",
        ] {
            assert!(parse(&format!("{command}{more}")).is_ok(), "{more}");
        }
        for more in [
            " --aad text --aad-file c",
            " --aad text --encryption-context a=b",
            " --aad-file c --encryption-context a=b",
        ] {
            assert!(parse(&format!("{command}{more}")).is_err(), "{more}");
        }
    }

    #[test]
    fn the_number_of_random_bytes_is_bounded() {
        for (number, good) in [
            ("0", false),
            ("1", true),
            ("65536", true),
            ("65537", false),
            ("x", false),
        ] {
            assert_eq!(parse(&format!("portcullis random {number}")).is_ok(), good, "{number}");
        }
    }
}

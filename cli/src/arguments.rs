//! The command line.

use crate::{
    console::Form,
    failure::Failure,
    input::Source,
    message::HexDigest,
    name::{KeyName, KeyTarget, RingName},
    output::Destination,
    uses::Purpose,
    words,
};
use clap::{Args, Parser, Subcommand};
use portcullis_client::{
    Endpoint,
    v1::{KeyProtection, KeyType, Mechanism, PublicKeyFormat, SignatureEncoding},
};
use std::{collections::BTreeMap, path::PathBuf, str::FromStr, time::Duration};
use uuid::Uuid;

/// Use and operate a Portcullis gateway
///
/// A key is written RING/KEY, one version of it RING/KEY/VERSION, and a key ring RING.
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

#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArguments {
    /// Print results and errors as JSON; bytes are base64
    #[arg(long, global = true)]
    json: bool,
    /// Where the gateway listens: unix:PATH or https://HOST:PORT
    #[arg(long, global = true, value_name = "ENDPOINT", env = "PORTCULLIS_ENDPOINT")]
    pub(crate) endpoint: Option<Endpoint>,
    /// The client's certificate chain, in PEM; for https endpoints
    #[arg(long, global = true, value_name = "FILE", env = "PORTCULLIS_CERT")]
    pub(crate) cert: Option<PathBuf>,
    /// The client's private key, in PEM; for https endpoints
    #[arg(long, global = true, value_name = "FILE", env = "PORTCULLIS_KEY_FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The authorities that may issue the gateway's certificate, in PEM; for https endpoints
    #[arg(long, global = true, value_name = "FILE", env = "PORTCULLIS_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// How long one call may take, as in 30s or 500ms
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub(crate) timeout: Duration,
}

impl GlobalArguments {
    pub(crate) fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create and list key rings
    #[command(subcommand)]
    Ring(RingCommand),
    /// Create, list and show keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Sign a message or its digest
    Sign(SignArguments),
    /// Check a signature: exit code 0 if it is valid, 1 if it is not
    Verify(VerifyArguments),
    /// Encrypt up to 1 MiB under a symmetric key
    Encrypt(CipherArguments),
    /// Decrypt what `encrypt` made
    Decrypt(CipherArguments),
    /// Take random bytes from an HSM's generator
    Random(RandomArguments),
    /// Look at the HSM members behind the gateway
    #[command(subcommand)]
    Cluster(ClusterCommand),
}

#[derive(Subcommand)]
pub(crate) enum RingCommand {
    /// Create an empty key ring
    Create {
        /// RING
        ring: RingName,
        #[command(flatten)]
        creation: CreationArguments,
    },
    /// List the key rings that you may see
    List,
}

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Generate a key inside an HSM
    Create(Box<CreateKeyArguments>),
    /// List the keys of a ring
    List {
        /// RING
        ring: RingName,
    },
    /// Show a key, or one of its versions
    Show {
        /// RING/KEY or RING/KEY/VERSION
        key: KeyTarget,
    },
    /// Get the public half of a key
    Public(PublicArguments),
}

#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the state of each member
    Status {
        /// Go on, and show it again whenever it changed, until interrupted
        #[arg(long)]
        watch: bool,
        /// How often to look, with --watch
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = timeout, requires = "watch")]
        interval: Duration,
    },
    /// Give a member nothing more to do, and wait until its workers have ended
    ///
    /// When --timeout is over the member stays without new work; the same command waits on.
    Drain {
        /// The member's name, as `cluster status` shows it
        member: String,
        /// Drain it although no other member serves: nothing will
        #[arg(long)]
        allow_last: bool,
    },
    /// Take a member that was drained, stopped or fenced into service again, after the checks of a start
    Resume {
        /// The member's name, as `cluster status` shows it
        member: String,
    },
    /// Replace all workers, each when another serves in its place, so that no call fails
    Roll {
        /// Only those of these members, in this order
        #[arg(value_name = "MEMBER")]
        members: Vec<String>,
    },
}

/// What all creations have.
#[derive(Args)]
pub(crate) struct CreationArguments {
    /// A label of your choice; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<Pair>,
    /// Repeating a creation with the id of the first try has the same answer and creates nothing twice [default: new]
    #[arg(long, value_name = "UUID")]
    pub(crate) request_id: Option<Uuid>,
    /// Check everything and create nothing
    #[arg(long)]
    pub(crate) validate_only: bool,
}

impl CreationArguments {
    pub(crate) fn labels(&self) -> Result<BTreeMap<String, String>, Failure> {
        Pair::map(&self.labels)
    }
}

#[derive(Args)]
pub(crate) struct CreateKeyArguments {
    /// RING/KEY
    pub(crate) key: KeyName,
    /// What the key is
    #[arg(long = "type", value_name = "TYPE", value_parser = words::parser::<KeyType>())]
    pub(crate) key_type: KeyType,
    /// What the key is for [default: what its type is usually for]
    #[arg(long, value_enum)]
    pub(crate) purpose: Option<Purpose>,
    /// How the key may be used, and in no other way; may be repeated
    #[arg(long = "mechanism", value_name = "MECHANISM", value_parser = words::parser::<Mechanism>())]
    pub(crate) mechanisms: Vec<Mechanism>,
    /// Whether every member can serve the key, or the one that holds it [default: wrapped]
    #[arg(long, value_parser = words::parser::<KeyProtection>())]
    pub(crate) protection: Option<KeyProtection>,
    /// Accept that a resident key lives on one member and is unavailable while that member is
    #[arg(long)]
    pub(crate) allow_single_replica: bool,
    /// The member that shall hold a resident key [default: any that is ready]
    #[arg(long)]
    pub(crate) member: Option<String>,
    /// Allow the key to be wrapped out under another HSM key
    #[arg(long)]
    pub(crate) exportable: bool,
    #[command(flatten)]
    pub(crate) creation: CreationArguments,
}

#[derive(Args)]
pub(crate) struct PublicArguments {
    /// RING/KEY or RING/KEY/VERSION
    pub(crate) key: KeyTarget,
    /// How the public key is encoded
    #[arg(long, default_value = "pem", value_parser = words::parser::<PublicKeyFormat>())]
    pub(crate) format: PublicKeyFormat,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<Destination>,
}

/// What is signed or verified.
#[derive(Args)]
pub(crate) struct MessageArguments {
    /// The message, of any length
    #[arg(long = "in", value_name = "FILE", required_unless_present = "digest")]
    pub(crate) input: Option<Source>,
    /// The message's digest, in hexadecimal, instead of the message
    #[arg(long, value_name = "HEX", conflicts_with_all = ["input", "raw_digest"])]
    pub(crate) digest: Option<HexDigest>,
    /// The file holds the message's digest, as bytes
    #[arg(long)]
    pub(crate) raw_digest: bool,
    /// How to sign; may be left out where the key has one way
    #[arg(long, value_parser = words::parser::<Mechanism>())]
    pub(crate) mechanism: Option<Mechanism>,
    /// How an ECDSA signature is encoded [default: der]
    #[arg(long, value_parser = words::parser::<SignatureEncoding>())]
    pub(crate) encoding: Option<SignatureEncoding>,
}

#[derive(Args)]
pub(crate) struct SignArguments {
    /// RING/KEY or RING/KEY/VERSION
    pub(crate) key: KeyTarget,
    #[command(flatten)]
    pub(crate) message: MessageArguments,
    /// Where to write the signature [default: standard output; base64 if that is a terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<Destination>,
}

#[derive(Args)]
pub(crate) struct VerifyArguments {
    /// RING/KEY or RING/KEY/VERSION
    pub(crate) key: KeyTarget,
    #[command(flatten)]
    pub(crate) message: MessageArguments,
    /// The signature, as bytes
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Source,
}

#[derive(Args)]
pub(crate) struct CipherArguments {
    /// RING/KEY or RING/KEY/VERSION
    pub(crate) key: KeyTarget,
    /// What to read
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: Source,
    /// Where to write; a file gets mode 0600 and is written whole or not at all
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Destination,
    /// Text that is authenticated with the ciphertext and must be repeated to decrypt
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["aad_file", "context"])]
    pub(crate) aad: Option<String>,
    /// A file that is authenticated with the ciphertext and must be repeated to decrypt
    #[arg(long, value_name = "FILE", conflicts_with = "context")]
    pub(crate) aad_file: Option<Source>,
    /// A named value that is authenticated with the ciphertext and must be repeated to decrypt; may be repeated; is
    /// logged, so not for secrets
    #[arg(long, value_name = "NAME=VALUE")]
    context: Vec<Pair>,
}

impl CipherArguments {
    pub(crate) fn context(&self) -> Result<BTreeMap<String, String>, Failure> {
        Pair::map(&self.context)
    }
}

#[derive(Args)]
pub(crate) struct RandomArguments {
    /// How many bytes
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) length: u32,
    /// Write hexadecimal text
    #[arg(long, conflicts_with = "base64")]
    pub(crate) hex: bool,
    /// Write base64 text
    #[arg(long)]
    pub(crate) base64: bool,
    /// Where to write them [default: standard output; base64 if that is a terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<Destination>,
}

/// `name=value`; the value may be empty or hold another `=`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    name: String,
    value: String,
}

impl Pair {
    /// The pairs by name; a name that is given twice has no one value.
    fn map(pairs: &[Self]) -> Result<BTreeMap<String, String>, Failure> {
        let mut map = BTreeMap::new();
        for pair in pairs {
            if map.insert(pair.name.clone(), pair.value.clone()).is_some() {
                return Err(Failure::Usage(format!("{} is given twice", pair.name)));
            }
        }
        Ok(map)
    }
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("expected NAME=VALUE".to_owned()),
        }
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("a call needs some time".to_owned()),
        Ok(timeout) if timeout > MAX_TIMEOUT => Err("a call may take a day at most".to_owned()),
        Ok(timeout) => Ok(timeout),
        Err(error) => Err(format!("expected a time as in 30s or 500ms: {error}")),
    }
}

const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   the signature is not valid
  2   usage: the command line, or a file that it names
  3   refused by the gateway: policy, state or input
  4   not found
  5   unavailable or timed out; a retry may help
  6   no connection, or the credentials are not right
  70  internal: a failure of the gateway or of this program";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

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
        assert!(create.mechanisms.is_empty() && create.purpose.is_none() && create.protection.is_none());
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
        for more in ["", " --aad text", " --aad-file c", " --context a=b --context c="] {
            assert!(parse(&format!("{command}{more}")).is_ok(), "{more}");
        }
        for more in [
            " --aad text --aad-file c",
            " --aad text --context a=b",
            " --aad-file c --context a=b",
        ] {
            assert!(parse(&format!("{command}{more}")).is_err(), "{more}");
        }
    }

    #[test]
    fn pairs_have_a_name() {
        assert_eq!(
            "a=b=c".parse(),
            Ok(Pair {
                name: "a".into(),
                value: "b=c".into()
            })
        );
        assert_eq!(
            "a=".parse(),
            Ok(Pair {
                name: "a".into(),
                value: String::new()
            })
        );
        for text in ["", "a", "=b"] {
            assert!(text.parse::<Pair>().is_err(), "{text}");
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

    #[test]
    fn a_timeout_is_a_positive_time() {
        for (text, good) in [
            ("30s", true),
            ("500ms", true),
            ("1day", true),
            ("1day 1s", false),
            ("0s", false),
            ("30", false),
            ("soon", false),
        ] {
            assert_eq!(timeout(text).is_ok(), good, "{text}");
        }
    }
}

//! GnuTLS, and p11-kit, by which it finds modules.

use super::{RSA_TLS, ring, shim};
use portcullis_softhsm_tests::{Gateway, KeySpec, Output, Shim, TestCluster, find_tool, openssl, run};
use std::fs;

fn prepared() -> (TestCluster, Gateway, Shim) {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    ring(&gateway, "gnutls", &[("rsa", RSA_TLS), ("ec", KeySpec::EC_P256)]);
    let shim = shim(&gateway, "gnutls");
    (cluster, gateway, shim)
}

#[track_caller]
fn tool(shim: &Shim, program: &str, arguments: &str) -> Output {
    let mut command = shim.command(find_tool(program, "gnutls-bin"));
    command.arg(format!("--provider={}", Shim::library().display()));
    run(command.args(arguments.split_whitespace()))
}

#[test]
fn certificates_are_made_and_stored_by_gnutls() {
    let (_cluster, _gateway, shim) = prepared();
    let listed = tool(&shim, "p11tool", "--batch --list-privkeys pkcs11:token=gnutls")
        .succeeded()
        .text();
    assert!(
        listed.contains("object=rsa") && listed.contains("object=ec"),
        "{listed}"
    );
    fs::write(
        shim.path().join("template"),
        "cn = localhost\nexpiration_days = 2\nsigning_key\n",
    )
    .expect("a template");
    for name in ["rsa", "ec"] {
        let made = format!(
            "--generate-self-signed --template template --outfile {name}.pem \
             --load-privkey pkcs11:token=gnutls;object={name};type=private \
             --load-pubkey pkcs11:token=gnutls;object={name};type=public"
        );
        tool(&shim, "certtool", &made).succeeded();
        openssl(
            shim.path(),
            ["verify", "-CAfile", &format!("{name}.pem"), &format!("{name}.pem")],
        )
        .succeeded();
        let stored = format!("--batch --write --load-certificate {name}.pem --label {name} pkcs11:token=gnutls");
        tool(&shim, "p11tool", &stored).succeeded();
    }
    let listed = tool(&shim, "p11tool", "--batch --list-all-certs pkcs11:token=gnutls")
        .succeeded()
        .text();
    assert!(
        listed.contains("object=rsa") && listed.contains("object=ec"),
        "{listed}"
    );
    tool(
        &shim,
        "p11tool",
        "--batch --delete pkcs11:token=gnutls;object=ec;type=cert",
    )
    .succeeded();
    let listed = tool(&shim, "p11tool", "--batch --list-all-certs pkcs11:token=gnutls")
        .succeeded()
        .text();
    assert!(
        listed.contains("object=rsa") && !listed.contains("object=ec"),
        "{listed}"
    );
}

#[test]
fn keys_are_generated_and_tried_by_gnutls() {
    let (_cluster, _gateway, shim) = prepared();
    let made = "--batch --login --set-pin=any --generate-privkey=ecdsa --curve=secp384r1 --label=made --outfile=made.pem \
                pkcs11:token=gnutls";
    tool(&shim, "p11tool", made).succeeded();
    let public = openssl(shim.path(), ["pkey", "-pubin", "-in", "made.pem", "-noout", "-text"])
        .succeeded()
        .text();
    assert!(public.contains("secp384r1"), "{public}");
    for name in ["made", "rsa"] {
        let tried = format!("--batch --login --set-pin=any --test-sign pkcs11:token=gnutls;object={name};type=private");
        let tried = tool(&shim, "p11tool", &tried).succeeded();
        assert!(tried.stderr.contains("ok") || tried.text().contains("ok"), "{tried}");
    }
}

#[test]
fn p11_kit_finds_the_module_by_its_file() {
    let (_cluster, _gateway, shim) = prepared();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/p11-kit/portcullis.module");
    let shipped = fs::read_to_string(shipped).expect("the module's file");
    let library = format!("module: {}", Shim::library().display());
    let installed = shipped.replace("module: libportcullis_pkcs11.so", &library);
    assert_ne!(shipped, installed, "the file names the module as it is built");
    let modules = shim.path().join("pkcs11/modules");
    fs::create_dir_all(&modules).expect("a directory");
    fs::write(modules.join("portcullis.module"), installed).expect("the module's file");
    // It reads no file of a user's for root: here it is somebody else.
    let p11_kit = find_tool("p11-kit", "p11-kit");
    let mut command = match rustix::process::getuid().is_root() {
        true => shim.command(find_tool("unshare", "util-linux")),
        false => shim.command(&p11_kit),
    };
    if rustix::process::getuid().is_root() {
        command.args(["--user", "--map-user=1000"]).arg(p11_kit);
    }
    let listed = run(command.env("XDG_CONFIG_HOME", shim.path()).arg("list-modules"))
        .succeeded()
        .text();
    let ours = listed
        .split("\nportcullis:")
        .nth(1)
        .or_else(|| listed.strip_prefix("portcullis:"));
    let ours = ours.unwrap_or_else(|| panic!("{listed}"));
    assert!(ours.contains("token: gnutls"), "{listed}");
}

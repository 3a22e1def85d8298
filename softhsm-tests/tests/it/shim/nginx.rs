//! nginx as it is shipped: a daemon that reads its keys as one process and serves by others.

use super::{RSA_TLS, ring, shim};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, LONG, Shim, TestCluster, find_tool, is_running, run, run_with_input, wait_until,
};
use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_daemon_serves_by_keys_of_the_gateway_and_is_reloaded_under_load() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    ring(&gateway, "nginx", &[("rsa", RSA_TLS), ("ec", KeySpec::EC_P256)]);
    let shim = shim(&gateway, "nginx");
    for name in ["rsa", "ec"] {
        let issued = format!(
            "req -new -x509 -engine pkcs11 -keyform engine -key pkcs11:token=nginx;object={name};type=private -sha256 \
             -days 2 -subj /CN=localhost -out {name}.pem"
        );
        shim.openssl(&issued).succeeded();
    }
    let server = Nginx::start(&shim);
    for name in ["rsa", "ec"] {
        for version in ["-tls1_2", "-tls1_3"] {
            assert_eq!(ask(&shim, name, version), Ok(()), "{name}, {version}");
        }
    }
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let asking = ["rsa", "ec"].map(|name| {
            let (is_over, served, shim) = (&is_over, &served, &shim);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    ask(shim, name, "-tls1_3")?;
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, String>(())
            })
        });
        for _ in 0..3 {
            let before = server.workers();
            server.reload();
            let begun = served.load(Ordering::Relaxed);
            wait_until("other workers serve", LONG, || {
                let is_asked = asking.iter().all(|one| !one.is_finished());
                let now = server.workers();
                let are_new = now.len() == before.len() && now.iter().all(|one| !before.contains(one));
                (!is_asked || (are_new && served.load(Ordering::Relaxed) > begun + 4)).then_some(())
            });
        }
        is_over.store(true, Ordering::Relaxed);
        for one in asking {
            assert_eq!(one.join().expect("it does not panic"), Ok(()));
        }
    });
    let log = fs::read_to_string(shim.path().join("error.log")).expect("the server's log");
    assert!(
        !log.contains("[alert]") && !log.contains("[crit]") && !log.contains("[emerg]"),
        "{log}"
    );
}

/// A handshake with the server that has a key, whose certificate is checked.
fn ask(shim: &Shim, name: &str, version: &str) -> Result<(), String> {
    let mut client = Command::new(find_tool("openssl", "openssl"));
    client
        .current_dir(shim.path())
        .args(["s_client", version, "-verify_return_error", "-CAfile"]);
    client
        .arg(format!("{name}.pem"))
        .args(["-unix", &format!("{name}.sock")]);
    let spoken = run_with_input(&mut client, b"Q\n");
    match spoken.status.success() && spoken.text().contains("Verify return code: 0 (ok)") {
        true => Ok(()),
        false => Err(spoken.to_string()),
    }
}

/// A server that is ended when it is dropped.
struct Nginx {
    master: u32,
}

impl Nginx {
    fn start(shim: &Shim) -> Self {
        let program = find_tool("nginx", "nginx-light");
        let name = |option: &str| run(Command::new("id").arg(option)).succeeded().text().trim().to_owned();
        let directory = shim.path().display();
        let servers = ["rsa", "ec"].map(|name| {
            format!(
                "server {{ listen unix:{directory}/{name}.sock ssl; ssl_certificate {directory}/{name}.pem; \
                 ssl_certificate_key \"engine:pkcs11:pkcs11:token=nginx;object={name};type=private\"; return 204; }}\n"
            )
        });
        let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let places = places.map(|place| format!("{place}_temp_path {directory}/{place};\n"));
        // The workers are who the master is: the gateway knows that user, and the directory is that user's.
        let configuration = format!(
            "user {} {};\nworker_processes 2;\npid {directory}/nginx.pid;\nerror_log {directory}/error.log;\n\
             ssl_engine pkcs11;\nenv PORTCULLIS_PKCS11_CONFIG;\nenv PKCS11_MODULE_PATH;\nevents {{}}\n\
             http {{\naccess_log off;\nssl_protocols TLSv1.2 TLSv1.3;\n{}{}}}\n",
            name("-un"),
            name("-gn"),
            places.concat(),
            servers.concat(),
        );
        fs::write(shim.path().join("nginx.conf"), configuration).expect("a configuration");
        let mut command = shim.command(&program);
        command
            .arg("-p")
            .arg(shim.path())
            .args(["-e", "error.log", "-c", "nginx.conf"]);
        run(&mut command).succeeded();
        let master = wait_until("the server has written who it is", LONG, || {
            fs::read_to_string(shim.path().join("nginx.pid"))
                .ok()?
                .trim()
                .parse()
                .ok()
        });
        let server = Self { master };
        wait_until("its workers run", LONG, || (server.workers().len() == 2).then_some(()));
        server
    }

    /// The processes that serve, without those that only finish what they have.
    fn workers(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.master);
        let children = fs::read_to_string(path).unwrap_or_default();
        let is_worker = |pid: &u32| {
            let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let title = String::from_utf8_lossy(&title).into_owned();
            title.contains("worker process") && !title.contains("shutting down")
        };
        children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .filter(is_worker)
            .collect()
    }

    fn reload(&self) {
        self.signal("HUP");
    }

    fn signal(&self, signal: &str) {
        drop(
            Command::new("kill")
                .args(["-s", signal, &self.master.to_string()])
                .status(),
        );
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.signal("TERM");
        // No panic here: there may be one already.
        let begun = Instant::now();
        while is_running(self.master) && begun.elapsed() < LONG {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

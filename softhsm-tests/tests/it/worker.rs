//! The worker process by its own protocol: what the gateway relies on and does not show.

use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation},
    key_token::token_digest,
    worker::protocol::{
        Empty, Failure, FailureKind, FindDomain, Generate, Key, Open, Random, Reply, ReplyBody, Request, RequestBody,
        Sign, Unload, read_frame, write_frame,
    },
};
use portcullis_softhsm_tests::{FAULTY_MODULE_DIRECTORY, FaultyModule, TestCluster, workspace_binary};
use std::{
    io::{BufReader, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};
use uuid::Uuid;

/// A worker process on the other end of a socket.
pub(crate) struct Worker {
    child: Child,
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    next_id: u64,
}

impl Worker {
    /// Starts a worker that has opened nothing.
    pub(crate) fn start(cluster: &TestCluster) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let child = Command::new(workspace_binary("portcullisd"))
            .arg("hsm-worker")
            .env_clear()
            .env("SOFTHSM2_CONF", cluster.softhsm_conf("a"))
            // For those whose module is the faulty one.
            .env(FAULTY_MODULE_DIRECTORY, FaultyModule::directory(cluster, "a"))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .expect("a worker");
        let reader = BufReader::new(ours.try_clone().expect("the socket"));
        Self {
            child,
            reader,
            writer: ours,
            next_id: 1,
        }
    }

    /// Starts a worker that serves a member's token, found by its serial number.
    pub(crate) fn serving(cluster: &TestCluster, loaded_keys: u32) -> Self {
        Self::serving_by(cluster, &cluster.module(), loaded_keys)
    }

    /// The same by another module than the cluster's.
    pub(crate) fn serving_by(cluster: &TestCluster, module: &Path, loaded_keys: u32) -> Self {
        let open = |label, serial| {
            let mut open = open(cluster, label, serial, &cluster.user_pin("a"), loaded_keys);
            open.module = module.display().to_string();
            open
        };
        let by_label = |worker: &mut Self| worker.ask(RequestBody::Open(open(Some("portcullis-a"), None)));
        let serial = match by_label(&mut Self::start(cluster)) {
            ReplyBody::Opened(opened) => opened.serial_number,
            _ => panic!("the token is not found by its label"),
        };
        let mut worker = Self::start(cluster);
        let opened = worker.ask(RequestBody::Open(open(None, Some(&serial))));
        assert!(matches!(opened, ReplyBody::Opened(opened) if opened.label == "portcullis-a"));
        let found = worker.ask(RequestBody::FindDomain(FindDomain { epoch: 1 }));
        assert!(matches!(found, ReplyBody::DomainFound(_)));
        worker
    }

    pub(crate) fn send(&mut self, body: RequestBody, time_left_us: u64) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        write_frame(
            &mut self.writer,
            &Request {
                id,
                time_left_us,
                body: Some(body),
            },
        )
        .expect("a request");
        id
    }

    pub(crate) fn receive(&mut self) -> Reply {
        read_frame(&mut self.reader).expect("a frame").expect("a reply")
    }

    pub(crate) fn ask(&mut self, body: RequestBody) -> ReplyBody {
        let id = self.send(body, 0);
        let reply = self.receive();
        assert_eq!(reply.id, id);
        reply.body.expect("a body")
    }

    pub(crate) fn failure(&mut self, body: RequestBody) -> Failure {
        match self.ask(body) {
            ReplyBody::Failure(failure) => failure,
            _ => panic!("it did not fail"),
        }
    }

    pub(crate) fn generate(&mut self, key_type: KeyType, uses: &[(Operation, Mechanism)]) -> Vec<u8> {
        let uses = uses
            .iter()
            .map(|(operation, mechanism)| u32::from(operation.number()) << 16 | u32::from(mechanism.number()));
        let generate = Generate {
            uid: Uuid::new_v4().as_bytes().to_vec(),
            version: 1,
            key_type: key_type.number().into(),
            uses: uses.collect(),
            exportable: false,
            making: Vec::new(),
        };
        match self.ask(RequestBody::GenerateWrapped(generate)) {
            ReplyBody::Bytes(token) => token,
            _ => panic!("no key was generated"),
        }
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the worker can be waited for")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn open(
    cluster: &TestCluster,
    label: Option<&str>,
    serial: Option<&str>,
    pin: &str,
    loaded_keys: u32,
) -> Open {
    Open {
        module: cluster.module().display().to_string(),
        token_label: label.map(str::to_owned),
        token_serial_number: serial.map(str::to_owned),
        user_pin: pin.as_bytes().to_vec(),
        sessions: 2,
        queue: 64,
        generation_sessions: 1,
        generation_queue: 64,
        loaded_keys,
        ephemeral_share: 2,
        log_in_again: true,
    }
}

pub(crate) fn sign(token: &[u8], send: bool, operation: Operation, mechanism: Mechanism, data: &[u8]) -> RequestBody {
    RequestBody::Sign(Sign {
        key: Key {
            digest: token_digest(token).to_vec(),
            sealed: send.then(|| token.to_vec()),
        },
        operation: operation.number().into(),
        mechanism: mechanism.number().into(),
        data: data.to_vec(),
    })
}

pub(crate) fn mac(token: &[u8], send: bool, data: &[u8]) -> RequestBody {
    sign(token, send, Operation::MacSign, Mechanism::HmacSha256, data)
}

pub(crate) const MAC_USES: [(Operation, Mechanism); 2] = [
    (Operation::MacSign, Mechanism::HmacSha256),
    (Operation::MacVerify, Mechanism::HmacSha256),
];

#[test]
fn a_wrapped_hmac_key_macs_and_is_asked_for_by_its_token_once() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let (first, second) = (
        worker.generate(KeyType::HmacSha256, &MAC_USES),
        worker.generate(KeyType::HmacSha256, &MAC_USES),
    );
    assert_eq!(
        worker.failure(mac(&first, false, b"data")).kind(),
        FailureKind::KeyNeeded
    );
    let mut tag = |token: &[u8], send, data: &[u8]| match worker.ask(mac(token, send, data)) {
        ReplyBody::Bytes(tag) => tag,
        _ => panic!("no tag"),
    };
    let reference = tag(&first, true, b"data");
    assert_eq!(reference.len(), 32);
    assert_eq!(tag(&first, false, b"data"), reference);
    assert_ne!(tag(&first, false, b"other"), reference);
    assert_ne!(tag(&second, true, b"data"), reference);
}

#[test]
fn a_key_that_is_unloaded_is_asked_for_again() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let token = worker.generate(KeyType::HmacSha256, &MAC_USES);
    worker.ask(mac(&token, true, b"data"));
    assert!(matches!(worker.ask(mac(&token, false, b"data")), ReplyBody::Bytes(_)));
    let unload = RequestBody::Unload(Unload {
        digest: token_digest(&token).to_vec(),
    });
    assert!(matches!(worker.ask(unload), ReplyBody::Done(_)));
    assert_eq!(
        worker.failure(mac(&token, false, b"data")).kind(),
        FailureKind::KeyNeeded
    );
}

#[test]
fn a_token_of_which_any_byte_was_changed_is_refused() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let token = worker.generate(KeyType::HmacSha256, &MAC_USES);
    for at in 0..token.len() {
        let mut changed = token.clone();
        changed[at] ^= 1;
        let failure = worker.failure(mac(&changed, true, b"data"));
        assert_eq!(
            failure.kind(),
            FailureKind::NotAuthentic,
            "byte {at}: {}",
            failure.message
        );
    }
    // A digest that belongs to another token does not get this one loaded under its name.
    let other = worker.generate(KeyType::HmacSha256, &MAC_USES);
    let swapped = RequestBody::Sign(Sign {
        key: Key {
            digest: token_digest(&other).to_vec(),
            sealed: Some(token.clone()),
        },
        operation: Operation::MacSign.number().into(),
        mechanism: Mechanism::HmacSha256.number().into(),
        data: b"data".to_vec(),
    });
    assert_eq!(worker.failure(swapped).kind(), FailureKind::NotAuthentic);
    assert!(matches!(worker.ask(mac(&token, true, b"data")), ReplyBody::Bytes(_)));
}

#[test]
fn a_key_does_only_what_its_token_permits() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let token = worker.generate(KeyType::HmacSha256, &[(Operation::MacVerify, Mechanism::HmacSha256)]);
    let failure = worker.failure(mac(&token, true, b"data"));
    assert_eq!(failure.kind(), FailureKind::Refused);
    assert!(
        failure.message.contains("does not permit MAC_SIGN"),
        "{}",
        failure.message
    );
}

#[test]
fn more_keys_than_stay_loaded_go_on_working() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 3);
    let tokens: Vec<_> = (0..12)
        .map(|_| worker.generate(KeyType::HmacSha256, &MAC_USES))
        .collect();
    let mut tags = Vec::new();
    for token in &tokens {
        assert_eq!(
            worker.failure(mac(token, false, b"data")).kind(),
            FailureKind::KeyNeeded
        );
        match worker.ask(mac(token, true, b"data")) {
            ReplyBody::Bytes(tag) => tags.push(tag),
            _ => panic!("no tag"),
        }
    }
    // The last three are still loaded, the first was taken out.
    for token in &tokens[9..] {
        assert!(matches!(worker.ask(mac(token, false, b"data")), ReplyBody::Bytes(_)));
    }
    assert_eq!(
        worker.failure(mac(&tokens[0], false, b"data")).kind(),
        FailureKind::KeyNeeded
    );
    // All at once, on two sessions, with room for three: keys in use are never taken from under an operation.
    let ids: Vec<_> = (0..60)
        .map(|round| worker.send(mac(&tokens[round % 12], true, b"data"), 0))
        .collect();
    for _ in &ids {
        let Reply { id, body, .. } = worker.receive();
        let at = ids.iter().position(|one| *one == id).expect("a known id") % 12;
        match body {
            Some(ReplyBody::Bytes(tag)) => assert_eq!(tag, tags[at]),
            Some(ReplyBody::Failure(failure)) => panic!("key {at}: {}", failure.message),
            _ => panic!("key {at}: an answer of another kind"),
        }
    }
}

#[test]
fn work_whose_time_is_up_is_not_started() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    // RSA generation keeps both sessions busy while the last request's time runs out.
    let busy: Vec<_> = (0..2).map(|_| worker.send(generate_rsa(), 0)).collect();
    let late = worker.send(RequestBody::Random(Random { length: 8 }), 1);
    let mut replies = Vec::new();
    for _ in 0..3 {
        replies.push(worker.receive());
    }
    for Reply { id, body, .. } in replies {
        match body {
            Some(ReplyBody::Bytes(_)) => assert!(busy.contains(&id)),
            Some(ReplyBody::Failure(failure)) => {
                assert_eq!((id, failure.kind()), (late, FailureKind::DeadlinePassed));
            }
            _ => panic!("an answer of another kind"),
        }
    }
}

#[test]
fn work_that_is_cancelled_while_it_waits_is_not_done() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    // More than there are threads for.
    let busy: Vec<_> = (0..6).map(|_| worker.send(generate_rsa(), 0)).collect();
    let last = busy[5];
    worker.send(RequestBody::Cancel(last), 0);
    for _ in &busy {
        let Reply { id, body, .. } = worker.receive();
        match body {
            Some(ReplyBody::Bytes(_)) => assert_ne!(id, last),
            Some(ReplyBody::Failure(failure)) => {
                assert_eq!(
                    (id, failure.kind()),
                    (last, FailureKind::DeadlinePassed),
                    "{}",
                    failure.message
                );
            }
            _ => panic!("an answer of another kind"),
        }
    }
}

fn generate_rsa() -> RequestBody {
    RequestBody::GenerateWrapped(Generate {
        uid: Uuid::new_v4().as_bytes().to_vec(),
        version: 1,
        key_type: KeyType::Rsa2048.number().into(),
        uses: vec![u32::from(Operation::Sign.number()) << 16 | u32::from(Mechanism::RsaPssSha256.number())],
        exportable: false,
        making: Vec::new(),
    })
}

#[test]
fn nothing_is_done_before_the_token_is_open_and_nothing_opens_twice() {
    let cluster = TestCluster::new();
    let mut worker = Worker::start(&cluster);
    assert_eq!(
        worker.failure(RequestBody::Random(Random { length: 8 })).kind(),
        FailureKind::Refused
    );
    assert_eq!(
        worker.failure(RequestBody::Probe(Empty {})).kind(),
        FailureKind::Refused
    );
    let mut worker = Worker::serving(&cluster, 10);
    let again = RequestBody::Open(open(&cluster, Some("portcullis-a"), None, &cluster.user_pin("a"), 10));
    assert_eq!(worker.failure(again).kind(), FailureKind::Refused);
    assert_eq!(
        worker.failure(RequestBody::FindDomain(FindDomain { epoch: 2 })).kind(),
        FailureKind::Fatal
    );
}

#[test]
fn a_worker_finishes_what_it_accepted_when_it_is_told_to_stop() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let ids: Vec<_> = (0..40)
        .map(|_| worker.send(RequestBody::Random(Random { length: 8 }), 0))
        .collect();
    let stop = worker.send(RequestBody::Stop(Empty {}), 0);
    let answered: Vec<u64> = (0..=ids.len()).map(|_| worker.receive().id).collect();
    assert_eq!(answered.last(), Some(&stop));
    assert!(ids.iter().all(|id| answered.contains(id)));
    assert!(worker.wait().success());
}

#[test]
fn a_worker_ends_with_its_socket_and_with_anything_that_is_no_frame() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    worker
        .writer
        .shutdown(std::net::Shutdown::Both)
        .expect("a closed socket");
    assert!(!worker.wait().success());
    let mut worker = Worker::serving(&cluster, 10);
    worker.writer.write_all(&[0xff; 64]).expect("bytes");
    assert!(!worker.wait().success());
}

#[test]
fn a_worker_without_a_socket_says_who_starts_it() {
    let output = Command::new(workspace_binary("portcullisd"))
        .arg("hsm-worker")
        .stdin(Stdio::null())
        .output()
        .expect("a process");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("started by portcullisd"), "{message}");
}

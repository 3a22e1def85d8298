//! Replies that are cut on the wire after the commit: the request's repetition is answered with what was made.

use portcullis_client::{
    Client, Endpoint,
    v1::{CreateKeyRequest, Key, RotateKeyRequest},
};
use portcullis_softhsm_tests::{
    Adversary, Database, Gateway, KeySpec, LONG, MEMBERS, TestCluster, create_ring, key_request, sign, wait_until,
};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};
use uuid::Uuid;

/// Stands between a client and the gateway's socket. Once it is told to keep replies, nothing of them arrives any more.
struct Between {
    path: PathBuf,
    keeps_replies: Arc<AtomicBool>,
    serving: JoinHandle<()>,
}

impl Between {
    fn new(cluster: &TestCluster, gateway: &Gateway, name: &str) -> Self {
        let path = cluster.path().join(name);
        let listener = UnixListener::bind(&path).expect("a socket");
        let (there, keeps_replies) = (gateway.unix().to_owned(), Arc::new(AtomicBool::new(false)));
        let keeps = Arc::clone(&keeps_replies);
        let serving = tokio::spawn(async move {
            let (near, _) = listener.accept().await.expect("a client");
            let far = UnixStream::connect(there).await.expect("the gateway");
            let ((mut from_client, mut to_client), (mut from_gateway, mut to_gateway)) =
                (near.into_split(), far.into_split());
            let replies = async {
                let mut buffer = [0; 4096];
                loop {
                    let length = from_gateway.read(&mut buffer).await.expect("the gateway answers");
                    if !keeps.load(Ordering::SeqCst) {
                        to_client.write_all(&buffer[..length]).await.expect("the client reads");
                    }
                }
            };
            tokio::select! {
                _ = copy(&mut from_client, &mut to_gateway) => {}
                () = replies => {}
            }
        });
        Self {
            path,
            keeps_replies,
            serving,
        }
    }

    async fn client(&self) -> Client {
        let client = Client::connect(Endpoint::unix(&self.path), None).await;
        client.expect("a connection").with_deadline(LONG)
    }

    fn keep_replies(&self) {
        self.keeps_replies.store(true, Ordering::SeqCst);
    }

    /// Ends both connections.
    fn cut(self) {
        self.serving.abort();
    }
}

/// Waits until a statement counts so many rows.
fn wait_for_rows(cluster: &TestCluster, table: &str, rows: u64) {
    tokio::task::block_in_place(|| {
        wait_until("the commit", LONG, || {
            (Database::of(cluster).count(table) == rows).then_some(())
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_and_a_rotation_whose_replies_are_lost_are_repeated_and_made_once() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let direct = gateway.unix_client().await;
    create_ring(&direct, "ring").await;
    let mut versions = 0;
    for (id, spec) in [("wrapped", KeySpec::EC_P256), ("resident", KeySpec::ED25519_RESIDENT)] {
        let create = CreateKeyRequest {
            request_id: Uuid::new_v4().to_string(),
            ..key_request("ring", id, spec)
        };
        let between = Between::new(&cluster, &gateway, &format!("{id}-create"));
        let client = between.client().await;
        between.keep_replies();
        let lost = tokio::spawn({
            let create = create.clone();
            async move { client.keys().create_key(create).await.map(drop) }
        });
        versions += 1;
        wait_for_rows(&cluster, "key_versions", versions);
        between.cut();
        lost.await.expect("no panic").expect_err("the reply was cut");
        let repeated = direct.keys().create_key(create.clone()).await;
        let key: Key = repeated.expect("the key that was made").into_inner();
        let again = direct
            .keys()
            .create_key(create)
            .await
            .expect("the same again")
            .into_inner();
        assert_eq!(key.uid, again.uid);

        let rotate = RotateKeyRequest {
            name: key.name.clone(),
            request_id: Uuid::new_v4().to_string(),
            allow_single_replica: id == "resident",
            ..Default::default()
        };
        let between = Between::new(&cluster, &gateway, &format!("{id}-rotate"));
        let client = between.client().await;
        between.keep_replies();
        let lost = tokio::spawn({
            let rotate = rotate.clone();
            async move { client.keys().rotate_key(rotate).await.map(drop) }
        });
        versions += 1;
        wait_for_rows(&cluster, "key_versions", versions);
        between.cut();
        lost.await.expect("no panic").expect_err("the reply was cut");
        let repeated = direct
            .keys()
            .rotate_key(rotate)
            .await
            .expect("the rotation that was made");
        assert_eq!(repeated.into_inner().primary.expect("a version").version, 2);
        assert_eq!(Database::of(&cluster).count("key_versions"), versions);
        sign(&direct, &key.name, b"a message").await.expect("a signature");
    }
    // On the tokens there is what is stored, and nothing else.
    gateway.stop();
    let objects: usize = tokio::task::block_in_place(|| {
        MEMBERS
            .iter()
            .map(|member| Adversary::at(&cluster, member).resident_keys().len())
            .sum()
    });
    assert_eq!(objects, 2);
    assert_eq!(Database::of(&cluster).count("resident_intents"), 0);
}

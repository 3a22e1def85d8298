//! What is made again, and what is not.

use super::signing;
use portcullis_client::{
    Client, Endpoint, Error, Retry,
    v1::{CreateKeyRequest, GetKeyRequest},
};
use portcullis_softhsm_tests::{
    Database, Gateway, KeySpec, LONG, MEMBERS, SHORT, TestCluster, create_key, create_ring, key_request, wait_until,
};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_a_gateway_that_is_killed_and_started_again_notice_nothing() {
    let cluster = TestCluster::new();
    let mut gateway = Gateway::start(&cluster);
    let client = gateway
        .unix_client()
        .await
        .with_deadline(LONG)
        .with_retry(Retry::attempts(1000));
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    let (ended, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let (client, key, ended, answers) = (client.clone(), key.clone(), Arc::clone(&ended), Arc::clone(&answers));
        callers.spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                // Uses of keys by the stream, and a call by itself.
                if caller % 4 == 0 {
                    let request = GetKeyRequest { name: key.clone() };
                    client.get_key(request).await.expect("the key");
                } else {
                    client.sign(signing(&key, "a message")).await.expect("a signature");
                }
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let more = |answers: &AtomicU64| {
        let before = answers.load(Ordering::Relaxed);
        tokio::task::block_in_place(|| {
            wait_until("answers to all", LONG, || {
                (answers.load(Ordering::Relaxed) > before + 100).then_some(())
            });
        });
    };
    more(&answers);
    for _ in 0..2 {
        gateway = tokio::task::block_in_place(|| {
            gateway.kill9();
            Gateway::start(&cluster)
        });
        more(&answers);
    }
    // The same when it stops in order.
    gateway = tokio::task::block_in_place(|| {
        gateway.stop();
        Gateway::start(&cluster)
    });
    more(&answers);
    ended.store(true, Ordering::Relaxed);
    callers.join_all().await;
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_says_when_is_waited_for_and_without_retries_it_is_told() {
    let cluster = TestCluster::new();
    let mut gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    drop(client);
    gateway.stop();
    let pins = MEMBERS.map(|member| (member, cluster.user_pin(member)));
    for (member, _) in &pins {
        cluster.place(&format!("members/{member}/user.pin"), "00000000-wrong\n");
    }
    cluster.reload_often();
    gateway = Gateway::start(&cluster);
    let client = gateway
        .unix_client()
        .await
        .with_deadline(LONG)
        .with_retry(Retry::attempts(1000));
    let error = client
        .clone()
        .with_retry(Retry::off())
        .sign(signing(&key, "a message"))
        .await
        .err()
        .expect("no member serves");
    let Error::Unavailable(fault) = error else {
        panic!("another error: {error:?}")
    };
    assert_eq!(fault.reason(), Some("HSM_UNAVAILABLE"));
    assert!(fault.retry_delay().is_some());
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.sign(signing(&key, "a message")).await.map(drop) }
    });
    for (member, pin) in &pins {
        cluster.place(&format!("members/{member}/user.pin"), pin);
    }
    waiting.await.expect("no panic").expect("a signature, later");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_reply_is_lost_is_made_once_without_a_request_id_of_the_caller() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let direct = gateway.unix_client().await;
    create_ring(&direct, "ring").await;
    let between = Between::new(&cluster, &gateway);
    let client = Client::connect(Endpoint::unix(&between.path), None)
        .await
        .expect("a connection")
        .with_deadline(LONG)
        .with_retry(Retry::attempts(1000));
    between.keep_replies(true);
    let request: CreateKeyRequest = key_request("ring", "key", KeySpec::EC_P256);
    assert!(request.request_id.is_empty());
    let making = tokio::spawn(async move { client.create_key(request).await });
    tokio::task::block_in_place(|| {
        wait_until("the commit", LONG, || {
            (Database::of(&cluster).count("keys") == 1).then_some(())
        });
    });
    between.keep_replies(false);
    between.cut();
    let key = making.await.expect("no panic").expect("the key that was made");
    let found = direct
        .get_key(GetKeyRequest { name: key.name.clone() })
        .await
        .expect("the key");
    assert_eq!((found.uid, Database::of(&cluster).count("keys")), (key.uid, 1));
    assert!(between.connections() >= 2, "the client did not connect again");
}

/// Stands between clients and the gateway's socket, and can keep replies and cut connections.
struct Between {
    path: PathBuf,
    keeps_replies: Arc<AtomicBool>,
    cuts: watch::Sender<()>,
    connections: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Between {
    fn new(cluster: &TestCluster, gateway: &Gateway) -> Self {
        let path = cluster.path().join("between");
        let listener = UnixListener::bind(&path).expect("a socket");
        let (there, keeps_replies) = (gateway.unix().to_owned(), Arc::new(AtomicBool::new(false)));
        let (cuts, connections) = (watch::Sender::new(()), Arc::new(AtomicU64::new(0)));
        let serving = tokio::spawn({
            let (keeps, cut, count) = (Arc::clone(&keeps_replies), cuts.subscribe(), Arc::clone(&connections));
            async move {
                let mut relays = JoinSet::new();
                while let Ok((near, _)) = listener.accept().await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let mut cut = cut.clone();
                    cut.borrow_and_update();
                    let relay = relay(near, there.clone(), Arc::clone(&keeps));
                    relays.spawn(async move {
                        tokio::select! {
                            () = relay => {}
                            _ = cut.changed() => {}
                        }
                    });
                }
            }
        });
        Self {
            path,
            keeps_replies,
            cuts,
            connections,
            serving,
        }
    }

    fn keep_replies(&self, keep: bool) {
        self.keeps_replies.store(keep, Ordering::SeqCst);
    }

    /// Ends the connections that there are.
    fn cut(&self) {
        self.cuts.send_replace(());
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn relay(near: UnixStream, there: PathBuf, keeps_replies: Arc<AtomicBool>) {
    let far = UnixStream::connect(there).await.expect("the gateway");
    let ((mut from_client, mut to_client), (mut from_gateway, mut to_gateway)) = (near.into_split(), far.into_split());
    let replies = async {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from_gateway.read(&mut buffer).await {
            if !keeps_replies.load(Ordering::SeqCst) && to_client.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = copy(&mut from_client, &mut to_gateway) => {}
        () = replies => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_is_opened_again_by_the_next_use() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let between = Between::new(&cluster, &gateway);
    let client = Client::connect(Endpoint::unix(&between.path), None)
        .await
        .expect("a connection");
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    for _ in 0..5 {
        client.sign(signing(&key, "a message")).await.expect("a signature");
        between.cut();
        client.sign(signing(&key, "a message")).await.expect("a signature");
    }
    // Without retries whoever waits is told, and the next one is served.
    let once = client.clone().with_retry(Retry::off());
    between.keep_replies(true);
    let waiting = tokio::spawn({
        let (once, key) = (once.clone(), key.clone());
        async move { once.sign(signing(&key, "a message")).await.err() }
    });
    let signed_before = signed(&cluster);
    tokio::task::block_in_place(|| {
        wait_until("the signature", SHORT, || {
            (signed(&cluster) > signed_before).then_some(())
        });
    });
    between.keep_replies(false);
    between.cut();
    let error = waiting.await.expect("no panic").expect("the answer was lost");
    assert!(matches!(error, Error::Connection(_)), "{error:?}");
    client.sign(signing(&key, "a message")).await.expect("a signature");
}

/// How many signatures the audit log has.
fn signed(cluster: &TestCluster) -> usize {
    let log = std::fs::read_to_string(cluster.audit_file()).expect("the audit log");
    log.matches(r#""action":"sign""#).count()
}

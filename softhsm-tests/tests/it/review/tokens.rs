//! Key tokens that are authentic and that nothing can unwrap: whoever has a user PIN can make them.

use crate::worker::{MAC_USES, Worker, mac};
use portcullis_hsm::{
    algorithm::KeyType,
    worker::protocol::{Reply, ReplyBody},
};
use portcullis_softhsm_tests::{Adversary, TestCluster};
use std::collections::HashMap;

const ROUNDS: usize = 100;

#[test]
fn tokens_that_cannot_be_unwrapped_do_not_disturb_keys_that_are_loaded() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 100);
    let good: Vec<_> = (0..3)
        .map(|_| worker.generate(KeyType::HmacSha256, &MAC_USES))
        .collect();
    let bad = Adversary::at(&cluster, "a").forge_unwrappable(&good[0]);
    let tags: Vec<_> = good
        .iter()
        .map(|token| match worker.ask(mac(token, true, b"data")) {
            ReplyBody::Bytes(tag) => tag,
            _ => panic!("no tag"),
        })
        .collect();
    // Two sessions: while one fails to load a key, the other uses loaded ones. A key that was thrown out would be asked for.
    let mut expected = HashMap::new();
    for round in 0..ROUNDS {
        expected.insert(worker.send(mac(&bad, true, b"data"), 0), None);
        for (at, token) in good.iter().enumerate() {
            expected.insert(worker.send(mac(token, false, b"data"), 0), Some(at));
        }
        if round % 8 == 7 {
            answer(&mut worker, &mut expected, &tags);
        }
    }
    answer(&mut worker, &mut expected, &tags);
}

fn answer(worker: &mut Worker, expected: &mut HashMap<u64, Option<usize>>, tags: &[Vec<u8>]) {
    while !expected.is_empty() {
        let Reply { id, body, .. } = worker.receive();
        let which = expected.remove(&id).expect("an answer to a request");
        match (which, body.expect("a body")) {
            (Some(at), ReplyBody::Bytes(tag)) => assert_eq!(tag, tags[at]),
            (Some(at), ReplyBody::Failure(failure)) => panic!("key {at}: {:?}: {}", failure.kind(), failure.message),
            (None, ReplyBody::Failure(_)) => {}
            (None, ReplyBody::Bytes(_)) => panic!("the forged token was loaded"),
            _ => panic!("an answer of another kind"),
        }
    }
}

//! The frames between the gateway and its workers, in both directions.

use super::{bytes, sample, vectors};
use crate::{Memory, Pure, Target, Verdict};
use portcullis_hsm::worker::protocol::{
    CheckRecords, Decrypt, DomainFound, Encrypted, Failure, FailureKind, FindDomain, Generate, Key, List, MAX_FRAME,
    Open, Opened, Record, Reply, ReplyBody, Request, RequestBody, Sign, decode_message, encode_frame, read_frame,
};

/// What a worker reads.
pub(super) const WORKER_REQUESTS: Target = Target {
    name: "worker_requests",
    prepare: || {
        Box::new(Pure {
            samples: || {
                requests()
                    .into_iter()
                    .map(|body| {
                        framed(&Request {
                            id: 7,
                            time_left_us: 5,
                            body: Some(body),
                        })
                    })
                    .collect()
            },
            judge: judge::<Request>,
            memory: BOUND,
        })
    },
};

/// What the gateway reads from a process in which a vendor's library runs.
pub(super) const WORKER_REPLIES: Target = Target {
    name: "worker_replies",
    prepare: || {
        Box::new(Pure {
            samples: || {
                let reply = |body| Reply {
                    id: 7,
                    body: Some(body),
                    waited_us: 1,
                    worked_us: 2,
                };
                replies().into_iter().map(|body| framed(&reply(body))).collect()
            },
            judge: judge::<Reply>,
            memory: BOUND,
        })
    },
};

fn judge<M: prost::Message + Default + PartialEq>(input: &[u8]) -> Verdict {
    let mut rest = input;
    let read = read_frame::<M>(&mut rest);
    if let Ok(Some(message)) = &read {
        let again = framed(message);
        assert!(
            read_frame::<M>(&mut again.as_slice()).is_ok_and(|read| read.as_ref() == Some(message)),
            "what was read can be written and read again"
        );
        let taken = input.len() - rest.len();
        assert!(decode_message::<M>(&input[4..taken]).is_ok_and(|read| read == *message));
    }
    match read {
        Ok(Some(_)) => Verdict::Accepted,
        _ => Verdict::Refused,
    }
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    encode_frame(message).to_vec()
}

fn requests() -> Vec<RequestBody> {
    let vectors = vectors();
    let vector = &vectors["key_tokens"][0];
    let token = [bytes(&vector["body"]), bytes(&vector["tag"])].concat();
    let key = Key {
        digest: vec![7; 32],
        sealed: Some(token.clone()),
    };
    vec![
        RequestBody::Open(Open {
            module: "/usr/lib/softhsm/libsofthsm2.so".to_owned(),
            token_label: Some("portcullis-a".to_owned()),
            user_pin: b"1234".to_vec(),
            sessions: 4,
            queue: 2048,
            loaded_keys: 10_000,
            token_serial_number: None,
            ephemeral_share: 1000,
            log_in_again: true,
            generation_sessions: 1,
            generation_queue: 64,
        }),
        RequestBody::FindDomain(FindDomain { epoch: 1 }),
        RequestBody::Sign(Sign {
            key: key.clone(),
            operation: 1,
            mechanism: 1,
            data: vec![9; 32],
        }),
        RequestBody::Decrypt(Decrypt {
            key,
            before_nonce: vec![1; 22],
            after_nonce: vec![0],
            nonce: vec![2; 12],
            ciphertext: vec![3; 20],
        }),
        RequestBody::GenerateWrapped(Generate {
            uid: vec![4; 16],
            version: 1,
            key_type: 16,
            uses: vec![0x0001_0001, 0x0002_0040],
            exportable: true,
            making: vec![7; 16],
        }),
        RequestBody::CheckRecords(CheckRecords {
            records: vec![Record {
                kind: 1,
                message: token,
                tag: vec![5; 32],
            }],
        }),
    ]
}

fn replies() -> Vec<ReplyBody> {
    vec![
        ReplyBody::Failure(Failure {
            kind: FailureKind::Busy as i32,
            message: "its queue is full".to_owned(),
            return_code: 5,
        }),
        ReplyBody::Bytes(sample!("p256.sig").to_vec()),
        ReplyBody::Opened(Opened {
            label: "portcullis-a".to_owned(),
            serial_number: "0123456789abcdef".to_owned(),
            capabilities: vec!["SIGN by ECDSA_SHA256".to_owned()],
            sessions: 4,
            uses: vec![0x0001_0001, 0x0002_0040],
            generates: vec![16, 33],
            ..Opened::default()
        }),
        ReplyBody::DomainFound(DomainFound {
            fingerprint: vec![1; 32],
            known_answer: vec![2; 32],
        }),
        ReplyBody::Encrypted(Encrypted {
            nonce: vec![3; 12],
            ciphertext: vec![4; 40],
        }),
        ReplyBody::List(List {
            items: vec![vec![1], vec![0], vec![5; 32]],
        }),
        ReplyBody::Verdict(true),
    ]
}

/// A frame is as long as it says, up to a limit, before its content is there.
const BOUND: Memory = Memory {
    fixed: MAX_FRAME as u64 + 16 * 1024,
    // An empty item of a list is two bytes of a frame.
    per_byte: 64,
};

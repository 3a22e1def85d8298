//! Members whose modules fail in every way that the standard has a code for, and in some that it has none for.

mod module;

use crate::worker::{MAC_USES, Worker, mac};
use portcullis_hsm::{algorithm::KeyType, worker::protocol::ReplyBody};
use portcullis_softhsm_tests::{FaultyModule, TestCluster};

/// A worker on the faulty module, with a key for message authentication codes that it has loaded.
struct FaultyWorker {
    worker: Worker,
    module: FaultyModule,
    token: Vec<u8>,
    // Its token directory goes last.
    cluster: TestCluster,
}

impl FaultyWorker {
    fn start() -> Self {
        let cluster = TestCluster::new();
        let module = FaultyModule::install(&cluster, "a");
        let mut worker = Worker::serving_by(&cluster, &FaultyModule::library(), 100);
        let token = worker.generate(KeyType::HmacSha256, &MAC_USES);
        assert!(matches!(worker.ask(mac(&token, true, b"data")), ReplyBody::Bytes(_)));
        Self {
            worker,
            module,
            token,
            cluster,
        }
    }

    /// The code of a message by the loaded key.
    fn mac(&mut self, message: &[u8]) -> ReplyBody {
        self.worker.ask(mac(&self.token, true, message))
    }

    /// The same where it must succeed.
    #[track_caller]
    fn tag(&mut self, message: &[u8]) -> Vec<u8> {
        match self.mac(message) {
            ReplyBody::Bytes(tag) => tag,
            ReplyBody::Failure(failure) => panic!("no tag: {}", failure.message),
            _ => panic!("an answer of another kind"),
        }
    }
}

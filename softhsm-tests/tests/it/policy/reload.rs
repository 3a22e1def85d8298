//! A policy that changes under callers who stay connected.

use super::client_of;
use portcullis_client::{
    Client,
    v1::{
        PipelineRequest, PipelineResponse, pipeline_request::Request as Asked, pipeline_response::Response as Answer,
    },
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, LONG, SHORT, TestCluster, create_key, create_ring, message_request, refusal, sign, wait_until,
};
use std::fs;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::Streaming;

const KEY: &str = "keyRings/ring/keys/one";

/// A policy that lets one principal sign.
fn permit(who: &str) -> String {
    format!(
        "permit (principal == Principal::\"spiffe://portcullis.dev/{who}\", action == Action::\"sign\", resource);\n"
    )
}

/// Puts a policy in place and waits until the gateway has looked at it, without being told.
fn change_to(cluster: &TestCluster, policies: &str, outcome: &str) {
    let outcomes = || {
        let log = fs::read_to_string(cluster.audit_file()).expect("the audit log");
        let entries = log
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let reloads = entries.filter(|entry| entry["action"] == "gateway.reload" && entry["outcome"] == outcome);
        reloads.count()
    };
    tokio::task::block_in_place(|| {
        let before = outcomes();
        cluster.place("policy.cedar", policies);
        wait_until(&format!("a reload: {outcome}"), SHORT, || {
            (outcomes() > before).then_some(())
        });
    });
}

/// An open stream of signatures.
struct Signing {
    requests: mpsc::Sender<PipelineRequest>,
    answers: Streaming<PipelineResponse>,
}

impl Signing {
    async fn open(client: &Client) -> Self {
        let (requests, stream) = mpsc::channel(8);
        let answers = client.crypto().pipeline(ReceiverStream::new(stream)).await;
        Self {
            requests,
            answers: answers.expect("a stream").into_inner(),
        }
    }

    /// Asks for one signature; returns the reason when it is refused.
    async fn refused(&mut self) -> Option<String> {
        let request = PipelineRequest {
            id: 1,
            timeout: None,
            request: Some(Asked::Sign(message_request(KEY, b"a message"))),
        };
        self.requests.send(request).await.expect("the stream is open");
        let answer = tokio::time::timeout(LONG, self.answers.next())
            .await
            .expect("an answer in time");
        match answer.expect("the stream is open").expect("an answer").response {
            Some(Answer::Sign(_)) => None,
            Some(Answer::Error(error)) => Some(error.reason),
            _ => panic!("an answer of another kind"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_revoked_is_refused_at_once_on_open_connections_and_streams() {
    let cluster = TestCluster::new();
    cluster.reload_often();
    let good = fs::read_to_string(cluster.policy_file()).expect("the policies");
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    create_key(&developer, "ring", "one", KeySpec::EC_P256).await;
    let teller = client_of(&cluster, &gateway, "spiffe://portcullis.dev/teller").await;
    let clerk = client_of(&cluster, &gateway, "spiffe://portcullis.dev/clerk").await;
    let mut streams = [Signing::open(&teller).await, Signing::open(&clerk).await];
    let denied = Some("ACCESS_DENIED".to_owned());
    for stream in &mut streams {
        assert_eq!(stream.refused().await, denied);
    }

    // Each time both are asked once, on the connections and streams that they have had from the beginning.
    for (permitted, [teller_signs, clerk_signs]) in [
        (&["teller"][..], [true, false]),
        (&["clerk"], [false, true]),
        (&["teller", "clerk"], [true, true]),
        (&[], [false, false]),
        (&["clerk"], [false, true]),
    ] {
        let permits: String = permitted.iter().map(|who| permit(who)).collect();
        change_to(&cluster, &format!("{good}\n{permits}"), "OK");
        for (signs, client, stream) in [(teller_signs, &teller, 0), (clerk_signs, &clerk, 1)] {
            let signed = sign(client, KEY, b"a message").await;
            assert_eq!(signed.is_ok(), signs, "{permitted:?}, caller {stream}");
            if !signs {
                assert_eq!(refusal(signed).reason, "ACCESS_DENIED");
            }
            let expected = if signs { None } else { denied.clone() };
            assert_eq!(
                streams[stream].refused().await,
                expected,
                "{permitted:?}, stream {stream}"
            );
        }
    }

    // What is broken changes nothing for either, and the log says where it is broken.
    change_to(
        &cluster,
        &format!("{good}\n{}permit (\n", permit("teller")),
        "CONFIGURATION_INVALID",
    );
    assert_eq!(streams[0].refused().await, denied);
    assert_eq!(streams[1].refused().await, None);
    let log = gateway.log();
    assert!(
        log.contains("policy.cedar line ") && log.contains("nothing was reloaded"),
        "{log}"
    );
    change_to(&cluster, &format!("{good}\n{}", permit("teller")), "OK");
    assert_eq!(streams[0].refused().await, None);
    assert_eq!(streams[1].refused().await, denied);
}

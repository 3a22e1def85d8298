//! Connections and streams end with their caller's certificate.

use super::{call, connect, set_lists, stream, tomorrow, wait_for_reloads};
use portcullis_client::{
    Client, Code,
    v1::{GenerateRandomRequest, PipelineRequest, pipeline_request::Request, pipeline_response::Response},
};
use portcullis_softhsm_tests::{
    Authority, Gateway, Http2, LONG, Scrape, TestCluster, Wish, framed, refusal, tls, wait_until,
};
use prost::Message;
use std::time::{Duration, Instant};
use tokio::{io::AsyncWriteExt, time::timeout};

/// Calls until the caller is refused for good; every call before was answered or refused for this reason.
async fn until_refused(
    gateway: &Gateway,
    client: &Client,
    identity: &portcullis_softhsm_tests::Identity,
    reason: &str,
) -> String {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < LONG, "the caller is still served");
        match call(client).await {
            Ok(_) => {}
            // A refusal by the gateway says why; a new connection is refused by an alert.
            Err(status) if status.code() == Code::Unauthenticated => {
                assert_eq!(refusal(Err::<(), _>(status)).reason, reason);
            }
            Err(_) => match connect(gateway, &identity.credentials()).await {
                Ok(_) => {}
                Err(refused) => return refused,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_ends_its_connection_and_stream() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let wish = Wish {
        lasts: Some(Duration::from_secs(4)),
        ..Wish::DEVELOPER
    };
    let identity = cluster.authority().client(wish, &cluster.pki("ca.pem"));
    let client = connect(&gateway, &identity.credentials()).await.expect("a connection");
    call(&client).await.expect("an answer before the end");
    let mut stream = stream(&client).await;
    let end = timeout(LONG, stream.message()).await.expect("the stream ends");
    refusal(end).is(Code::Unauthenticated, "CERTIFICATE_EXPIRED");
    assert_eq!(
        until_refused(&gateway, &client, &identity, "CERTIFICATE_EXPIRED").await,
        "expired"
    );
    assert_eq!(gateway.cluster_status().await.members.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_ends_its_connection_and_stream_and_no_other() {
    let cluster = TestCluster::new();
    cluster.reload_often();
    let authority = cluster.authority();
    let list = cluster.place("clients.crl", &authority.revocation_list(&[], tomorrow()));
    set_lists(&cluster, &[list], "require");
    let gateway = Gateway::start(&cluster);
    let [good, bad] = [(); 2].map(|()| authority.client(Wish::DEVELOPER, &cluster.pki("ca.pem")));
    let good_client = connect(&gateway, &good.credentials()).await.expect("a connection");
    let bad_client = connect(&gateway, &bad.credentials()).await.expect("a connection");
    let (mut good_stream, mut bad_stream) = (stream(&good_client).await, stream(&bad_client).await);

    cluster.place("clients.crl", &authority.revocation_list(&[bad.serial()], tomorrow()));
    let end = timeout(LONG, bad_stream.message()).await.expect("the stream ends");
    refusal(end).is(Code::Unauthenticated, "CERTIFICATE_REVOKED");
    assert_eq!(
        until_refused(&gateway, &bad_client, &bad, "CERTIFICATE_REVOKED").await,
        "revoked"
    );

    wait_for_reloads(&cluster, &["OK"]);
    call(&good_client).await.expect("an answer to whom nothing happened");
    let still = timeout(Duration::from_millis(100), good_stream.message()).await;
    assert!(still.is_err(), "the other stream ended or spoke: {still:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_no_longer_trusted_ends_its_clients_connections() {
    let cluster = TestCluster::new();
    cluster.reload_often();
    let ours = std::fs::read_to_string(cluster.pki("ca.pem")).expect("the authority");
    let partner = Authority::named("a partner");
    let both = cluster.place("pki/clients.pem", &format!("{ours}{}", partner.certificate()));
    cluster.edit_tls(|tls| {
        tls.insert("client_authorities".to_owned(), both.to_str().expect("UTF-8").into());
    });
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    let identity = partner.client(Wish::DEVELOPER, &cluster.pki("ca.pem"));
    let client = connect(&gateway, &identity.credentials()).await.expect("a connection");
    let mut stream = stream(&client).await;

    cluster.place("pki/clients.pem", &ours);
    let end = timeout(LONG, stream.message()).await.expect("the stream ends");
    refusal(end).is(Code::Unauthenticated, "CERTIFICATE_UNTRUSTED");
    let refused = until_refused(&gateway, &client, &identity, "CERTIFICATE_UNTRUSTED").await;
    assert_eq!(refused, "unknown authority");
    call(&developer).await.expect("an answer to whom nothing happened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_goes_out_of_date_ends_what_it_no_longer_covers() {
    let cluster = TestCluster::new();
    cluster.reload_often();
    let authority = cluster.authority();
    let soon = std::time::SystemTime::now() + Duration::from_secs(6);
    let list = cluster.place("clients.crl", &authority.revocation_list(&[], soon));
    set_lists(&cluster, &[list], "require");
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    let mut stream = stream(&client).await;
    let end = timeout(LONG, stream.message()).await.expect("the stream ends");
    refusal(end).is(Code::Unauthenticated, "CERTIFICATE_UNTRUSTED");
    // A new list lets everybody in again.
    cluster.place("clients.crl", &authority.revocation_list(&[], tomorrow()));
    wait_for_reloads(&cluster, &["OK"]);
    gateway.tls_client().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_answers_what_it_read_and_ends_with_its_callers_certificate() {
    let cluster = TestCluster::new();
    cluster.reload_often();
    let authority = cluster.authority();
    let list = cluster.place("clients.crl", &authority.revocation_list(&[], tomorrow()));
    set_lists(&cluster, &[list], "require");
    let gateway = Gateway::start(&cluster);
    let identity = authority.client(Wish::DEVELOPER, &cluster.pki("ca.pem"));
    let client = connect(&gateway, &identity.credentials()).await.expect("a connection");
    let (requests, queue) = tokio::sync::mpsc::channel(1000);
    let answers = client
        .crypto()
        .pipeline(tokio_stream::wrappers::ReceiverStream::new(queue))
        .await;
    let mut answers = answers.expect("a stream").into_inner();
    // Asks on and on, so that the stream is never idle.
    let asking = tokio::spawn(async move {
        for id in 1.. {
            let random = GenerateRandomRequest { length_bytes: 8 };
            let request = PipelineRequest {
                id,
                timeout: None,
                request: Some(Request::GenerateRandom(random)),
            };
            if requests.send(request).await.is_err() {
                return;
            }
        }
    });
    let mut answered = 0;
    let end = loop {
        match timeout(LONG, answers.message())
            .await
            .expect("the stream goes on or ends")
        {
            Ok(Some(answer)) => {
                answered += 1;
                if let Some(Response::Error(error)) = answer.response {
                    assert_eq!(error.reason, "CERTIFICATE_REVOKED", "{}", error.message);
                }
            }
            Ok(None) => panic!("the stream ended without a reason"),
            Err(status) => break status,
        }
        if answered == 50 {
            cluster.place(
                "clients.crl",
                &authority.revocation_list(&[identity.serial()], tomorrow()),
            );
        }
    };
    assert!(answered >= 50, "{answered}");
    refusal(Err::<(), _>(end)).is(Code::Unauthenticated, "CERTIFICATE_REVOKED");
    asking.await.expect("nobody takes requests any more");
}

/// An identity whose certificate is good for a few seconds.
fn short_lived(cluster: &TestCluster) -> portcullis_softhsm_tests::Identity {
    let wish = Wish {
        lasts: Some(Duration::from_secs(4)),
        ..Wish::DEVELOPER
    };
    cluster.authority().client(wish, &cluster.pki("ca.pem"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_hear_that_it_has_ended_is_refused_and_then_cut_off() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let identity = short_lived(&cluster);
    let connection = Http2::that_does_not_hear(gateway.tls(), &identity).await;
    let request = GenerateRandomRequest { length_bytes: 8 }.encode_to_vec();
    let call = async || {
        connection
            .call("portcullis.v1.CryptoService/GenerateRandom", &request, None)
            .await
    };
    assert_eq!(call().await.expect("a status").code(), Code::Ok);
    // Each call is answered until the certificate has expired, and refused from then on.
    let begun = Instant::now();
    let mut ended = None;
    let refused = loop {
        assert!(begun.elapsed() < LONG, "the connection stays open");
        match call().await {
            Ok(status) if status.code() == Code::Ok => assert!(ended.is_none(), "a call after the end is answered"),
            Ok(status) => {
                refusal(Err::<(), _>(status)).is(Code::Unauthenticated, "CERTIFICATE_EXPIRED");
                ended.get_or_insert_with(Instant::now);
            }
            Err(_) => break ended.expect("refusals before the connection was closed"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let took = refused.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    connection.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_nothing_is_cut_off_when_it_has_ended() {
    let cluster = TestCluster::new();
    let metrics = cluster.serve_metrics();
    let gateway = Gateway::start(&cluster);
    let identity = short_lived(&cluster);
    let mut deaf = tls(gateway.tls(), &identity, Some(4096)).await;
    // More is asked for than fits into any buffer on the way, and nothing is read.
    let windows = [&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4][..], &MOST.to_be_bytes()].concat();
    let window = [&[0, 0, 4, 8, 0, 0, 0, 0, 0][..], &(MOST - 65_535).to_be_bytes()].concat();
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &windows, &window].concat();
    deaf.write_all(&preface).await.expect("a preface");
    let message = framed(&GenerateRandomRequest { length_bytes: 1 << 16 }.encode_to_vec());
    for number in 0..300_u32 {
        deaf.write_all(&request(2 * number + 1, &message))
            .await
            .expect("a request");
    }
    deaf.flush().await.expect("requests");
    let open = || Scrape::of(&metrics).sum("portcullis_connections_open", &[("portcullis_listener", "tls")]);
    tokio::task::block_in_place(|| {
        wait_until("the connection", LONG, || (open() == Some(1.0)).then_some(()));
        wait_until("the end of the connection", LONG, || {
            (open() == Some(0.0)).then_some(())
        });
    });
}

/// The frames of a call of GenerateRandom (RFC 9113, sections 6.1 and 6.2), with fields that are written out (RFC 7541, 6.2.2).
fn request(stream: u32, message: &[u8]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")][..], text.as_bytes()].concat();
    // From the static table: POST, http.
    let mut fields = vec![0x83, 0x86];
    for (name, value) in [
        (":path", "/portcullis.v1.CryptoService/GenerateRandom"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        fields.push(0);
        fields.extend(text(name));
        fields.extend(text(value));
    }
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    [frame(1, 4, &fields), frame(0, 1, message)].concat()
}

const MOST: u32 = (1 << 31) - 1;

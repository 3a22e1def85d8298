//! The API as a whole: what is served, what is not yet, health, reflection, members, random bytes.

use portcullis_client::{
    Code,
    v1::{GenerateRandomRequest, ListMembersRequest, ListMembersResponse, MemberState},
};
use portcullis_proto::FILE_DESCRIPTOR_SET;
use portcullis_softhsm_tests::{Gateway, MEMBERS, TestCluster, crc32c, refusal};
use prost::Message;
use prost_types::FileDescriptorSet;
use std::collections::{BTreeSet, HashSet};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// What the gateway serves so far.
const SERVED: &[&str] = &[
    "KeyService/CreateKeyRing",
    "KeyService/GetKeyRing",
    "KeyService/ListKeyRings",
    "KeyService/ListMechanisms",
    "KeyService/CreateKey",
    "KeyService/GetKey",
    "KeyService/ListKeys",
    "KeyService/GetKeyVersion",
    "KeyService/GetPublicKey",
    "KeyService/UpdateKeyRing",
    "KeyService/UpdateKey",
    "KeyService/RotateKey",
    "KeyService/SetPrimaryVersion",
    "KeyService/ListKeyVersions",
    "KeyService/ActivateKeyVersion",
    "KeyService/DisableKeyVersion",
    "KeyService/EnableKeyVersion",
    "KeyService/DeactivateKeyVersion",
    "KeyService/MarkKeyVersionCompromised",
    "KeyService/ScheduleKeyVersionDestruction",
    "KeyService/CancelKeyVersionDestruction",
    "KeyService/GetJsonWebKeySet",
    "KeyService/CreateAlias",
    "KeyService/UpdateAlias",
    "KeyService/DeleteAlias",
    "KeyService/ListAliases",
    "KeyService/CreateImportJob",
    "KeyService/GetImportJob",
    "KeyService/ImportKeyVersion",
    "KeyService/ExportKeyVersion",
    "KeyService/CreateRecipient",
    "KeyService/GetRecipient",
    "KeyService/ListRecipients",
    "KeyService/DeleteRecipient",
    "KeyService/CreateEphemeralKey",
    "KeyService/RenewEphemeralKey",
    "KeyService/RevokeEphemeralKeys",
    "ObjectService/CreateObject",
    "ObjectService/GetObject",
    "ObjectService/ListObjects",
    "ObjectService/UpdateObject",
    "ObjectService/DeleteObject",
    "ClusterService/DrainMember",
    "ClusterService/ResumeMember",
    "ClusterService/RollMembers",
    "CryptoService/Sign",
    "CryptoService/Verify",
    "CryptoService/Encrypt",
    "CryptoService/Decrypt",
    "CryptoService/GenerateRandom",
    "CryptoService/ReEncrypt",
    "CryptoService/GenerateDataKey",
    "CryptoService/MacSign",
    "CryptoService/MacVerify",
    "CryptoService/AsymmetricDecrypt",
    "CryptoService/DeriveSharedSecret",
    "CryptoService/BatchSign",
    "CryptoService/BatchVerify",
    "CryptoService/BatchEncrypt",
    "CryptoService/BatchDecrypt",
    "CryptoService/BatchReEncrypt",
    "CryptoService/BatchMacSign",
    "CryptoService/BatchMacVerify",
    "CryptoService/BatchGenerateDataKey",
    "CryptoService/Pipeline",
    "ClusterService/ListMembers",
    "ClusterService/GetMember",
];

struct Method {
    name: String,
    streams: bool,
}

/// Every method of the API.
fn methods() -> Vec<Method> {
    let descriptors = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the descriptor set");
    let files = descriptors
        .file
        .into_iter()
        .filter(|file| file.package() == "portcullis.v1");
    let services = files.flat_map(|file| file.service);
    let methods = services.flat_map(|service| {
        let name = service.name().to_owned();
        service.method.into_iter().map(move |method| Method {
            name: format!("{name}/{}", method.name()),
            streams: method.client_streaming() || method.server_streaming(),
        })
    });
    methods.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_yet_says_so() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let wire = gateway.wire().await;
    let methods = methods();
    assert!(methods.len() > 60, "the API has only {} methods", methods.len());
    let services: BTreeSet<_> = methods
        .iter()
        .filter_map(|method| method.name.split('/').next())
        .collect();
    assert_eq!(services.len(), 5, "{services:?}");
    for Method { name, streams } in methods {
        let path = format!("portcullis.v1.{name}");
        // An empty message is a message of every type; what needs a field says that it is missing.
        let answer = if streams {
            wire.call_streaming(&path, Vec::new()).await.map(drop)
        } else {
            wire.call(&path, Vec::new()).await.map(drop)
        };
        if SERVED.contains(&name.as_str()) {
            assert!(
                answer.map_or_else(|status| status.code() != Code::Unimplemented, |()| true),
                "{name} is not served"
            );
        } else {
            refusal(answer).is(Code::Unimplemented, "METHOD_NOT_AVAILABLE");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_unimplemented() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let wire = gateway.wire().await;
    for path in [
        "portcullis.v1.KeyService/Nothing",
        "portcullis.v2.KeyService/GetKey",
        "nothing",
    ] {
        refusal(wire.call(path, Vec::new()).await).is(Code::Unimplemented, "METHOD_NOT_AVAILABLE");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_that_the_gateway_serves() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        let mut health = HealthClient::new(client.transport());
        let answer = health
            .check(HealthCheckRequest::default())
            .await
            .expect("the health of the gateway")
            .into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{transport}");
        let unknown = HealthCheckRequest {
            service: "nobody.knows.It".to_owned(),
        };
        assert_eq!(
            health.check(unknown).await.expect_err("no such service").code(),
            Code::NotFound
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (_, client) in gateway.clients().await {
        let mut reflection = ServerReflectionClient::new(client.transport());
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let requests = tokio_stream::iter([request]);
        let mut answers = reflection
            .server_reflection_info(requests)
            .await
            .expect("reflection")
            .into_inner();
        let answer = answers
            .message()
            .await
            .expect("an answer")
            .expect("an answer")
            .message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = answer else {
            panic!("not a list of services")
        };
        let found: HashSet<_> = list.service.into_iter().map(|service| service.name).collect();
        for service in [
            "KeyService",
            "CryptoService",
            "ObjectService",
            "ClusterService",
            "ActivationService",
        ] {
            let name = format!("portcullis.v1.{service}");
            assert!(found.contains(&name), "{name} is not among {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_say_what_they_are() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let mut answers = Vec::new();
    for (_, client) in gateway.clients().await {
        let answer = client.cluster().list_members(ListMembersRequest {}).await;
        answers.push(answer.expect("ListMembers").into_inner());
    }
    for status in &answers {
        describes_the_members(status);
    }
    assert_eq!(gateway.workers().into_keys().collect::<Vec<_>>(), MEMBERS);
}

fn describes_the_members(status: &ListMembersResponse) {
    assert_eq!(status.domain_epoch, 1);
    assert_eq!(status.domain_fingerprint.len(), 64);
    assert_eq!(status.members.len(), MEMBERS.len());
    for (member, expected) in status.members.iter().zip(MEMBERS) {
        assert_eq!(member.name, format!("members/{expected}"));
        assert!(member.state() == MemberState::Ready, "{expected}: {}", member.reason);
        assert_eq!(member.domain_fingerprint, status.domain_fingerprint);
        assert_eq!(member.worker_starts, 1);
        assert!(member.state_time.is_some());
        assert!(!member.capabilities.is_empty());
        let token = member.token.as_ref().expect("the token");
        assert_eq!(token.label, format!("portcullis-{expected}"));
        assert!(!token.serial_number.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_come_in_the_length_that_was_asked_for() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (_, client) in gateway.clients().await {
        let generate = async |length_bytes| {
            client
                .crypto()
                .generate_random(GenerateRandomRequest { length_bytes })
                .await
        };
        let mut seen = HashSet::new();
        for length in [1, 16, 32, 4096, 65_536] {
            let answer = generate(length).await.expect("random bytes").into_inner();
            assert_eq!(answer.data.len(), length as usize);
            assert_eq!(answer.data_crc32c, crc32c(&answer.data));
            if length >= 16 {
                assert!(seen.insert(answer.data[..16].to_vec()), "the same bytes twice");
            }
        }
        for length in [0, 65_537, u32::MAX] {
            refusal(generate(length).await).is(Code::InvalidArgument, "FIELD_INVALID");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_ends_when_it_is_asked_to_and_takes_its_workers_with_it() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let socket = gateway.unix().to_owned();
    let workers = gateway.workers();
    assert_eq!(workers.len(), MEMBERS.len());
    let ended = gateway.stop();
    assert!(
        ended.stdout.is_empty(),
        "more than the ready line on standard output: {:?}",
        ended.stdout
    );
    for pid in workers.into_values() {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "worker {pid} outlived the gateway"
        );
    }
    assert!(!socket.exists(), "{} was left behind", socket.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_not_configured_is_not_there() {
    for (removed, listens) in [("tls", (true, false)), ("unix", (false, true))] {
        let cluster = TestCluster::new();
        cluster.edit_config(|config| {
            config["listen"].as_table_mut().expect("[listen]").remove(removed);
        });
        let gateway = Gateway::start(&cluster);
        assert_eq!(gateway.listens(), listens);
        let client = if listens.0 {
            gateway.unix_client().await
        } else {
            gateway.tls_client().await
        };
        client
            .crypto()
            .generate_random(GenerateRandomRequest { length_bytes: 16 })
            .await
            .expect("random bytes");
    }
}

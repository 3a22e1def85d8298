//! Certificates and data objects.

use portcullis_client::{
    Client, Code, Status,
    v1::{
        CreateObjectRequest, DataObject, DeleteObjectRequest, GetObjectRequest, ListObjectsRequest, PublicKeyFormat,
        StoredObject, UpdateObjectRequest, stored_object::Content,
    },
};
use portcullis_softhsm_tests::{
    Database, Gateway, KeySpec, Material, TestCluster, clear_import, create_key_for_import, create_ring, import,
    openssl, public_key, refusal, temporary_directory,
};
use prost_types::FieldMask;
use std::fs;
use uuid::Uuid;

/// A certificate with the one that certifies it, in DER, by OpenSSL.
struct Certified {
    key: Material,
    certificate: Vec<u8>,
    issuer: Vec<u8>,
}

impl Certified {
    fn new() -> Self {
        let directory = temporary_directory();
        let path = directory.path();
        let key = Material::generate(portcullis_client::v1::KeyType::EcP256);
        fs::write(path.join("key.der"), &key.value).expect("a file for OpenSSL");
        for arguments in [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=Issuer -days 2",
            "pkey -inform DER -in key.der -out key.pem",
            "req -new -key key.pem -subj /CN=Subject -out request.pem",
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -outform DER -out certificate.der",
            "x509 -in ca.pem -outform DER -out ca.der",
        ] {
            openssl(path, arguments.split(' ')).succeeded();
        }
        Self {
            key,
            certificate: fs::read(path.join("certificate.der")).expect("the certificate"),
            issuer: fs::read(path.join("ca.der")).expect("the issuer's certificate"),
        }
    }

    fn object(&self) -> StoredObject {
        StoredObject {
            label: vec![0xff, 0x00, b'l'].into(),
            object_id: vec![1, 2, 0].into(),
            content: Some(Content::Certificate(self.certificate.clone().into())),
            chain: vec![self.issuer.clone().into()],
            ..Default::default()
        }
    }
}

fn data(application: &str, value: &[u8]) -> StoredObject {
    StoredObject {
        label: application.as_bytes().to_vec().into(),
        content: Some(Content::Data(DataObject {
            application: application.to_owned(),
            oid: vec![6, 3, 0x2a, 3, 4].into(),
            value: value.to_vec().into(),
        })),
        ..Default::default()
    }
}

fn create_request(id: &str, object: StoredObject) -> CreateObjectRequest {
    CreateObjectRequest {
        parent: "keyRings/ring".to_owned(),
        object_id: id.to_owned(),
        object: Some(object),
        ..Default::default()
    }
}

async fn create(client: &Client, id: &str, object: StoredObject) -> Result<StoredObject, Status> {
    Ok(client
        .objects()
        .create_object(create_request(id, object))
        .await?
        .into_inner())
}

async fn get(client: &Client, id: &str) -> Result<StoredObject, Status> {
    let name = format!("keyRings/ring/objects/{id}");
    Ok(client
        .objects()
        .get_object(GetObjectRequest { name })
        .await?
        .into_inner())
}

async fn update(client: &Client, object: StoredObject, paths: &[&str]) -> Result<StoredObject, Status> {
    let request = UpdateObjectRequest {
        object: Some(object),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..Default::default()
    };
    Ok(client.objects().update_object(request).await?.into_inner())
}

/// The ids of all objects that a filter lets pass, in pages of two.
async fn ids(client: &Client, filter: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListObjectsRequest {
            parent: "keyRings/ring".to_owned(),
            page_size: 2,
            page_token,
            filter: filter.to_owned(),
        };
        let page = client
            .objects()
            .list_objects(request)
            .await
            .expect("a page")
            .into_inner();
        assert!(page.objects.len() <= 2);
        let id = |object: &StoredObject| object.name.rsplit('/').next().expect("an id").to_owned();
        found.extend(page.objects.iter().map(id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_kept_with_its_chain_and_belongs_to_its_key() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let certified = Certified::new();
    let key = create_key_for_import(&client, "ring", "subject", KeySpec::EC_P256)
        .await
        .name;
    import(&client, clear_import(&key, &certified.key))
        .await
        .expect("an imported key");
    let object = StoredObject {
        key: key.clone(),
        ..certified.object()
    };
    let made = create(&client, "leaf", object.clone()).await.expect("an object");
    assert!(made.content == object.content);
    assert_eq!(
        (&made.label, &made.object_id, &made.chain),
        (&object.label, &object.object_id, &object.chain)
    );
    assert_eq!(made.key, key);
    let found = get(&client, "leaf").await.expect("the object");
    assert!(found == made);
    assert_eq!(
        public_key(&client, &key, PublicKeyFormat::Der).await.public_key,
        certified.key.public_key
    );

    // Another key's certificate, a chain that does not lead up, and what is no certificate.
    let stranger = StoredObject {
        key: key.clone(),
        ..Certified::new().object()
    };
    let broken_chain = StoredObject {
        chain: vec![certified.certificate.clone().into()],
        ..certified.object()
    };
    let trailing = StoredObject {
        content: Some(Content::Certificate([&certified.certificate[..], &[0]].concat().into())),
        ..certified.object()
    };
    let nothing = StoredObject {
        content: Some(Content::Certificate(vec![0x30, 0].into())),
        ..certified.object()
    };
    let elsewhere = StoredObject {
        key: "keyRings/other/keys/subject".to_owned(),
        ..certified.object()
    };
    for wrong in [
        stranger,
        broken_chain,
        trailing,
        nothing,
        elsewhere,
        StoredObject::default(),
    ] {
        refusal(create(&client, "wrong", wrong).await).is(Code::InvalidArgument, "FIELD_INVALID");
    }
    let absent = StoredObject {
        key: "keyRings/ring/keys/absent".to_owned(),
        ..certified.object()
    };
    refusal(create(&client, "wrong", absent).await).is(Code::NotFound, "KEY_NOT_FOUND");
    refusal(get(&client, "wrong").await).is(Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_changed_by_mask_and_etag_and_deleted_once() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let mut request = create_request("data", data("app", b"first"));
    request.validate_only = true;
    client.objects().create_object(request.clone()).await.expect("a plan");
    refusal(get(&client, "data").await).is(Code::NotFound, "RESOURCE_NOT_FOUND");
    request.validate_only = false;
    request.request_id = Uuid::new_v4().to_string();
    let first = client
        .objects()
        .create_object(request.clone())
        .await
        .expect("an object")
        .into_inner();
    let again = client
        .objects()
        .create_object(request)
        .await
        .expect("the same")
        .into_inner();
    assert_eq!((&first.uid, &first.etag), (&again.uid, &again.etag));
    refusal(create(&client, "data", data("app", b"x")).await).is(Code::AlreadyExists, "RESOURCE_ALREADY_EXISTS");

    let wanted = StoredObject {
        label: vec![0; 255].into(),
        ..StoredObject {
            name: first.name.clone(),
            etag: first.etag.clone(),
            ..data("other", b"second")
        }
    };
    let changed = update(&client, wanted.clone(), &["label"]).await.expect("an update");
    assert_eq!(changed.label, wanted.label);
    assert!(changed.content == first.content);
    refusal(update(&client, wanted.clone(), &["data"]).await).is(Code::Aborted, "ETAG_MISMATCH");
    let fresh = StoredObject {
        etag: changed.etag.clone(),
        ..wanted.clone()
    };
    let changed = update(&client, fresh.clone(), &["data", "object_id"])
        .await
        .expect("an update");
    assert!(changed.content == wanted.content);
    for path in ["certificate", "chain", "uid", "name"] {
        let any = StoredObject {
            etag: String::new(),
            ..wanted.clone()
        };
        refusal(update(&client, any, &[path]).await).is(Code::InvalidArgument, "FIELD_INVALID");
    }
    let too_long = StoredObject {
        etag: String::new(),
        label: vec![0; 256].into(),
        ..wanted
    };
    refusal(update(&client, too_long, &["label"]).await).is(Code::InvalidArgument, "FIELD_INVALID");
    refusal(create(&client, "large", data("app", &vec![0; 64 * 1024 + 1])).await)
        .is(Code::InvalidArgument, "FIELD_INVALID");
    create(&client, "large", data("app", &vec![0; 64 * 1024]))
        .await
        .expect("an object");

    let delete = DeleteObjectRequest {
        name: changed.name.clone(),
        etag: changed.etag,
        request_id: Uuid::new_v4().to_string(),
        validate_only: false,
    };
    for _ in 0..2 {
        client
            .objects()
            .delete_object(delete.clone())
            .await
            .expect("a deletion, and its repetition");
    }
    refusal(get(&client, "data").await).is(Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_pages_and_filters_and_show_what_was_forged() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let certified = Certified::new();
    for number in 0..5 {
        create(
            &client,
            &format!("data-{number}"),
            data(&format!("app-{}", number % 2), &[number]),
        )
        .await
        .expect("an object");
    }
    create(&client, "certificate", certified.object())
        .await
        .expect("an object");
    assert_eq!(
        ids(&client, "").await,
        ["certificate", "data-0", "data-1", "data-2", "data-3", "data-4"]
    );
    assert_eq!(ids(&client, "kind=certificate").await, ["certificate"]);
    assert_eq!(
        ids(&client, "kind=data AND application=app-1").await,
        ["data-1", "data-3"]
    );
    assert_eq!(ids(&client, "label=ff006c").await, ["certificate"]);
    assert_eq!(ids(&client, "object_id=010200 AND kind=data").await, [""; 0]);
    let wrong = ListObjectsRequest {
        parent: "keyRings/ring".to_owned(),
        filter: "colour=blue".to_owned(),
        ..Default::default()
    };
    refusal(client.objects().list_objects(wrong).await).is(Code::InvalidArgument, "FIELD_INVALID");

    drop(client);
    assert!(gateway.stop().status.success());
    let database = Database::of(&cluster);
    let forge = "UPDATE documents SET body = CAST(body || x'00' AS BLOB) WHERE id = 'data-2'";
    assert_eq!(database.execute(forge, ()), 1);
    drop(database);
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let all = ListObjectsRequest {
        parent: "keyRings/ring".to_owned(),
        ..Default::default()
    };
    let page = client.objects().list_objects(all).await.expect("a page").into_inner();
    assert_eq!(page.objects.len(), 5);
    assert_eq!(page.unauthentic, ["keyRings/ring/objects/data-2"]);
    refusal(get(&client, "data-2").await).is(Code::DataLoss, "RECORD_NOT_AUTHENTIC");
}

//! The methods that the gateway knows, by the path of their calls.

use opentelemetry::StringValue;
use portcullis_proto::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::FileDescriptorSet;
use std::{collections::HashMap, sync::Arc};

/// Names of methods. A path that is none has one name with all others: a caller must not make series of metrics.
#[derive(Debug)]
pub(super) struct Methods(HashMap<String, Arc<str>>);

impl Methods {
    /// Those of the API, of health and of reflection.
    pub(super) fn of_the_api() -> Self {
        let mut methods = HashMap::new();
        let sets = [
            FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        for set in sets {
            // Invariant: the sets are made by the build; a test reads them.
            let files = FileDescriptorSet::decode(set).unwrap_or_default().file;
            for file in files {
                for service in &file.service {
                    for method in &service.method {
                        let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                        methods.insert(format!("/{name}"), name.into());
                    }
                }
            }
        }
        Self(methods)
    }

    /// The name of a path.
    pub(super) fn named(&self, path: &str) -> StringValue {
        match self.0.get(path) {
            Some(name) => StringValue::from(Arc::clone(name)),
            None => StringValue::from(OTHER),
        }
    }
}

/// As the semantic conventions call what is not known.
const OTHER: &str = "_OTHER";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_paths_have_names_and_others_share_one() {
        let methods = Methods::of_the_api();
        for known in [
            "portcullis.v1.CryptoService/Sign",
            "portcullis.v1.CryptoService/Pipeline",
            "grpc.health.v1.Health/Check",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert_eq!(methods.named(&format!("/{known}")).as_str(), known);
        }
        for unknown in [
            "/portcullis.v1.CryptoService/Steal",
            "/",
            "",
            "portcullis.v1.CryptoService/Sign",
        ] {
            assert_eq!(methods.named(unknown).as_str(), OTHER);
        }
    }
}

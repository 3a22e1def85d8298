//! Compiles the .proto files without protoc and writes the descriptor set for reflection.

use prost::Message;
use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(
        [
            "portcullis/v1/keys.proto",
            "portcullis/v1/crypto.proto",
            "portcullis/v1/objects.proto",
            "portcullis/v1/cluster.proto",
            "portcullis/v1/activation.proto",
        ],
        ["proto"],
    )?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("portcullis.v1.binpb"), descriptors.encode_to_vec())?;
    // `Debug` output of a message could carry a plaintext into a log. Enums keep theirs.
    let messages: Vec<_> = descriptors
        .file
        .iter()
        .flat_map(|file| {
            file.message_type
                .iter()
                .map(move |message| format!(".{}.{}", file.package(), message.name()))
        })
        .filter(|path| path.starts_with(".portcullis.v1."))
        .collect();
    tonic_prost_build::configure()
        .bytes(".portcullis.v1")
        // Sorted, so that equal messages have equal bytes: requests are recognised by their hash.
        .btree_map(".portcullis.v1")
        .skip_debug(messages)
        .codec_path("crate::BoundedCodec")
        .compile_fds(descriptors)?;
    Ok(())
}

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
    tonic_prost_build::configure()
        .bytes(".portcullis.v1")
        // `Debug` output of a request could carry a plaintext into a log.
        .skip_debug([".portcullis.v1"])
        .compile_fds(descriptors)?;
    Ok(())
}

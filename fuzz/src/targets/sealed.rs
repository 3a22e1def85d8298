//! The beginning of sealed data.

use super::{bytes, vectors};
use crate::{Memory, Pure, Target, Verdict};
use portcullis_client::envelope::{Header, Parsed};

/// Headers of sealed data.
pub(super) const SEALED_HEADERS: Target = Target {
    name: "sealed_headers",
    prepare: || {
        Box::new(Pure {
            samples,
            judge,
            memory: Memory::USUAL,
        })
    },
};

/// Headers alone, and with what follows them.
fn samples() -> Vec<Vec<u8>> {
    let vectors = vectors();
    let messages = vectors["sealed_data"]["messages"].as_array().expect("messages");
    let mut samples: Vec<_> = messages.iter().map(|message| bytes(&message["header"])).collect();
    let short = messages.iter().filter(|message| message["chunks"].is_string());
    samples.extend(short.map(|message| [bytes(&message["header"]), bytes(&message["chunks"])].concat()));
    samples
}

fn judge(input: &[u8]) -> Verdict {
    let parsed = Header::parse(input);
    let read = Header::read(&mut &input[..]);
    match parsed {
        Ok(Parsed::Whole(header, length)) => {
            assert_eq!(header.to_bytes(), input[..length], "it has one form");
            assert!(Header::is_begun_by(input));
            assert_eq!(read.ok().as_ref(), Some(&header), "it is the same however it arrives");
            for end in [0, 1, length / 2, length - 1] {
                let Ok(Parsed::More(more)) = Header::parse(&input[..end]) else {
                    panic!("the first {end} of {length} bytes are no beginning");
                };
                assert!(more > 0 && end + more <= length, "{more} bytes after {end} of {length}");
            }
            Verdict::Accepted
        }
        Ok(Parsed::More(more)) => {
            assert!(more > 0 && more <= 2048, "{more} bytes are missing");
            assert!(read.is_err(), "what is cut off is no header");
            Verdict::Refused
        }
        Err(_) => {
            assert!(read.is_err());
            Verdict::Refused
        }
    }
}

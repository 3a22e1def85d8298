//! Sealed data against the vectors of `docs/vectors.json`, and against every kind of damage.

use super::*;
use proptest::prelude::*;
use serde_json::Value;
use std::{io, sync::OnceLock};
use suite::{CHUNK_BYTES, TAG_BYTES};

/// What opens sealed data, in the place of a gateway: one data key with its encrypted form, under one version.
struct Keys {
    data_key: [u8; 32],
    version: VersionName,
    encrypted: Vec<u8>,
    authenticated: AuthenticatedDigest,
}

impl Keys {
    fn usual() -> Self {
        Self {
            data_key: [3; 32],
            version: "keyRings/demo/keys/files/versions/2".parse().expect("a name"),
            encrypted: vec![8; 82],
            authenticated: Authenticated::Data(Vec::new()).digest(),
        }
    }

    fn seal(&self, message_id: [u8; 32], plaintext: &[u8]) -> Vec<u8> {
        let key = MessageKey::derive(&self.data_key, &message_id, self.authenticated);
        let header = Header::new(
            message_id,
            key.commitment(),
            self.version.clone(),
            self.encrypted.clone(),
        );
        let mut sealed = header.expect("a header").to_bytes();
        let mut writer = SealingWriter::new(&mut sealed, ChunkSealer::new(key), MOST_BYTES);
        writer.write_all(plaintext).expect("sealed");
        writer.finish().expect("sealed");
        sealed
    }

    /// What is released of sealed data, and how it ends. A gateway decrypts its own ciphertexts alone, and names the version
    /// that a ciphertext itself says.
    fn open(&self, sealed: &[u8]) -> (Vec<u8>, Result<(), EnvelopeError>) {
        let mut plaintext = Vec::new();
        let result = self.open_into(sealed, &mut plaintext);
        (plaintext, result)
    }

    fn open_into(&self, mut sealed: &[u8], plaintext: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        let header = Header::read(&mut sealed)?;
        let key = MessageKey::derive(&self.data_key, &header.message_id, self.authenticated);
        let known = header.encrypted_data_key() == self.encrypted && *header.version() == self.version;
        if !known || !key.matches(&header.commitment) {
            return Err(EnvelopeError::NotAuthentic);
        }
        OpeningReader::new(Trickle(sealed), ChunkOpener::new(key), None).read_to_end(plaintext)?;
        Ok(())
    }
}

/// A source that gives a few bytes at a time.
struct Trickle<'b>(&'b [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.0.len()).min(10_007);
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

const SIZES: [usize; 9] = [
    0,
    1,
    100,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    2 * CHUNK_BYTES,
    3 * CHUNK_BYTES,
    3 * CHUNK_BYTES + 77,
];

const ID: [u8; 32] = [6; 32];

/// Three whole chunks and a part, and where its chunks begin.
fn sealed() -> &'static (Vec<u8>, usize) {
    static SEALED: OnceLock<(Vec<u8>, usize)> = OnceLock::new();
    SEALED.get_or_init(|| {
        let sealed = Keys::usual().seal(ID, &data(SIZES[8]));
        let header = sealed.len() - SIZES[8] - 4 * TAG_BYTES;
        (sealed, header)
    })
}

#[test]
fn the_vectors_are_sealed_and_opened() {
    let vectors: Value = serde_json::from_str(include_str!("../../../docs/vectors.json")).expect("JSON");
    let bytes = |value: &Value| hex::decode(value.as_str().expect("text")).expect("hexadecimal text");
    let messages = vectors["sealed_data"]["messages"].as_array().expect("messages");
    assert_eq!(messages.len(), 8);
    for vector in messages {
        let note = &vector["note"];
        let authenticated = match &vector["encryption_context"] {
            Value::Null => Authenticated::Data(bytes(&vector["associated_data"])),
            context => Authenticated::Context(serde_json::from_value(context.clone()).expect("a map")),
        };
        let keys = Keys {
            data_key: bytes(&vector["data_key"]).try_into().expect("32 bytes"),
            version: vector["version"].as_str().expect("text").parse().expect("a name"),
            encrypted: bytes(&vector["encrypted_data_key"]),
            authenticated: authenticated.digest(),
        };
        assert_eq!(
            keys.authenticated,
            AuthenticatedDigest::of(&bytes(&vector["authenticated"])),
            "{note}"
        );
        let message_id = bytes(&vector["message_id"]).try_into().expect("32 bytes");
        let length = vector["plaintext_length"].as_u64().expect("a number") as usize;
        let sealed = keys.seal(message_id, &data(length));
        let header = bytes(&vector["header"]);
        assert_eq!(sealed[..header.len()], header, "{note}");
        if let Some(chunks) = vector.get("chunks") {
            assert_eq!(sealed[header.len()..], bytes(chunks), "{note}");
        }
        assert_eq!(sealed.len() as u64, vector["sealed_length"], "{note}");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &sealed);
        assert_eq!(digest.as_ref(), bytes(&vector["sealed_sha256"]), "{note}");
        let (opened, result) = keys.open(&sealed);
        assert!(result.is_ok() && opened == data(length), "{note}: {result:?}");
    }
}

#[test]
fn data_of_every_size_comes_back_however_it_is_written() {
    let keys = Keys::usual();
    for size in SIZES {
        let plaintext = data(size);
        let whole = keys.seal(ID, &plaintext);
        let (opened, result) = keys.open(&whole);
        assert!(result.is_ok() && opened == plaintext, "{size}: {result:?}");
        for piece in [1_000, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1] {
            let key = MessageKey::derive(&keys.data_key, &ID, keys.authenticated);
            let mut writer = SealingWriter::new(Vec::new(), ChunkSealer::new(key), size as u64);
            for part in plaintext.chunks(piece) {
                writer.write_all(part).expect("sealed");
                writer.flush().expect("flushed");
            }
            let sealed = writer.finish().expect("sealed");
            assert!(whole.ends_with(&sealed), "{size} in pieces of {piece}");
        }
    }
}

#[test]
fn what_is_cut_off_is_never_whole() {
    let keys = Keys::usual();
    for size in SIZES {
        let (plaintext, sealed) = (data(size), keys.seal(ID, &data(size)));
        let header = sealed.len() - size - size.div_ceil(CHUNK_BYTES).max(1) * TAG_BYTES;
        let boundaries = (0..).map(|chunk| header + chunk * (CHUNK_BYTES + TAG_BYTES));
        let boundaries: Vec<_> = boundaries.take_while(|end| *end < sealed.len()).collect();
        for (chunk, boundary) in (0..).zip(&boundaries) {
            let (released, result) = keys.open(&sealed[..*boundary]);
            let at = (chunk * CHUNK_BYTES) as u64;
            assert!(
                matches!(result, Err(EnvelopeError::CutOff { at: found }) if found == at),
                "{size}, chunk {chunk}: {result:?}"
            );
            assert!(released.len() as u64 <= at && plaintext.starts_with(&released));
        }
        for end in (1..40)
            .chain(
                boundaries
                    .iter()
                    .flat_map(|at| [at + 1, at + 15, at + 16, at + 17, at + 1000]),
            )
            .chain([sealed.len() - 1, sealed.len() - 16])
            .filter(|end| *end < sealed.len() && !boundaries.contains(end))
        {
            let (released, result) = keys.open(&sealed[..end]);
            assert!(result.is_err(), "{size} cut off at {end}");
            assert!(plaintext.starts_with(&released) && released.len() % CHUNK_BYTES == 0);
        }
    }
}

#[test]
fn what_is_appended_is_seen() {
    let keys = Keys::usual();
    for size in SIZES {
        let sealed = keys.seal(ID, &data(size));
        for more in [1, 15, 16, 17, CHUNK_BYTES + TAG_BYTES] {
            let longer = [&sealed[..], &vec![0; more]].concat();
            let (released, result) = keys.open(&longer);
            assert!(result.is_err(), "{size} and {more} bytes");
            assert!(data(size).starts_with(&released));
            if size > 0 && size % CHUNK_BYTES == 0 {
                assert!(
                    matches!(result, Err(EnvelopeError::Trailing { at }) if at == size as u64),
                    "{size} and {more} bytes: {result:?}"
                );
            }
        }
        // A second message after the first, and the first chunk again.
        let twice = [&sealed[..], &sealed[..]].concat();
        assert!(keys.open(&twice).1.is_err());
    }
}

#[test]
fn chunks_stay_in_their_places_and_messages_apart() {
    let (sealed, header) = sealed();
    let keys = Keys::usual();
    let other = keys.seal([7; 32], &data(SIZES[8]));
    let chunk = |bytes: &[u8], number: usize| {
        let begin = header + number * (CHUNK_BYTES + TAG_BYTES);
        bytes[begin..(begin + CHUNK_BYTES + TAG_BYTES).min(bytes.len())].to_vec()
    };
    let of = |bytes: &[u8], numbers: &[usize]| -> Vec<u8> {
        let chunks = numbers.iter().flat_map(|number| chunk(bytes, *number));
        sealed[..*header].iter().copied().chain(chunks).collect()
    };
    assert!(keys.open(&of(sealed, &[0, 1, 2, 3])).1.is_ok());
    for numbers in [
        &[1, 0, 2, 3][..],
        &[0, 2, 1, 3],
        &[0, 0, 1, 2, 3],
        &[0, 2, 3],
        &[0, 1, 3],
        &[1, 2, 3],
        &[3],
        &[3, 0, 1, 2],
        &[0, 1, 2, 3, 3],
    ] {
        let (released, result) = keys.open(&of(sealed, numbers));
        assert!(result.is_err(), "{numbers:?}");
        assert!(data(SIZES[8]).starts_with(&released));
    }
    assert!(
        keys.open(&of(&other, &[0, 1, 2, 3])).1.is_err(),
        "another message's chunks"
    );
    let mixed = [of(sealed, &[0]), chunk(&other, 1), chunk(sealed, 2), chunk(sealed, 3)].concat();
    assert!(keys.open(&mixed).1.is_err(), "one of another message's chunks");
    let exchanged = [&other[..*header], &sealed[*header..]].concat();
    assert!(keys.open(&exchanged).1.is_err(), "another message's header");
}

#[test]
fn no_bit_of_the_header_can_be_changed() {
    let (sealed, header) = sealed();
    let keys = Keys::usual();
    for bit in 0..header * 8 {
        let mut changed = sealed[..header + CHUNK_BYTES].to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let (released, result) = keys.open(&changed);
        assert!(result.is_err() && released.is_empty(), "bit {bit}");
        assert!(
            !matches!(
                result,
                Err(EnvelopeError::Damaged { .. } | EnvelopeError::CutOff { .. })
            ),
            "bit {bit} is found before any chunk is opened: {result:?}"
        );
    }
}

#[test]
fn another_context_or_data_key_opens_nothing() {
    let (sealed, _) = sealed();
    for keys in [
        Keys {
            authenticated: Authenticated::Data(vec![0]).digest(),
            ..Keys::usual()
        },
        Keys {
            authenticated: Authenticated::Context(BTreeMap::new()).digest(),
            ..Keys::usual()
        },
        Keys {
            data_key: [4; 32],
            ..Keys::usual()
        },
    ] {
        let (released, result) = keys.open(sealed);
        assert!(matches!(result, Err(EnvelopeError::NotAuthentic)) && released.is_empty());
    }
}

#[test]
fn a_writer_takes_no_more_than_was_announced_and_goes_on_after_no_failure() {
    let sealer = || {
        ChunkSealer::new(MessageKey::derive(
            &[1; 32],
            &ID,
            Authenticated::Data(Vec::new()).digest(),
        ))
    };
    let mut writer = SealingWriter::new(Vec::new(), sealer(), 10);
    writer.write_all(&[0; 10]).expect("as many as were announced");
    let error = EnvelopeError::from(writer.write(&[0]).expect_err("one too many"));
    assert!(matches!(error, EnvelopeError::TooLong { most: 10 }));

    /// A destination with room for a few bytes.
    struct Small(usize);
    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = SealingWriter::new(Small(1000), sealer(), MOST_BYTES);
    let error = writer.write_all(&data(SIZES[8])).expect_err("it is full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(writer.finish().is_err());
}

#[test]
fn a_reader_that_failed_releases_nothing_more() {
    let (sealed, header) = sealed();
    let mut changed = sealed.clone();
    changed[header + CHUNK_BYTES + TAG_BYTES] ^= 1;
    let keys = Keys::usual();
    let key = MessageKey::derive(&keys.data_key, &ID, keys.authenticated);
    let mut reader = OpeningReader::new(&changed[*header..], ChunkOpener::new(key), None);
    let mut released = Vec::new();
    let error = EnvelopeError::from(reader.read_to_end(&mut released).expect_err("it was changed"));
    assert!(matches!(error, EnvelopeError::Damaged { at } if at == CHUNK_BYTES as u64));
    assert!(reader.read(&mut [0; 10]).is_err());
    assert_eq!(released, data(CHUNK_BYTES));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_change_anywhere_is_released(at in any::<prop::sample::Index>(), change in 1..=255_u8) {
        let (sealed, _) = sealed();
        let mut changed = sealed.clone();
        changed[at.index(sealed.len())] ^= change;
        let (released, result) = Keys::usual().open(&changed);
        prop_assert!(result.is_err());
        prop_assert!(data(SIZES[8]).starts_with(&released));
    }

    #[test]
    fn bytes_that_are_taken_out_or_put_in_are_seen(
        at in any::<prop::sample::Index>(),
        length in 1..2 * CHUNK_BYTES,
        put in any::<bool>(),
    ) {
        let (sealed, _) = sealed();
        let at = at.index(sealed.len());
        let changed = if put {
            [&sealed[..at], &vec![0; length], &sealed[at..]].concat()
        } else {
            [&sealed[..at], &sealed[(at + length).min(sealed.len())..]].concat()
        };
        let (released, result) = Keys::usual().open(&changed);
        prop_assert!(result.is_err());
        prop_assert!(data(SIZES[8]).starts_with(&released));
    }

    #[test]
    fn headers_have_one_form(bytes in prop::collection::vec(any::<u8>(), 0..300), flips in prop::collection::vec((0..200_usize, 0..8_u32), 0..3)) {
        // Random bytes, and a header with a few bits changed.
        let mut near = sealed().0[..200].to_vec();
        for (at, bit) in flips {
            near[at] ^= 1_u8 << bit;
        }
        for input in [bytes, near] {
            if let Ok(Parsed::Whole(header, length)) = Header::parse(&input) {
                prop_assert_eq!(header.to_bytes(), &input[..length]);
            }
        }
    }
}

//! Readers and writers of sealed data.

use super::{
    error::EnvelopeError,
    suite::{CHUNK_BYTES, ChunkOpener, ChunkSealer, MOST_BYTES, Place, TAG_BYTES},
};
use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use zeroize::Zeroizing;

/// Seals what is written to it. [`finish`](Self::finish) must end it: without that, the end is missing, and whoever opens it
/// is told so.
#[must_use = "sealed data without its end cannot be opened"]
pub struct SealingWriter<W> {
    destination: W,
    chunks: Chunks,
}

impl<W> SealingWriter<W> {
    /// The same message with the rest of it going elsewhere.
    pub fn elsewhere<V>(self, destination: V) -> SealingWriter<V> {
        SealingWriter {
            destination,
            chunks: self.chunks,
        }
    }
}

impl<W: Write> SealingWriter<W> {
    pub(crate) fn new(destination: W, sealer: ChunkSealer, most: u64) -> Self {
        Self {
            destination,
            chunks: Chunks::new(sealer, most),
        }
    }

    /// Writes the end, and gives the destination back.
    ///
    /// # Errors
    ///
    /// When the destination cannot be written to.
    pub fn finish(mut self) -> Result<W, EnvelopeError> {
        let sealed = self.chunks.end()?;
        self.destination.write_all(sealed)?;
        self.destination.flush()?;
        Ok(self.destination)
    }
}

impl<W: Write> Write for SealingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A chunk is sealed when more follows, because the last one is sealed otherwise.
        if !bytes.is_empty()
            && let Some(sealed) = self.chunks.full()?
        {
            let written = self.destination.write_all(sealed);
            self.chunks.empty(written.is_ok());
            written?;
        }
        Ok(self.chunks.take(bytes)?)
    }

    /// Flushes the destination. What is not a whole chunk yet is kept back.
    fn flush(&mut self) -> io::Result<()> {
        self.destination.flush()
    }
}

/// Plaintext until it is a chunk, and the chunk until it is written.
pub(crate) struct Chunks {
    sealer: ChunkSealer,
    buffer: Zeroizing<Vec<u8>>,
    taken: u64,
    most: u64,
    /// A part of a chunk may have been written: nothing can follow it.
    broken: bool,
}

impl Chunks {
    pub(crate) fn new(sealer: ChunkSealer, most: u64) -> Self {
        Self {
            sealer,
            buffer: Zeroizing::new(Vec::with_capacity(CHUNK_BYTES + TAG_BYTES)),
            taken: 0,
            most: most.min(MOST_BYTES),
            broken: false,
        }
    }

    /// Takes plaintext into the chunk; how much of it.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, EnvelopeError> {
        let length = bytes.len().min(CHUNK_BYTES.saturating_sub(self.buffer.len()));
        let taken = self.taken + length as u64;
        if taken > self.most {
            return Err(EnvelopeError::TooLong { most: self.most });
        }
        self.taken = taken;
        self.buffer.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    /// The chunk, sealed, if it is full. It must be emptied when it is written; until then it is the same.
    pub(crate) fn full(&mut self) -> Result<Option<&[u8]>, EnvelopeError> {
        self.check()?;
        if self.buffer.len() == CHUNK_BYTES {
            self.sealer.seal(&mut self.buffer, Place::Within)?;
        }
        Ok((self.buffer.len() > CHUNK_BYTES).then_some(&self.buffer))
    }

    /// The chunk was written, or not whole.
    pub(crate) fn empty(&mut self, written: bool) {
        self.buffer.clear();
        self.broken = !written;
    }

    /// The last chunk, sealed.
    pub(crate) fn end(&mut self) -> Result<&[u8], EnvelopeError> {
        self.check()?;
        self.sealer.seal(&mut self.buffer, Place::Last)?;
        Ok(&self.buffer)
    }

    fn check(&self) -> Result<(), EnvelopeError> {
        if self.broken {
            return Err(io::Error::other("an earlier chunk could not be written").into());
        }
        Ok(())
    }
}

/// Reads the plaintext of sealed data: only what is authentic, chunk by chunk. That all of it was read is known when it says
/// that it has ended; an error in the place of that says what is wrong, as an [`EnvelopeError`] inside an [`io::Error`].
pub struct OpeningReader<R> {
    source: R,
    chunks: SealedChunks,
    plaintext: Zeroizing<Vec<u8>>,
    given: usize,
    primary: bool,
}

impl<R: Read> OpeningReader<R> {
    pub(crate) fn new(source: R, opener: ChunkOpener, used: Option<Arc<AtomicU64>>) -> Self {
        Self {
            source,
            chunks: SealedChunks::new(opener, used),
            plaintext: Zeroizing::default(),
            given: 0,
            primary: true,
        }
    }

    pub(crate) fn by_primary(self, primary: bool) -> Self {
        Self { primary, ..self }
    }

    /// Whether the data key was under the key's primary version when the gateway decrypted it. If not, it can be put under that
    /// one.
    pub fn used_primary(&self) -> bool {
        self.primary
    }
}

impl<R: Read> Read for OpeningReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.given == self.plaintext.len() {
            self.given = 0;
            self.plaintext.clear();
            while self.chunks.wants() {
                match self.source.read(self.chunks.space()) {
                    Ok(length) => self.chunks.came(length),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            self.chunks.open(&mut self.plaintext)?;
        }
        let length = buffer.len().min(self.plaintext.len() - self.given);
        buffer[..length].copy_from_slice(&self.plaintext[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }
}

/// Sealed bytes until they are a chunk, and it is known whether anything follows it.
pub(crate) struct SealedChunks {
    opener: ChunkOpener,
    bytes: Vec<u8>,
    filled: usize,
    state: State,
    used: Option<Arc<AtomicU64>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended.
    Ending,
    /// The last chunk was opened.
    Ended,
    /// Something was wrong, and nothing more is released.
    Failed,
}

impl SealedChunks {
    pub(crate) fn new(opener: ChunkOpener, used: Option<Arc<AtomicU64>>) -> Self {
        Self {
            opener,
            // A chunk, and one byte that tells that more follows.
            bytes: vec![0; CHUNK_BYTES + TAG_BYTES + 1],
            filled: 0,
            state: State::Open,
            used,
        }
    }

    /// Whether it takes more bytes before it can open a chunk.
    pub(crate) fn wants(&self) -> bool {
        self.state == State::Open && self.filled < self.bytes.len()
    }

    /// Where they go.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// So many came; none is the end.
    pub(crate) fn came(&mut self, length: usize) {
        self.filled += length;
        if length == 0 {
            self.state = State::Ending;
        }
    }

    /// Opens the next chunk; into nothing after the last one.
    pub(crate) fn open(&mut self, plaintext: &mut Zeroizing<Vec<u8>>) -> Result<(), EnvelopeError> {
        let sealed = CHUNK_BYTES + TAG_BYTES;
        let result = match self.state {
            State::Ended => {
                plaintext.clear();
                return Ok(());
            }
            State::Failed => return Err(io::Error::other("it was not authentic").into()),
            State::Ending if self.filled <= sealed => {
                let last = self.opener.open(&self.bytes[..self.filled], Place::Last, plaintext);
                self.state = State::Ended;
                last
            }
            State::Open | State::Ending => {
                let opened = self.opener.open(&self.bytes[..sealed], Place::Within, plaintext);
                self.bytes.copy_within(sealed..self.filled, 0);
                self.filled -= sealed;
                opened
            }
        };
        match &result {
            Ok(()) => {
                if let Some(used) = &self.used {
                    used.fetch_add(plaintext.len() as u64, Ordering::Relaxed);
                }
            }
            Err(_) => self.state = State::Failed,
        }
        result
    }
}

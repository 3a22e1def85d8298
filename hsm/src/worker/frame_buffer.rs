//! What has been read from a socket and is no message yet.

use super::protocol::{decode_message, frame_length};
use std::{
    io::{self, Read},
    ops::Range,
};
use zeroize::Zeroizing;

/// Bytes that came from the other process, in order. Frames hold PINs and plaintexts, so each is wiped as soon as its message was
/// taken: what is read next may be shorter, and may never come.
pub struct FrameBuffer {
    bytes: Zeroizing<Vec<u8>>,
    // Where the bytes are that were read and not taken.
    filled: Range<usize>,
}

impl FrameBuffer {
    /// Nothing has been read.
    pub fn new() -> Self {
        Self {
            bytes: Zeroizing::new(vec![0; USUAL]),
            filled: 0..0,
        }
    }

    /// Where the next bytes belong, as many as there come; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled.end..]
    }

    /// Says how many bytes were put into the room.
    pub fn came(&mut self, count: usize) {
        self.filled.end += count;
    }

    /// Takes the next message, if all of its frame has come. Ask until there is none before reading on.
    pub fn take<M: prost::Message + Default>(&mut self) -> io::Result<Option<M>> {
        let [a, b, c, d, rest @ ..] = &self.bytes[self.filled.clone()] else {
            self.make_room(HEAD);
            return Ok(None);
        };
        let length = frame_length([*a, *b, *c, *d])?;
        let Some(frame) = rest.get(..length) else {
            self.make_room(HEAD + length);
            return Ok(None);
        };
        let message = decode_message(frame);
        let end = self.filled.start + HEAD + length;
        // The buffer is read again, so this is done; byte by byte, as it is for memory that goes, it takes longer than the message.
        self.bytes[self.filled.start..end].fill(0);
        self.filled.start = end;
        message.map(Some)
    }

    /// Reads until a message is there; `None` at the end of what can be read.
    pub fn read<M: prost::Message + Default>(&mut self, from: &mut impl Read) -> io::Result<Option<M>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            match from.read(self.room()) {
                Ok(0) => return Ok(None),
                Ok(count) => self.came(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes a frame of this length fit from where the next one begins.
    fn make_room(&mut self, frame: usize) {
        let Range { start, end } = self.filled;
        if start == end {
            self.filled = 0..0;
        }
        if self.filled.start + frame <= self.bytes.len() {
            return;
        }
        if frame <= self.bytes.len() {
            self.bytes.copy_within(start..end, 0);
            // What is behind the copy was also in front of it, and is there no more.
            self.bytes[end - start..end].fill(0);
        } else {
            // Not grown in place, which would leave a copy behind that nobody wipes.
            let mut larger = Zeroizing::new(vec![0; frame.next_power_of_two()]);
            larger[..end - start].copy_from_slice(&self.bytes[start..end]);
            self.bytes = larger;
        }
        self.filled = 0..end - start;
    }
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self::new()
    }
}

const HEAD: usize = 4;
const USUAL: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::{
        super::protocol::{Failure, Reply, ReplyBody, encode_frame},
        *,
    };

    fn reply(id: u64, length: usize) -> Reply {
        Reply {
            id,
            body: Some(ReplyBody::Failure(Failure {
                message: "canary ".repeat(length / 7),
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    #[test]
    fn frames_come_out_however_they_are_cut_and_nothing_stays_behind() {
        let lengths = [
            0,
            7,
            700,
            USUAL - 40,
            3,
            3 * USUAL,
            14,
            2 * USUAL,
            USUAL / 2,
            USUAL / 2,
            70,
        ];
        let replies: Vec<_> = (1..).zip(lengths).map(|(id, length)| reply(id, length)).collect();
        let wire: Vec<u8> = replies.iter().flat_map(|reply| encode_frame(reply).to_vec()).collect();
        for piece in [1, 3, 1000, USUAL, wire.len()] {
            let mut buffer = FrameBuffer::new();
            let mut taken = Vec::new();
            let mut left = wire.as_slice();
            while !left.is_empty() {
                let room = buffer.room();
                let count = room.len().min(piece).min(left.len());
                room[..count].copy_from_slice(&left[..count]);
                left = &left[count..];
                buffer.came(count);
                let before = taken.len();
                while let Some(reply) = buffer.take::<Reply>().expect("a frame") {
                    taken.push(reply);
                }
                if taken.len() == before {
                    // There is only more to come than before.
                    continue;
                }
                let filled = buffer.filled.clone();
                let outside = buffer.bytes[..filled.start].iter().chain(&buffer.bytes[filled.end..]);
                assert!(outside.clone().all(|byte| *byte == 0), "in pieces of {piece}");
            }
            assert!(taken == replies, "in pieces of {piece}");
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_before_it_is_read() {
        let mut buffer = FrameBuffer::new();
        buffer.room()[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        buffer.came(4);
        assert!(buffer.take::<Reply>().is_err());
    }

    #[test]
    fn what_is_cut_short_is_no_message() {
        let frame = encode_frame(&reply(1, 70));
        let mut buffer = FrameBuffer::new();
        let read = buffer.read::<Reply>(&mut &frame[..frame.len() - 1]);
        assert!(read.is_ok_and(|read| read.is_none()));
    }
}

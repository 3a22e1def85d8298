//! Frames: four bytes of length, big-endian, and a message.

use std::io::{self, Read, Write};
use zeroize::Zeroizing;

/// The longest frame. A payload and its associated data, each of [`MAX_PAYLOAD`](super::MAX_PAYLOAD), fit with room for a token.
pub const MAX_FRAME: usize = 8 * 1024 * 1024;

/// Encodes a message as one frame. Wiped when dropped, because it may hold a PIN or a plaintext.
pub fn encode_frame(message: &impl prost::Message) -> Zeroizing<Vec<u8>> {
    let length = message.encoded_len();
    let mut frame = Zeroizing::new(Vec::with_capacity(4 + length));
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    message.encode_raw(&mut *frame);
    frame
}

/// Reads one frame's message; `None` at the end of the stream.
pub fn read_frame<M: prost::Message + Default>(reader: &mut impl Read) -> io::Result<Option<M>> {
    let mut length = [0; 4];
    if let Err(error) = reader.read_exact(&mut length) {
        return if error.kind() == io::ErrorKind::UnexpectedEof {
            Ok(None)
        } else {
            Err(error)
        };
    }
    let length = frame_length(length)?;
    let mut frame = Zeroizing::new(vec![0; length]);
    reader.read_exact(&mut frame)?;
    decode_message(&frame).map(Some)
}

/// The length in a frame's head.
pub fn frame_length(head: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(head) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes; at most {MAX_FRAME} were expected"),
        ));
    }
    Ok(length)
}

/// Reads the message of a frame.
pub fn decode_message<M: prost::Message + Default>(frame: &[u8]) -> io::Result<M> {
    M::decode(frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// Writes one message as a frame, with a single write.
pub fn write_frame(writer: &mut impl Write, message: &impl prost::Message) -> io::Result<()> {
    writer.write_all(&encode_frame(message))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Random, Request, RequestBody},
        *,
    };

    #[test]
    fn a_frame_reads_back_and_the_end_is_told_from_a_cut() {
        let request = Request {
            id: 7,
            time_left_us: 5,
            body: Some(RequestBody::Random(Random { length: 9 })),
        };
        let frame = encode_frame(&request);
        assert!(read_frame(&mut frame.as_slice()).is_ok_and(|read| read == Some(request)));
        assert!(read_frame::<Request>(&mut [].as_slice()).is_ok_and(|read| read.is_none()));
        assert!(read_frame::<Request>(&mut &frame[..frame.len() - 1]).is_err());
    }

    #[test]
    fn an_oversized_frame_is_refused_before_it_is_read() {
        assert!(frame_length(((MAX_FRAME + 1) as u32).to_be_bytes()).is_err());
    }
}

//! How messages are read and written: as protobuf, and of no more parts than they may have.

use bytes::{Buf, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, decode_key, skip_field},
};
use std::marker::PhantomData;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

/// How many fields a message may have, each item of a list counted. Twice the items of the largest batch.
///
/// An item of a list that says nothing takes two bytes on the way and some hundred in memory: without this bound, 4 MiB would
/// become some hundred times as much before anybody looks at how many items there are.
pub const MOST_FIELDS: usize = 8192;

/// Reads a message.
///
/// # Errors
///
/// `OUT_OF_RANGE` when it has more than [`MOST_FIELDS`] fields, `INTERNAL` when it is no such message, as the transport has it.
pub fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    let malformed = |error: DecodeError| Status::internal(error.to_string());
    let mut rest = message.clone();
    let mut fields = 0;
    while rest.has_remaining() {
        fields += 1;
        if fields > MOST_FIELDS {
            return Err(Status::out_of_range(format!(
                "the message has more than {MOST_FIELDS} fields, each item of a list counted"
            )));
        }
        let (tag, wire_type) = decode_key(&mut rest).map_err(malformed)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).map_err(malformed)?;
    }
    M::decode(message).map_err(malformed)
}

/// The codec of every method.
#[derive(Debug, Clone, Copy)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// Reads messages by [`decode`].
#[derive(Debug, Clone, Copy)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let length = from.remaining();
        decode(from.copy_to_bytes(length)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{BatchSignRequest, SignRequest};
    use tonic::Code;

    fn batch(items: usize) -> Bytes {
        let items = vec![SignRequest::default(); items];
        BatchSignRequest { items }.encode_to_vec().into()
    }

    /// Found when its fuzz target was made: two bytes became some hundred.
    #[test]
    fn a_message_of_too_many_items_is_refused_before_they_take_memory() {
        let read = decode::<BatchSignRequest>(batch(MOST_FIELDS)).expect("as many as there may be");
        assert_eq!(read.items.len(), MOST_FIELDS);
        let refused = decode::<BatchSignRequest>(batch(MOST_FIELDS + 1))
            .err()
            .expect("one too many");
        assert_eq!(refused.code(), Code::OutOfRange);
    }

    #[test]
    fn what_is_no_message_is_refused_as_the_transport_does() {
        for wrong in [&b"\xff"[..], b"\x0a\x05", b"\x0b"] {
            let refused = decode::<SignRequest>(Bytes::copy_from_slice(wrong))
                .err()
                .expect("no message");
            assert_eq!(refused.code(), Code::Internal);
        }
    }
}

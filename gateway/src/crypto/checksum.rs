//! CRC32C (Castagnoli) of payloads, which finds what a network or a program garbled on the way.

/// The checksum.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

#[cfg(test)]
mod tests {
    /// RFC 3720 appendix B.4.
    #[test]
    fn published_vectors_hold() {
        assert_eq!(super::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(super::crc32c(&[0xff; 32]), 0x62a8_ab43);
    }
}

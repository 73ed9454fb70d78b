//! Compares a trace with the checksum that a runner sent for it (gitlab-protocol.md §5.1).

/// Whether `trace` is what the runner says it sent.
pub(super) fn matches(trace: &[u8], checksum: &str, bytesize: Option<u64>) -> bool {
    let own = format!("crc32:{:08x}", crc32fast::hash(trace));
    own == checksum && bytesize.is_none_or(|size| size == trace.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_fits_only_its_own_bytes() {
        assert!(matches(b"123456789", "crc32:cbf43926", Some(9)));
        assert!(!matches(b"123456789", "crc32:cbf43927", Some(9)));
        assert!(!matches(b"123456789", "crc32:cbf43926", Some(8)));
    }
}

//! Makes a stream of bytes text: what is no UTF-8 becomes U+FFFD (runner-behaviour.md §7.1).

/// The replacement character.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Reads one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Utf8 {
    /// The beginning of a character whose rest has not come.
    begun: Vec<u8>,
}

impl Utf8 {
    /// Reads `bytes` and appends whole characters to `out`.
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.begun.is_empty() {
            return self.read(bytes, out);
        }
        let mut joined = std::mem::take(&mut self.begun);
        joined.extend_from_slice(bytes);
        self.read(&joined, out);
    }

    /// Ends the stream.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.begun).is_empty() {
            out.extend_from_slice(REPLACEMENT);
        }
    }

    fn read(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            out.extend_from_slice(chunk.valid().as_bytes());
            if chunk.invalid().is_empty() {
                continue;
            }
            match chunks.peek().is_none() && may_go_on(chunk.invalid()) {
                true => self.begun = chunk.invalid().to_vec(),
                false => out.extend_from_slice(REPLACEMENT),
            }
        }
    }
}

/// Whether a character may still come of these bytes.
fn may_go_on(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_chunking_gives_the_text_of_the_whole(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0x80u8..0xf8, Just(0xe2), Just(0x82)], 0..60),
            cut in 0usize..60,
        ) {
            let cut = cut.min(bytes.len());
            let (mut utf8, mut out) = (Utf8::default(), Vec::new());
            utf8.write(&bytes[..cut], &mut out);
            prop_assert!(std::str::from_utf8(&out).is_ok());
            utf8.write(&bytes[cut..], &mut out);
            utf8.finish(&mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

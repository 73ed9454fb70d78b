//! Writes tar entries with names that a careful writer would refuse.

use tar::{EntryType, Header};

/// Appends one entry to `out`.
pub(super) fn tar_entry(out: &mut Vec<u8>, kind: EntryType, path: &str, link: &str, mode: u32, content: &[u8]) {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_000_000_000);
    header.set_size(content.len() as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}

//! Unpacks anything: caches and artifacts are strangers' bytes.
//!
//! The first byte says how the rest is an archive: as it is, as a tar that is packed here, or as a tar whose headers get
//! the right checksums before, for no fuzzer finds these.
#![no_main]

use std::fs;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use libfuzzer_sys::fuzz_target;
use mayfly::cache::room::Room;
use mayfly::cache::unpack::unpack;

const MOST_BYTES: u64 = 1 << 20;
const MOST_ENTRIES: u64 = 64;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let archive = match kind % 3 {
        0 => data.to_vec(),
        1 => zstd::encode_all(data, 1).expect("memory"),
        _ => zstd::encode_all(with_checksums(data).as_slice(), 1).expect("memory"),
    };
    let top = tempfile::tempdir().expect("a directory");
    let project = top.path().join("project");
    fs::create_dir(&project).expect("a directory");
    fs::write(top.path().join("victim"), "untouched").expect("a file");
    std::os::unix::fs::symlink("..", project.join("out")).expect("a link");
    let root = Dir::open_ambient_dir(&project, ambient_authority()).expect("it is there");

    let unpacked = unpack(&root, Room::new(MOST_BYTES, MOST_ENTRIES), archive.as_slice());

    if let Ok(unpacked) = unpacked {
        assert!(unpacked.bytes <= MOST_BYTES && unpacked.files <= MOST_ENTRIES, "{unpacked:?}");
    }
    let beside = fs::read_dir(top.path()).expect("it is there").count();
    assert_eq!(beside, 2, "something was made outside");
    assert_eq!(fs::read(top.path().join("victim")).expect("it is there"), b"untouched");
});

fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    for block in data.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    data
}

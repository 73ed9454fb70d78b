//! What is packed comes out again, and nothing else is packed.

use super::archive::{PackError, pack};
use super::plant::Unpacked;
use super::room::Room;
use super::unpack::UnpackError;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq)]
enum Node {
    File { content: Vec<u8>, mode: u32, modified: (i64, u32) },
    Directory { mode: u32 },
    Symlink(String),
}

fn node() -> impl Strategy<Value = Node> {
    let content = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..2000),
        (any::<u8>(), 0..300_000usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    let mode = prop_oneof![Just(0o644), Just(0o755), Just(0o400), Just(0o777), Just(0o600)];
    let modified = (0i64..5_000_000_000, 0u32..1_000_000_000);
    prop_oneof![
        4 => (content, mode, modified).prop_map(|(content, mode, modified)| Node::File { content, mode, modified }),
        1 => prop_oneof![Just(0o755), Just(0o500), Just(0o777)].prop_map(|mode| Node::Directory { mode }),
        1 => r"(\.\./|/)?[a-z]{1,8}(/[a-z]{100,130}){0,2}".prop_map(Node::Symlink),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![r"[a-z]{1,6}", r"[ -.0-~]{1,12}", r"[äöü日本\n\t]{1,6}", r"[a-z]{90,140}"]
        .prop_filter("no name", |name| name != "." && name != "..")
}

fn make(root: &Path, nodes: &BTreeMap<String, Node>) {
    for (name, node) in nodes {
        let path = root.join(name);
        match node {
            Node::File { content, mode, modified } => {
                fs::write(&path, content).unwrap();
                let time = std::time::UNIX_EPOCH + std::time::Duration::new(modified.0.cast_unsigned(), modified.1);
                fs::File::open(&path).unwrap().set_modified(time).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Node::Directory { mode } => {
                fs::create_dir(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Node::Symlink(target) => symlink(target, &path).unwrap(),
        }
    }
}

fn look(root: &Path) -> BTreeMap<String, Node> {
    let entries = fs::read_dir(root).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            let mode = metadata.mode() & 0o7777;
            let node = if metadata.is_symlink() {
                Node::Symlink(fs::read_link(entry.path()).unwrap().to_str().unwrap().to_owned())
            } else if metadata.is_dir() {
                Node::Directory { mode }
            } else {
                let modified = (metadata.mtime(), metadata.mtime_nsec().try_into().unwrap());
                Node::File { content: fs::read(entry.path()).unwrap(), mode, modified }
            };
            (entry.file_name().to_str().unwrap().to_owned(), node)
        })
        .collect()
}

fn dir(path: &Path) -> Dir {
    Dir::open_ambient_dir(path, ambient_authority()).unwrap()
}

fn unpack(to: &Path, archive: &[u8]) -> Result<Unpacked, UnpackError> {
    let root = dir(to);
    super::unpack::unpack(&root, Room::of(&root).unwrap(), archive)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_packed_comes_out_again(nodes in proptest::collection::btree_map(name(), node(), 0..12)) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(from.path(), &nodes);
        let paths: Vec<PathBuf> = nodes.keys().map(PathBuf::from).collect();

        let (packed, archive) = pack(&dir(from.path()), &paths, 1, Vec::new()).unwrap();
        let unpacked = unpack(to.path(), &archive).unwrap();

        prop_assert_eq!(look(to.path()), nodes);
        prop_assert_eq!((packed.files, packed.bytes), (unpacked.files, unpacked.bytes));
        prop_assert!(packed.warnings.is_empty());
    }
}

#[test]
fn deep_paths_and_directories_keep_their_rights_and_times() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let deep: PathBuf = (0..12).map(|n| format!("{n}-{}", "directory".repeat(6))).collect();
    fs::create_dir_all(from.path().join(&deep)).unwrap();
    fs::write(from.path().join(&deep).join("file"), "x").unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 5);
    fs::File::open(from.path().join(&deep)).unwrap().set_modified(old).unwrap();
    fs::set_permissions(from.path().join(&deep), fs::Permissions::from_mode(0o555)).unwrap();

    let paths = [deep.clone(), deep.join("file")];
    let (_, archive) = pack(&dir(from.path()), &paths, 1, Vec::new()).unwrap();
    unpack(to.path(), &archive).unwrap();

    let metadata = fs::metadata(to.path().join(&deep)).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.modified().unwrap()), (0o555, old));
    assert_eq!(fs::read_to_string(to.path().join(deep).join("file")).unwrap(), "x");
}

#[test]
fn two_names_of_one_file_are_packed_once_and_stay_one_file() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(from.path().join("a"), [7; 1000]).unwrap();
    fs::hard_link(from.path().join("a"), from.path().join("b")).unwrap();

    let (packed, archive) = pack(&dir(from.path()), &["a".into(), "b".into()], 1, Vec::new()).unwrap();
    unpack(to.path(), &archive).unwrap();

    assert_eq!((packed.files, packed.bytes), (2, 1000));
    let inode = |name| fs::metadata(to.path().join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
}

#[test]
fn a_planted_symlink_is_packed_as_a_link_and_a_pipe_or_a_lost_file_is_left_out() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    symlink("/proc/self/environ", from.path().join("environ")).unwrap();
    symlink("/proc/self/root/etc", from.path().join("etc")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        from.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();

    let paths = ["environ", "etc", "pipe", "gone"].map(PathBuf::from);
    let (packed, archive) = pack(&dir(from.path()), &paths, 1, Vec::new()).unwrap();
    unpack(to.path(), &archive).unwrap();

    assert_eq!((packed.files, packed.bytes, packed.warnings.len()), (2, 0, 2));
    assert_eq!(look(to.path())["environ"], Node::Symlink("/proc/self/environ".into()));
    assert!(!to.path().join("pipe").exists());
}

#[test]
fn nothing_is_read_through_a_link_that_leads_out() {
    let (from, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("secret"), "s").unwrap();
    symlink(outside.path(), from.path().join("link")).unwrap();

    let packed = pack(&dir(from.path()), &["link/secret".into()], 1, Vec::new());

    assert!(matches!(packed, Err(PackError::Read { .. })));
}

#[test]
fn other_tars_read_what_we_pack() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let long = "n".repeat(180);
    fs::write(from.path().join(&long), "long").unwrap();
    symlink(&long, from.path().join("link")).unwrap();
    let (_, archive) = pack(&dir(from.path()), &[long.clone().into(), "link".into()], 3, Vec::new()).unwrap();

    let mut theirs = tar::Archive::new(zstd::Decoder::new(archive.as_slice()).unwrap());
    theirs.unpack(to.path()).unwrap();

    assert_eq!(fs::read_to_string(to.path().join("link")).unwrap(), "long");
}

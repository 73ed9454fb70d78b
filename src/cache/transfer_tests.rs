//! Transfers over real HTTP, with and without faults.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use reqwest::Client;

use super::access::Ask;
use super::archive::{PackError, pack};
use super::test_bucket::{Bucket, Fault};
use super::transfer::{CacheStore, Restored, TransferError};

const MIB: usize = 1 << 20;

fn store(bucket: &Bucket) -> CacheStore<Bucket> {
    CacheStore::new(Client::new(), bucket.clone(), |_| {})
}

fn open(directory: &tempfile::TempDir) -> Dir {
    Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap()
}

/// An archive of one file `a`.
fn archive(content: &[u8]) -> Vec<u8> {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("a"), content).unwrap();
    pack(&open(&from), &[PathBuf::from("a")], 1, Vec::new()).unwrap().1
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

#[tokio::test]
async fn a_small_archive_is_saved_in_one_request_and_comes_back() {
    let bucket = Bucket::start().await;
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(from.path().join("a"), "content").unwrap();
    let root = open(&from);

    let saved = store(&bucket).save(3, None, move |out| Ok(pack(&root, &["a".into()], 3, out)?.0)).await.unwrap();
    let stored = bucket.with(|state| state.objects.remove("entry3-").unwrap());
    assert_eq!((saved.0.files, saved.1), (1, stored.len() as u64));
    assert_eq!(bucket.with(|state| state.requests.len()), 1);

    bucket.with(|state| state.objects.insert("entry3-0".into(), stored));
    let restored = store(&bucket).restore(3, 0, &open(&to)).await.unwrap();
    assert!(matches!(restored, Restored::Unpacked(unpacked) if unpacked.files == 1));
    assert_eq!(fs::read_to_string(to.path().join("a")).unwrap(), "content");
}

#[tokio::test]
async fn a_large_archive_is_saved_in_parts_in_order() {
    let bucket = Bucket::start().await;
    for length in [16 * MIB - 1, 16 * MIB, 16 * MIB + 1, 70 * MIB + 5] {
        let content = noise(length);
        let written = content.clone();
        let write = move |out: &mut super::pipe::PipeWriter| out.write_all(&written).map_err(PackError::Write);
        let (_, bytes) = store(&bucket).save(0, None, write).await.unwrap();
        assert_eq!(bytes, length as u64);
        assert!(bucket.with(|state| state.objects.remove("entry0-")).unwrap() == content, "{length}");
        let asked = bucket.with(|state| std::mem::take(&mut state.asked));
        let parts = asked.iter().filter(|ask| matches!(ask, Ask::Part { .. })).count();
        assert_eq!(parts, if length < 16 * MIB { 0 } else { length.div_ceil(16 * MIB) }, "{length}");
        assert!(bucket.with(|state| state.uploads.is_empty()));
    }
}

#[tokio::test]
async fn a_missing_object_is_missing_and_not_asked_for_again() {
    let bucket = Bucket::start().await;
    let to = tempfile::tempdir().unwrap();
    assert_eq!(store(&bucket).restore(0, 1, &open(&to)).await.unwrap(), Restored::Missing);
    assert_eq!(bucket.with(|state| state.requests.clone()), ["GET /entry0-1"]);
}

#[tokio::test]
async fn a_download_that_breaks_off_is_begun_again_and_the_third_failure_is_final() {
    let bucket = Bucket::start().await;
    let to = tempfile::tempdir().unwrap();
    let content = noise(2 * MIB);
    bucket.with(|state| {
        state.objects.insert("entry0-0".into(), archive(&content));
        state.faults.extend([Fault::Cut, Fault::Status(503)]);
    });
    let restored = store(&bucket).restore(0, 0, &open(&to)).await.unwrap();
    assert!(matches!(restored, Restored::Unpacked(_)));
    assert!(fs::read(to.path().join("a")).unwrap() == content);

    bucket.with(|state| state.faults.extend([Fault::Hangup, Fault::Cut, Fault::Cut, Fault::Cut]));
    let error = store(&bucket).restore(0, 0, &open(&to)).await.unwrap_err();
    assert!(matches!(error, TransferError::Network(_)), "{error:?}");
}

#[tokio::test]
async fn a_refusal_is_final_and_names_s3s_reason_without_the_url() {
    let bucket = Bucket::start().await;
    let to = tempfile::tempdir().unwrap();
    bucket.with(|state| state.faults.push_back(Fault::Status(403)));
    let error = store(&bucket).restore(0, 0, &open(&to)).await.unwrap_err();
    assert_eq!(error.to_string(), "the cache's bucket answers `403 Forbidden` (Code403)");
    assert_eq!(bucket.with(|state| state.requests.len()), 1);

    bucket.with(|state| state.faults.extend([Fault::Hangup, Fault::Hangup, Fault::Hangup]));
    let error = store(&bucket).restore(0, 0, &open(&to)).await.unwrap_err();
    assert!(!super::transfer::chain(&error).contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_damaged_archive_is_not_downloaded_again() {
    let bucket = Bucket::start().await;
    let to = tempfile::tempdir().unwrap();
    bucket.with(|state| state.objects.insert("entry0-0".into(), b"no archive at all".to_vec()));
    let error = store(&bucket).restore(0, 0, &open(&to)).await.unwrap_err();
    assert!(matches!(error, TransferError::Unpack(_)), "{error:?}");
    assert_eq!(bucket.with(|state| state.requests.len()), 1);
}

#[tokio::test]
async fn a_part_is_sent_again_and_an_upload_that_fails_is_aborted() {
    let bucket = Bucket::start().await;
    let write = |out: &mut super::pipe::PipeWriter| out.write_all(&noise(40 * MIB)).map_err(PackError::Write);
    bucket.with(|state| state.faults.extend([Fault::Status(500), Fault::Status(409)]));
    assert_eq!(store(&bucket).save(0, None, write).await.unwrap().1, 40 * MIB as u64);

    bucket.with(|state| {
        state.objects.clear();
        state.asked.clear();
        state.faults.push_back(Fault::Status(400));
    });
    let error = store(&bucket).save(0, None, write).await.unwrap_err();
    assert!(matches!(error, TransferError::Refused { status, .. } if status == 400), "{error:?}");
    assert!(bucket.with(|state| state.uploads.is_empty() && state.objects.is_empty()));
    assert!(bucket.with(|state| matches!(state.asked.last(), Some(Ask::Abort { .. }))));
}

#[tokio::test]
async fn a_writer_that_fails_leaves_no_object() {
    let bucket = Bucket::start().await;
    for length in [0, 20 * MIB] {
        let write = move |out: &mut super::pipe::PipeWriter| {
            out.write_all(&noise(length)).map_err(PackError::Write)?;
            Err::<(), _>(PackError::Read { path: "a".into(), source: std::io::Error::other("gone") })
        };
        let error = store(&bucket).save(0, None, write).await.unwrap_err();
        assert!(matches!(error, TransferError::Pack(PackError::Read { .. })), "{error:?}");
        assert!(bucket.with(|state| state.uploads.is_empty() && state.objects.is_empty()));
    }
}

#[tokio::test]
async fn an_archive_that_is_larger_than_allowed_is_not_saved() {
    let bucket = Bucket::start().await;
    for length in [3 * MIB, 40 * MIB] {
        let write = move |out: &mut super::pipe::PipeWriter| out.write_all(&noise(length)).map_err(PackError::Write);
        let error = store(&bucket).save(0, Some(2 * MIB as u64), write).await.unwrap_err();
        assert!(matches!(error, TransferError::TooLarge(_)), "{error:?}");
        assert!(bucket.with(|state| state.uploads.is_empty() && state.objects.is_empty()));
    }
}

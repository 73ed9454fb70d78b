//! Archives as strangers and GitLab Runner write them, and ways to put them where jobs find them.

use std::io::{Cursor, Write};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use mayfly::sandbox::gitlab::JobHandle;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::support::Story;

/// A zip of one file that may be run.
pub fn zip(name: &str, content: &str, method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method).unix_permissions(0o755);
    writer.start_file(name, options).expect("it takes any name");
    writer.write_all(content.as_bytes()).expect("memory");
    writer.finish().expect("memory").into_inner()
}

/// A zip of a link and of a file behind it.
pub fn zip_through_a_link(link: &str, target: &str, file: &str) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.add_symlink(link, target, SimpleFileOptions::default()).expect("it takes any name");
    writer.start_file(file, SimpleFileOptions::default()).expect("it takes any name");
    writer.finish().expect("memory").into_inner()
}

/// The same as tar with zstd; the names are put in by hand, for the writer refuses them.
pub fn tar(name: &str, content: &str) -> Vec<u8> {
    packed(&[(tar::EntryType::Regular, name, "", content)])
}

/// A tar of a link and of a file behind it.
pub fn tar_through_a_link(link: &str, target: &str, file: &str) -> Vec<u8> {
    packed(&[(tar::EntryType::Symlink, link, target, ""), (tar::EntryType::Regular, file, "", "x")])
}

fn packed(entries: &[(tar::EntryType, &str, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, link, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).expect("memory");
    }
    zstd::encode_all(builder.into_inner().expect("memory").as_slice(), 1).expect("memory")
}

/// The names in a zip, sorted.
pub fn names(zip: &[u8]) -> Vec<String> {
    let archive = ZipArchive::new(Cursor::new(zip)).expect("a zip");
    let mut names: Vec<String> = archive.file_names().map(|name| name.expect("a name").into_owned()).collect();
    names.sort();
    names
}

/// What the only cache object is called whose name ends with `key`.
fn named(story: &Story, key: &str) -> Option<String> {
    story.sandbox.s3.keys("cache").into_iter().find(|name| name.ends_with(&format!("/{key}")))
}

/// The bytes of a cache.
pub fn object(story: &Story, key: &str) -> Option<Vec<u8>> {
    story.sandbox.s3.object("cache", &named(story, key)?)
}

/// Puts `archive` beside the cache `beside`, which is there, as the cache `key`.
pub async fn plant(story: &Story, beside: &str, key: &str, archive: Vec<u8>) {
    let name = named(story, beside).expect("a cache is there").replace(beside, key);
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIASANDBOX", "sandbox-secret-key", None, None, "test"))
        .endpoint_url(story.sandbox.s3.url())
        .force_path_style(true);
    let s3 = aws_sdk_s3::Client::from_conf(config.build());
    s3.put_object().bucket("cache").key(name).body(archive.into()).send().await.expect("the bucket takes it");
}

/// Hands `archive` over as the artifacts of `job`, which runs.
pub async fn upload(story: &Story, job: &JobHandle, archive: Vec<u8>) {
    let url = format!("{}/api/v4/jobs/{}/artifacts", story.sandbox.gitlab.url(), job.id());
    let file = reqwest::multipart::Part::bytes(archive).file_name("artifacts.zip");
    let request = reqwest::Client::new().post(url).header("JOB-TOKEN", job.token().expect("it runs"));
    let response =
        request.multipart(reqwest::multipart::Form::new().part("file", file)).send().await.expect("an answer");
    assert_eq!(response.status(), 201);
}

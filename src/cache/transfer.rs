//! Moves archives between the job and S3, through URLs that somebody else signs.
//!
//! Nothing is stored on the way down but a zip, and on the way up only the parts that are under way are in memory.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cap_std::fs::Dir;
use http::StatusCode;
use reqwest::{Client, Response};
use thiserror::Error;
use tokio::task::{JoinSet, spawn_blocking};

use super::access::{Access, Answer, Ask};
use super::archive::PackError;
use super::pipe::{PipeReceiver, PipeWriter, pipe_from_writer, pipe_to_reader};
use super::plant::Unpacked;
use super::room::Room;
use super::unpack::{UnpackError, unpack};

/// What an archive may have and still be written in one request, and the size of the first parts.
const PART: usize = 16 << 20;
/// Each so many parts the parts grow by [`PART`]: 10,000 parts then hold 880 GB, more than any task's disk.
const PARTS_OF_ONE_SIZE: usize = 1000;
/// Parts on their way at once.
const IN_FLIGHT: usize = 4;
/// A request is sent again so often (runner-behaviour.md §5.4, §5.5).
const RETRIES: u32 = 2;
const PAUSE: Duration = Duration::from_secs(1);
/// S3's error bodies are shorter.
const LONGEST_ERROR: usize = 4096;

/// Why an archive did not travel.
#[derive(Debug, Error)]
pub enum TransferError {
    /// No URL was signed.
    #[error("no access to the cache: {0}")]
    NoAccess(#[source] Box<dyn Error + Send + Sync>),
    /// The answer fits no question.
    #[error("the broker's answer fits no cache request: is the agent as new as the broker?")]
    StrangeAnswer,
    /// The network failed, however often it was tried.
    #[error("the cache's bucket does not answer")]
    Network(#[source] reqwest::Error),
    /// S3 says no.
    #[error("the cache's bucket answers `{status}` ({code})")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its word for it.
        code: String,
    },
    /// The archive cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The archive cannot be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The job wants no larger ones.
    #[error("the archive is larger than the {0} bytes of CACHE_MAX_UPLOADED_ARCHIVE_SIZE")]
    TooLarge(u64),
    /// A thread of ours died.
    #[error("packing or unpacking broke off")]
    BrokenOff,
}

/// What became of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It was there.
    Unpacked(Unpacked),
    /// There is no such object.
    Missing,
    /// S3 refuses to tell whether there is one. A caller that may not list the bucket is told this of a missing object.
    Denied {
        /// The permission that is missing, where S3 names it.
        permission: Option<String>,
    },
}

/// What a transfer has to tell, with URLs that open nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is an object, and it comes.
    Downloading {
        /// Where from.
        url: String,
        /// As S3 says it.
        etag: Option<String>,
    },
    /// An object is written.
    Uploading {
        /// Where to.
        url: String,
    },
}

/// The bucket of the caches, for one job.
#[derive(Clone)]
pub struct CacheStore<A> {
    http: Client,
    access: A,
    tell: Arc<dyn Fn(Progress) + Send + Sync>,
}

impl<A: Access> CacheStore<A> {
    /// With a client whose time limits suit large transfers, and somebody who hears how they go.
    pub fn new(http: Client, access: A, tell: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        CacheStore { http, access, tell: Arc::new(tell) }
    }

    /// Unpacks candidate number `key` of cache number `entry` beneath `root`.
    ///
    /// # Errors
    /// See [`TransferError`]; what was unpacked before stays.
    pub async fn restore(&self, entry: usize, key: usize, root: &Dir) -> Result<Restored, TransferError> {
        let mut retries = RETRIES;
        loop {
            let (url, headers) = url(self.ask(entry, Ask::Restore { key }).await?)?;
            let mut request = self.http.get(&url);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let tried = match request.send().await {
                Ok(response) if response.status() == StatusCode::NOT_FOUND => return Ok(Restored::Missing),
                Ok(response) if response.status().is_success() => {
                    let etag = etag(&response);
                    (self.tell)(Progress::Downloading { url: scrubbed(&url), etag });
                    download(response, root).await
                }
                Ok(response) if response.status() == StatusCode::FORBIDDEN => {
                    let body = error_body(response).await;
                    if let Some(permission) = denied(&body) {
                        return Ok(Restored::Denied { permission });
                    }
                    Err(refusal(StatusCode::FORBIDDEN, &body))
                }
                Ok(response) => Err(refused(response).await),
                Err(error) => Err(network(error)),
            };
            match tried {
                Ok(unpacked) => return Ok(Restored::Unpacked(unpacked)),
                Err(error) if retries > 0 && is_transient(&error) => {
                    retries -= 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes the object of cache number `entry`: what `write` writes, at most `most` bytes. Returns what `write`
    /// returns and the object's size.
    ///
    /// # Errors
    /// See [`TransferError`]; an object that was there before is then still there.
    pub async fn save<T: Send + 'static>(
        &self,
        entry: usize,
        most: Option<u64>,
        write: impl FnOnce(&mut PipeWriter) -> Result<T, PackError> + Send + 'static,
    ) -> Result<(T, u64), TransferError> {
        let (mut writer, receiver) = pipe_from_writer();
        let writing = spawn_blocking(move || {
            let written = write(&mut writer)?;
            writer.finish().map_err(PackError::Write)?;
            Ok::<_, PackError>(written)
        });
        let parts = Parts { receiver, number: 0, bytes: 0, most: most.unwrap_or(u64::MAX), waiting: BytesMut::new() };
        // It takes the receiver with it: a writer whose archive nobody takes ends.
        let uploaded = self.upload(entry, parts).await;
        let written = writing.await.map_err(|_| TransferError::BrokenOff)?;
        match (written, uploaded) {
            (Ok(written), Ok(bytes)) => Ok((written, bytes)),
            // The upload's failure broke the writer's pipe, and not the other way round.
            (Err(PackError::Write(_)), Err(error)) | (Ok(_), Err(error)) => Err(error),
            (Err(error), _) => Err(error.into()),
        }
    }

    async fn upload(&self, entry: usize, mut parts: Parts) -> Result<u64, TransferError> {
        let first = parts.next().await?.unwrap_or_default();
        if first.len() < PART {
            let size = first.len() as u64;
            self.put(entry, Ask::Save { size }, first).await?;
            return Ok(size);
        }
        let Answer::Begun { upload } = self.ask(entry, Ask::Begin).await? else {
            return Err(TransferError::StrangeAnswer);
        };
        let complete = match self.upload_parts(entry, &upload, first, &mut parts).await {
            Ok(etags) => self.ask(entry, Ask::Complete { upload: upload.clone(), etags }).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = complete {
            // If that fails, too, the bucket's lifecycle rule removes the parts.
            drop(self.ask(entry, Ask::Abort { upload }).await);
            return Err(error);
        }
        Ok(parts.bytes)
    }

    async fn upload_parts(
        &self,
        entry: usize,
        upload: &str,
        first: Bytes,
        parts: &mut Parts,
    ) -> Result<Vec<String>, TransferError> {
        let mut etags: Vec<String> = Vec::new();
        let mut under_way = JoinSet::new();
        let mut next = Some(first);
        while next.is_some() || !under_way.is_empty() {
            let room = (IN_FLIGHT * PART / size_of_part(etags.len())).max(1);
            if let Some(part) = next.take_if(|_| under_way.len() < room) {
                etags.push(String::new());
                let (store, number, size) = (self.clone(), etags.len(), part.len() as u64);
                let ask = Ask::Part { upload: upload.to_owned(), number: number.try_into().unwrap_or(u32::MAX), size };
                under_way.spawn(async move { store.put(entry, ask, part).await.map(|etag| (number, etag)) });
                next = parts.next().await?;
            } else if let Some(done) = under_way.join_next().await {
                let (number, etag) = done.map_err(|_| TransferError::BrokenOff)??;
                etags[number - 1] = etag;
            }
        }
        Ok(etags)
    }

    /// Sends `body` where `ask` leads, again if need be, and returns its ETag.
    async fn put(&self, entry: usize, ask: Ask, body: Bytes) -> Result<String, TransferError> {
        let mut retries = RETRIES;
        loop {
            let (url, headers) = url(self.ask(entry, ask.clone()).await?)?;
            if matches!(ask, Ask::Save { .. } | Ask::Part { number: 1, .. }) {
                (self.tell)(Progress::Uploading { url: scrubbed(&url) });
            }
            let mut request = self.http.put(url).body(body.clone());
            for (name, value) in headers {
                // The body says its length itself.
                if !name.eq_ignore_ascii_case("content-length") {
                    request = request.header(name, value);
                }
            }
            let error = match request.send().await {
                Ok(response) if response.status().is_success() => {
                    return Ok(etag(&response).unwrap_or_default());
                }
                Ok(response) => refused(response).await,
                Err(error) => network(error),
            };
            if retries == 0 || !is_transient(&error) {
                return Err(error);
            }
            retries -= 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&self, entry: usize, ask: Ask) -> Result<Answer, TransferError> {
        self.access.ask(entry, ask).await.map_err(TransferError::NoAccess)
    }
}

/// Cuts what the writer writes into parts.
struct Parts {
    receiver: PipeReceiver,
    number: usize,
    bytes: u64,
    most: u64,
    waiting: BytesMut,
}

impl Parts {
    /// The next part: as large as it should be, or the last.
    async fn next(&mut self) -> Result<Option<Bytes>, TransferError> {
        let size = size_of_part(self.number);
        while self.waiting.len() < size {
            // A writer that went away has its own error to tell.
            let Some(piece) = self.receiver.next().await.map_err(|_| TransferError::BrokenOff)? else { break };
            self.bytes += piece.len() as u64;
            if self.bytes > self.most {
                return Err(TransferError::TooLarge(self.most));
            }
            self.waiting.extend_from_slice(&piece);
        }
        if self.waiting.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(self.waiting.split_to(self.waiting.len().min(size)).freeze()))
    }
}

fn size_of_part(number: usize) -> usize {
    PART * (1 + number / PARTS_OF_ONE_SIZE)
}

async fn download(mut response: Response, root: &Dir) -> Result<Unpacked, TransferError> {
    let (sender, reader) = pipe_to_reader();
    let root = root.try_clone().map_err(|source| UnpackError::Write { path: ".".into(), source })?;
    let room = Room::of(&root)?;
    // Whoever gives up waiting must not find files made behind their back.
    let _stop = room.stop_on_drop();
    let unpacking = spawn_blocking(move || unpack(&root, room, reader));
    let cut_off = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                if !sender.send(chunk).await {
                    break None;
                }
            }
            Ok(None) => {
                sender.finish().await;
                break None;
            }
            Err(error) => {
                drop(sender);
                break Some(network(error));
            }
        }
    };
    let unpacked = unpacking.await.map_err(|_| TransferError::BrokenOff)?;
    match (unpacked, cut_off) {
        (Ok(unpacked), None) => Ok(unpacked),
        (Err(UnpackError::Read(_)) | Ok(_), Some(error)) => Err(error),
        (Err(error), _) => Err(error.into()),
    }
}

fn url(answer: Answer) -> Result<(String, Vec<(String, String)>), TransferError> {
    match answer {
        Answer::Url { url, headers } => Ok((url, headers)),
        _ => Err(TransferError::StrangeAnswer),
    }
}

/// Without what makes a URL open something.
fn scrubbed(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn etag(response: &Response) -> Option<String> {
    let etag = response.headers().get(http::header::ETAG)?;
    etag.to_str().ok().map(str::to_owned)
}

/// The URL is a secret while it lasts.
fn network(error: reqwest::Error) -> TransferError {
    TransferError::Network(error.without_url())
}

async fn refused(response: Response) -> TransferError {
    let status = response.status();
    refusal(status, &error_body(response).await)
}

async fn error_body(mut response: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_ERROR {
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// Whether S3's refusal is about permissions, and which one it names: `… is not authorized to perform: s3:ListBucket on
/// resource: …`. A URL that is too old is refused with the same code, and is no such refusal.
fn denied(body: &str) -> Option<Option<String>> {
    if element(body, "Code") != Some("AccessDenied") {
        return None;
    }
    let message = element(body, "Message").unwrap_or_default();
    if message.contains("expired") {
        return None;
    }
    let named = message.split_once("perform: ").map(|(_, rest)| rest.split_whitespace().next().unwrap_or_default());
    let is_action = |name: &&str| name.starts_with("s3:") && name[3..].bytes().all(|byte| byte.is_ascii_alphanumeric());
    Some(named.filter(is_action).map(str::to_owned))
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

fn refusal(status: StatusCode, body: &str) -> TransferError {
    let code = element(body, "Code");
    let is_word = |code: &&str| code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    TransferError::Refused { status, code: code.filter(is_word).unwrap_or("without a reason").to_owned() }
}

fn is_transient(error: &TransferError) -> bool {
    match error {
        TransferError::Network(_) => true,
        TransferError::Refused { status, .. } => status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 429),
        _ => false,
    }
}

/// The whole chain of `error`'s causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

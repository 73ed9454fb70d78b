//! The stages `restore_cache` and `archive_cache`: what they do and what they say (runner-behaviour.md §5.3 to §5.5).
//!
//! A cache is a convenience: whatever goes wrong with it is told, and the job goes on. Only a policy that GitLab does
//! not know ends it.

use std::error::Error;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::cache::access::{Access, Answer, Ask};
use crate::cache::format::{Effort, Format};
use crate::cache::object::{EntryObjects, Remark};
use crate::cache::transfer::{CacheStore, Progress, Restored, TransferError, chain};
use crate::gitlab::{Cache, CachePolicy, FailureReason, Sender, http_client_with};
use crate::ledger::wire::{CacheAccess, CacheAnswer};

use super::broker_client::BrokerClient;
use super::context::{Context, StageError};
use super::files::{HelperLine, Wanted, beneath, say, say_with, select, shell_expand};
use super::log::JobLog;

/// How long one transfer may take unless `CACHE_REQUEST_TIMEOUT` says otherwise, in minutes.
const DEFAULT_TIMEOUT_MINUTES: f64 = 10.0;
/// S3 may take its time for an answer to 16 MiB.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// Unpacks each of the job's caches from the first of its keys that has one.
///
/// # Errors
/// When a cache's policy is unknown.
pub async fn restore_cache(context: &Context, objects: &[EntryObjects]) -> Result<(), StageError> {
    for (number, cache, entry) in entries(context, objects) {
        let Some(key) = key(context, entry, "extraction") else { continue };
        if !policy(entry)?.pull {
            context.log.notice(&format!("Not downloading cache {key} due to policy"));
            continue;
        }
        for remark in &entry.remarks {
            match remark {
                Remark::Warning(text) => context.log.warning(text),
                Remark::Skipped(why) => skipped(context, "extraction", why),
            }
        }
        let Some(store) = store(context) else { continue };
        let mut candidates = entry.restore.iter().enumerate().peekable();
        while let Some((candidate, place)) = candidates.next() {
            let mut names = vec![candidate];
            while let Some((alternate, _)) = candidates.next_if(|(_, next)| next.is_alternate) {
                names.push(alternate);
            }
            context.log.notice(&format!("Checking cache for {}...", place.key));
            if restore(context, &store, number, &names).await {
                context.log.notice("Successfully extracted cache");
                break;
            }
            context.log.warning("Failed to extract cache");
            if context.variables.flag("FF_CLEAN_UP_FAILED_CACHE_EXTRACT", false) {
                clean_up(context, &cache.paths);
            }
        }
    }
    Ok(())
}

/// Packs each of the job's caches whose time it is and saves it to its key.
///
/// # Errors
/// When a cache's policy is unknown.
pub async fn archive_cache(context: &Context, objects: &[EntryObjects], failed: bool) -> Result<(), StageError> {
    for (number, cache, entry) in entries(context, objects).filter(|(_, cache, _)| cache.when.matches(failed)) {
        let Some(key) = key(context, entry, "archiving") else { continue };
        if !policy(entry)?.push {
            context.log.notice(&format!("Not uploading cache {key} due to policy"));
            continue;
        }
        let Some(store) = store(context) else { continue };
        context.log.notice(&format!("Creating cache {key}..."));
        match archive(context, &store, number, cache).await {
            Archived::Created => context.log.notice("Created cache"),
            Archived::TooLarge => {}
            Archived::Failed => context.log.warning("Failed to create cache"),
        }
    }
    Ok(())
}

/// The key, with what is to be said of it; `None` when the cache is left out for want of one.
fn key<'a>(context: &Context, entry: &'a EntryObjects, what: &str) -> Option<&'a str> {
    for warning in &entry.warnings {
        context.log.warning(warning);
    }
    if entry.key.is_none() {
        skipped(context, what, "empty cache key");
    }
    entry.key.as_deref()
}

fn skipped(context: &Context, what: &str, why: &str) {
    context.log.notice(&format!("Skipping cache {what} due to {why}"));
}

/// The caches that hold something, with their numbers in the job.
fn entries<'a>(
    context: &'a Context,
    objects: &'a [EntryObjects],
) -> impl Iterator<Item = (usize, &'a Cache, &'a EntryObjects)> {
    let caches = context.job.cache.iter().zip(objects).enumerate();
    caches.filter(|(_, (cache, _))| cache.holds_something()).map(|(number, (cache, entry))| (number, cache, entry))
}

fn policy(entry: &EntryObjects) -> Result<CachePolicy, StageError> {
    let unknown = |error: &dyn Error| {
        let message = format!("{error}: use pull, push or pull-push");
        StageError::new(FailureReason::RunnerConfigurationError, message)
    };
    entry.policy.as_ref().copied().map_err(|error| unknown(error))
}

fn store(context: &Context) -> Option<CacheStore<BrokerAccess>> {
    match http_client_with(Sender::Helper, &[], |builder| builder.read_timeout(READ_TIMEOUT)) {
        Ok(http) => {
            let log = context.log.clone();
            Some(CacheStore::new(http, BrokerAccess(context.broker.clone()), move |progress| tell(&log, progress)))
        }
        Err(error) => {
            say(&context.log, &HelperLine::Warning(chain(&error)));
            None
        }
    }
}

fn tell(log: &JobLog, progress: Progress) {
    match progress {
        Progress::Downloading { url, etag } => {
            let fields: Vec<_> = etag.map(|etag| ("ETag", etag)).into_iter().collect();
            say_with(log, &HelperLine::Info(format!("Downloading cache from {url}")), &fields);
        }
        Progress::Uploading { url } => say(log, &HelperLine::Info(format!("Uploading cache.zip to {url}"))),
    }
}

/// Whether it was there, under one of the key's `names`, and is unpacked.
async fn restore(context: &Context, store: &CacheStore<BrokerAccess>, number: usize, names: &[usize]) -> bool {
    let began = Instant::now();
    let project_dir = &context.place.project_dir;
    let root = match context.place.open_project() {
        Ok(root) => root,
        Err(error) => {
            warn(context, format!("cannot open `{}`: {error}", project_dir.display()));
            return false;
        }
    };
    let mut denied = None;
    for name in names {
        match in_time(context, store.restore(number, *name, &root)).await {
            Ok(Ok(Restored::Unpacked(unpacked))) => {
                let (files, size, time) = (count(unpacked.files), megabytes(unpacked.bytes), seconds(began));
                say(&context.log, &HelperLine::Info(format!("Restored {files}, {size} in {time}")));
                return true;
            }
            Ok(Ok(Restored::Missing)) => {}
            Ok(Ok(Restored::Denied { permission })) => denied = Some(permission),
            Ok(Err(error)) => {
                warn(context, chain(&error));
                return false;
            }
            Err(why) => {
                warn(context, why);
                return false;
            }
        }
    }
    warn(context, missing(denied));
    false
}

/// What the log tells of a cache that was found under none of its names; `denied` where S3 would not say so.
fn missing(denied: Option<Option<String>>) -> String {
    match denied {
        None => "file does not exist".to_owned(),
        Some(permission) => {
            let permission = permission.unwrap_or_else(|| "s3:GetObject or s3:ListBucket".to_owned());
            format!("file does not exist, or the broker's role lacks `{permission}` for the cache's bucket")
        }
    }
}

/// Removes what a failed restore may have left of the cache's paths (`FF_CLEAN_UP_FAILED_CACHE_EXTRACT`), beneath the
/// project directory and never all of it.
fn clean_up(context: &Context, paths: &[String]) {
    let Ok(root) = context.place.open_project() else { return };
    for path in paths {
        say(&context.log, &HelperLine::Info(format!("Removing {path}")));
        let Some(path) = beneath(&shell_expand(path, &context.environment), &context.place.project_dir) else {
            continue;
        };
        let removed = match root.symlink_metadata(&path) {
            Ok(found) if found.is_dir() => root.remove_dir_all(&path),
            Ok(_) => root.remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                warn(context, format!("cannot remove `{}`: {error}", path.display()));
            }
            _ => {}
        }
    }
}

enum Archived {
    Created,
    TooLarge,
    Failed,
}

async fn archive(context: &Context, store: &CacheStore<BrokerAccess>, number: usize, cache: &Cache) -> Archived {
    let began = Instant::now();
    let wanted = Wanted { paths: cache.paths.clone(), exclude: Vec::new(), untracked: cache.untracked };
    let selection = match select(context, wanted).await {
        Ok(selection) => selection,
        Err(error) => {
            warn(context, chain(&error));
            return Archived::Failed;
        }
    };
    for line in &selection.lines {
        say(&context.log, line);
    }
    if selection.paths.is_empty() {
        warn(context, "No files to cache.".to_owned());
        return Archived::Created;
    }
    let format = setting(context, "CACHE_COMPRESSION_FORMAT").and_then(Format::read).unwrap_or(Format::TarZstd);
    let effort = Effort::read(setting(context, "CACHE_COMPRESSION_LEVEL").unwrap_or_default());
    let most = setting(context, "CACHE_MAX_UPLOADED_ARCHIVE_SIZE").and_then(|text| text.trim().parse().ok());
    let most = most.filter(|most| *most > 0);
    let (root, paths) = (selection.root, selection.paths);
    let saving =
        store.save(number, most, move |out| format.pack(&root, &paths, effort, None, out).map(|(packed, _)| packed));
    match in_time(context, saving).await {
        Ok(Ok((packed, stored))) => {
            for warning in packed.warnings {
                warn(context, warning);
            }
            let (files, size, time) = (count(packed.files), megabytes(packed.bytes), seconds(began));
            let line = format!("Saved {files}, {size} packed into {} in {time}", megabytes(stored));
            say(&context.log, &HelperLine::Info(line));
            Archived::Created
        }
        Ok(Err(TransferError::TooLarge(most))) => {
            let line = format!("Cache archive is too big (Limit is set to {most}). Cache will not be uploaded.");
            say(&context.log, &HelperLine::Info(line));
            Archived::TooLarge
        }
        Ok(Err(error)) => {
            warn(context, chain(&error));
            Archived::Failed
        }
        Err(why) => {
            warn(context, why);
            Archived::Failed
        }
    }
}

/// What becomes of the transfer within its time, or a sentence.
async fn in_time<T>(context: &Context, transfer: impl Future<Output = T>) -> Result<T, String> {
    let minutes = setting(context, "CACHE_REQUEST_TIMEOUT").and_then(|text| text.trim().parse::<f64>().ok());
    let minutes = minutes.filter(|minutes| *minutes > 0.0).unwrap_or(DEFAULT_TIMEOUT_MINUTES);
    let most = Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::MAX);
    let too_long = || format!("the cache took more than {minutes} minutes: set CACHE_REQUEST_TIMEOUT to allow more");
    timeout(most, transfer).await.map_err(|_| too_long())
}

/// A variable's value, expanded.
fn setting<'a>(context: &'a Context, name: &str) -> Option<&'a str> {
    context.environment.get(name).map(String::as_str)
}

fn warn(context: &Context, text: String) {
    say(&context.log, &HelperLine::Warning(text));
}

fn count(files: u64) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

fn megabytes(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (unit, name) = match bytes {
        0..1_000_000 => (1000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    // Tenths, cut off.
    let tenths = bytes / (unit / 10);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

fn seconds(began: Instant) -> String {
    format!("{:.1} s", began.elapsed().as_secs_f64())
}

/// The broker, as the cache sees it.
#[derive(Clone)]
struct BrokerAccess(BrokerClient);

impl Access for BrokerAccess {
    async fn ask(&self, entry: usize, ask: Ask) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let access = match ask {
            Ask::Restore { key } => CacheAccess::Restore { key },
            Ask::Save { size } => CacheAccess::Save { size },
            Ask::Begin => CacheAccess::Begin,
            Ask::Part { upload, number, size } => CacheAccess::Part { upload, number, size },
            Ask::Complete { upload, etags } => CacheAccess::Complete { upload, etags },
            Ask::Abort { upload } => CacheAccess::Abort { upload },
        };
        Ok(match self.0.cache(entry, access).await? {
            CacheAnswer::Url { url, headers } => Answer::Url { url, headers },
            CacheAnswer::Begun { upload } => Answer::Begun { upload },
            CacheAnswer::Done => Answer::Done,
        })
    }
}

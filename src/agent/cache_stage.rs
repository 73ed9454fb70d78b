//! The stages `restore_cache` and `archive_cache`: what they do and what they say (runner-behaviour.md §5.3 to §5.5).
//!
//! A cache is a convenience: whatever goes wrong with it is told, and the job goes on. Only a policy that GitLab does
//! not know ends it.

use std::error::Error;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::cache::access::{Access, Answer, Ask};
use crate::cache::archive::{pack, zstd_level};
use crate::cache::object::EntryObjects;
use crate::cache::transfer::{CacheStore, Restored, TransferError, chain};
use crate::gitlab::{Cache, CachePolicy, FailureReason, Sender, http_client_with};
use crate::ledger::wire::{CacheAccess, CacheAnswer};

use super::broker_client::BrokerClient;
use super::context::{Context, StageError};
use super::files::{HelperLine, Wanted, say, select};

/// How long one transfer may take unless `CACHE_REQUEST_TIMEOUT` says otherwise, in minutes.
const DEFAULT_TIMEOUT_MINUTES: u64 = 10;
/// S3 may take its time for an answer to 16 MiB.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// Unpacks each of the job's caches from the first of its keys that has one.
///
/// # Errors
/// When a cache's policy is unknown.
pub async fn restore_cache(context: &Context, objects: &[EntryObjects]) -> Result<(), StageError> {
    for (number, _, entry) in entries(context, objects) {
        let policy = policy(entry)?;
        for warning in &entry.warnings {
            context.log.warning(warning);
        }
        let Some(key) = &entry.key else { continue };
        if !policy.pull {
            context.log.notice(&format!("Not downloading cache {key} due to policy"));
            continue;
        }
        let Some(store) = store(context) else { continue };
        for (candidate, place) in entry.restore.iter().enumerate() {
            context.log.notice(&format!("Checking cache for {}...", place.key));
            if restore(context, &store, number, candidate).await {
                context.log.notice("Successfully extracted cache");
                break;
            }
            context.log.warning("Failed to extract cache");
        }
    }
    Ok(())
}

/// Packs each of the job's caches whose time it is and saves it to its key.
///
/// # Errors
/// When a cache's policy is unknown.
pub async fn archive_cache(context: &Context, objects: &[EntryObjects], failed: bool) -> Result<(), StageError> {
    for (number, cache, entry) in entries(context, objects) {
        let policy = policy(entry)?;
        let Some(key) = entry.key.as_ref().filter(|_| cache.when.matches(failed)) else { continue };
        if !policy.push {
            context.log.notice(&format!("Not uploading cache {key} due to policy"));
            continue;
        }
        let Some(store) = store(context) else { continue };
        context.log.notice(&format!("Creating cache {key}..."));
        match archive(context, &store, number, cache).await {
            Archived::Saved => context.log.notice("Created cache"),
            Archived::Nothing => {}
            Archived::Failed => context.log.warning("Failed to create cache"),
        }
    }
    Ok(())
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
        Ok(http) => Some(CacheStore::new(http, BrokerAccess(context.broker.clone()))),
        Err(error) => {
            say(&context.log, &HelperLine::Warning(chain(&error)));
            None
        }
    }
}

/// Whether it was there and is unpacked.
async fn restore(context: &Context, store: &CacheStore<BrokerAccess>, number: usize, candidate: usize) -> bool {
    let began = Instant::now();
    let project_dir = &context.place.project_dir;
    let root = match context.place.open_project() {
        Ok(root) => root,
        Err(error) => {
            warn(context, format!("cannot open `{}`: {error}", project_dir.display()));
            return false;
        }
    };
    match in_time(context, store.restore(number, candidate, &root)).await {
        Ok(Restored::Unpacked(unpacked)) => {
            let (files, size, time) = (count(unpacked.files), megabytes(unpacked.bytes), seconds(began));
            say(&context.log, &HelperLine::Info(format!("Restored {files}, {size} in {time}")));
            true
        }
        Ok(Restored::Missing) => {
            say(&context.log, &HelperLine::Info("There is no such cache yet".to_owned()));
            false
        }
        Err(why) => {
            warn(context, why);
            false
        }
    }
}

enum Archived {
    Saved,
    Nothing,
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
        say(&context.log, &HelperLine::Info("No files to cache.".to_owned()));
        return Archived::Nothing;
    }
    let level = zstd_level(setting(context, "CACHE_COMPRESSION_LEVEL").unwrap_or_default());
    let most = setting(context, "CACHE_MAX_UPLOADED_ARCHIVE_SIZE").and_then(|text| text.trim().parse().ok());
    let most = most.filter(|most| *most > 0);
    let (root, paths) = (selection.root, selection.paths);
    let saving = store.save(number, most, move |out| pack(&root, &paths, level, out).map(|(packed, _)| packed));
    match in_time(context, saving).await {
        Ok((packed, stored)) => {
            for warning in packed.warnings {
                warn(context, warning);
            }
            let (files, size, time) = (count(packed.files), megabytes(packed.bytes), seconds(began));
            let line = format!("Saved {files}, {size} packed into {} in {time}", megabytes(stored));
            say(&context.log, &HelperLine::Info(line));
            Archived::Saved
        }
        Err(why) => {
            warn(context, why);
            Archived::Failed
        }
    }
}

/// The transfer's result, or a sentence.
async fn in_time<T>(context: &Context, transfer: impl Future<Output = Result<T, TransferError>>) -> Result<T, String> {
    let minutes = setting(context, "CACHE_REQUEST_TIMEOUT").and_then(|text| text.trim().parse().ok());
    let minutes = minutes.filter(|minutes| *minutes > 0).unwrap_or(DEFAULT_TIMEOUT_MINUTES);
    match timeout(Duration::from_secs(minutes.saturating_mul(60)), transfer).await {
        Ok(result) => result.map_err(|error| chain(&error)),
        Err(_) => Err(format!("the cache took more than {minutes} minutes: set CACHE_REQUEST_TIMEOUT to allow more")),
    }
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

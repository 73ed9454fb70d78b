//! `agent build`: runs the helper's scripts in the job's image, and is PID 1 there.
//!
//! It decides nothing: it never ends before the helper says so or is gone, since its end is the task's.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::file_variables;
use super::frames::{Frame, FrameStream, Hello, LONGEST_SCRIPT, PIECE, Script, ScriptEnd, ToBuild, ToHelper, frames};
use super::memory::{limit_mib, out_of_memory_kills};
use super::process::{LEAK, Process};
use super::services::add_hosts;
use super::shell::find_shell;
use super::tree::{adopt_orphans, end_descendants, kill_descendants, reap};

/// The helper's socket in the agent's directory.
pub(super) const SOCKET: &str = "helper.sock";

/// So long the helper may need before it listens: another image may still be pulled.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// So long after SIGKILL we wait for a shell that the kernel does not let go.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Where `build` finds things.
#[derive(Clone, Debug)]
pub struct BuildSettings {
    /// `MAYFLY_BUILDS_DIR`.
    pub builds_dir: PathBuf,
    /// `MAYFLY_AGENT_DIR`: the helper's socket is there.
    pub agent_dir: PathBuf,
}

/// Why `build` ended before the job did.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The helper never listened.
    #[error("the helper does not listen on `{0}`")]
    NoHelper(PathBuf),
    /// The socket was closed.
    #[error("the helper is gone")]
    HelperGone,
    /// The helper and we do not understand each other.
    #[error("the helper said something that cannot be: {0}")]
    Protocol(String),
    /// The kernel refused something that we cannot do without.
    #[error("cannot look after processes")]
    Kernel(#[source] io::Error),
}

/// Runs scripts until the helper says that the job is over.
///
/// # Errors
/// See [`BuildError`]; all that the scripts started is killed then.
pub async fn build(settings: BuildSettings) -> Result<(), BuildError> {
    adopt_orphans().map_err(BuildError::Kernel)?;
    let children = signal(SignalKind::child()).map_err(BuildError::Kernel)?;
    // The task is being stopped: the helper knows, too, and ends the job in order. Until then we stay.
    let _ignored = signal(SignalKind::terminate()).map_err(BuildError::Kernel)?;
    let stream = connect(&settings.agent_dir.join(SOCKET)).await?;
    let mut build = Build { settings, helper: frames(stream), children, shell: find_shell() };
    let end = build.serve().await;
    if end.is_err() {
        end_descendants().await;
    }
    end
}

struct Build {
    settings: BuildSettings,
    helper: FrameStream,
    children: Signal,
    shell: Option<&'static str>,
}

impl Build {
    async fn serve(&mut self) -> Result<(), BuildError> {
        let shell = self.shell.map(str::to_owned);
        self.say(ToHelper::Hello(Hello { version: env!("CARGO_PKG_VERSION").into(), shell })).await?;
        let mut script = BytesMut::new();
        loop {
            tokio::select! {
                frame = self.helper.next() => match heard(frame)? {
                    ToBuild::Piece(piece) if script.len() + piece.len() <= LONGEST_SCRIPT => script.extend_from_slice(&piece),
                    ToBuild::Piece(_) => return Err(BuildError::Protocol("a script without end".into())),
                    ToBuild::Run => {
                        let read = serde_json::from_slice(&script.split());
                        let script = read.map_err(|error| BuildError::Protocol(error.to_string()))?;
                        let said = self.run(script).await?;
                        self.say(said).await?;
                    }
                    ToBuild::Names(names) => {
                        let named = add_hosts(Path::new("/etc/hosts"), &names);
                        if let Err(error) = &named {
                            info!(%error, "the services have no names here");
                        }
                        self.say(ToHelper::Named(named.is_ok())).await?;
                    }
                    // The script ended while the word was on its way.
                    ToBuild::Kill => {}
                    ToBuild::Bye => return Ok(()),
                },
                _ = self.children.recv() => {
                    reap(None);
                }
            }
        }
    }

    /// Runs one script; its end is what to tell the helper.
    async fn run(&mut self, script: Script) -> Result<ToHelper, BuildError> {
        let Some(shell) = self.shell else { return Ok(ToHelper::Failed("the image has no shell".into())) };
        if let Err(error) = file_variables::write(&self.settings.builds_dir, Path::new(&script.temp_dir), &script.files)
        {
            return Ok(ToHelper::Failed(format!("cannot write the file variables to `{}`: {error}", script.temp_dir)));
        }
        let kills_before = out_of_memory_kills();
        let process = match Process::start(shell, &script) {
            Ok(process) => process,
            Err(error) => return Ok(ToHelper::Failed(format!("cannot start `{shell}`: {error}"))),
        };
        let (code, killed) = self.watch(process).await?;
        let out_of_memory = out_of_memory_kills() > kills_before;
        Ok(ToHelper::Ended(ScriptEnd { code, killed, out_of_memory, memory_limit_mib: limit_mib() }))
    }

    /// Carries output to the helper until the shell has ended; its code, and whether we killed it.
    async fn watch(&mut self, mut process: Process) -> Result<(i32, bool), BuildError> {
        let mut progress = Progress::default();
        loop {
            tokio::select! {
                frame = self.helper.next() => match heard(frame)? {
                    ToBuild::Kill => {
                        process.terminate();
                        progress.killed.get_or_insert(Instant::now());
                    }
                    ToBuild::Bye => return Err(BuildError::HelperGone),
                    ToBuild::Piece(_) | ToBuild::Run | ToBuild::Names(_) => {
                        return Err(BuildError::Protocol("a script while one runs".into()));
                    }
                },
                output = process.read(PIECE), if !progress.silent => match output.is_empty() {
                    true => progress.silent = true,
                    false => self.say(ToHelper::Output(output.freeze())).await?,
                },
                _ = self.children.recv() => {
                    if let Some(code) = reap(Some(process.pid)) {
                        progress.ended = Some((code, Instant::now()));
                    }
                }
                () = sleep_until(progress.look_again()), if progress.is_waiting() => {}
            }
            let code = match progress.next(process.group_lives(), Instant::now()) {
                Next::KillAll(code) if kill_descendants() == 0 => code,
                Next::Wait | Next::KillAll(_) => None,
                Next::Done(code) => Some(code),
            };
            if let Some(code) = code {
                let rest = process.leave(PIECE);
                if !rest.is_empty() {
                    self.say(ToHelper::Output(rest.into())).await?;
                }
                return Ok((code, progress.killed.is_some()));
            }
        }
    }

    async fn say(&mut self, frame: ToHelper) -> Result<(), BuildError> {
        self.helper.send(frame.encode()).await.map_err(|_| BuildError::HelperGone)
    }
}

/// How far a script's end has come.
#[derive(Debug, Default)]
struct Progress {
    /// The shell's code, and when it came.
    ended: Option<(i32, Instant)>,
    /// When the helper wanted it killed.
    killed: Option<Instant>,
    /// The pipe is closed.
    silent: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Wait,
    /// Whatever is left; when nothing is, this was the code.
    KillAll(Option<i32>),
    Done(i32),
}

impl Progress {
    /// Decides what to do at `now`.
    fn next(&self, group_lives: bool, now: Instant) -> Next {
        match (self.ended, self.killed) {
            (None, None) => Next::Wait,
            (Some((code, ended)), None) if self.silent || now >= ended + LEAK => Next::Done(code),
            (Some(_), None) => Next::Wait,
            // The rest of the group has its grace, too; then nothing is left, wherever it hid.
            (ended, Some(killed)) if (ended.is_none() || group_lives) && now < killed + GRACE => Next::Wait,
            (ended, Some(killed)) => match now < killed + GRACE + LAST_WAIT {
                true => Next::KillAll(ended.map(|(code, _)| code)),
                false => Next::Done(ended.map_or(137, |(code, _)| code)),
            },
        }
    }

    /// Whether something happens by the clock alone.
    fn is_waiting(&self) -> bool {
        self.ended.is_some() || self.killed.is_some()
    }

    fn look_again(&self) -> Instant {
        Instant::now() + Duration::from_millis(20)
    }
}

fn heard(frame: Option<io::Result<BytesMut>>) -> Result<ToBuild, BuildError> {
    match frame {
        Some(Ok(bytes)) => ToBuild::decode(bytes.freeze()).map_err(|error| BuildError::Protocol(error.to_string())),
        Some(Err(error)) => {
            warn!(%error, "the helper's socket broke");
            Err(BuildError::HelperGone)
        }
        None => Err(BuildError::HelperGone),
    }
}

async fn connect(socket: &Path) -> Result<UnixStream, BuildError> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match UnixStream::connect(socket).await {
            Ok(stream) => {
                info!("the helper is there");
                return Ok(stream);
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    Err(BuildError::NoHelper(socket.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_reached_whatever_the_processes_do() {
        let start = Instant::now();
        let after = |ms: u64| start + Duration::from_millis(ms);
        let progress = |ended: Option<(i32, u64)>, killed: Option<u64>, silent| Progress {
            ended: ended.map(|(code, at)| (code, after(at))),
            killed: killed.map(after),
            silent,
        };
        for (progress, group_lives, at, expected) in [
            (progress(None, None, false), true, 9_999_999, Next::Wait),
            (progress(Some((3, 0)), None, true), false, 0, Next::Done(3)),
            (progress(Some((3, 0)), None, false), true, 499, Next::Wait),
            (progress(Some((3, 0)), None, false), true, 500, Next::Done(3)),
            (progress(None, Some(0), true), true, 4_999, Next::Wait),
            (progress(None, Some(0), true), true, 5_000, Next::KillAll(None)),
            (progress(None, Some(0), true), true, 10_000, Next::Done(137)),
            (progress(Some((1, 10)), Some(0), true), true, 4_999, Next::Wait),
            (progress(Some((1, 10)), Some(0), true), false, 10, Next::KillAll(Some(1))),
            (progress(Some((1, 10)), Some(0), false), true, 5_000, Next::KillAll(Some(1))),
            (progress(Some((1, 10)), Some(0), false), true, 10_000, Next::Done(1)),
        ] {
            assert_eq!(progress.next(group_lives, after(at)), expected, "{progress:?} after {at} ms");
        }
    }
}

//! The helper's end of the socket to `build`.

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep_until, timeout};

use super::build::SOCKET;
use super::context::User;
use super::frames::{
    Frame, FrameError, FrameStream, Hello, Script, ScriptEnd, ToBuild, ToHelper, frames, script_frames,
};
use super::log::{JobLog, Stream};

/// So long an answer that needs no work may take.
const ANSWER: Duration = Duration::from_secs(60);

/// So long after the word to kill a script its end may take: longer than build's own patience.
const KILL: Duration = Duration::from_secs(15);

/// Why no script can be run any more.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    /// The socket could not be made.
    #[error("cannot listen on `{path}`")]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The build container is not there any more.
    #[error("the build container ended unexpectedly; it may have run out of memory")]
    Lost,
    /// It does not answer.
    #[error("the build container does not answer")]
    Stuck,
    /// It said something that it never says: somebody else speaks.
    #[error("the build container said something unexpected")]
    Protocol,
    /// Another version of the agent.
    #[error("the build container runs agent `{0}`, the helper `{own}`", own = env!("CARGO_PKG_VERSION"))]
    Version(String),
}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        tracing::warn!(%error, "a frame from build that cannot be");
        LinkError::Protocol
    }
}

/// How a script went.
#[derive(Debug)]
pub(super) enum Ran<S> {
    /// It ended by itself.
    Ended(ScriptEnd),
    /// It was killed because of this.
    Stopped(S),
    /// It could not be started; a sentence.
    Failed(String),
}

/// Waits for the one connection.
pub(super) struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens in the agent's directory; whoever the image runs as may connect.
    pub(super) fn bind(agent_dir: &Path) -> Result<Listener, LinkError> {
        let path = agent_dir.join(SOCKET);
        let listen = || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let socket = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777))?;
            Ok(socket)
        };
        match listen() {
            Ok(socket) => Ok(Listener { socket, path }),
            Err(source) => Err(LinkError::Listen { path, source }),
        }
    }

    /// Takes the first who connects, and nobody after that.
    pub(super) async fn accept(self) -> Result<Link, LinkError> {
        let (stream, _) = self.socket.accept().await.map_err(|_| LinkError::Lost)?;
        // Build is the image's first process: nobody there can have been quicker.
        drop(self.socket);
        let _ = std::fs::remove_file(&self.path);
        Link::greeted(stream).await
    }
}

/// Build, ready to run scripts.
pub(super) struct Link {
    stream: FrameStream,
    peer: User,
    hello: Hello,
}

impl Link {
    /// Hears the first words of whoever is at the other end.
    pub(super) async fn greeted(stream: UnixStream) -> Result<Link, LinkError> {
        let peer = stream.peer_cred().map_err(|_| LinkError::Lost)?;
        let peer = User { uid: peer.uid(), gid: peer.gid() };
        let mut stream = frames(stream);
        let hello = timeout(ANSWER, stream.next()).await.map_err(|_| LinkError::Stuck)?;
        match heard(hello)? {
            ToHelper::Hello(hello) if hello.version == env!("CARGO_PKG_VERSION") => Ok(Link { stream, peer, hello }),
            ToHelper::Hello(hello) => Err(LinkError::Version(hello.version)),
            _ => Err(LinkError::Protocol),
        }
    }

    /// Whom the image's processes run as.
    pub(super) fn peer(&self) -> User {
        self.peer
    }

    /// The image's shell.
    pub(super) fn shell(&self) -> Option<&str> {
        self.hello.shell.as_deref()
    }

    /// Runs `script` and writes its output to `log`; kills it when `stop` says so.
    pub(super) async fn run<S>(
        &mut self,
        script: &Script,
        log: &JobLog,
        stop: impl Future<Output = S>,
    ) -> Result<Ran<S>, LinkError> {
        let ran = self.run_script(script, log, stop).await;
        log.end_of_stage();
        ran
    }

    /// Lets `names` lead to the job's services in the image; `false` if its user may not say so.
    pub(super) async fn name_services(&mut self, names: &[String]) -> Result<bool, LinkError> {
        self.say(ToBuild::Names(names.to_vec())).await?;
        match heard(timeout(ANSWER, self.stream.next()).await.map_err(|_| LinkError::Stuck)?)? {
            ToHelper::Named(named) => Ok(named),
            _ => Err(LinkError::Protocol),
        }
    }

    /// Lets build end.
    pub(super) async fn bye(mut self) {
        // It may have ended already.
        let _ = timeout(ANSWER, self.stream.send(ToBuild::Bye.encode())).await;
    }

    async fn run_script<S>(
        &mut self,
        script: &Script,
        log: &JobLog,
        stop: impl Future<Output = S>,
    ) -> Result<Ran<S>, LinkError> {
        for frame in script_frames(script) {
            self.say(frame).await?;
        }
        tokio::pin!(stop);
        let mut stopped = None;
        let mut deadline = Instant::now();
        loop {
            let frame = tokio::select! {
                frame = self.stream.next() => heard(frame),
                why = &mut stop, if stopped.is_none() => {
                    stopped = Some(why);
                    deadline = Instant::now() + KILL;
                    // Where build is gone there is nothing left to kill.
                    let _ = self.say(ToBuild::Kill).await;
                    continue;
                }
                () = sleep_until(deadline), if stopped.is_some() => Err(LinkError::Stuck),
            };
            match (frame, stopped.take()) {
                (Ok(ToHelper::Output(bytes)), why) => {
                    log.write(Stream::Job, &bytes);
                    stopped = why;
                }
                // It was to end, and it did, whichever way.
                (_, Some(why)) => return Ok(Ran::Stopped(why)),
                (Ok(ToHelper::Ended(end)), None) => return Ok(Ran::Ended(end)),
                (Ok(ToHelper::Failed(sentence)), None) => return Ok(Ran::Failed(sentence)),
                (Ok(ToHelper::Hello(_) | ToHelper::Named(_)), None) => return Err(LinkError::Protocol),
                (Err(error), None) => return Err(error),
            }
        }
    }

    async fn say(&mut self, frame: ToBuild) -> Result<(), LinkError> {
        match timeout(ANSWER, self.stream.send(frame.encode())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(LinkError::Lost),
            Err(_) => Err(LinkError::Stuck),
        }
    }
}

fn heard(frame: Option<io::Result<BytesMut>>) -> Result<ToHelper, LinkError> {
    match frame {
        Some(Ok(bytes)) => Ok(ToHelper::decode(bytes.freeze())?),
        Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(LinkError::Protocol),
        Some(Err(_)) | None => Err(LinkError::Lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// A link to somebody who sends `said` and then hangs up.
    async fn link_to(said: Vec<Vec<u8>>) -> Result<Ran<()>, LinkError> {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::bind(dir.path()).unwrap();
        let mut stream = UnixStream::connect(dir.path().join(SOCKET)).await.unwrap();
        let speaker = tokio::spawn(async move {
            for bytes in said {
                stream.write_all(&(bytes.len() as u32).to_be_bytes()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        });
        let mut link = listener.accept().await?;
        speaker.await.unwrap();
        assert!(UnixStream::connect(dir.path().join(SOCKET)).await.is_err(), "only one may connect");
        link.run(&Script::default(), &JobLog::default(), std::future::pending()).await
    }

    fn hello(version: &str) -> Vec<u8> {
        ToHelper::Hello(Hello { version: version.into(), shell: None }).encode().to_vec()
    }

    #[tokio::test]
    async fn whatever_speaks_for_build_the_helper_only_errs() {
        let own = || hello(env!("CARGO_PKG_VERSION"));
        for said in [
            vec![],
            vec![hello("0.0.0-other")],
            vec![vec![]],
            vec![b"z".to_vec()],
            vec![b"h{\"version\":3}".to_vec()],
            vec![ToHelper::Output("x".into()).encode().to_vec()],
            vec![own()],
            vec![own(), own()],
            vec![own(), b"e{\"code\":\"x\"}".to_vec()],
            vec![own(), b"q".to_vec()],
        ] {
            let error = link_to(said.clone()).await;
            assert!(error.is_err(), "{said:?}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::bind(dir.path()).unwrap();
        let mut stream = UnixStream::connect(dir.path().join(SOCKET)).await.unwrap();
        stream.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert!(matches!(listener.accept().await, Err(LinkError::Protocol)));
    }
}

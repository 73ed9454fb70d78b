//! Owns what helper and build say to each other: a length, one byte for the kind, and bytes or JSON.
//!
//! The helper believes nothing of it: a script that is root in the build container can speak for it.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// The longest frame.
const LONGEST_FRAME: usize = 1 << 20;

/// Longer things are sent in pieces of this size.
pub(super) const PIECE: usize = 256 << 10;

/// The longest thing that is sent in pieces.
pub(super) const LONGEST_SCRIPT: usize = 64 << 20;

/// What the helper says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ToBuild {
    /// The next bytes of a [`Script`] as JSON.
    Piece(Bytes),
    /// The script is complete: run it.
    Run,
    /// End the script that runs.
    Kill,
    /// Let these names lead to the job's services.
    Names(Vec<String>),
    /// The job is over.
    Bye,
}

/// What build says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ToHelper {
    /// The first words.
    Hello(Hello),
    /// What the script wrote.
    Output(Bytes),
    /// The script has ended.
    Ended(ScriptEnd),
    /// The script could not be started; one sentence.
    Failed(String),
    /// Whether the names lead to the services now: only root may say so.
    Named(bool),
}

/// Who build is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Both ends are one program; anything else is an error in the task.
    pub version: String,
    /// The image's shell, if it has one.
    pub shell: Option<String>,
}

/// A script to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Script {
    /// What the shell reads.
    pub program: String,
    /// Environment that no shell can assign: names that are no identifiers.
    pub environment: BTreeMap<String, String>,
    /// The job's temporary directory, below the builds directory.
    pub temp_dir: String,
    /// File variables: written there first.
    pub files: BTreeMap<String, String>,
}

/// How a script ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ScriptEnd {
    /// Its exit code; 128 and the signal's number where one killed it.
    pub code: i32,
    /// We killed it.
    pub killed: bool,
    /// The kernel killed something in the container for want of memory meanwhile.
    pub out_of_memory: bool,
    /// What the container may have, in MiB, where it is limited.
    pub memory_limit_mib: Option<u64>,
}

/// A frame that is none.
#[derive(Debug, Error)]
pub(super) enum FrameError {
    /// Of an unknown kind.
    #[error("unknown frame `{0}`")]
    Kind(u8),
    /// Empty.
    #[error("empty frame")]
    Empty,
    /// Not what its kind promises.
    #[error("unreadable frame")]
    Content(#[from] serde_json::Error),
}

/// One message of a side.
pub(super) trait Frame: Sized {
    /// As bytes.
    fn encode(&self) -> Bytes;
    /// From bytes.
    fn decode(frame: Bytes) -> Result<Self, FrameError>;
}

/// Frames over a socket.
pub(super) type FrameStream = Framed<UnixStream, LengthDelimitedCodec>;

/// Speaks frames over `stream`.
pub(super) fn frames(stream: UnixStream) -> FrameStream {
    LengthDelimitedCodec::builder().max_frame_length(LONGEST_FRAME).new_framed(stream)
}

impl Frame for ToBuild {
    fn encode(&self) -> Bytes {
        match self {
            ToBuild::Piece(bytes) => frame(b'p', bytes),
            ToBuild::Run => frame(b'r', b""),
            ToBuild::Kill => frame(b'k', b""),
            ToBuild::Names(names) => frame(b'n', &json(names)),
            ToBuild::Bye => frame(b'b', b""),
        }
    }

    fn decode(frame: Bytes) -> Result<Self, FrameError> {
        let (kind, content) = split(frame)?;
        match kind {
            b'p' => Ok(ToBuild::Piece(content)),
            b'r' => Ok(ToBuild::Run),
            b'k' => Ok(ToBuild::Kill),
            b'n' => Ok(ToBuild::Names(read(&content)?)),
            b'b' => Ok(ToBuild::Bye),
            other => Err(FrameError::Kind(other)),
        }
    }
}

impl Frame for ToHelper {
    fn encode(&self) -> Bytes {
        match self {
            ToHelper::Hello(hello) => frame(b'h', &json(hello)),
            ToHelper::Output(bytes) => frame(b'o', bytes),
            ToHelper::Ended(end) => frame(b'e', &json(end)),
            ToHelper::Failed(why) => frame(b'f', &json(why)),
            ToHelper::Named(named) => frame(b'n', &json(named)),
        }
    }

    fn decode(frame: Bytes) -> Result<Self, FrameError> {
        let (kind, content) = split(frame)?;
        match kind {
            b'h' => Ok(ToHelper::Hello(read(&content)?)),
            b'o' => Ok(ToHelper::Output(content)),
            b'e' => Ok(ToHelper::Ended(read(&content)?)),
            b'f' => Ok(ToHelper::Failed(read(&content)?)),
            b'n' => Ok(ToHelper::Named(read(&content)?)),
            other => Err(FrameError::Kind(other)),
        }
    }
}

/// A script as JSON, cut into frames, and the word to run it.
pub(super) fn script_frames(script: &Script) -> Vec<ToBuild> {
    let json = Bytes::from(json(script));
    let pieces = (0..json.len()).step_by(PIECE).map(|at| json.slice(at..json.len().min(at + PIECE)));
    pieces.map(ToBuild::Piece).chain([ToBuild::Run]).collect()
}

fn frame(kind: u8, content: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(content.len() + 1);
    frame.put_u8(kind);
    frame.put_slice(content);
    frame.freeze()
}

fn split(mut frame: Bytes) -> Result<(u8, Bytes), FrameError> {
    if frame.is_empty() {
        return Err(FrameError::Empty);
    }
    let content = frame.split_off(1);
    Ok((frame[0], content))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("frames are plain data")
}

fn read<T: DeserializeOwned>(content: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(content)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_script_of_any_size_comes_through_in_pieces() {
        let script = Script { program: "x".repeat(3 * PIECE), temp_dir: "/b/p.tmp".into(), ..Script::default() };
        let mut whole = Vec::new();
        for frame in script_frames(&script) {
            let bytes = frame.encode();
            assert!(bytes.len() < LONGEST_FRAME);
            match ToBuild::decode(bytes).unwrap() {
                ToBuild::Piece(piece) => whole.extend_from_slice(&piece),
                other => assert_eq!(other, ToBuild::Run),
            }
        }
        assert_eq!(serde_json::from_slice::<Script>(&whole).unwrap(), script);
    }

    #[test]
    fn what_is_said_is_heard() {
        let end = ScriptEnd { code: 137, killed: false, out_of_memory: true, memory_limit_mib: Some(352) };
        for frame in [
            ToHelper::Hello(Hello { version: "1".into(), shell: Some("/bin/sh".into()) }),
            ToHelper::Output(Bytes::from_static(b"\xff\n")),
            ToHelper::Ended(end),
            ToHelper::Failed("no".into()),
            ToHelper::Named(true),
        ] {
            assert_eq!(ToHelper::decode(frame.encode()).unwrap(), frame);
        }
    }

    proptest! {
        #[test]
        fn rubbish_is_an_error_and_nothing_worse(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = ToHelper::decode(Bytes::from(bytes.clone()));
            let _ = ToBuild::decode(Bytes::from(bytes));
        }
    }
}

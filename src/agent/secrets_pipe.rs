//! Takes ticket and launch key out of the environment, where any process of the same user could read them.
//!
//! Removing a variable changes nothing in `/proc/<pid>/environ`: that shows what the process was started with. So the
//! helper starts itself again without them and gets them through a pipe as its standard input.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The argument by which the second start knows itself.
pub const FROM_PIPE: &str = "--secrets-from-stdin";

const TICKET: &str = "MAYFLY_TICKET";
const LAUNCH_KEY: &str = "MAYFLY_LAUNCH_KEY";

/// A pipe holds at least so much without a reader.
const LONGEST: usize = 32 << 10;

/// What opens the claim.
#[derive(Clone, Debug)]
pub struct LaunchSecrets {
    /// Names the claim.
    pub ticket: String,
    /// Proves that we are a task's helper.
    pub launch_key: SecretString,
}

/// Why there are no secrets.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// The task definition is wrong.
    #[error("`{0}` is not set")]
    Missing(&'static str),
    /// Not what a task gives.
    #[error("ticket and launch key are longer than {LONGEST} bytes")]
    TooLong,
    /// Standard input does not hold them.
    #[error("the secrets cannot be read from standard input")]
    Unreadable(#[source] io::Error),
    /// The second start failed.
    #[error("cannot start anew without secrets in the environment")]
    Restart(#[source] io::Error),
}

#[derive(Serialize, Deserialize)]
struct InPipe {
    ticket: String,
    launch_key: String,
}

impl LaunchSecrets {
    /// Starts this program again with `arguments`, [`FROM_PIPE`] and no secrets in its environment.
    ///
    /// # Errors
    /// See [`SecretsError`]; it returns only with one.
    pub fn restart<A: AsRef<OsStr>>(arguments: &[A]) -> SecretsError {
        let secrets = match from_environment() {
            Ok(secrets) => secrets,
            Err(error) => return error,
        };
        let (reader, mut writer) = match io::pipe() {
            Ok(pipe) => pipe,
            Err(error) => return SecretsError::Restart(error),
        };
        if let Err(error) = writer.write_all(&secrets) {
            return SecretsError::Restart(error);
        }
        drop(writer);
        let mut command = Command::new("/proc/self/exe");
        command.args(arguments).arg(FROM_PIPE).env_remove(TICKET).env_remove(LAUNCH_KEY).stdin(Stdio::from(reader));
        SecretsError::Restart(command.exec())
    }

    /// Reads them from standard input.
    ///
    /// # Errors
    /// See [`SecretsError`].
    pub fn read() -> Result<Self, SecretsError> {
        let mut text = Vec::new();
        // Not through `std::io::stdin`: its buffer would keep them.
        let input = File::open("/dev/stdin").map_err(SecretsError::Unreadable)?;
        input.take(LONGEST as u64).read_to_end(&mut text).map_err(SecretsError::Unreadable)?;
        let read: Result<InPipe, _> = serde_json::from_slice(&text);
        let InPipe { ticket, launch_key } = read.map_err(|error| SecretsError::Unreadable(error.into()))?;
        Ok(LaunchSecrets { ticket, launch_key: launch_key.into() })
    }
}

fn from_environment() -> Result<Vec<u8>, SecretsError> {
    let read = |name| env::var(name).ok().filter(|value| !value.is_empty()).ok_or(SecretsError::Missing(name));
    let launch_key = SecretString::from(read(LAUNCH_KEY)?);
    let in_pipe = InPipe { ticket: read(TICKET)?, launch_key: launch_key.expose_secret().to_owned() };
    let text = serde_json::to_vec(&in_pipe).expect("two strings are JSON");
    if text.len() > LONGEST { Err(SecretsError::TooLong) } else { Ok(text) }
}

//! Starts a script's shell and reads what it writes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::frames::Script;
use super::task_variables::not_for_children;

/// The shell of a script and all that it starts.
///
/// Its exit status is taken by [`reap`](super::tree::reap), like everybody's.
pub(super) struct Process {
    /// The shell; its group has the same number.
    pub pid: Pid,
    /// Standard output and standard error in one pipe, so that their order is kept.
    output: pipe::Receiver,
}

impl Process {
    /// Starts `shell` and feeds it the script's program.
    pub(super) fn start(shell: &str, script: &Script) -> io::Result<Process> {
        let (output, writer) = io::pipe()?;
        let mut command = Command::new(shell);
        for name in not_for_children() {
            command.env_remove(name);
        }
        command.envs(&script.environment).process_group(0);
        command.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn()?;
        // The command holds our ends of the pipe: while one is open the output never ends.
        drop(command);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        // When memory runs out the script is to go, not the agent. The shell still waits for its program.
        let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "500");
        if let Some(stdin) = child.stdin.take() {
            feed(OwnedFd::from(stdin), script.program.clone())?;
        }
        Ok(Process { pid, output: pipe::Receiver::from_owned_fd(OwnedFd::from(output))? })
    }

    /// Reads some output; nothing at the end.
    pub(super) async fn read(&mut self, longest: usize) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(longest);
        // A pipe has no errors that would not be its end.
        let _ = self.output.read_buf(&mut bytes).await;
        bytes
    }

    /// Reads what lies in the pipe at this moment, then lets go: later output is taken and thrown away, so that a
    /// process in the background may go on writing.
    pub(super) fn leave(self, longest: usize) -> Vec<u8> {
        let size = rustix::pipe::fcntl_getpipe_size(self.output.as_fd()).unwrap_or(64 << 10).min(longest);
        let (mut rest, mut read) = (vec![0; size], 0);
        while let Ok(n @ 1..) = self.output.try_read(&mut rest[read..]) {
            read += n;
        }
        rest.truncate(read);
        let mut output = self.output;
        tokio::spawn(async move {
            let mut sink = vec![0; 16 << 10];
            while let Ok(1..) = output.read(&mut sink).await {}
        });
        rest
    }

    /// Asks the script's processes to end.
    pub(super) fn terminate(&self) {
        let _ = kill_process_group(self.pid, Signal::TERM);
    }

    /// Whether a process of the script's group lives.
    pub(super) fn group_lives(&self) -> bool {
        test_kill_process_group(self.pid).is_ok()
    }
}

/// How long a pipe may stay open behind the shell's end before we go on without it.
pub(super) const LEAK: Duration = Duration::from_millis(500);

/// Writes the program in the background: a shell reads its next command only when it has run the last.
fn feed(stdin: OwnedFd, program: String) -> io::Result<()> {
    let mut stdin = pipe::Sender::from_owned_fd(stdin)?;
    tokio::spawn(async move {
        // A shell that ends early does not read the rest.
        let _ = stdin.write_all(program.as_bytes()).await;
    });
    Ok(())
}

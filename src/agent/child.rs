//! Runs the helper's children, git and hook scripts, as an unprivileged user; what they write goes to the job's log.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout_at};

use super::context::{Context, User};
use super::log::{JobLog, Stream};
use super::task_variables::not_for_children;

/// How long a pipe may stay open behind the child's end before we go on without it.
const LEAK: Duration = Duration::from_millis(500);

/// One variable of a process may not be longer (runner-behaviour.md §1.8: MAX_ARG_STRLEN is 128 KiB).
const LONGEST_VARIABLE: usize = 96 << 10;

/// What belongs to the job's image and would only break the helper's own programs.
const OF_THE_IMAGE: [&str; 6] = ["PATH", "HOME", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GCONV_PATH"];

/// A program with the job's variables in its environment.
pub(super) fn command(program: &str, context: &Context) -> Command {
    let mut command = Command::new(program);
    for name in not_for_children() {
        command.env_remove(name);
    }
    command.envs(context.environment.iter().filter(|(name, value)| is_for_children(name, value)));
    command
}

/// Whether a variable of the job can and should stand in the environment of a child in the helper.
pub(super) fn is_for_children(name: &str, value: &str) -> bool {
    !name.is_empty()
        && !name.contains(['=', '\0'])
        && !value.contains('\0')
        && name.len() + value.len() <= LONGEST_VARIABLE
        && !OF_THE_IMAGE.contains(&name)
}

/// Runs `command` as `user` to its end, `input` on its standard input; without a log its output is thrown away.
///
/// It has a process group of its own, of which nothing is left when this returns or is dropped.
pub(super) async fn run(
    mut command: Command,
    user: Option<User>,
    input: Option<String>,
    log: Option<&JobLog>,
) -> io::Result<ExitStatus> {
    let (reader, writer) = io::pipe()?;
    command.process_group(0).stdout(writer.try_clone()?).stderr(writer);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn()?;
    let _group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    // The command holds our ends of the pipe: while one is open the output never ends.
    drop(command);
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A child that ends early does not read the rest.
        tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    }

    let mut output = pipe::Receiver::from_owned_fd(reader.into())?;
    let mut buffer = vec![0; 16 << 10];
    let tell = |bytes: &[u8]| {
        if let Some(log) = log {
            log.write(Stream::Job, bytes);
        }
    };
    let mut open = true;
    let status = loop {
        tokio::select! {
            read = output.read(&mut buffer), if open => match read {
                Ok(n @ 1..) => tell(&buffer[..n]),
                _ => open = false,
            },
            status = child.wait() => break status?,
        }
    };
    let end = Instant::now() + LEAK;
    while open {
        match timeout_at(end, output.read(&mut buffer)).await {
            Ok(Ok(n @ 1..)) => tell(&buffer[..n]),
            _ => open = false,
        }
    }
    Ok(status)
}

/// As a shell tells it: 128 and the signal for a child that was killed.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

/// Kills a process group when it goes.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.filter(|group| test_kill_process_group(*group).is_ok()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn shell() -> Command {
        Command::new("sh")
    }

    fn text(log: &JobLog) -> String {
        String::from_utf8(log.contents().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn what_a_child_writes_comes_in_order_and_its_exit_code_survives() {
        let log = JobLog::default();
        let program = "echo one; echo two >&2; printf three; exit 7".to_owned();
        let status = run(shell(), None, Some(program), Some(&log)).await.unwrap();
        assert_eq!(status.code(), Some(7));
        assert_eq!(text(&log), "one\ntwo\nthree");
    }

    #[tokio::test]
    async fn a_child_may_write_more_than_a_pipe_holds_into_no_log() {
        let program = "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done";
        let status = run(shell(), None, Some(program.into()), None).await.unwrap();
        assert!(status.success());
    }

    #[tokio::test]
    async fn nothing_of_a_group_is_left_when_its_leader_ends_or_its_future_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let program =
            |rest: &str| format!("sleep 1000 & echo $! >'{0}.new'; mv '{0}.new' '{0}'; {rest}", file.display());

        run(shell(), None, Some(program("exit 0")), None).await.unwrap();
        is_gone(&file).await;

        std::fs::remove_file(&file).unwrap();
        tokio::select! {
            _ = run(shell(), None, Some(program("wait")), None) => panic!("it waits"),
            () = until(|| file.exists()) => {}
        }
        is_gone(&file).await;
    }

    /// Gone, or a zombie that waits for whoever adopted it.
    async fn is_gone(file: &Path) {
        let pid = std::fs::read_to_string(file).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        until(|| std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z"))).await;
    }

    async fn until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "not within 20 s");
            tokio::task::yield_now().await;
        }
    }
}

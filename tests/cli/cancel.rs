//! Ctrl-C: the first asks the jobs to end, the second ends them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Done, User};

const SLOW: &str = "\
stages: [build, test]
slow:
  stage: build
  script: [echo begin, sleep 1000]
  after_script: [echo after]
later:
  stage: test
  script: [echo later]
";

/// Runs `mayfly run` and sends it an interrupt after each line that contains one of `words`, in their order.
fn interrupted_after(user: &User, words: &[&str]) -> Done {
    let mut run = user.command(&["run"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mayfly runs");
    let mut out = String::new();
    let mut words = words.iter().peekable();
    let mut lines = BufReader::new(run.stdout.take().expect("it is piped"));
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).expect("text") == 0 {
            break;
        }
        if words.next_if(|word| line.contains(**word)).is_some() {
            interrupt(&run);
        }
        out.push_str(&line);
    }
    let mut err = String::new();
    run.stderr.take().expect("it is piped").read_to_string(&mut err).expect("text");
    let code = run.wait().expect("it ends").code();
    user.nothing_is_left();
    Done { code, out, err }
}

fn interrupt(run: &Child) {
    let pid = i32::try_from(run.id()).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::INT).expect("it is ours");
}

#[test]
fn the_first_interrupt_lets_jobs_end_well() {
    let user = User::of(SLOW);
    let done = interrupted_after(&user, &["| begin"]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""), "{}", done.out);
    assert_snapshot!("canceled", user.normal(&done.out));
}

#[test]
fn the_second_interrupt_ends_them_at_once() {
    let user = User::of(SLOW);
    let done = interrupted_after(&user, &["| begin", "once more"]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""), "{}", done.out);
    assert!(done.out.contains("stopping hard") && !done.out.contains("| after\n"), "{}", done.out);
}

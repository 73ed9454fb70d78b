//! Owns finding and killing every process of a container, as the end of a PID namespace would.
//!
//! A process belongs to the container if it carries its metadata URI in its first environment, is in its process group,
//! writes to its log, or descends from one that does. Who leaves all four behind (a cleaned environment, an own session,
//! other outputs, and orphaned before we looked) is not found; see [`Family::watch`].

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long killed processes may take to be gone.
const DYING_TAKES: Duration = Duration::from_secs(20);

/// What tells the processes of one container from all others.
#[derive(Clone, Debug)]
pub(super) struct Family {
    /// The start of an environment entry that nobody else has.
    pub(super) marker: String,
    /// Its process group.
    pub(super) group: Option<u32>,
    /// Its log file.
    pub(super) log: Option<PathBuf>,
    /// Descendants seen earlier, in case they lose their parents.
    pub(super) seen: HashSet<Process>,
}

/// One process; its start time tells it from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pid: u32,
    started: u64,
}

struct Entry {
    process: Process,
    parent: u32,
    group: u32,
    used: Used,
}

/// What processes have used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// Of CPU, with that of their ended children.
    pub(super) nanoseconds: u64,
    /// Bytes in memory.
    pub(super) memory: u64,
}

/// What each of the processes `roots` has used with its descendants, in their order.
pub(super) fn used(roots: &[u32]) -> Vec<Used> {
    let entries: Vec<Entry> = entries().collect();
    let of = |root: &u32| {
        let (mut sum, mut ahead) = (Used::default(), vec![*root]);
        while let Some(pid) = ahead.pop() {
            for entry in entries.iter().filter(|entry| entry.process.pid == pid) {
                sum.nanoseconds += entry.used.nanoseconds;
                sum.memory += entry.used.memory;
            }
            ahead.extend(entries.iter().filter(|entry| entry.parent == pid).map(|entry| entry.process.pid));
        }
        sum
    };
    roots.iter().map(of).collect()
}

impl Family {
    /// Remembers who belongs to the family now. Call it before a parent is killed.
    pub(super) fn watch(&mut self) {
        let members = self.members();
        self.seen.extend(members);
    }

    /// Kills everybody until nobody is left; blocks.
    pub(super) fn kill(&mut self) {
        let deadline = Instant::now() + DYING_TAKES;
        loop {
            let members = self.members();
            if members.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                tracing::error!("processes of an ended container do not die: {members:?}");
                return;
            }
            for member in &members {
                let pid = i32::try_from(member.pid).ok().and_then(Pid::from_raw);
                // It may have ended by itself meanwhile.
                pid.map(|pid| kill_process(pid, Signal::KILL).ok());
            }
            self.seen.extend(members);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn members(&self) -> Vec<Process> {
        let own = std::process::id();
        let mut entries: Vec<Entry> = entries().filter(|entry| entry.process.pid != own).collect();
        let mut members: Vec<Process> = Vec::new();
        let mut pids: HashSet<u32> = HashSet::new();
        // Children come before or after their parents in no order, so go round until nobody joins.
        loop {
            let before = members.len();
            entries.retain(|entry| {
                let is_child = pids.contains(&entry.parent);
                if !is_child && (before > 0 || !self.claims(entry)) {
                    return true;
                }
                pids.insert(entry.process.pid);
                members.push(entry.process);
                false
            });
            if members.len() == before {
                return members;
            }
        }
    }

    fn claims(&self, entry: &Entry) -> bool {
        let pid = entry.process.pid;
        let carries_marker = || {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(self.marker.as_bytes()))
        };
        let writes_log = || {
            let Some(log) = &self.log else { return false };
            [1, 2].iter().any(|fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|file| file == *log))
        };
        Some(entry.group) == self.group || self.seen.contains(&entry.process) || carries_marker() || writes_log()
    }
}

/// Every process that still runs; the dead that nobody has waited for do not.
fn entries() -> impl Iterator<Item = Entry> {
    let directories = fs::read_dir("/proc").into_iter().flatten().flatten();
    directories.filter_map(|directory| {
        let pid = directory.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything, also parentheses.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let process = Process { pid, started: number(19)? };
        let (parent, group) = (u32::try_from(number(1)?).ok()?, u32::try_from(number(2)?).ok()?);
        // Both count in hundredths of a second and in pages of 4 KiB.
        let ticks: u64 = (11..15).filter_map(number).sum();
        let used = Used { nanoseconds: ticks * 10_000_000, memory: number(21).unwrap_or_default() * 4096 };
        Some(Entry { process, parent, group, used })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_daemon_in_an_own_session_is_found_by_its_environment() {
        let marker = format!("MAYFLY_TEST_MARKER={}", uuid::Uuid::new_v4());
        let (name, value) = marker.split_once('=').unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", "setsid sh -c 'exec sleep 1000' >/dev/null 2>&1 & sleep 1000 & echo ready; wait"])
            .env(name, value)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut ready).unwrap();
        let mut family = Family { marker, group: None, log: None, seen: HashSet::new() };
        assert!(family.members().len() >= 3, "{:?}", family.members());

        family.kill();

        assert!(family.members().is_empty());
        assert!(!shell.wait().unwrap().success());
    }
}

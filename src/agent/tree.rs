//! Looks after the processes below us: what a script leaves behind is ours, as PID 1 or as the nearest subreaper.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

/// Makes orphans below us our children, also where we are not PID 1.
pub(super) fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Takes the exit status of all children that have ended; the code of `awaited` is returned when it is among them.
///
/// Nothing else in this process may wait for children.
pub(super) fn reap(awaited: Option<Pid>) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if Some(pid) == awaited {
            code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
        }
    }
    code
}

/// Sends SIGKILL to everything below us; the number of processes that were there.
pub(super) fn kill_descendants() -> usize {
    let below = descendants(getpid(), &parents());
    for pid in &below {
        // It may be gone by now.
        let _ = kill_process(*pid, Signal::KILL);
    }
    below.len()
}

/// Leaves nothing running below us; gives up on what the kernel holds.
///
/// Nobody may wait for children of this process meanwhile.
pub(super) async fn end_descendants() {
    for _ in 0..50 {
        let left = kill_descendants();
        reap(None);
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The parent of each process that we can see.
fn parents() -> BTreeMap<i32, i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))).collect()
}

/// The fourth field of `/proc/<pid>/stat`; the second is a name in brackets that may hold anything. Zombies have none.
fn parent(stat: &str) -> Option<i32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.next()?.parse().ok(),
    }
}

fn descendants(of: Pid, parents: &BTreeMap<i32, i32>) -> Vec<Pid> {
    let root = of.as_raw_nonzero().get();
    let is_below = |mut pid: i32| {
        // A chain is no longer than there are processes, whatever changed while we read.
        for _ in 0..=parents.len() {
            match parents.get(&pid) {
                Some(&parent) if parent == root => return true,
                Some(&parent) if parent > 0 => pid = parent,
                _ => return false,
            }
        }
        false
    };
    parents.keys().filter(|pid| **pid != root && is_below(**pid)).filter_map(|pid| Pid::from_raw(*pid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_can_have_any_name() {
        assert_eq!(parent("12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parent("12 (a) Z (b) R 9 1 1"), Some(9));
        assert_eq!(parent("12 (gone) Z 7 1 1"), None);
        assert_eq!(parent("rubbish"), None);
    }

    #[test]
    fn descendants_are_found_through_any_generation_and_nobody_else_is() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 3), (5, 4), (6, 1), (7, 6), (8, 9), (9, 8)]);
        let below = descendants(Pid::from_raw(2).unwrap(), &parents);
        let below: Vec<i32> = below.into_iter().map(|pid| pid.as_raw_nonzero().get()).collect();
        assert_eq!(below, [3, 4, 5]);
    }

    #[test]
    fn our_own_parent_is_known() {
        let own = getpid().as_raw_nonzero().get();
        assert!(parents().contains_key(&own));
    }
}

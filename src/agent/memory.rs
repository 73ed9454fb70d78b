//! Reads from the cgroup how much memory there is, and how often the kernel killed something for want of it.

use std::fs;
use std::path::{Path, PathBuf};

/// So many processes of this container were killed; `None` where the kernel does not say.
pub(super) fn out_of_memory_kills() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    kills(Path::new("/sys/fs/cgroup"), &own)
}

/// How much this container may have, in MiB; `None` where nothing limits it.
pub(super) fn limit_mib() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit(Path::new("/sys/fs/cgroup"), &own)
}

fn kills(root: &Path, own: &str) -> Option<u64> {
    files(root, own, "memory.events", "memory.oom_control").into_iter().find_map(count)
}

fn limit(root: &Path, own: &str) -> Option<u64> {
    // Without a limit the second generation says `max`, the first the largest page-aligned number.
    const NO_LIMIT: u64 = 1 << 60;
    let read = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let found = files(root, own, "memory.max", "memory.limit_in_bytes").into_iter().find_map(read);
    found.filter(|bytes| *bytes < NO_LIMIT).map(|bytes| bytes >> 20)
}

/// Where a figure stands, by its name in the second generation of cgroups and in the first: below `root`, in the cgroups
/// that `own` (the text of `/proc/self/cgroup`) names. In a container the root often is the own cgroup already.
fn files(root: &Path, own: &str, second: &str, first: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            files.push(root.join(path).join(second));
        } else if controllers.split(',').any(|controller| controller == "memory") {
            files.push(root.join("memory").join(path).join(first));
        }
    }
    files.extend([root.join(second), root.join("memory").join(first)]);
    files
}

fn count(file: PathBuf) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_cgroups_are_read() {
        for (file, content, own) in [
            ("memory.events", "low 0\noom 3\noom_kill 2\n", "0::/\n"),
            ("task/1/memory.events", "oom_kill 2\n", "0::/task/1\n"),
            ("memory.events", "oom_kill 2\n", "0::/not/mounted\n"),
            (
                "memory/ecs/a/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
                "4:cpu,memory:/ecs/a\n",
            ),
            ("memory/memory.oom_control", "oom_kill 2\n", "4:memory:/ecs/a\n"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
            assert_eq!(kills(root.path(), own), Some(2), "{own}");
        }
    }

    #[test]
    fn a_limit_is_told_in_mib() {
        for (file, content, expected) in [
            ("memory.max", "369098752\n", Some(352)),
            ("memory.max", "max\n", None),
            ("memory/memory.limit_in_bytes", "369098752\n", Some(352)),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ] {
            let root = tempfile::tempdir().unwrap();
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
            assert_eq!(limit(root.path(), "4:memory:/ecs/a\n0::/\n"), expected, "{content}");
        }
    }

    #[test]
    fn a_kernel_that_does_not_say_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(kills(root.path(), "rubbish\n::\n"), None);
    }
}

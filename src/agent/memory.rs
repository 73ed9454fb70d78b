//! Reads from the cgroup how often the kernel killed something for want of memory.

use std::fs;
use std::path::{Path, PathBuf};

/// So many processes of this container were killed; `None` where the kernel does not say.
pub(super) fn out_of_memory_kills() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    kills(Path::new("/sys/fs/cgroup"), &own)
}

/// Looks below `root` for the cgroups that `own` (the text of `/proc/self/cgroup`) names. In a container the root often is
/// the own cgroup already.
fn kills(root: &Path, own: &str) -> Option<u64> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            files.push(root.join(path).join("memory.events"));
        } else if controllers.split(',').any(|controller| controller == "memory") {
            files.push(root.join("memory").join(path).join("memory.oom_control"));
        }
    }
    files.extend([root.join("memory.events"), root.join("memory/memory.oom_control")]);
    files.into_iter().find_map(count)
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
    fn a_kernel_that_does_not_say_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(kills(root.path(), "rubbish\n::\n"), None);
    }
}

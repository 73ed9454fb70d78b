//! Finds the shell of the job's image.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where shells are looked for, the best first (runner-behaviour.md §3.1).
pub(super) const SHELLS: [&str; 7] =
    ["/usr/local/bin/bash", "/usr/bin/bash", "/bin/bash", "/usr/local/bin/sh", "/usr/bin/sh", "/bin/sh", "/busybox/sh"];

/// The first shell of the image.
pub(super) fn find_shell() -> Option<&'static str> {
    SHELLS.into_iter().find(|shell| is_executable(Path::new(shell)))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_a_file_that_can_be_executed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sh");
        assert!(!is_executable(&file) && !is_executable(dir.path()));
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(!is_executable(&file));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(is_executable(&file));
    }
}

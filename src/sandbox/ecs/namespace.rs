//! Lets a container that is a process see its volume at one path, whichever task it belongs to.
//!
//! On Fargate every task has its builds at `/builds`, and people rely on it: a virtual environment or a build directory
//! from the cache has absolute paths in it. Here each process gets a mount namespace of its own, in which its volume is
//! bound over a directory that all tasks share; nothing of it is to be seen outside.

use std::path::{Path, PathBuf};
use std::process::{Command as Probe, Stdio};

use tokio::process::Command;

/// Binds each pair of volume and place, then becomes the program.
const BIND: &str = r#"while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 125; shift 2; done; shift; exec "$@""#;

/// How this machine gives a process a mount namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespaces {
    /// As root.
    Mount,
    /// As another user, within a user namespace, where the kernel lets anybody make one.
    UserAndMount,
}

impl Namespaces {
    /// What works here, tried on `place`; nothing in a container that may not, say.
    pub(super) fn probe(place: &Path) -> Option<Namespaces> {
        [Namespaces::Mount, Namespaces::UserAndMount].into_iter().find(|kind| {
            let mut probe = Probe::new("unshare");
            probe.args(kind.arguments()).args(["sh", "-c", BIND, "sh"]).args([place, place]).args(["--", "true"]);
            let status = probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        })
    }

    /// A command that becomes `program`, with the volumes at their places.
    pub(super) fn command(self, program: &str, binds: &[(PathBuf, PathBuf)]) -> Command {
        let mut command = Command::new("unshare");
        command.args(self.arguments()).args(["sh", "-c", BIND, "sh"]);
        for (volume, place) in binds {
            command.args([volume, place]);
        }
        command.args(["--", program]);
        command
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Namespaces::Mount => &["--mount", "--propagation", "private"],
            Namespaces::UserAndMount => {
                &["--user", "--map-current-user", "--keep-caps", "--mount", "--propagation", "private"]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_processes_see_their_own_volumes_at_one_place() {
        let room = tempfile::tempdir().expect("a directory");
        let place = room.path().join("builds");
        std::fs::create_dir(&place).expect("a place");
        let namespaces = Namespaces::probe(&place).expect("this machine makes mount namespaces");
        for name in ["one", "two"] {
            let volume = room.path().join(name);
            std::fs::create_dir(&volume).expect("a volume");
            std::fs::write(volume.join("name"), name).expect("a file");
            let binds = [(volume, place.clone())];

            let output = namespaces.command("cat", &binds).arg(place.join("name")).output().await.expect("it runs");

            assert_eq!(String::from_utf8_lossy(&output.stdout), name, "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert!(std::fs::read_dir(&place).expect("it is there").next().is_none());
    }
}

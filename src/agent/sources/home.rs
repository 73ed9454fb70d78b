//! Owns the home directory of git and hook scripts in the helper: what they configure globally lies there, and nobody
//! else sees it.
//!
//! It lies in the job's temporary directory, in which scripts can write: nothing here leaves the builds directory.

use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt};
use rustix::fs::{AtFlags, chownat};
use rustix::process::{Gid, Uid};
use tracing::warn;

use crate::agent::context::Context;

/// A home that goes with its value.
pub(super) struct Home {
    /// The job's temporary directory.
    temp: Dir,
    name: String,
    path: PathBuf,
}

impl Home {
    /// Makes one for whoever git runs as.
    pub(super) fn new(context: &Context) -> io::Result<Home> {
        let place = &context.place;
        let relative = place.temp_dir.strip_prefix(&place.builds_dir).map_err(io::Error::other)?;
        let builds = Dir::open_ambient_dir(&place.builds_dir, ambient_authority())?;
        builds.create_dir_all(relative)?;
        let temp = builds.open_dir(relative)?;
        let name = format!("git-home-{}", uuid::Uuid::new_v4().simple());
        let mut private = DirBuilder::new();
        private.mode(0o700);
        temp.create_dir_with(&name, &private)?;
        if let Some(user) = context.child_user {
            let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
            chownat(&temp, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        let path = place.temp_dir.join(&name);
        Ok(Home { temp, name, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        match self.temp.remove_dir_all(&self.name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%error, "the home of git in the helper stays until the job's end");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Job, context};
    use serde_json::json;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_home_is_private_and_goes_with_what_was_written_to_it() {
        let builds = tempfile::tempdir().unwrap();
        let context = context(Job::new(json!({})).within(builds.path()));
        let home = Home::new(&context).unwrap();
        let path = home.path().to_owned();
        assert!(path.starts_with(&context.place.temp_dir));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(path.join(".gitconfig"), "").unwrap();
        drop(home);
        assert!(!path.exists() && context.place.temp_dir.exists());
    }

    #[test]
    fn no_home_is_made_outside_of_the_builds_directory() {
        let (builds, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let context = context(Job::new(json!({})).within(builds.path()));
        symlink(outside.path(), &context.place.temp_dir).unwrap();
        assert!(Home::new(&context).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}

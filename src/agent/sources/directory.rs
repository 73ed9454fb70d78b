//! Makes, empties and tidies the project's directory, without ever leaving the builds directory: hook scripts run as
//! somebody who can write there, links included.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Permissions, PermissionsExt};
use rustix::fs::{AtFlags, chownat};
use rustix::process::{Gid, Uid};

use crate::agent::context::{Place, User};

/// What an interrupted git leaves behind (runner-behaviour.md §4.3).
const LOCKS: [&str; 5] = ["index.lock", "shallow.lock", "HEAD.lock", "config.lock", "hooks/post-checkout"];

/// Makes the project's directory and those above it, open to everybody; it belongs to `owner`.
pub(super) fn make(place: &Place, owner: Option<User>) -> io::Result<()> {
    let mut at = builds(place)?;
    let mut parts = relative(place)?.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(ErrorKind::InvalidInput.into()) };
        match at.create_dir(name) {
            Ok(()) => at.set_permissions(name, Permissions::from_mode(0o777))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        if let (Some(owner), None) = (owner, parts.peek()) {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            chownat(&at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        at = at.open_dir(name)?;
    }
    Ok(())
}

/// Takes everything out of the project's directory; no link is followed.
pub(super) fn empty(place: &Place) -> io::Result<()> {
    let builds = builds(place)?;
    let project = match builds.open_dir(relative(place)?) {
        Ok(project) => project,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in project.entries()? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => project.remove_dir_all(entry.file_name())?,
            false => project.remove_file(entry.file_name())?,
        }
    }
    Ok(())
}

/// Takes away what an earlier job may have left in `.git`: locks, configuration, hooks.
pub(super) fn tidy(place: &Place) -> io::Result<()> {
    let git = match builds(place)?.open_dir(relative(place)?.join(".git")) {
        Ok(git) => git,
        // No repository, or a file that names another place: git will say.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(error),
    };
    tidy_repository(&git)?;
    tidy_modules(&git)
}

fn tidy_modules(git: &Dir) -> io::Result<()> {
    let mut queue: Vec<Dir> = git.open_dir("modules").into_iter().collect();
    while let Some(directory) = queue.pop() {
        if directory.symlink_metadata("HEAD").is_ok() {
            tidy_repository(&directory)?;
            queue.extend(directory.open_dir("modules"));
            continue;
        }
        for entry in directory.entries()? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                queue.push(directory.open_dir(entry.file_name())?);
            }
        }
    }
    Ok(())
}

fn tidy_repository(git: &Dir) -> io::Result<()> {
    for lock in LOCKS {
        gone(git.remove_file(lock))?;
    }
    gone(git.remove_file("config"))?;
    gone(git.remove_dir_all("hooks"))?;
    let mut queue: Vec<Dir> = git.open_dir("refs").into_iter().collect();
    while let Some(refs) = queue.pop() {
        for entry in refs.entries()? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                queue.push(refs.open_dir(&name)?);
            } else if Path::new(&name).extension().is_some_and(|extension| extension == "lock") {
                gone(refs.remove_file(&name))?;
            }
        }
    }
    Ok(())
}

fn builds(place: &Place) -> io::Result<Dir> {
    Dir::open_ambient_dir(&place.builds_dir, ambient_authority())
}

fn relative(place: &Place) -> io::Result<&Path> {
    let relative = place.project_dir.strip_prefix(&place.builds_dir).unwrap_or(Path::new(""));
    match relative.components().all(|part| matches!(part, Component::Normal(_))) && relative != Path::new("") {
        true => Ok(relative),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "the project is not below the builds directory")),
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        other => other,
    }
}

/// Whether git's own files are there and complete enough to be shallow.
pub(super) fn is_shallow(place: &Place) -> bool {
    let shallow = place.project_dir.join(".git/shallow");
    std::fs::symlink_metadata(shallow).is_ok_and(|file| file.size() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn place(root: &Path) -> Place {
        let project_dir = root.join("group/app");
        Place { builds_dir: root.to_owned(), temp_dir: root.join("group/app.tmp"), project_dir }
    }

    #[test]
    fn a_new_directory_is_open_to_everybody_and_an_old_one_stays_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        make(&place(root.path()), None).unwrap();
        for path in ["group", "group/app"] {
            assert_eq!(fs::metadata(root.path().join(path)).unwrap().mode() & 0o7777, 0o777, "{path}");
        }
        fs::write(root.path().join("group/app/file"), "").unwrap();
        make(&place(root.path()), None).unwrap();
        assert!(root.path().join("group/app/file").exists());
    }

    #[test]
    fn emptying_takes_links_away_and_not_what_they_lead_to() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place = place(root.path());
        empty(&place).unwrap();
        fs::create_dir_all(place.project_dir.join("a/b")).unwrap();
        fs::write(place.project_dir.join("a/b/c"), "").unwrap();
        fs::write(outside.path().join("mine"), "").unwrap();
        symlink(outside.path(), place.project_dir.join("link")).unwrap();
        symlink(outside.path(), place.project_dir.join("a/link")).unwrap();

        empty(&place).unwrap();

        assert_eq!(fs::read_dir(&place.project_dir).unwrap().count(), 0);
        assert!(outside.path().join("mine").exists());
    }

    #[test]
    fn a_link_in_the_projects_place_leads_nowhere() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("mine"), "").unwrap();
        symlink(outside.path(), root.path().join("group")).unwrap();
        let place = place(root.path());
        assert!(make(&place, None).is_err());
        assert!(empty(&place).is_err());
        assert!(outside.path().join("mine").exists() && !outside.path().join("app").exists());
    }

    #[test]
    fn a_place_that_is_not_below_the_builds_directory_is_refused() {
        let root = tempfile::tempdir().unwrap();
        for project in [root.path().to_owned(), root.path().join("../x"), "/etc".into()] {
            let place = Place { project_dir: project.clone(), ..place(root.path()) };
            assert!(make(&place, None).is_err() && empty(&place).is_err(), "{}", project.display());
        }
    }

    #[test]
    fn what_an_earlier_job_left_in_git_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let place = place(root.path());
        tidy(&place).unwrap();
        let git = place.project_dir.join(".git");
        let gone = ["index.lock", "config", "hooks/post-checkout", "refs/heads/a/b.lock", "modules/x/y/config"];
        let stays = ["HEAD", "refs/heads/a/b", "modules/x/y/HEAD", "modules/x/y/objects/pack"];
        for path in gone.iter().chain(&stays) {
            fs::create_dir_all(git.join(path).parent().unwrap()).unwrap();
            fs::write(git.join(path), "").unwrap();
        }

        tidy(&place).unwrap();

        assert!(gone.iter().all(|path| !git.join(path).exists()));
        assert!(stays.iter().all(|path| git.join(path).exists()));
    }
}

//! Owns the job's temporary directory: file variables and `GITLAB_ENV` (runner-behaviour.md §3.4).
//!
//! Scripts can write in it as they like, links included: nothing here leaves the builds directory.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt};

use crate::gitlab::Variables;

use super::context::Place;
use super::program::is_identifier;

/// The file through which scripts hand variables on.
const GITLAB_ENV_FILE: &str = "gitlab_runner_env";

/// As much as is read of it.
const LONGEST_GITLAB_ENV: u64 = 1 << 20;

/// The file variables and their contents.
pub(super) fn contents(variables: &Variables) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for variable in variables.iter() {
        match variable.file && is_file_name(&variable.key) {
            true => files.insert(variable.key.clone(), variable.value.clone()),
            false => files.remove(&variable.key),
        };
    }
    files
}

/// Where the content of file variable `key` lies.
pub(super) fn path(temp_dir: &Path, key: &str) -> String {
    temp_dir.join(key).to_string_lossy().into_owned()
}

/// Where `GITLAB_ENV` lies.
pub(super) fn gitlab_env_path(temp_dir: &Path) -> String {
    path(temp_dir, GITLAB_ENV_FILE)
}

/// Writes `files` anew, and an empty `GITLAB_ENV` unless there is one.
pub(super) fn write(builds_dir: &Path, temp_dir: &Path, files: &BTreeMap<String, String>) -> io::Result<()> {
    let builds = Dir::open_ambient_dir(builds_dir, ambient_authority())?;
    let relative = relative(builds_dir, temp_dir)?;
    builds.create_dir_all(relative)?;
    let temp = builds.open_dir(relative)?;
    // Somebody else's directory is as it is.
    let _ = temp.set_permissions(".", Permissions::from_mode(0o777));
    for (key, content) in files.iter().filter(|(key, _)| is_file_name(key)) {
        match temp.remove_file(key) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        temp.open_with(key, OpenOptions::new().write(true).create_new(true).mode(0o666))?
            .write_all(content.as_bytes())?;
    }
    match temp.open_with(GITLAB_ENV_FILE, OpenOptions::new().write(true).create_new(true).mode(0o666)) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// What scripts have handed on so far; nothing if the file is none.
pub(super) fn read_gitlab_env(place: &Place) -> BTreeMap<String, String> {
    let text = read(place).unwrap_or_default();
    parse_gitlab_env(&String::from_utf8_lossy(&text))
}

/// Takes the directory away.
pub(super) fn remove(place: &Place) -> io::Result<()> {
    let builds = Dir::open_ambient_dir(&place.builds_dir, ambient_authority())?;
    let relative = relative(&place.builds_dir, &place.temp_dir)?;
    match builds.symlink_metadata(relative) {
        Ok(found) if found.is_dir() => builds.remove_dir_all(relative),
        Ok(_) => builds.remove_file(relative),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn read(place: &Place) -> io::Result<Vec<u8>> {
    let builds = Dir::open_ambient_dir(&place.builds_dir, ambient_authority())?;
    let path = relative(&place.builds_dir, &place.temp_dir)?.join(GITLAB_ENV_FILE);
    // A FIFO would let us wait for ever.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = builds.open_with(path, OpenOptions::new().read(true).custom_flags(nonblocking))?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut text = Vec::new();
    file.take(LONGEST_GITLAB_ENV).read_to_end(&mut text)?;
    Ok(text)
}

/// Line by line, and literally: no quotes, no line breaks (runner-behaviour.md §13, 18).
fn parse_gitlab_env(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim_matches([' ', '\t']).split_once('='));
    pairs.filter(|(key, _)| is_identifier(key)).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn relative<'a>(builds_dir: &Path, temp_dir: &'a Path) -> io::Result<&'a Path> {
    temp_dir
        .strip_prefix(builds_dir)
        .map_err(|_| io::Error::other("the job's directory is not below the builds directory"))
}

/// Whether `key` is one name in a directory, and not that of `GITLAB_ENV`.
fn is_file_name(key: &str) -> bool {
    !key.is_empty() && key != "." && key != ".." && key != GITLAB_ENV_FILE && !key.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::Variable;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn place(root: &tempfile::TempDir) -> Place {
        let builds_dir = root.path().join("builds");
        fs::create_dir(&builds_dir).unwrap();
        Place { project_dir: builds_dir.join("g/p"), temp_dir: builds_dir.join("g/p.tmp"), builds_dir }
    }

    fn files() -> BTreeMap<String, String> {
        BTreeMap::from([("CERT".to_owned(), "pem".to_owned())])
    }

    #[test]
    fn file_variables_are_written_rewritten_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let place = place(&root);
        for _ in 0..2 {
            write(&place.builds_dir, &place.temp_dir, &files()).unwrap();
            assert_eq!(fs::read_to_string(place.temp_dir.join("CERT")).unwrap(), "pem");
            fs::write(place.temp_dir.join("CERT"), "changed").unwrap();
        }
        remove(&place).unwrap();
        assert!(!place.temp_dir.exists());
        remove(&place).unwrap();
    }

    #[test]
    fn what_a_script_hands_on_is_read_line_by_line() {
        let root = tempfile::tempdir().unwrap();
        let place = place(&root);
        write(&place.builds_dir, &place.temp_dir, &files()).unwrap();
        assert!(read_gitlab_env(&place).is_empty());
        let text = "A=1\n  B=two words \nC=\"quoted $A\"\nno line\n1X=3\nA=2\nLAST=x=y";
        fs::write(place.temp_dir.join(GITLAB_ENV_FILE), text).unwrap();
        write(&place.builds_dir, &place.temp_dir, &files()).unwrap();

        let read: Vec<_> = read_gitlab_env(&place).into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(read, ["A=2", "B=two words", "C=\"quoted $A\"", "LAST=x=y"]);
    }

    #[test]
    fn links_that_a_script_plants_lead_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let place = place(&root);
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "KEY=secret\n").unwrap();
        fs::create_dir_all(place.builds_dir.join("g")).unwrap();

        symlink(&outside, &place.temp_dir).unwrap();
        assert!(write(&place.builds_dir, &place.temp_dir, &files()).is_err());
        assert!(!outside.join("CERT").exists());
        remove(&place).unwrap();
        assert!(outside.join("secret").exists() && place.temp_dir.symlink_metadata().is_err());

        write(&place.builds_dir, &place.temp_dir, &files()).unwrap();
        for name in ["CERT", GITLAB_ENV_FILE] {
            fs::remove_file(place.temp_dir.join(name)).unwrap();
            symlink(outside.join("secret"), place.temp_dir.join(name)).unwrap();
        }
        assert!(read_gitlab_env(&place).is_empty());
        write(&place.builds_dir, &place.temp_dir, &files()).unwrap();
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "KEY=secret\n");
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let place = place(&root);
        fs::create_dir_all(&place.temp_dir).unwrap();
        let fifo = place.temp_dir.join(GITLAB_ENV_FILE);
        rustix::fs::mknodat(rustix::fs::CWD, fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
        assert!(read_gitlab_env(&place).is_empty());
    }

    #[test]
    fn the_last_of_a_name_counts_and_no_name_leaves_the_directory() {
        let file = |key: &str, value: &str| Variable { file: true, ..variable(key, value) };
        let all: Variables = [
            file("ONE", "first"),
            file("ONE", "last"),
            file("GONE", "x"),
            variable("GONE", "text"),
            file("../etc", "x"),
        ]
        .into_iter()
        .collect();
        let files: Vec<_> = contents(&all).into_iter().collect();
        assert_eq!(files, [("ONE".to_owned(), "last".to_owned())]);
    }

    fn variable(key: &str, value: &str) -> Variable {
        Variable { key: key.into(), value: value.into(), ..Variable::default() }
    }
}

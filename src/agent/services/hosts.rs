//! Owns the names in a container's `/etc/hosts`: on Fargate every container has its own, and nothing else can give names.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// What all services are reached at: they share the job's network.
const LOOPBACK: &str = "127.0.0.1";

/// Lets `names` lead to this task. Says nothing where they do already.
///
/// # Errors
/// A user other than root may not write the file.
pub(in crate::agent) fn add(file: &Path, names: &[String]) -> io::Result<()> {
    // An image's name may hold what no host's does; nothing else may come into this file.
    let is_name =
        |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let names: Vec<&str> = names.iter().map(String::as_str).filter(is_name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let line = format!("{LOOPBACK}\t{}\n", names.join(" "));
    let known = fs::read_to_string(file).unwrap_or_default();
    if known.contains(&line) {
        return Ok(());
    }
    // An image may have left the file without a last line's end.
    let line = if known.is_empty() || known.ends_with('\n') { line } else { format!("\n{line}") };
    OpenOptions::new().append(true).create(true).open(file)?.write_all(line.as_bytes())
}

/// What stands in for names where they cannot be given: `POSTGRES_HOST=127.0.0.1` for `postgres`.
pub(super) fn variables(names: &[String]) -> Vec<(String, String)> {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name = |name: &String| name.chars().map(letter).collect::<String>() + "_HOST";
    // A variable's name begins with no digit.
    let can_be_set = |name: &String| !name.starts_with(|c: char| c.is_ascii_digit());
    names.iter().map(name).filter(can_be_set).map(|name| (name, LOOPBACK.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_added_once_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        fs::write(&file, "127.0.0.1 localhost").unwrap();
        let names = ["db", "my__app", "bad\n6.6.6.6 gitlab.test", "a b", ""].map(str::to_owned);

        add(&file, &names).unwrap();
        add(&file, &names).unwrap();

        assert_eq!(fs::read_to_string(&file).unwrap(), "127.0.0.1 localhost\n127.0.0.1\tdb my__app\n");
        add(&dir.path().join("none"), &[]).unwrap();
        assert!(!dir.path().join("none").exists());
    }

    #[test]
    fn a_name_that_cannot_be_given_is_a_variable() {
        let names = ["db", "my-app.test", "7zip"].map(str::to_owned);
        let expected = [("DB_HOST", "127.0.0.1"), ("MY_APP_TEST_HOST", "127.0.0.1")];
        assert_eq!(variables(&names), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

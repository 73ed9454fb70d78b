//! The pipelines that people have today, run as they stand (`tests/fixtures/pipelines`).

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Done, User, listing};

/// A user with a fixture as his repository.
fn user(fixture: &str) -> User {
    let place = Path::new("tests/fixtures/pipelines").join(fixture);
    let files = listing(&place);
    let files: Vec<(String, String)> = files
        .into_iter()
        .map(|(path, bytes)| {
            let name = path.strip_prefix(&place).expect("below the fixture").to_string_lossy().into_owned();
            (name, String::from_utf8(bytes).expect("text"))
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    User::with(&files)
}

fn statuses(done: &Done) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let jobs = done.json()["jobs"].as_array().cloned().unwrap_or_default();
    jobs.iter().map(|job| (text(&job["name"]), text(&job["status"]))).collect()
}

fn all_passed(done: &Done, jobs: &[&str]) {
    let expected: Vec<_> = jobs.iter().map(|job| ((*job).to_owned(), "success".to_owned())).collect();
    assert_eq!((done.code, statuses(done)), (Some(0), expected), "{}{}", done.out, done.err);
}

#[test]
fn two_jobs_share_a_cache() {
    let user = user("01-shared-cache");

    let done = user.mayfly(&["run", "--json"]);

    all_passed(&done, &["build1", "test1"]);
    let log = fs::read_to_string(user.kept().join("logs/test1.log")).expect("a log");
    assert!(log.contains("hello from build1") && log.contains("After script section"), "{log}");
}

#[test]
fn three_python_stages_reuse_a_virtual_environment() {
    let user = user("02-python-pip");

    let done = user.mayfly(&["run", "--json"]);

    all_passed(&done, &["install", "unit tests", "wheel"]);
    let log = fs::read_to_string(user.kept().join("logs/unit-tests.log")).expect("a log");
    assert!(log.contains("Requirement already satisfied: pytest"), "the environment came from the cache: {log}");
    let dist = user.kept().join("artifacts/wheel/dist");
    assert_eq!(listing(&dist).len(), 1, "a wheel is left in {}", dist.display());
}

/// Maven's own part is played by scripts that write the same paths.
#[test]
fn a_maven_build_hands_its_jar_on() {
    let user = user("03-maven");
    let tools = tempfile::tempdir().expect("a directory");
    let mvn = "#!/bin/sh\nset -e\nrepository=${MAVEN_OPTS#*-Dmaven.repo.local=}\nmkdir -p \"$repository\" target/surefire-reports\n\
        echo library > \"$repository/library.jar\"\necho jar > target/app.jar\necho '<testsuite/>' > target/surefire-reports/TEST-app.xml\n";
    let java = "#!/bin/sh\n[ \"$(cat \"$2\")\" = jar ] && echo \"runs $2\"\n";
    for (name, text) in [("mvn", mvn), ("java", java)] {
        let path = tools.path().join(name);
        fs::write(&path, text).expect("a tool");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    let path = std::env::var("PATH").unwrap_or_default();

    let mut command = user.command(&["run", "--json"]);
    command.env("PATH", format!("{}:{path}", tools.path().display()));
    let done = Done::of(command.output().expect("mayfly runs"));

    user.nothing_is_left();
    all_passed(&done, &["package", "verify", "run the jar"]);
    let log = fs::read_to_string(user.kept().join("logs/run-the-jar.log")).expect("a log");
    assert!(log.contains("runs target/app.jar"), "{log}");
}

#[test]
fn stages_follow_each_other_and_a_manual_job_waits() {
    let user = user("08-stages-and-jobs");

    let done = user.mayfly(&["run", "--json"]);

    let mut found = statuses(&done);
    assert_eq!((done.code, found.pop()), (Some(0), Some(("deploy-production".into(), "manual".into()))));
    assert!(found.len() == 5 && found.iter().all(|(_, status)| status == "success"), "{found:?}");
}

#[test]
fn what_needs_a_privileged_machine_is_refused_with_the_way_out() {
    for fixture in ["05-docker-in-docker", "06-docker-socket"] {
        let user = user(fixture);
        let preview = user.mayfly(&["preview"]);
        assert!(preview.out.contains("build images with kaniko"), "{fixture}: {}", preview.out);
        assert_eq!(user.mayfly(&["check"]).code, Some(1), "{fixture}");
    }
    for fixture in ["04-kaniko", "07-buildkit"] {
        let check = user(fixture).mayfly(&["check"]);
        assert_eq!(check.code, Some(0), "{fixture}: {}", check.out);
    }
}

/// `cargo test --release --test cli -- two_hundred --nocapture` says how long it takes.
#[test]
fn two_hundred_jobs_run_to_the_end() {
    let mut text = "stages: [a, b, c, d, e]\n".to_owned();
    for (at, stage) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let _ = write!(
            text,
            "{stage}-matrix:\n  stage: {stage}\n  script: ['echo $X-$Y']\n  parallel:\n    matrix: \
             [{{X: ['1', '2', '3', '4'], Y: [a, b, c, d, e]}}]\n"
        );
        for number in 0..20 {
            let _ = writeln!(text, "{stage}-{number}:\n  stage: {stage}\n  script: [echo {stage}-{number}]");
            if let Some(before) = at.checked_sub(1).map(|before| ["a", "b", "c", "d"][before]) {
                let matrix = if number == 0 { format!(", {before}-matrix") } else { String::new() };
                let _ = writeln!(text, "  needs: [{before}-{number}{matrix}]");
            }
        }
    }
    let user = User::of(&text);

    let done = user.mayfly(&["run", "--json"]);

    let found = statuses(&done);
    assert_eq!((done.code, found.len()), (Some(0), 200), "{}", done.err);
    assert!(found.iter().all(|(_, status)| status == "success"), "{found:?}");
    println!("200 jobs in {:.1} s", done.json()["seconds"].as_f64().unwrap_or_default());
}

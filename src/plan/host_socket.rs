//! Finds jobs that count on the Docker daemon of the machine they run on: a Fargate task has no such machine.
//!
//! Whether a runner would mount its socket is no part of a job; what is, is that the job names it.

use std::sync::LazyLock;

use regex::Regex;

use crate::gitlab::{Job, Variables};

use super::container::ContainerError;

/// Where Docker's daemon listens.
static SOCKET: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:/var)?/run/docker\.sock\b|\bdocker\s[^#]*?(?:-H|--host)[ =]?unix://").expect("it is a pattern")
});
/// A line that only asks whether the socket is there can live without it, and one that talks of it as well.
static HARMLESS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:#|echo\b|printf\b)|(?:\btest|\[)\s+(?:!\s+)?-[a-zA-Z]\s+\S*docker\.sock")
        .expect("it is a pattern")
});
/// Docker as a command.
static DOCKER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:^|[\s;&|(`])docker(?:-compose)?\s").expect("it is a pattern"));

/// Refuses a job that names the socket in its scripts, or in `DOCKER_HOST` for a `docker` that it calls.
///
/// # Errors
/// [`ContainerError::HostSocket`].
pub(super) fn no_host_socket(job: &Job, variables: &Variables) -> Result<(), ContainerError> {
    let lines = || job.steps.iter().flat_map(|step| &step.script).flat_map(|entry| entry.lines());
    if lines().any(|line| SOCKET.is_match(line) && !HARMLESS.is_match(line)) {
        return Err(ContainerError::HostSocket { place: "the script".into() });
    }
    // A group may set the variable for all its jobs; it matters where something listens to it.
    let host = variables.get("DOCKER_HOST").unwrap_or_default();
    if host.starts_with("unix://") && host.ends_with("docker.sock") && lines().any(|line| DOCKER.is_match(line)) {
        return Err(ContainerError::HostSocket { place: "variable `DOCKER_HOST`".into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(script: &[&str], docker_host: Option<&str>) -> Option<String> {
        let mut variables = vec![json!({"key": "RUN", "value": "/var/run"})];
        variables.extend(docker_host.map(|host| json!({"key": "DOCKER_HOST", "value": host})));
        let steps = json!([{"name": "script", "script": script}]);
        let body = json!({"id": 1, "token": "t", "variables": variables, "steps": steps});
        let job = Job::read(body.to_string().as_bytes()).unwrap();
        no_host_socket(&job, &job.variables).err().map(|error| error.to_string())
    }

    #[test]
    fn a_job_that_counts_on_the_hosts_socket_is_refused_with_the_way_out() {
        for (script, docker_host) in [
            (&["docker build ."][..], Some("unix:///var/run/docker.sock")),
            (&["cd app && docker-compose up"], Some("unix://$RUN/docker.sock")),
            (&["docker -H unix:///var/run/docker.sock ps"], None),
            (&["docker --host=unix:///custom.sock ps"], None),
            (&["docker run -v /var/run/docker.sock:/var/run/docker.sock app"], None),
            (&["curl --unix-socket /var/run/docker.sock http://d/info"], None),
            (&["make\nexport DOCKER_HOST=unix:///run/docker.sock\ndocker ps"], None),
        ] {
            let message = refused(script, docker_host).unwrap_or_else(|| panic!("{script:?} is not refused"));
            assert!(message.contains("kaniko") && message.contains("socket"), "{message}");
        }
    }

    #[test]
    fn other_jobs_are_not() {
        for (script, docker_host) in [
            (&["make"][..], Some("unix:///var/run/docker.sock")),
            (&["docker build ."], Some("tcp://docker:2375")),
            (&["docker buildx build --builder remote ."], None),
            (&["docker -H tcp://build.test:2375 ps"], None),
            (&["buildctl --addr tcp://buildkitd:1234 build"], None),
            (&["# mounts /var/run/docker.sock", "make"], None),
            (&["echo \"no /var/run/docker.sock here\""], None),
            (&["if [ -S /var/run/docker.sock ]; then echo yes; fi"], None),
            (&["test ! -e /var/run/docker.sock"], None),
            (&["podman --url unix:///run/user/1000/podman.sock ps"], Some("unix:///run/user/1000/podman.sock")),
            (&["cat docker.txt"], Some("unix:///var/run/docker.sock")),
        ] {
            assert_eq!(refused(script, docker_host), None, "{script:?}");
        }
    }
}

//! Tells in which words a job asks for its size.

use crate::gitlab::{BuildPlace, Job, job_variables};

/// Variables that ask for a size, as Kubernetes' executor reads them.
const KUBERNETES: [&str; 4] = ["KUBERNETES_", "KUBERNETES_HELPER_", "KUBERNETES_SERVICE_", "KUBERNETES_POD_"];

/// `cpu-2, MAYFLY_MEMORY=5g`; nothing if the job leaves it to the fleet.
pub(super) fn asked(job: &Job, tags: &[String]) -> Option<String> {
    let kinds = ["cpu-", "mem-", "disk-"];
    let mut words: Vec<String> =
        tags.iter().filter(|tag| kinds.iter().any(|kind| tag.starts_with(kind))).cloned().collect();
    let variables = job_variables(job, &BuildPlace { builds_dir: "/builds".into(), ..BuildPlace::default() });
    let mut names: Vec<String> = ["MAYFLY_CPU", "MAYFLY_MEMORY", "MAYFLY_DISK"].map(str::to_owned).to_vec();
    for prefix in KUBERNETES {
        for what in ["CPU", "MEMORY", "EPHEMERAL_STORAGE"] {
            names.extend(["REQUEST", "LIMIT"].map(|bound| format!("{prefix}{what}_{bound}")));
        }
    }
    for name in names {
        let value = variables.get(&name);
        words.extend(value.filter(|value| !value.trim().is_empty()).map(|value| format!("{name}={value}")));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tags_and_variables_ask_for_a_size() {
        let body = json!({"id": 1, "token": "t", "variables": [
            {"key": "HALF", "value": "5"}, {"key": "MAYFLY_MEMORY", "value": "${HALF}g"},
            {"key": "KUBERNETES_CPU_REQUEST", "value": "500m"}, {"key": "MAYFLY_DISK", "value": ""}]});
        let job = Job::read(body.to_string().as_bytes()).expect("it is read");
        let tags = ["mayfly", "cpu-2", "spot"].map(str::to_owned);
        assert_eq!(asked(&job, &tags).as_deref(), Some("cpu-2, MAYFLY_MEMORY=5g, KUBERNETES_CPU_REQUEST=500m"));
        let none = Job::read(br#"{"id": 1, "token": "t"}"#).expect("it is read");
        assert_eq!(asked(&none, &tags[2..]), None);
    }
}

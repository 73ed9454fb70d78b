//! Refuses keys by name, with their line and the way out: those of GitLab Runner's config.toml that cannot exist here, and
//! those that stand in the wrong place.

use toml::de::{DeTable, DeValue};

use super::settings::{NAMES, is_resource};

/// Keys of config.toml that have no meaning in a fleet of Fargate tasks, and what takes their place.
const REFUSED: [(&[&str], &str); 22] = [
    (
        &[
            "privileged",
            "allow_privilege_escalation",
            "cap_add",
            "devices",
            "security_opt",
            "runtime",
            "runtime_class_name",
        ],
        "Fargate runs no privileged containers: build images with kaniko, or with a remote builder",
    ),
    (
        &["volumes", "pvc", "suspend_pvc_size", "suspend_pvc_storage_class", "volumes_from", "tmpfs", "services_tmpfs"],
        "a task has no volumes but `/builds`: keep what outlives a job in `cache` or `artifacts`, and ask for disk with a \
         `disk-` tag",
    ),
    (
        &["gpus", "service_gpus", "device_cgroup_rules"],
        "Fargate has no GPUs: keep such jobs on another runner by their tags",
    ),
    (
        &["shm_size"],
        "Fargate gives each container 64 MB of `/dev/shm`: let the program use `/tmp`, as Chrome does with \
         `--disable-dev-shm-usage`",
    ),
    (
        &["builds_dir"],
        "builds lie in `/builds`, the task's own volume; a job chooses its place in it by `GIT_CLONE_PATH`",
    ),
    (&["cache_dir"], "the cache lies in the bucket of `[cache]`"),
    (&["custom_build_dir"], "`GIT_CLONE_PATH` is always allowed below `/builds`: no two jobs share it"),
    (&["safe_directory_checkout"], "sources always belong to the image's user, and git always trusts them"),
    (
        &["clean_git_config"],
        "every job's sources are fetched anew, and no token is ever written to git's configuration",
    ),
    (&["executor"], "there is one: a Fargate task for each job"),
    (&["shell"], "the image's own is taken: `bash`, else `sh`"),
    (&["concurrent", "request_concurrency"], "say how many jobs a runner may have at once by its `limit`"),
    (
        &["check_interval", "strict_check_interval", "unhealthy_requests_limit", "unhealthy_interval"],
        "nothing polls: GitLab's webhook rings",
    ),
    (&["prepare_timeout"], "a task that does not start within the job's timeout ends the job"),
    (&["pull_policy", "allowed_pull_policies"], "every task pulls its images"),
    (
        &["image_pull_secrets", "use_service_account_image_pull_secrets"],
        "name the registry and its secret in `[[images.registries]]`",
    ),
    (&["helper_image", "helper_image_flavor", "helper_image_autoset_arch_and_os"], "set `images.helper`"),
    (
        &["tls-ca-file", "tls-cert-file", "tls-key-file"],
        "GitLab itself hands its certificates to the jobs, as `CI_SERVER_TLS_CA_FILE`",
    ),
    (
        &["node_selector", "node_tolerations", "affinity", "scheduler_name", "priority_class_name"],
        "choose the processor by `size.arch`, spot capacity by `size.spot`",
    ),
    (
        &["service_account", "bearer_token", "automount_service_account_token"],
        "tasks have no role: let the job assume one with its `id_tokens:`",
    ),
    (&["services"], "name them in the job, or under `default:` in a file that all include"),
    (
        &[
            "host",
            "context",
            "namespace",
            "poll_interval",
            "poll_timeout",
            "retry_limit",
            "pod_spec",
            "pod_labels",
            "pod_annotations",
            "host_aliases",
            "dns_policy",
            "dns_config",
            "container_lifecycle",
            "init_permissions",
        ],
        "there is no Kubernetes here; `[tasks]` says where tasks run",
    ),
];

/// Sections of config.toml whose keys have another place here.
const SECTIONS: [&str; 4] = ["kubernetes", "docker", "machine", "autoscaler"];

/// A sentence for the first key that is refused, with its line.
pub(super) fn refused_key(text: &str) -> Option<String> {
    // What is no TOML is told by whoever reads it in earnest.
    let document = DeTable::parse(text).ok()?;
    let look = |table: &DeTable<'_>, settings: bool| {
        table.iter().find_map(|(key, _)| {
            let line = text[..key.span().start].matches('\n').count() + 1;
            let sentence = sentence(key.get_ref(), settings)?;
            Some(format!("line {line}: {sentence}"))
        })
    };
    let document = document.get_ref();
    let settings = |table: &DeTable<'_>| {
        table.iter().find_map(|(key, value)| match value.get_ref() {
            DeValue::Table(inner) if key.get_ref() == "settings" => look(inner, true),
            _ => None,
        })
    };
    let runners = document.iter().find(|(key, _)| key.get_ref() == "runners").map(|(_, value)| value.get_ref());
    let runners = match runners {
        Some(DeValue::Array(runners)) => runners.iter().filter_map(|runner| match runner.get_ref() {
            DeValue::Table(runner) => Some(runner),
            _ => None,
        }),
        _ => return look(document, false).or_else(|| settings(document)),
    };
    let of_runners = runners.into_iter().find_map(|runner| look(runner, false).or_else(|| settings(runner)));
    look(document, false).or_else(|| settings(document)).or(of_runners)
}

/// What is wrong with `key`; `settings` where the settings stand.
fn sentence(key: &str, settings: bool) -> Option<String> {
    if let Some((_, way_out)) = REFUSED.iter().find(|(keys, _)| keys.contains(&key) || keys.contains(&family(key))) {
        return Some(format!("`{key}` cannot be set: {way_out}"));
    }
    let is_setting = NAMES.contains(&key) || is_resource(key);
    match (is_setting, settings) {
        (true, true) | (false, false) if !SECTIONS.contains(&key) => None,
        (true, _) => Some(format!("`{key}` belongs into `[settings]`, or into `[runners.settings]` behind its runner")),
        (false, _) if SECTIONS.contains(&key) => Some(format!(
            "there is no section `{key}`: what it sets of images, services and resources belongs into `[settings]`"
        )),
        (false, _) if key == "cache" => Some("`cache` belongs directly below its runner: `[runners.cache]`".into()),
        (false, _) => {
            Some(format!("`{key}` is no setting; there are `{}`, and `cpu_request` and the like", NAMES.join("`, `")))
        }
    }
}

/// What `key` allows or limits: `namespace_overwrite_allowed` is about `namespace`.
fn family(key: &str) -> &str {
    if is_resource(key) {
        return key;
    }
    let key = key.strip_suffix("_overwrite_allowed").or_else(|| key.strip_suffix("_per_job")).unwrap_or(key);
    if key.ends_with("_security_context") { "privileged" } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_be_is_named_with_its_line_and_the_way_out() {
        for (text, said) in [
            ("[settings]\nprivileged = true", "line 2: `privileged` cannot be set: Fargate runs no privileged"),
            (
                "\n[settings]\nimage = 'a'\nshm_size = 1",
                "line 4: `shm_size` cannot be set: Fargate gives each container 64",
            ),
            ("[settings]\ngpus = 'all'", "Fargate has no GPUs"),
            ("[settings]\n[[settings.volumes.pvc]]\nname = 'x'", "`volumes` cannot be set"),
            (
                "[[runners]]\nname = 'x'\nbuilds_dir = '/x'",
                "line 3: `builds_dir` cannot be set: builds lie in `/builds`",
            ),
            ("[[runners]]\n[runners.settings]\nnamespace_overwrite_allowed = '.*'", "line 3: `namespace_overwrite"),
            ("[[runners]]\n[runners.settings]\nbuild_container_security_context = {}", "no privileged"),
            ("[[runners]]\n[[runners]]\nenvironment = []", "line 3: `environment` belongs into `[settings]`"),
            ("[[runners]]\n[runners.kubernetes]\nimage = 'a'", "line 2: there is no section `kubernetes`"),
            ("[settings]\nimagee = 'a'", "line 2: `imagee` is no setting"),
            ("[settings.cache]\nPath = 'a'", "`[runners.cache]`"),
            ("concurrent = 4", "line 1: `concurrent` cannot be set"),
        ] {
            let told = refused_key(text).unwrap_or_else(|| panic!("nothing is told of {text}"));
            assert!(told.contains(said), "{told}");
        }
    }

    #[test]
    fn other_keys_are_somebody_elses() {
        for text in [
            "[settings]\nimage = 'a'\ncpu_request_overwrite_max_allowed = '2'",
            "[[runners]]\nname = 'x'\n[runners.settings]\noutput_limit = 3\n[runners.settings.feature_flags]\nFF_X = true",
            "regoin = 'x'",
            "no toml",
        ] {
            assert_eq!(refused_key(text), None, "{text}");
        }
    }
}

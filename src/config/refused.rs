//! Refuses keys by name, with their line and the way out: those of GitLab Runner's config.toml that cannot exist here, and
//! those that stand in the wrong place.

use toml::de::{DeTable, DeValue};

use super::settings::{NAMES, is_resource};

/// Keys of config.toml that have no meaning in a fleet of Fargate tasks, and what takes their place.
const REFUSED: [(&str, &str); 33] = [
    (
        "privileged allow_privilege_escalation cap_add devices security_opt runtime runtime_class_name userns_mode \
         allowed_privileged_images allowed_privileged_services services_privileged services_security_opt",
        "Fargate runs no privileged containers: build images with kaniko, or with a remote builder",
    ),
    (
        "volumes pvc suspend_pvc_size suspend_pvc_storage_class volumes_from volume_driver tmpfs services_tmpfs \
         disable_cache",
        "a task has no volumes but `/builds`: keep what outlives a job in `cache` or `artifacts`, and ask for disk with a \
         `disk-` tag",
    ),
    ("gpus service_gpus device_cgroup_rules", "Fargate has no GPUs: keep such jobs on another runner by their tags"),
    (
        "shm_size",
        "Fargate gives each container 64 MB of `/dev/shm`: let the program use `/tmp`, as Chrome does with \
         `--disable-dev-shm-usage`",
    ),
    ("builds_dir", "builds lie in `/builds`, the task's own volume; a job chooses its place in it by `GIT_CLONE_PATH`"),
    ("cache_dir", "the cache lies in the bucket of `[cache]`"),
    ("custom_build_dir", "`GIT_CLONE_PATH` is always allowed below `/builds`: no two jobs share it"),
    ("safe_directory_checkout", "sources always belong to the image's user, and git always trusts them"),
    ("clean_git_config", "every job's sources are fetched anew, and no token is ever written to git's configuration"),
    ("executor", "there is one: a Fargate task for each job"),
    ("shell", "the image's own is taken: `bash`, else `sh`"),
    ("concurrent request_concurrency", "say how many jobs a runner may have at once by its `limit`"),
    (
        "check_interval strict_check_interval unhealthy_requests_limit unhealthy_interval connection_max_age",
        "nothing polls: GitLab's webhook rings",
    ),
    ("prepare_timeout", "a task that does not start within the job's timeout ends the job"),
    ("pull_policy allowed_pull_policies", "every task pulls its images"),
    (
        "image_pull_secrets use_service_account_image_pull_secrets",
        "name the registry and its secret in `[[images.registries]]`",
    ),
    ("helper_image helper_image_flavor helper_image_autoset_arch_and_os step_runner_image", "set `images.helper`"),
    ("tls-ca-file", "set the runner's `tls_ca` to the certificates themselves, in PEM"),
    (
        "tls-cert-file tls-key-file tls_cert_path tls_verify",
        "GitLab itself hands its certificates to the jobs, as `CI_SERVER_TLS_CA_FILE`",
    ),
    (
        "node_selector node_tolerations affinity scheduler_name priority_class_name",
        "choose the processor by `size.arch`, spot capacity by `size.spot`",
    ),
    (
        "service_account bearer_token automount_service_account_token",
        "tasks have no role: let the job assume one with its `id_tokens:`",
    ),
    ("services", "name them in the job, or under `default:` in a file that all include"),
    (
        "services_limit wait_for_services_timeout",
        "a task has room for 7 services, and a service says by `HEALTHCHECK_TCP_PORT` what to wait for",
    ),
    (
        "disable_entrypoint_overwrite",
        "entry points count only with `FF_KUBERNETES_HONOR_ENTRYPOINT`, which `feature_flags` can turn off for all",
    ),
    (
        "host_aliases extra_hosts links dns dns_search dns_policy dns_config network_mode enable_ipv6 hostname mac_address",
        "a task has an address and the resolver of its subnet: put names into a private zone of Route 53",
    ),
    (
        "ulimit sysctls oom_kill_disable oom_score_adjust cpuset_cpus cpuset_mems cpu_shares cpus memory memory_swap \
         memory_reservation group_add isolation cap_drop service_cpus service_memory",
        "Fargate fixes what the kernel allows; sizes are `cpu_request`, `memory_limit` and the like, or `[size]`",
    ),
    ("session_server proxy_exec", "there is no interactive terminal"),
    (
        "listen_address log_level log_format sentry_dsn monitoring referees experimental",
        "the functions log to CloudWatch, in JSON, and alarms look there",
    ),
    ("token", "a token is a secret: put it into the stack's secret of runner tokens, beside the runner's name"),
    ("token_obtained_at token_expires_at", "the secret that holds the token is rotated in Secrets Manager"),
    (
        "job_status_final_update_retry_limit shutdown_timeout artifact",
        "the outcome and the artifacts are said until GitLab has them, for half an hour and an hour",
    ),
    ("use_slot_cgroups slot_cgroup_template", "every job has a task for itself"),
    (
        "host context cert_file key_file ca_file namespace poll_interval poll_timeout retry_limit retry_limits \
         retry_backoff_max cleanup_resources_timeout cleanup_grace_period_seconds pod_termination_grace_period_seconds \
         resource_availability_check_max_attempts pod_spec pod_labels pod_annotations pod_disruption_budget \
         print_pod_warning_events container_lifecycle init_permissions logs_base_dir scripts_base_dir",
        "there is no Kubernetes here; `[tasks]` says where tasks run",
    ),
];

/// Sections of config.toml whose keys have another place here.
const SECTIONS: [&str; 7] = ["kubernetes", "docker", "machine", "autoscaler", "instance", "ssh", "custom"];

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
    let refuses = |keys: &str| keys.split_whitespace().any(|refused| refused == key || refused == family(key));
    if let Some((_, way_out)) = REFUSED.iter().find(|(keys, _)| refuses(keys)) {
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
            ("[[runners]]\n[runners.settings]\nextra_hosts = []", "Route 53"),
            ("[[runners]]\n[runners.settings]\nwait_for_services_timeout = 60", "`HEALTHCHECK_TCP_PORT`"),
            ("[[runners]]\nproxy_exec = true", "no interactive terminal"),
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

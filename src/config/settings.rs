//! Owns the settings that GitLab Runner has in its config.toml, under the names that they have there (runner-behaviour.md
//! §9.2 to §9.4).

use std::collections::BTreeMap;

use globset::GlobBuilder;
use serde::{Deserialize, Serialize};

/// What a runner does with every job of its; what is not set is the fleet's, then GitLab Runner's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobSettings {
    /// `KEY=VALUE` for every job; the job's own variables win.
    pub environment: Option<Vec<String>>,
    /// Before the sources are fetched, in the helper.
    pub pre_get_sources_script: Option<String>,
    /// After it.
    pub post_get_sources_script: Option<String>,
    /// Before each step's script, in the same shell.
    pub pre_build_script: Option<String>,
    /// After it.
    pub post_build_script: Option<String>,
    /// The longest log, in KiB; 4096 without it.
    pub output_limit: Option<u64>,
    /// Flags that no job can change.
    pub feature_flags: Option<BTreeMap<String, bool>>,
    /// `CI_DEBUG_TRACE` and `CI_DEBUG_SERVICES` do nothing.
    pub debug_trace_disabled: Option<bool>,
    /// For all attempts together, as `10m`; the job's timeout without it.
    pub get_sources_timeout: Option<String>,
    /// Where the sources are fetched from instead of GitLab's own URL.
    pub clone_url: Option<String>,
    /// For jobs that name none; then `images.default`.
    pub image: Option<String>,
    /// Patterns of the images that jobs may name; all without it.
    pub allowed_images: Option<Vec<String>>,
    /// The same for services.
    pub allowed_services: Option<Vec<String>>,
    /// The users that jobs may name; without it all but root.
    pub allowed_users: Option<Vec<String>>,
    /// The same for groups.
    pub allowed_groups: Option<Vec<String>>,
    /// `cpu_request`, `helper_memory_limit`, `service_cpu_request_overwrite_max_allowed` and the like.
    #[serde(flatten)]
    pub resources: BTreeMap<String, String>,
}

/// The names of [`JobSettings`]' own fields.
pub(super) const NAMES: [&str; 15] = [
    "environment",
    "pre_get_sources_script",
    "post_get_sources_script",
    "pre_build_script",
    "post_build_script",
    "output_limit",
    "feature_flags",
    "debug_trace_disabled",
    "get_sources_timeout",
    "clone_url",
    "image",
    "allowed_images",
    "allowed_services",
    "allowed_users",
    "allowed_groups",
];

/// Whether `name` is one of `{,service_,helper_}{cpu,memory,ephemeral_storage}_{request,limit}{,_overwrite_max_allowed}`
/// or of `pod_{cpu,memory}_{request,limit}{,_overwrite_max_allowed}`.
pub(super) fn is_resource(name: &str) -> bool {
    let name = name.strip_suffix("_overwrite_max_allowed").unwrap_or(name);
    let Some(what) = name.strip_suffix("_request").or_else(|| name.strip_suffix("_limit")) else { return false };
    let containers = ["service_", "helper_"];
    let what = containers.iter().find_map(|container| what.strip_prefix(container)).unwrap_or(what);
    matches!(what, "cpu" | "memory" | "ephemeral_storage" | "pod_cpu" | "pod_memory") && !name.contains("_pod_")
}

impl JobSettings {
    /// These settings, and those of `fleet` where nothing is set.
    #[must_use]
    pub fn over(&self, fleet: &JobSettings) -> JobSettings {
        fn first<T: Clone>(own: &Option<T>, fleet: &Option<T>) -> Option<T> {
            own.clone().or_else(|| fleet.clone())
        }
        let mut resources = fleet.resources.clone();
        resources.extend(self.resources.clone());
        JobSettings {
            environment: first(&self.environment, &fleet.environment),
            pre_get_sources_script: first(&self.pre_get_sources_script, &fleet.pre_get_sources_script),
            post_get_sources_script: first(&self.post_get_sources_script, &fleet.post_get_sources_script),
            pre_build_script: first(&self.pre_build_script, &fleet.pre_build_script),
            post_build_script: first(&self.post_build_script, &fleet.post_build_script),
            output_limit: self.output_limit.or(fleet.output_limit),
            feature_flags: first(&self.feature_flags, &fleet.feature_flags),
            debug_trace_disabled: self.debug_trace_disabled.or(fleet.debug_trace_disabled),
            get_sources_timeout: first(&self.get_sources_timeout, &fleet.get_sources_timeout),
            clone_url: first(&self.clone_url, &fleet.clone_url),
            image: first(&self.image, &fleet.image),
            allowed_images: first(&self.allowed_images, &fleet.allowed_images),
            allowed_services: first(&self.allowed_services, &fleet.allowed_services),
            allowed_users: first(&self.allowed_users, &fleet.allowed_users),
            allowed_groups: first(&self.allowed_groups, &fleet.allowed_groups),
            resources,
        }
    }

    /// The setting `name` of [`resources`](Self::resources); an empty one is none.
    pub fn resource(&self, name: &str) -> Option<&str> {
        self.resources.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (number, entry) in (1..).zip(self.environment.iter().flatten()) {
            if entry.split_once('=').is_none_or(|(key, _)| key.is_empty()) {
                // It may be a secret, and is not shown.
                return Err(format!("entry {number} of `environment` is not `KEY=VALUE`"));
            }
        }
        for pattern in self.allowed_images.iter().chain(&self.allowed_services).flatten() {
            GlobBuilder::new(pattern)
                .literal_separator(true)
                .build()
                .map_err(|error| format!("`{pattern}` is no pattern of images: {error}"))?;
        }
        if let Some(url) = &self.clone_url
            && !url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        {
            return Err(format!("`clone_url` is `{url}`, which is no http or https URL"));
        }
        if self.output_limit == Some(0) {
            return Err("`output_limit` is in KiB, and at least 1".into());
        }
        if let Some(flag) = self.feature_flags.iter().flatten().find(|(flag, _)| !flag.starts_with("FF_")) {
            return Err(format!("`feature_flags` holds `{}`: flags begin with `FF_`", flag.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_have_the_names_of_config_toml() {
        for (name, expected) in [
            ("cpu_limit", true),
            ("memory_request_overwrite_max_allowed", true),
            ("service_ephemeral_storage_limit", true),
            ("helper_cpu_request_overwrite_max_allowed", true),
            ("pod_memory_limit", true),
            ("pod_ephemeral_storage_limit", false),
            ("service_pod_cpu_limit", false),
            ("cpu", false),
            ("disk_limit", false),
            ("namespace_overwrite_allowed", false),
        ] {
            assert_eq!(is_resource(name), expected, "{name}");
        }
    }

    #[test]
    fn a_runner_replaces_the_settings_that_it_names() {
        let read = |text: &str| toml::from_str::<JobSettings>(text).unwrap();
        let fleet = read("image = 'a'\noutput_limit = 1\ncpu_request = '1'\nmemory_limit = '1Gi'");
        let runner = read("image = 'b'\ncpu_request = '2'");
        let both = runner.over(&fleet);
        assert_eq!((both.image.as_deref(), both.output_limit), (Some("b"), Some(1)));
        assert_eq!((both.resource("cpu_request"), both.resource("memory_limit")), (Some("2"), Some("1Gi")));
        assert_eq!(both.resource("cpu_limit"), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, said) in [
            ("environment = ['=x']", "entry 1 of `environment` is not `KEY=VALUE`"),
            ("allowed_images = ['ruby:{']", "`ruby:{` is no pattern"),
            ("clone_url = 'git@x:y'", "`clone_url`"),
            ("output_limit = 0", "`output_limit`"),
            ("feature_flags = { TIMESTAMPS = true }", "`TIMESTAMPS`"),
        ] {
            let error = toml::from_str::<JobSettings>(text).unwrap().check().unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}

//! Owns which objects each cache of a job may be restored from and saved to.
//!
//! The broker grants by this and the agent speaks by it: same job, same variables, same answer. No object lies outside
//! `…/project/<id>/`.

use thiserror::Error;

use crate::gitlab::{Cache, CachePolicy, Job, Variables};

use super::key::{KeyError, is_reserved_for_protected_refs, sanitized};

/// Where a deployment keeps its caches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheSettings {
    /// Stands before every object's name; may be empty.
    pub path: String,
    /// All runners of the deployment use one another's caches.
    pub shared: bool,
}

/// One key and its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// As people see it.
    pub key: String,
    /// The object's name in the bucket.
    pub object: String,
}

/// The objects of one of the job's caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryObjects {
    /// The key as people see it; `None` when the entry is left out: it holds nothing, or its key is unusable.
    pub key: Option<String>,
    /// Which ways it goes.
    pub policy: Result<CachePolicy, PolicyError>,
    /// To try in this order: the key's, then those of the fallback keys. Empty when the policy does not pull.
    pub restore: Vec<Candidate>,
    /// To write. `None` when the policy does not push.
    pub save: Option<Candidate>,
    /// What is not as asked, as sentences.
    pub warnings: Vec<String>,
}

/// A policy that GitLab does not know.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown cache policy {policy} for {key}")]
pub struct PolicyError {
    /// After expansion.
    pub policy: String,
    /// The cache's key.
    pub key: String,
}

/// One for each entry of `job.cache`, in order; `variables` are all of the job's, expanded.
pub fn cache_objects(
    job: &Job,
    variables: &Variables,
    short_token: &str,
    settings: &CacheSettings,
) -> Vec<EntryObjects> {
    let prefix = prefix(job, short_token, settings);
    job.cache.iter().map(|cache| entry(job, cache, variables, &prefix)).collect()
}

fn entry(job: &Job, cache: &Cache, variables: &Variables, prefix: &str) -> EntryObjects {
    let nothing = CachePolicy { pull: false, push: false };
    let mut entry =
        EntryObjects { key: None, policy: Ok(nothing), restore: Vec::new(), save: None, warnings: Vec::new() };
    if !cache.holds_something() {
        return entry;
    }
    let mut raw_key = variables.expand(&cache.key);
    if raw_key.is_empty() {
        raw_key = [job.info.name.as_str(), &job.git.ref_name].join("/");
    }
    let policy = variables.expand(&cache.policy);
    entry.policy = CachePolicy::read(&policy).ok_or_else(|| PolicyError { policy, key: raw_key.clone() });
    let Some(key) = usable(&raw_key, &mut entry.warnings) else { return entry };
    entry.key = Some(key.clone());
    let Ok(policy) = entry.policy else { return entry };

    let candidate = |key: String| Candidate { object: format!("{prefix}{key}"), key };
    if policy.pull {
        let mut keys = vec![key.clone()];
        for raw in &cache.fallback_keys {
            let raw = variables.expand(raw);
            if !raw.is_empty() {
                keys.extend(usable(&raw, &mut entry.warnings));
            }
        }
        keys.extend(last_resort(variables, &mut entry.warnings));
        for key in keys {
            let candidate = candidate(key);
            if !entry.restore.contains(&candidate) {
                entry.restore.push(candidate);
            }
        }
    }
    entry.save = policy.push.then(|| candidate(key));
    entry
}

/// `CACHE_FALLBACK_KEY`, unless it would give an unprotected ref the cache of the protected ones.
fn last_resort(variables: &Variables, warnings: &mut Vec<String>) -> Option<String> {
    let raw = variables.find("CACHE_FALLBACK_KEY").map(|v| &v.value).filter(|raw| !raw.is_empty())?;
    let key = usable(raw, warnings)?;
    if is_reserved_for_protected_refs(raw) || is_reserved_for_protected_refs(&key) {
        warnings.push(format!("CACHE_FALLBACK_KEY `{}` is not allowed: it ends with `-protected`", raw.escape_debug()));
        return None;
    }
    Some(key)
}

fn usable(raw: &str, warnings: &mut Vec<String>) -> Option<String> {
    match sanitized(raw) {
        Ok(key) => {
            if key != raw {
                warnings.push(format!("cache key `{}` sanitized to `{key}`", raw.escape_debug()));
            }
            Some(key)
        }
        Err(KeyError::NothingLeft(_)) if raw == "/" => {
            // Neither a key nor a job name nor a ref: the slash is our own.
            warnings.push(KeyError::Empty.to_string());
            None
        }
        Err(error) => {
            warnings.push(error.to_string());
            None
        }
    }
}

/// `[<Path>/][runner/<short token>/]project/<project id>/` (runner-behaviour.md §5.2).
fn prefix(job: &Job, short_token: &str, settings: &CacheSettings) -> String {
    let mut prefix = String::new();
    let path = settings.path.trim_matches('/');
    if !path.is_empty() {
        prefix = format!("{path}/");
    }
    if !settings.shared {
        prefix.push_str(&format!("runner/{short_token}/"));
    }
    prefix + &format!("project/{}/", job.info.project_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::Variable;
    use serde_json::{Value, json};

    fn entries(cache: Value, variables: &[(&str, &str)]) -> Vec<EntryObjects> {
        let job = json!({"id": 1, "token": "t", "cache": cache,
            "job_info": {"name": "build", "project_id": 42}, "git_info": {"ref": "feature/x"}});
        let job = Job::read(job.to_string().as_bytes()).unwrap();
        assert!(job.unread.is_empty(), "{:?}", job.unread);
        let variable = |(key, value): &(&str, &str)| Variable {
            key: (*key).into(),
            value: (*value).into(),
            ..Variable::default()
        };
        let settings = CacheSettings { path: "/caches/".into(), shared: false };
        let variables: Variables = variables.iter().map(variable).collect();
        cache_objects(&job, &variables.expanded(), "abcdefghi", &settings)
    }

    fn objects(entry: &EntryObjects) -> Vec<&str> {
        let start = "caches/runner/abcdefghi/project/42/";
        entry.restore.iter().map(|c| c.object.strip_prefix(start).expect("inside the project")).collect()
    }

    #[test]
    fn a_cache_is_restored_from_its_key_then_the_fallback_keys_and_saved_to_its_key() {
        let cache = json!([{"key": "$CI_REF-1", "paths": ["a"], "fallback_keys": ["$OTHER", "main", "$CI_REF-1"]}]);
        let entries = entries(cache, &[("CI_REF", "dev"), ("CACHE_FALLBACK_KEY", "last-$CI_REF")]);

        assert_eq!(objects(&entries[0]), ["dev-1", "main", "last-dev"]);
        let save = entries[0].save.clone().unwrap();
        assert_eq!((save.key.as_str(), save.object.as_str()), ("dev-1", "caches/runner/abcdefghi/project/42/dev-1"));
        assert!(entries[0].warnings.is_empty());
    }

    #[test]
    fn entries_keep_their_numbers_even_when_they_hold_nothing() {
        let entries = entries(json!([{"key": "a"}, {"key": "b", "untracked": true}]), &[]);
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].key.clone(), entries[0].restore.len(), entries[0].save.clone()), (None, 0, None));
        assert_eq!(entries[1].key.as_deref(), Some("b"));
    }

    #[test]
    fn a_policy_grants_only_what_it_says() {
        let cache = |policy: &str| json!([{"key": "k", "paths": ["a"], "policy": policy}]);
        for (policy, restores, saves) in [("", 1, true), ("pull-push", 1, true), ("$P", 1, false), ("push", 0, true)] {
            let entry = entries(cache(policy), &[("P", "pull")]).remove(0);
            assert_eq!((entry.restore.len(), entry.save.is_some()), (restores, saves), "{policy}");
        }
        let entry = entries(cache("$P"), &[("P", "both")]).remove(0);
        assert_eq!((entry.restore.len(), entry.save), (0, None));
        assert_eq!(entry.policy.unwrap_err().to_string(), "unknown cache policy both for k");
    }

    #[test]
    fn an_empty_key_is_job_and_ref() {
        for key in ["", "$NOBODY"] {
            let entry = entries(json!([{"key": key, "paths": ["a"]}]), &[]).remove(0);
            assert_eq!(objects(&entry), ["build/feature/x"]);
        }
    }

    #[test]
    fn a_value_in_a_key_is_expanded_once() {
        let entry = entries(json!([{"key": "$A", "paths": ["a"]}]), &[("A", "$B-$B"), ("B", "$C"), ("C", "no")]);
        assert_eq!(objects(&entry[0]), ["$C-$C"]);
    }

    #[test]
    fn no_key_reaches_another_project() {
        for key in ["../43/k", "a/../../../43/k", "..%2f43%2Fk", "..\\43\\k", "/../43/k"] {
            let entry = entries(json!([{"key": key, "paths": ["a"], "fallback_keys": [key]}]), &[]).remove(0);
            assert_eq!(objects(&entry), ["43/k"], "{key}");
            assert!(entry.warnings[0].contains("sanitized to `43/k`"), "{:?}", entry.warnings);
        }
    }

    #[test]
    fn an_unusable_key_leaves_the_cache_out_and_an_unusable_fallback_key_only_itself() {
        let entry = entries(json!([{"key": "..", "paths": ["a"], "fallback_keys": ["main"]}]), &[]).remove(0);
        assert_eq!((entry.restore.len(), entry.save), (0, None));
        assert_eq!(entry.warnings, ["cache key `..` could not be sanitized"]);

        let entry = entries(json!([{"key": "k", "paths": ["a"], "fallback_keys": ["/", "main"]}]), &[]).remove(0);
        assert_eq!(objects(&entry), ["k", "main"]);
    }

    #[test]
    fn nobody_falls_back_to_the_cache_of_protected_refs() {
        for key in [
            "main-protected",
            "main-protected. .",
            "main-protected/",
            "x/../main-protected/%2e",
            "main%2dx-protected\\",
        ] {
            let entry = entries(json!([{"key": "k", "paths": ["a"]}]), &[("CACHE_FALLBACK_KEY", key)]).remove(0);
            assert_eq!(objects(&entry), ["k"], "{key}");
            assert!(entry.warnings.iter().any(|w| w.contains("is not allowed")), "{:?}", entry.warnings);
        }
    }

    #[test]
    fn shared_caches_do_not_name_the_runner() {
        let job = Job::read(br#"{"id":1,"token":"t","job_info":{"project_id":7},"cache":[{"key":"k","paths":["a"]}]}"#);
        let settings = CacheSettings { path: String::new(), shared: true };
        let entries = cache_objects(&job.unwrap(), &Variables::default(), "abc", &settings);
        assert_eq!(entries[0].restore[0].object, "project/7/k");
    }
}

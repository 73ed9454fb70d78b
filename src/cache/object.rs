//! Owns which objects each cache of a job may be restored from and saved to.
//!
//! The broker grants by this and the agent speaks by it: same job, same variables, same answer. No object lies outside
//! `…/project/<id>/`.

use thiserror::Error;

use crate::gitlab::{Cache, CachePolicy, Job, Variables};

use super::key::{KeyError, hashed, is_hashed_name, is_reserved_for_protected_refs, of_job, sanitized};

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
    /// Not this job's name for the key before it, but what it would be with the other value of `FF_HASH_CACHE_KEYS`.
    pub is_alternate: bool,
}

/// Something to say about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// It is not as asked.
    Warning(String),
    /// It is not restored from.
    Skipped(String),
}

/// The objects of one of the job's caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryObjects {
    /// The key as people see it; `None` when the entry is left out: it holds nothing, or its key is unusable.
    pub key: Option<String>,
    /// Which ways it goes.
    pub policy: Result<CachePolicy, PolicyError>,
    /// To try in this order: the key's, then those of the fallback keys, each with its alternate behind it. Empty when
    /// the policy does not pull.
    pub restore: Vec<Candidate>,
    /// To write. `None` when the policy does not push.
    pub save: Option<Candidate>,
    /// What is not as asked with the key, as sentences.
    pub warnings: Vec<String>,
    /// What is not as asked with the fallback keys.
    pub remarks: Vec<Remark>,
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
    let (restore, warnings, remarks) = (Vec::new(), Vec::new(), Vec::new());
    let mut entry = EntryObjects { key: None, policy: Ok(nothing), restore, save: None, warnings, remarks };
    if !cache.holds_something() {
        return entry;
    }
    let raw_key = match cache.key.as_str() {
        "" => of_job(&job.info.name, &job.git.ref_name),
        key => variables.expand(key),
    };
    let hashes = variables.flag("FF_HASH_CACHE_KEYS", false);
    let key = match Named::new(&raw_key, hashes) {
        Ok(key) => key,
        Err(error) => {
            entry.warnings.extend(said(error));
            return entry;
        }
    };
    entry.warnings.extend(key.warning.clone());
    entry.key = Some(key.human.clone());
    let policy = variables.expand(&cache.policy);
    entry.policy = CachePolicy::read(&policy).ok_or_else(|| PolicyError { policy, key: key.human.clone() });
    let Ok(policy) = entry.policy else { return entry };

    entry.save = policy.push.then(|| key.candidates(prefix).swap_remove(0));
    if policy.pull {
        let mut keys = vec![key];
        let fallbacks = cache.fallback_keys.iter().map(|raw| variables.expand(raw));
        keys.extend(fallbacks.filter_map(|raw| fallback(&raw, hashes, &mut entry.remarks)));
        keys.extend(last_resort(variables, hashes, &mut entry.remarks));
        for candidate in keys.iter().flat_map(|key| key.candidates(prefix)) {
            if entry.restore.iter().all(|known| known.object != candidate.object) {
                entry.restore.push(candidate);
            }
        }
    }
    entry
}

/// A key by all its names.
struct Named {
    human: String,
    object: String,
    alternate: Option<String>,
    warning: Option<String>,
}

impl Named {
    fn new(raw: &str, hashes: bool) -> Result<Named, KeyError> {
        let clean = sanitized(raw);
        if !hashes {
            let clean = clean?;
            let warning =
                (clean != raw).then(|| format!("cache key \"{}\" sanitized to \"{clean}\"", raw.escape_debug()));
            return Ok(Named { human: clean.clone(), object: clean, alternate: Some(hashed(raw)), warning });
        }
        if raw.is_empty() {
            return Err(KeyError::Empty);
        }
        let human = if raw.chars().any(char::is_control) { raw.escape_debug().to_string() } else { raw.to_owned() };
        Ok(Named { human, object: hashed(raw), alternate: clean.ok(), warning: None })
    }

    fn candidates(&self, prefix: &str) -> Vec<Candidate> {
        let candidate = |name: &String, is_alternate| Candidate {
            key: self.human.clone(),
            object: format!("{prefix}{name}"),
            is_alternate,
        };
        let alternate = self.alternate.iter().map(|name| candidate(name, true));
        std::iter::once(candidate(&self.object, false)).chain(alternate).collect()
    }
}

/// An empty key is told by whoever leaves the cache out.
fn said(error: KeyError) -> Option<String> {
    (error != KeyError::Empty).then(|| error.to_string())
}

fn fallback(raw: &str, hashes: bool, remarks: &mut Vec<Remark>) -> Option<Named> {
    if raw.is_empty() {
        return None;
    }
    match Named::new(raw, hashes) {
        Ok(key) => {
            remarks.extend(key.warning.clone().map(Remark::Warning));
            Some(key)
        }
        Err(error) => {
            remarks.extend(said(error).map(Remark::Warning));
            remarks.push(Remark::Skipped(KeyError::Empty.to_string()));
            None
        }
    }
}

/// `CACHE_FALLBACK_KEY`, unless it would give an unprotected ref the cache of the protected ones.
fn last_resort(variables: &Variables, hashes: bool, remarks: &mut Vec<Remark>) -> Option<Named> {
    let raw = variables.find("CACHE_FALLBACK_KEY").map(|v| v.value.as_str()).filter(|raw| !raw.is_empty())?;
    let clean = sanitized(raw).unwrap_or_default();
    if is_reserved_for_protected_refs(raw) || is_reserved_for_protected_refs(&clean) {
        let text = format!("CACHE_FALLBACK_KEY \"{}\" not allowed to end in \"-protected\"", raw.escape_debug());
        remarks.push(Remark::Warning(text));
        return None;
    }
    if is_hashed_name(&clean) {
        let text = format!("CACHE_FALLBACK_KEY \"{clean}\" not allowed: it is the name of a hashed key");
        remarks.push(Remark::Warning(text));
        return None;
    }
    fallback(raw, hashes, remarks)
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
        let own = entry.restore.iter().filter(|candidate| !candidate.is_alternate);
        own.map(|c| c.object.strip_prefix(start).expect("inside the project")).collect()
    }

    fn warnings(entry: &EntryObjects) -> Vec<&str> {
        let of_fallbacks = entry.remarks.iter().map(|remark| match remark {
            Remark::Warning(text) | Remark::Skipped(text) => text.as_str(),
        });
        entry.warnings.iter().map(String::as_str).chain(of_fallbacks).collect()
    }

    #[test]
    fn a_cache_is_restored_from_its_key_then_the_fallback_keys_and_saved_to_its_key() {
        let cache = json!([{"key": "$CI_REF-1", "paths": ["a"], "fallback_keys": ["$OTHER", "main", "$CI_REF-1"]}]);
        let entries = entries(cache, &[("CI_REF", "dev"), ("CACHE_FALLBACK_KEY", "last-$CI_REF")]);

        assert_eq!(objects(&entries[0]), ["dev-1", "main", "last-dev"]);
        let save = entries[0].save.clone().unwrap();
        assert_eq!((save.key.as_str(), save.object.as_str()), ("dev-1", "caches/runner/abcdefghi/project/42/dev-1"));
        assert!(warnings(&entries[0]).is_empty());
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
            assert_eq!((objects(&entry).len(), entry.save.is_some()), (restores, saves), "{policy}");
        }
        let entry = entries(cache("$P"), &[("P", "both")]).remove(0);
        assert_eq!((entry.restore.len(), entry.save), (0, None));
        assert_eq!(entry.policy.unwrap_err().to_string(), "unknown cache policy both for k");
    }

    #[test]
    fn no_key_is_job_and_ref_and_one_of_nothing_leaves_the_cache_out() {
        let entry = entries(json!([{"key": "", "paths": ["a"]}]), &[]).remove(0);
        assert_eq!(objects(&entry), ["build/feature/x"]);
        for hashes in ["false", "true"] {
            let cache = json!([{"key": "$NOBODY", "paths": ["a"]}]);
            let entry = entries(cache, &[("FF_HASH_CACHE_KEYS", hashes)]).remove(0);
            assert_eq!((entry.key.clone(), entry.restore.len(), entry.save.clone()), (None, 0, None));
            assert!(warnings(&entry).is_empty());
        }
    }

    #[test]
    fn each_key_is_also_looked_for_under_the_name_of_the_other_flag() {
        let hash = "2c/2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let start = "caches/runner/abcdefghi/project/42/";
        let cache = json!([{"key": "foo", "paths": ["a"], "fallback_keys": ["../a b /"]}]);
        for (flag, own, other) in [("false", "foo", hash), ("true", hash, "foo"), ("what", "foo", hash)] {
            let entry = entries(cache.clone(), &[("FF_HASH_CACHE_KEYS", flag)]).remove(0);
            let names: Vec<_> = entry.restore.iter().map(|c| (&c.object[start.len()..], c.is_alternate)).collect();
            let spoilt = &entry.restore[if flag == "true" { 2 } else { 3 }].object[start.len()..];
            let (first, second) = if flag == "true" { (spoilt, "a b") } else { ("a b", spoilt) };
            assert_eq!(names, [(own, false), (other, true), (first, false), (second, true)]);
            assert_eq!(entry.save.unwrap().object, format!("{start}{own}"));
            assert_eq!(entry.key.as_deref(), Some("foo"));
            // With hashes a key is taken as it is.
            let human = if flag == "true" { "../a b /" } else { "a b" };
            assert_eq!(entry.restore[2].key, human);
            assert_eq!(entry.remarks.is_empty(), flag == "true");
        }
    }

    #[test]
    fn a_hashed_key_may_be_what_no_plain_key_is() {
        for key in ["..", "a\nb", &"k".repeat(5000)] {
            let cache = json!([{"key": key, "paths": ["a"]}]);
            let entry = entries(cache, &[("FF_HASH_CACHE_KEYS", "1")]).remove(0);
            assert_eq!((entry.restore.len(), entry.save.is_some()), (1, true), "{key}");
            assert!(!entry.key.unwrap().contains('\n'));
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
            assert!(entry.warnings[0].contains("sanitized to \"43/k\""), "{:?}", entry.warnings);
        }
    }

    #[test]
    fn an_unusable_key_leaves_the_cache_out_and_an_unusable_fallback_key_only_itself() {
        let entry = entries(json!([{"key": "..", "paths": ["a"], "fallback_keys": ["main"]}]), &[]).remove(0);
        assert_eq!((entry.restore.len(), entry.save.clone()), (0, None));
        assert_eq!(warnings(&entry), ["cache key \"..\" could not be sanitized"]);

        let entry = entries(json!([{"key": "k", "paths": ["a"], "fallback_keys": ["/", "main"]}]), &[]).remove(0);
        assert_eq!(objects(&entry), ["k", "main"]);
        assert_eq!(warnings(&entry), ["cache key \"/\" could not be sanitized", "empty cache key"]);
    }

    #[test]
    fn nobody_falls_back_to_the_cache_of_protected_refs() {
        for key in [
            "main-protected",
            "main-protected. .",
            "main-protected/",
            "x/../main-protected/%2e",
            "main%2dx-protected\\",
            // The name of the object that `main-protected` has with hashed keys.
            "HASHED",
        ] {
            let hashed = hashed("main-protected");
            let key = key.replace("HASHED", &hashed);
            let entry = entries(json!([{"key": "k", "paths": ["a"]}]), &[("CACHE_FALLBACK_KEY", &key)]).remove(0);
            assert_eq!(objects(&entry), ["k"], "{key}");
            assert!(warnings(&entry).iter().any(|w| w.contains("not allowed")), "{:?}", entry.remarks);
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

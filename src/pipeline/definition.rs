//! Reads one job of the file, as far as no event decides about it.

use super::cache_key::CacheKey;
use super::duration::duration;
use super::error::ReadError;
use super::job::{AllowFailure, Job, Retry, When};
use super::keywords::{REFUSED, SERVER_SIDE};
use super::matrix::Parallel;
use super::nearest::did_you_mean;
use super::needs::{NeedSpec, needs};
use super::node::Node;
use super::only::Policy;
use super::parts;
use super::release::release;
use super::rules::{Rule, Starts, allow_failure, delay, numbers, starts};
use super::schema::job_keywords;

/// GitLab's reasons for `retry:when` (gitlab-protocol.md §5.4).
const RETRY_WHEN: [&str; 19] = [
    "always",
    "api_failure",
    "archived_failure",
    "data_integrity_failure",
    "job_execution_timeout",
    "no_updates_canceling",
    "no_updates_running",
    "runner_configuration_error",
    "runner_external_dependency_failure",
    "runner_interrupted",
    "runner_system_failure",
    "runner_unsupported",
    "scheduler_failure",
    "script_failure",
    "stale_schedule",
    "stuck_or_timeout_failure",
    "stuck_pending_no_matching_runners",
    "unknown_failure",
    "unmet_prerequisites",
];

/// A job of the file: what every pipeline makes of it, and what events decide.
pub(super) struct Definition {
    pub job: Job,
    pub node: Node,
    pub rules: Option<Vec<Rule>>,
    pub only: Option<Policy>,
    pub except: Option<Policy>,
    pub parallel: Option<Parallel>,
    pub needs: Option<Vec<NeedSpec>>,
    /// The keys of `job.cache`, in its order.
    pub cache_keys: Vec<CacheKey>,
    pub inherit_variables: Inherit,
    /// Its keywords that act in GitLab alone.
    pub server_side: Vec<&'static str>,
    /// It only starts a pipeline elsewhere.
    pub trigger: bool,
}

/// Which variables of the file a job sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Inherit {
    #[default]
    All,
    Nothing,
    Only(Vec<String>),
}

impl Inherit {
    pub fn lets(&self, name: &str) -> bool {
        match self {
            Inherit::All => true,
            Inherit::Nothing => false,
            Inherit::Only(names) => names.iter().any(|known| known == name),
        }
    }
}

impl Definition {
    pub fn read(name: &str, node: &Node) -> Result<Definition, ReadError> {
        if name.len() > 255 {
            return Err(node.error("the name of a job has at most 255 characters"));
        }
        let mut definition = Definition {
            job: Job { name: name.to_owned(), line: node.line, stage: "test".to_owned(), ..Job::default() },
            node: node.with_text(""),
            rules: None,
            only: None,
            except: None,
            parallel: None,
            needs: None,
            cache_keys: Vec::new(),
            inherit_variables: Inherit::All,
            server_side: Vec::new(),
            trigger: node.get("trigger").is_some_and(|trigger| !trigger.is_null()),
        };
        let (mut when, mut start_in, mut may_fail) = (None, None, None);
        for (key, value) in node.entries(name)? {
            if let Some((keyword, why)) = REFUSED.iter().find(|(keyword, _)| keyword == key) {
                return Err(value.error(format!("`{keyword}` cannot be done here: {why}")));
            }
            if let Some((keyword, _)) = SERVER_SIDE.iter().find(|(keyword, _)| keyword == key)
                && !value.is_null()
            {
                definition.server_side.push(keyword);
            }
            match key.as_str() {
                _ if value.is_null() => {}
                "when" => {
                    let known = ["on_success", "on_failure", "always", "manual", "delayed"];
                    when = Some(value.one_of("when", &known)?);
                }
                "start_in" => start_in = Some(delay(value)?),
                "allow_failure" => may_fail = Some(allow_failure(value)?),
                _ => definition.keyword(key, value)?,
            }
        }
        if let Some(Starts::When(when)) = starts(node, when.as_deref(), start_in)? {
            definition.job.when = when;
        }
        // GitLab lets a manual job fail unless the file says otherwise: then it holds nothing up.
        let by_when = if definition.job.when == When::Manual { AllowFailure::Yes } else { AllowFailure::No };
        definition.job.allow_failure = may_fail.unwrap_or(by_when);
        if definition.job.script.is_empty() && !definition.trigger {
            return Err(node.error("the job has no `script`"));
        }
        if definition.rules.is_some() && (definition.only.is_some() || definition.except.is_some()) {
            return Err(node.error("`rules` does not go with `only` or `except`: keep one"));
        }
        Ok(definition)
    }

    fn keyword(&mut self, key: &str, value: &Node) -> Result<(), ReadError> {
        let job = &mut self.job;
        match key {
            "stage" => job.stage = value.text(key)?,
            "script" => job.script = value.script(key)?,
            "before_script" => job.before_script = value.script(key)?,
            "after_script" => job.after_script = value.script(key)?,
            "hooks" => {
                for (hook, script) in value.entries(key)? {
                    match hook.as_str() {
                        "pre_get_sources_script" => job.pre_get_sources_script = script.script(hook)?,
                        _ => return Err(script.error(format!("`hooks` knows no `{hook}`"))),
                    }
                }
            }
            "image" => job.image = Some(parts::image(value)?),
            "services" => job.services = parts::services(value)?,
            "variables" => job.variables = parts::variables(value)?,
            "cache" => (job.cache, self.cache_keys) = parts::caches(value)?.into_iter().unzip(),
            "artifacts" => job.artifacts = Some(parts::artifacts(value)?),
            "tags" => job.tags = value.texts(key)?,
            "environment" => job.environment = Some(parts::environment(value)?),
            "timeout" => job.timeout = Some(timeout(value)?),
            "retry" => job.retry = retry(value)?,
            "dependencies" => job.dependencies = Some(value.texts(key)?),
            "needs" => self.needs = Some(needs(value)?),
            "parallel" => self.parallel = Some(Parallel::read(value)?),
            "rules" => self.rules = Some(Rule::read_all(value)?),
            "only" => self.only = Some(Policy::read(value, key)?),
            "except" => self.except = Some(Policy::read(value, key)?),
            "interruptible" => job.interruptible = value.boolean(key)?,
            "release" => job.release = Some(release(value)?),
            "resource_group" => job.resource_group = value.optional_text(key)?,
            "id_tokens" => job.id_tokens = as_written(key, value)?,
            "secrets" => job.secrets = as_written(key, value)?,
            "inherit" => self.inherit_variables = inherit_variables(value)?,
            _ if SERVER_SIDE.iter().any(|(keyword, _)| *keyword == key) => {}
            "trigger" | "publish" => {}
            _ => {
                let near = did_you_mean(key, job_keywords());
                return Err(value.error(format!("`{key}` is no keyword of a job{near}")));
            }
        }
        Ok(())
    }
}

/// What GitLab's schema has judged is taken as it stands.
fn as_written(keyword: &str, node: &Node) -> Result<Vec<(String, serde_json::Value)>, ReadError> {
    Ok(node.entries(keyword)?.iter().map(|(key, value)| (key.clone(), value.json())).collect())
}

fn inherit_variables(node: &Node) -> Result<Inherit, ReadError> {
    let Some(variables) = node.get("variables") else { return Ok(Inherit::All) };
    if variables.is_list() {
        return Ok(Inherit::Only(variables.texts("inherit:variables")?));
    }
    Ok(if variables.boolean("inherit:variables")? { Inherit::All } else { Inherit::Nothing })
}

fn timeout(node: &Node) -> Result<std::time::Duration, ReadError> {
    let text = node.text("timeout")?;
    duration(&text)
        .filter(|timeout| timeout.as_secs() > 0)
        .ok_or_else(|| node.error(format!("`timeout` should be a duration such as `1h 30m`, not `{text}`")))
}

fn retry(node: &Node) -> Result<Retry, ReadError> {
    let max = |node: &Node| {
        let max = u64::try_from(node.number("retry")?).ok().filter(|max| *max <= 2);
        max.ok_or_else(|| node.error("`retry` should be 0, 1 or 2"))
    };
    if !node.is_map() {
        return Ok(Retry { max: max(node)?, ..Retry::default() });
    }
    // Without `max` GitLab tries again twice.
    let mut retry = Retry { max: 2, ..Retry::default() };
    for (key, value) in node.entries("retry")? {
        match key.as_str() {
            "max" => retry.max = max(value)?,
            "when" => retry.when = value.one_or_more("retry:when")?,
            "exit_codes" => retry.exit_codes = numbers(value, "retry:exit_codes")?,
            _ => {
                return Err(value.unknown_key("retry", key, ["max", "when", "exit_codes"]));
            }
        }
        if key == "when"
            && let Some(unknown) = retry.when.iter().find(|reason| !is_reason(reason))
        {
            let near = did_you_mean(unknown, RETRY_WHEN);
            return Err(value.error(format!("`retry:when` knows no `{unknown}`{near}")));
        }
    }
    retry.when.retain(|reason| reason != "always");
    Ok(retry)
}

fn is_reason(reason: &str) -> bool {
    RETRY_WHEN.contains(&reason) || reason.starts_with("stuck_") || reason.starts_with("server_timeout_")
}

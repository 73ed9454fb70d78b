//! Owns the keywords that a job may inherit from `default` or the top of the file.

use std::time::Duration;

use super::duration::duration;
use super::error::ReadError;
use super::job::{Artifacts, Cache, Image, Job, Service};
use super::node::Node;
use super::parts;

/// What was said for the inheritable keywords; a job's word replaces the default as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Keywords {
    image: Option<Image>,
    services: Option<Vec<Service>>,
    before_script: Option<Vec<String>>,
    after_script: Option<Vec<String>>,
    cache: Option<Vec<Cache>>,
    artifacts: Option<Artifacts>,
    tags: Option<Vec<String>>,
    timeout: Option<Duration>,
}

impl Keywords {
    /// Reads `value` if `key` is an inheritable keyword; says whether it is.
    pub fn take(&mut self, key: &str, value: &Node) -> Result<bool, ReadError> {
        match key {
            "image" => self.image = Some(parts::image(value)?),
            "services" => self.services = Some(parts::services(value)?),
            "before_script" => self.before_script = Some(value.script(key)?),
            "after_script" => self.after_script = Some(value.script(key)?),
            "cache" => self.cache = Some(parts::caches(value)?),
            "artifacts" => self.artifacts = Some(parts::artifacts(value)?),
            "tags" => self.tags = Some(value.texts(key)?),
            "timeout" => self.timeout = Some(timeout(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Puts these keywords into `job`, each from `default` where this one is silent.
    pub fn fill(self, default: &Keywords, job: &mut Job) {
        let default = default.clone();
        job.image = self.image.or(default.image);
        job.services = self.services.or(default.services).unwrap_or_default();
        job.before_script = self.before_script.or(default.before_script).unwrap_or_default();
        job.after_script = self.after_script.or(default.after_script).unwrap_or_default();
        job.cache = self.cache.or(default.cache).unwrap_or_default();
        job.artifacts = self.artifacts.or(default.artifacts);
        job.tags = self.tags.or(default.tags).unwrap_or_default();
        job.timeout = self.timeout.or(default.timeout);
    }
}

fn timeout(node: &Node) -> Result<Duration, ReadError> {
    let text = node.text("timeout")?;
    duration(&text)
        .filter(|timeout| timeout.as_secs() > 0)
        .ok_or_else(|| node.error(format!("`timeout` should be a duration such as `1h 30m`, not `{text}`")))
}

//! `fleet.toml` as a person writes it. What the stack tells of itself is not in it, and must not be.

use serde::Deserialize;

use super::fleet::{Broker, Bucket, Cache, Fleet, Images, LaunchLimits, Runner, SizeLimits, Tasks};
use super::settings::JobSettings;
use super::stack::Stack;

/// The document. A stack sets the first part; without one, as in the sandbox, the document has to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    system_id: Option<String>,
    region: Option<String>,
    prefix: Option<String>,
    tasks: Option<Tasks>,
    broker: Option<Broker>,
    ledger: Option<Bucket>,
    #[serde(default)]
    cache: CacheDocument,
    #[serde(default)]
    images: Images,
    #[serde(default)]
    size: SizeLimits,
    #[serde(default)]
    launch: LaunchLimits,
    #[serde(default)]
    settings: JobSettings,
    #[serde(default)]
    runners: Vec<Runner>,
}

/// `[cache]`, with GitLab Runner's names as well.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CacheDocument {
    bucket: Option<String>,
    #[serde(alias = "Path")]
    path: String,
    #[serde(alias = "Shared")]
    shared: bool,
    #[serde(alias = "MaxUploadedArchiveSize")]
    max_uploaded_archive_size: u64,
}

impl Document {
    /// The whole configuration, or a sentence that names what is missing or stands in the wrong place.
    pub(super) fn complete(self, stack: &Stack) -> Result<Fleet, String> {
        let cache = self.cache;
        let bucket = stack.cache.as_ref().map(|cache| cache.bucket.clone());
        Ok(Fleet {
            system_id: either("system_id", stack.system_id(), self.system_id)?,
            region: either("region", stack.region.clone(), self.region)?,
            // A document without a stack is a sandbox's or a preview's.
            prefix: either("prefix", stack.prefix.clone(), self.prefix.or_else(|| default_prefix(stack)))?,
            tasks: either("[tasks]", stack.tasks.clone(), self.tasks)?,
            broker: either("[broker]", stack.broker.clone(), self.broker)?,
            ledger: either("[ledger]", stack.ledger.clone(), self.ledger)?,
            cache: Cache {
                bucket: either("cache.bucket", bucket, cache.bucket)?,
                path: cache.path,
                shared: cache.shared,
                max_uploaded_archive_size: cache.max_uploaded_archive_size,
            },
            images: self.images,
            size: self.size,
            launch: self.launch,
            settings: self.settings,
            runners: self.runners,
        })
    }
}

fn default_prefix(stack: &Stack) -> Option<String> {
    stack.prefix.is_none().then(|| "mayfly".to_owned())
}

/// The stack's value or the document's; two values for one thing are an error, for one of them would have no effect.
fn either<T>(name: &str, stack: Option<T>, document: Option<T>) -> Result<T, String> {
    match (stack, document) {
        (Some(_), Some(_)) => Err(format!("the stack sets `{name}`: remove it from fleet.toml")),
        (Some(value), None) | (None, Some(value)) => Ok(value),
        (None, None) => Err(format!("`{name}` is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fleet, Stack};

    const STACK: &str = r#"{
        "stack_id": "arn:aws:cloudformation:us-east-1:1:stack/ci/2f", "region": "us-east-1", "prefix": "ci",
        "tasks": {"cluster": "c", "subnets": ["subnet-1"], "security_groups": ["sg-1"], "assign_public_ip": true,
                  "execution_role": "arn:aws:iam::1:role/x", "launch_key": "arn:launch", "log_group": "/ci/tasks"},
        "broker": {"agents_bucket": "configuration"}, "ledger": {"bucket": "ledger"}, "cache": {"bucket": "cache"}}"#;
    const DOCUMENT: &str = "[cache]\nShared = true\n[[runners]]\nname = 'one'\nurl = 'https://gitlab.test'\n";

    #[test]
    fn a_document_of_runners_is_completed_by_its_stack() {
        let stack = Stack::read(STACK).unwrap();
        let fleet = Fleet::read_in(&stack, DOCUMENT).unwrap();
        assert_eq!((fleet.prefix.as_str(), fleet.cache.bucket.as_str(), fleet.cache.shared), ("ci", "cache", true));
        assert_eq!(fleet.system_id, "r_889a00df2fc4");
        assert_eq!(Fleet::read_in(&stack, DOCUMENT).unwrap().system_id, fleet.system_id);
    }

    #[test]
    fn what_the_stack_sets_is_refused_in_the_document() {
        let stack = Stack::read(STACK).unwrap();
        for (more, named) in [
            ("[ledger]\nbucket = 'mine'\n", "`[ledger]`"),
            ("system_id = 'r_0123456789ab'\n", "`system_id`"),
            ("prefix = 'other'\n", "`prefix`"),
        ] {
            let error = Fleet::read_in(&stack, &format!("{more}{DOCUMENT}")).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("remove it"), "{error}");
        }
    }

    #[test]
    fn changes_are_named_part_by_part() {
        let stack = Stack::read(STACK).unwrap();
        let old = Fleet::read_in(&stack, DOCUMENT).unwrap();
        let new = "[size]\ncpu = '2'\n[cache]\nShared = true\n[[runners]]\nname = 'two'\nurl = 'https://gitlab.test'\n";
        let new = Fleet::read_in(&stack, new).unwrap();
        assert_eq!(old.changes(&new), ["`size` changed", "runner `two` is new", "runner `one` is gone"]);
        assert_eq!(old.changes(&old), Vec::<String>::new());
    }
}

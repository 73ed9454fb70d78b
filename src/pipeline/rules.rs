//! Owns rules: of jobs, of the workflow, of includes. The first that holds decides.

use std::time::Duration;

use super::condition::{Condition, Facts};
use super::duration::duration;
use super::error::ReadError;
use super::job::{AllowFailure, Variable, When};
use super::needs::{NeedSpec, needs};
use super::node::Node;
use super::parts;
use super::scope::Scope;

const WHEN: [&str; 6] = ["on_success", "on_failure", "always", "manual", "delayed", "never"];

/// One rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    pub condition: Condition,
    pub when: Option<Starts>,
    pub allow_failure: Option<AllowFailure>,
    pub variables: Vec<Variable>,
    pub needs: Option<Vec<NeedSpec>>,
    pub interruptible: Option<bool>,
}

/// What `when` of a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starts {
    When(When),
    Never,
}

impl Rule {
    /// The rules of a list; what references left nested is one list.
    pub fn read_all(node: &Node) -> Result<Vec<Rule>, ReadError> {
        node.flat_items("rules")?.into_iter().map(Rule::read).collect()
    }

    fn read(node: &Node) -> Result<Rule, ReadError> {
        let mut rule = Rule::default();
        let (mut when, mut start_in) = (None, None);
        for (key, value) in node.entries("rules")? {
            match key.as_str() {
                _ if rule.condition.take(key, value)? => {}
                _ if value.is_null() => {}
                "when" => when = Some(value.one_of("rules:when", &WHEN)?),
                "start_in" => start_in = Some(delay(value)?),
                "allow_failure" => rule.allow_failure = Some(allow_failure(value)?),
                "variables" => rule.variables = parts::variables(value)?,
                "needs" => rule.needs = Some(needs(value)?),
                "interruptible" => rule.interruptible = Some(value.boolean(key)?),
                "auto_cancel" => {}
                _ => {
                    let known = ["if", "changes", "exists", "when", "allow_failure", "variables", "needs", "start_in"];
                    return Err(value.unknown_key("rules", key, known));
                }
            }
        }
        rule.when = starts(node, when.as_deref(), start_in)?;
        Ok(rule)
    }
}

/// The first rule that holds.
pub(super) fn first<'a>(
    rules: &'a [Rule],
    scope: &Scope<'_>,
    facts: &Facts<'_>,
) -> Result<Option<&'a Rule>, ReadError> {
    for rule in rules {
        if rule.condition.holds(scope, facts)? {
            return Ok(Some(rule));
        }
    }
    Ok(None)
}

/// `when` with its `start_in`.
pub(super) fn starts(node: &Node, when: Option<&str>, start_in: Option<Duration>) -> Result<Option<Starts>, ReadError> {
    Ok(Some(match (when, start_in) {
        (Some("delayed"), Some(delay)) => Starts::When(When::Delayed(delay)),
        (Some("delayed"), None) => return Err(node.error("`when: delayed` needs a `start_in`")),
        (_, Some(_)) => {
            return Err(node.get("start_in").unwrap_or(node).error("`start_in` goes with `when: delayed` only"));
        }
        (Some("never"), None) => Starts::Never,
        (Some("on_failure"), None) => Starts::When(When::OnFailure),
        (Some("always"), None) => Starts::When(When::Always),
        (Some("manual"), None) => Starts::When(When::Manual),
        (Some(_), None) => Starts::When(When::OnSuccess),
        (None, None) => return Ok(None),
    }))
}

/// `start_in`: a week at most.
pub(super) fn delay(node: &Node) -> Result<Duration, ReadError> {
    let text = node.text("start_in")?;
    duration(&text)
        .filter(|delay| delay.as_secs() > 0 && delay.as_secs() <= 7 * 86_400)
        .ok_or_else(|| node.error(format!("`start_in` should be a duration of a week at most, not `{text}`")))
}

/// `allow_failure`: true, false or exit codes.
pub(super) fn allow_failure(node: &Node) -> Result<AllowFailure, ReadError> {
    if !node.is_map() {
        return Ok(if node.boolean("allow_failure")? { AllowFailure::Yes } else { AllowFailure::No });
    }
    let codes = node.get("exit_codes").ok_or_else(|| node.error("`allow_failure` needs `exit_codes`"))?;
    Ok(AllowFailure::ExitCodes(numbers(codes, "allow_failure:exit_codes")?))
}

/// A number or a list of them.
pub(super) fn numbers(node: &Node, keyword: &str) -> Result<Vec<i64>, ReadError> {
    if !node.is_list() {
        return Ok(vec![node.number(keyword)?]);
    }
    node.flat_items(keyword)?.into_iter().map(|item| item.number(keyword)).collect()
}

//! Owns what a person says about the event that starts a pipeline.

use clap::Args;

use crate::cli::exit::Usage;
use crate::sandbox::gitlab::{Source, Trigger, Variable};

use super::snapshot::Snapshot;

/// The options that say which event starts the pipeline.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Event")]
pub(in crate::cli) struct EventOptions {
    /// Run as if the branch were called so
    #[arg(long, value_name = "NAME", conflicts_with = "tag")]
    pub(super) branch: Option<String>,
    /// Run the pipeline of a tag of this name
    #[arg(long, value_name = "NAME")]
    pub(super) tag: Option<String>,
    /// Run the pipeline of a merge request into TARGET, the default branch without it
    #[arg(long, value_name = "TARGET", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with = "tag")]
    pub(super) merge_request: Option<String>,
    /// A variable of this run; it wins over those of the file
    #[arg(long = "variable", value_name = "KEY=VALUE")]
    pub(super) variables: Vec<String>,
    /// A value for one of the `spec:inputs` of the file
    #[arg(long = "input", value_name = "KEY=VALUE")]
    pub(super) inputs: Vec<String>,
}

impl EventOptions {
    /// The branch that a merge request goes into, where the user names one.
    pub(super) fn target(&self) -> Option<&String> {
        self.merge_request.as_ref().filter(|target| !target.is_empty())
    }

    /// What starts the pipeline of `snapshot`.
    pub(in crate::cli) fn trigger(&self, snapshot: &Snapshot) -> anyhow::Result<Trigger> {
        let source = match &self.merge_request {
            None => Source::Push,
            Some(_) => {
                let target = self.target().unwrap_or(&snapshot.default_branch).clone();
                if target == snapshot.ref_name {
                    return Err(Usage::error(format!(
                        "a merge request goes from one branch into another, and both are `{target}`: name its source \
                         with `--branch`, or its target with `--merge-request=TARGET`"
                    )));
                }
                Source::MergeRequest { target, title: snapshot.title.clone() }
            }
        };
        Ok(Trigger {
            ref_name: snapshot.ref_name.clone(),
            source,
            variables: self.variables.iter().map(|text| variable(text)).collect::<Result<_, _>>()?,
            inputs: self.inputs.iter().map(|text| pair("input", text)).collect::<Result<_, _>>()?,
            ..Trigger::default()
        })
    }

    /// The event in words: `a push to `main``.
    pub(in crate::cli) fn words(&self, snapshot: &Snapshot) -> String {
        let name = &snapshot.ref_name;
        match (&self.merge_request, &self.tag) {
            (Some(_), _) => {
                let target = self.target().unwrap_or(&snapshot.default_branch);
                format!("a merge request from `{name}` into `{target}`")
            }
            (None, Some(_)) => format!("the tag `{name}`"),
            (None, None) => format!("a push to `{name}`"),
        }
    }
}

/// Read here and not by clap, which repeats a wrong value: it may be a secret.
fn variable(text: &str) -> anyhow::Result<Variable> {
    let (key, value) = pair("variable", text)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if key.chars().all(legal) && !key.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(Variable { key, value, ..Variable::default() });
    }
    Err(Usage::error(format!("`--variable`: `{key}` is no name of a variable, which has letters, digits and `_`")))
}

fn pair(option: &str, text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Usage::error(format!("`--{option}` wants KEY=VALUE"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_a_name_and_a_value() {
        for (text, key, value) in [("KEY=a=b", "KEY", "a=b"), ("KEY=", "KEY", "")] {
            let variable = variable(text).expect("it is one");
            assert_eq!((variable.key.as_str(), variable.value.as_str()), (key, value));
        }
        for wrong in ["KEY", "=value", "MY-KEY=value", "1KEY=1", ""] {
            let error = variable(wrong).expect_err("it is none").to_string();
            assert!(!error.contains("value"), "{error}");
        }
    }
}

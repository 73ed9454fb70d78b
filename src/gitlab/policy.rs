//! Owns what GitLab says of a job that a pipeline execution policy has added (runner-behaviour.md §2.4, Appendix A).

use serde::Deserialize;

use super::parts::or_default;

/// Whose policy a job is of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PolicyOptions {
    /// A policy has added the job.
    #[serde(rename = "execution_policy_job", deserialize_with = "or_default")]
    pub is_policy_job: bool,
    /// The policy's name.
    #[serde(rename = "policy_name", deserialize_with = "or_default")]
    pub name: String,
    /// Whether variables of people count in it; nobody has said anything if there is none.
    #[serde(rename = "policy_variables_override_allowed", deserialize_with = "or_default")]
    pub override_allowed: Option<bool>,
    /// Variables for which that is the other way round.
    #[serde(rename = "policy_variables_override_exceptions", deserialize_with = "or_default")]
    pub exceptions: Option<Vec<String>>,
}

impl PolicyOptions {
    /// What its log says of it, in GitLab Runner's words.
    pub fn lines(&self) -> Vec<String> {
        if !self.is_policy_job {
            return Vec::new();
        }
        let name = format!("Job triggered by policy \"{}\".", self.name);
        let precedence = match self.override_allowed {
            None => "Variables defined in the policy take precedence over matching user-defined CI/CD variables for \
                     this job."
                .to_owned(),
            Some(allowed) => {
                let how = if allowed { "allowed" } else { "ignored" };
                let except = self.exceptions.as_ref().map(|names| format!(" (except for {})", names.join(", ")));
                let except = except.unwrap_or_default();
                format!(
                    "User-defined CI/CD variables are {how} in this job{except} according to the pipeline execution \
                     policy."
                )
            }
        };
        vec![name, precedence]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policys_job_says_whose_variables_count() {
        for (options, expected) in [
            (json!({}), vec![]),
            (json!({"execution_policy_job": false, "policy_name": "p"}), vec![]),
            (
                json!({"execution_policy_job": true, "policy_name": "p", "policy_variables_override_allowed": null}),
                vec![
                    "Job triggered by policy \"p\".",
                    "Variables defined in the policy take precedence over matching user-defined CI/CD variables for \
                     this job.",
                ],
            ),
            (
                json!({"execution_policy_job": true, "policy_name": "p", "policy_variables_override_allowed": true}),
                vec![
                    "Job triggered by policy \"p\".",
                    "User-defined CI/CD variables are allowed in this job according to the pipeline execution policy.",
                ],
            ),
            (
                json!({"execution_policy_job": true, "policy_name": "p", "policy_variables_override_allowed": false,
                    "policy_variables_override_exceptions": ["A", "B"]}),
                vec![
                    "Job triggered by policy \"p\".",
                    "User-defined CI/CD variables are ignored in this job (except for A, B) according to the pipeline \
                     execution policy.",
                ],
            ),
        ] {
            let policy: PolicyOptions = serde_json::from_value(options.clone()).unwrap();
            assert_eq!(policy.lines(), expected, "{options}");
        }
    }
}

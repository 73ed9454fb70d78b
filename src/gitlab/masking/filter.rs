//! Owns the order of the filters that a stream of a job's log passes (runner-behaviour.md §2.7): values, URLs, tokens.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::ExposeSecret;

use super::masker::Masker;
use super::redact::Redactor;
use super::tokens::token_redactor;
use super::urls::url_redactor;
use crate::gitlab::{Job, Variables};

/// What must not show in the log of one job.
#[derive(Clone, Debug, Default)]
pub struct Masking {
    /// Values that must not show.
    pub values: Vec<String>,
    /// Hide tokens with all of GitLab's prefixes (`FF_MASK_ALL_DEFAULT_TOKENS`), not `glpat-` alone.
    pub all_token_prefixes: bool,
    /// More prefixes of tokens, from the server.
    pub token_prefixes: Vec<String>,
}

impl Masking {
    /// Hides what `job` wants hidden, whose variables are `variables`, expanded.
    pub fn of(job: &Job, variables: &Variables) -> Masking {
        let mut values = variables.masked_values();
        // As they were before they were expanded, too.
        values.extend(job.variables.masked_values());
        let token = job.token.expose_secret();
        values.push(token.to_owned());
        // As it stands in git's requests, which a job can have git tell.
        values.push(BASE64_STANDARD.encode(format!("gitlab-ci-token:{token}")));
        values.retain(|value| !value.is_empty());
        Masking {
            values,
            all_token_prefixes: variables.flag("FF_MASK_ALL_DEFAULT_TOKENS", true),
            token_prefixes: job.features.token_mask_prefixes.clone(),
        }
    }

    /// A filter for one stream.
    pub fn filter(&self) -> Filter {
        Filter {
            masker: Masker::new(&self.values),
            urls: url_redactor(),
            tokens: token_redactor(self.all_token_prefixes, &self.token_prefixes),
        }
    }

    /// `text` without secrets; for a text that stands alone.
    pub fn text(&self, text: &str) -> String {
        let mut filter = self.filter();
        let mut out = Vec::with_capacity(text.len());
        filter.write(text.as_bytes(), &mut out);
        filter.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Hides secrets in one stream, wherever its pieces are cut.
#[derive(Clone, Debug)]
pub struct Filter {
    masker: Masker,
    urls: Redactor,
    tokens: Redactor,
}

impl Filter {
    /// Reads `bytes` and appends what may show to `out`.
    pub fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut masked = Vec::with_capacity(bytes.len() + 64);
        self.masker.write(bytes, &mut masked);
        self.redact(&masked, out);
    }

    /// Ends the stream; the next bytes begin anew.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let mut masked = Vec::new();
        self.masker.finish(&mut masked);
        self.redact(&masked, out);
        self.urls.finish();
        self.tokens.finish();
    }

    fn redact(&mut self, masked: &[u8], out: &mut Vec<u8>) {
        let mut scrubbed = Vec::with_capacity(masked.len() + 64);
        self.urls.write(masked, &mut scrubbed);
        self.tokens.write(&scrubbed, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::{BuildPlace, job_variables};
    use serde_json::json;

    fn job(claim: serde_json::Value) -> Job {
        Job::read(claim.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_job_hides_its_values_as_written_and_as_expanded_and_its_token() {
        let job = job(json!({
            "id": 7, "token": "glcbt-64_secret", "features": {"token_mask_prefixes": ["acme-"]},
            "variables": [
                {"key": "SECRET", "value": "hunter2$B", "masked": true}, {"key": "B", "value": "b"},
                {"key": "EMPTY", "value": "  ", "masked": true},
            ],
        }));
        let masking = Masking::of(&job, &job_variables(&job, &BuildPlace::default()));
        assert_eq!(
            masking.text("hunter2b hunter2$B 64_secret glcbt-64_secret glrt-1 acme-2 &rss_token=3\n"),
            "[MASKED] [MASKED] 64_secret [MASKED] glrt-[MASKED] acme-[MASKED] &rss_token=[MASKED]\n"
        );
    }

    #[test]
    fn the_flag_leaves_personal_tokens() {
        let flag = json!([{"key": "FF_MASK_ALL_DEFAULT_TOKENS", "value": "$NO"}, {"key": "NO", "value": "false"}]);
        let job = job(json!({"id": 7, "token": "t0ken", "variables": flag}));
        let masking = Masking::of(&job, &job_variables(&job, &BuildPlace::default()));
        assert_eq!(masking.text("glrt-1 glpat-2"), "glrt-1 glpat-[MASKED]");
    }

    #[test]
    fn a_filter_begins_anew_behind_its_end() {
        let mut filter = Masking { values: vec!["secret".into()], ..Masking::default() }.filter();
        let mut out = Vec::new();
        for text in ["sec", "ret ?rss_token=a", "b glpat-", "12"] {
            filter.write(text.as_bytes(), &mut out);
        }
        filter.finish(&mut out);
        filter.write(b"34 se", &mut out);
        filter.finish(&mut out);
        filter.write(b"cret\n", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "[MASKED] ?rss_token=[MASKED] glpat-[MASKED]34 secret\n");
    }
}

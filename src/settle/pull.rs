//! Why an image could not be pulled (aws.md §2.4, §2.7).

use crate::gitlab::FailureReason;

use super::cause::Cause;
use super::words::has;

/// What the registry or ECS meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PullFailure {
    Platform,
    RateLimit,
    DiskFull,
    Denied,
    NotFound,
    Network,
    Unknown,
}

/// The first of these phrases that a text has decides: a registry that asks for a password also answers "not found".
const PHRASES: &[(PullFailure, &[&str])] = &[
    (
        PullFailure::Platform,
        &[
            "does not contain descriptor matching platform",
            "no matching manifest for",
            "no match for platform in manifest",
        ],
    ),
    (PullFailure::RateLimit, &["toomanyrequests", "too many requests", "pull rate limit", "rate exceeded"]),
    (PullFailure::DiskFull, &["no space left on device"]),
    (
        PullFailure::Denied,
        &[
            "pull access denied",
            "access denied",
            "access to the resource is denied",
            "denied",
            "unauthorized",
            "authentication required",
            "authorization failed",
            "no basic auth credentials",
            "accessdeniedexception",
            "403 forbidden",
        ],
    ),
    (
        PullFailure::NotFound,
        &[
            "not found",
            "manifest unknown",
            "name unknown",
            "repository does not exist",
            "name invalid",
            "404 not found",
        ],
    ),
    (
        PullFailure::Network,
        &[
            "i/o timeout",
            "timeout",
            "timed out",
            "deadline exceeded",
            "connection refused",
            "connection reset by peer",
            "no such host",
            "tls handshake",
            "unexpected eof",
            "eof",
            "500 internal server error",
            "502 bad gateway",
            "503 service unavailable",
            "504 gateway timeout",
        ],
    ),
];

/// The cause of a failed pull of `image`, by the phrases of ECS's text; `words` are that text for people.
pub(super) fn pull_failure(image: &str, phrases: &str, words: &str) -> Cause {
    let found = PHRASES.iter().find(|(_, texts)| texts.iter().any(|text| has(phrases, text)));
    let failure = found.map_or(PullFailure::Unknown, |(failure, _)| *failure);
    let (reason, transient, advice) = match failure {
        PullFailure::NotFound => (
            FailureReason::RunnerConfigurationError,
            false,
            "it was not found: check its name and tag in `image:` or `services:`",
        ),
        PullFailure::Denied => (
            FailureReason::RunnerConfigurationError,
            false,
            "the registry denies access: check the name, or let the owner of Mayfly's stack add the registry and this \
             project to `[[images.registries]]` in fleet.toml",
        ),
        PullFailure::RateLimit => (
            FailureReason::RunnerExternalDependencyFailure,
            true,
            "the registry's rate limit is reached: retry later, or use credentials (`[[images.registries]]`) or a \
             pull-through cache",
        ),
        PullFailure::Platform => (
            FailureReason::RunnerConfigurationError,
            false,
            "it does not exist for this processor: use the tag `arm64` or `amd64`, or an image for both",
        ),
        PullFailure::DiskFull => (
            FailureReason::ImagePullFailure,
            false,
            "it does not fit on the task's disk: ask for more with a `disk-` tag, for example `disk-50g`",
        ),
        PullFailure::Network => (
            FailureReason::RunnerExternalDependencyFailure,
            true,
            "the registry did not answer: retry the job; if it fails again, the task's subnet may have no route to it",
        ),
        PullFailure::Unknown => (FailureReason::ImagePullFailure, true, "see AWS's words"),
    };
    Cause { reason, transient, message: format!("{image} could not be pulled; {advice} ({words})") }
}

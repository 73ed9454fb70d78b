//! Owns the names that lead to a job's services (runner-behaviour.md §8.2).
//!
//! Pure, and the same for dispatcher and agent: the claim says all of it.

use std::sync::LazyLock;

use regex::Regex;
use thiserror::Error;

use crate::gitlab::{Job, Service, Variables};

use super::service_ports::{Readiness, readiness};

/// What the agent needs to know about one service, in the order of the job's services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Its image, expanded.
    pub image: String,
    /// Its aliases, expanded; the first is what people call it.
    pub aliases: Vec<String>,
    /// All host names that lead to it: those of its image, then its aliases.
    pub names: Vec<String>,
    /// When the job may begin.
    pub readiness: Readiness,
}

/// An alias that is no host name, in GitLab Runner's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("provided host alias {alias} for service {image} is invalid DNS. {reason}")]
pub struct AliasError {
    alias: String,
    image: String,
    reason: &'static str,
}

const NO_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                            and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
                            validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const TOO_LONG: &str = "must be no more than 253 characters";

static SUBDOMAIN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").expect("it is a pattern")
});

/// The facts of all services of `job`, whose variables are `variables`, expanded.
///
/// # Errors
/// When an alias is no host name; the dispatcher has refused such a job.
pub fn service_facts(job: &Job, variables: &Variables) -> Result<Vec<ServiceFacts>, AliasError> {
    job.services.iter().map(|service| facts(service, variables)).collect()
}

fn facts(service: &Service, variables: &Variables) -> Result<ServiceFacts, AliasError> {
    let image = variables.expand(service.image.name.trim());
    let aliases = aliases(service, variables)?;
    let names = service_names(&image, &aliases);
    Ok(ServiceFacts { readiness: readiness(service, &image, variables), image, aliases, names })
}

/// The aliases of `service`, separated by blanks or commas.
pub(super) fn aliases(service: &Service, variables: &Variables) -> Result<Vec<String>, AliasError> {
    let text = variables.expand(&service.alias);
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    words
        .map(|alias| {
            let reason = match (alias.len() > 253, SUBDOMAIN.is_match(alias)) {
                (true, _) => TOO_LONG,
                (false, true) => return Ok(alias.to_owned()),
                (false, false) => NO_SUBDOMAIN,
            };
            let printable = |text: &str| text.chars().filter(|c| !c.is_control()).take(100).collect();
            Err(AliasError { alias: printable(alias), image: printable(&service.image.name), reason })
        })
        .collect()
}

/// The host names of a service: two of its image's name, without tag and port of the registry, then its aliases.
pub fn service_names(image: &str, aliases: &[String]) -> Vec<String> {
    let image = without_version(image);
    let mut names = Vec::new();
    let derived = [image.replace('/', "__"), image.replace('/', "-")];
    for name in derived.iter().chain(aliases).filter(|name| !name.is_empty()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// `my.test:5000/group/app:1@sha256:…` is `my.test/group/app`.
pub(super) fn without_version(image: &str) -> String {
    let image = image.split('@').next().unwrap_or_default();
    let (head, last) = image.rsplit_once('/').map_or((None, image), |(head, last)| (Some(head), last));
    let last = last.split(':').next().unwrap_or_default();
    let Some(head) = head else { return last.to_owned() };
    let (registry, rest) = head.split_once('/').map_or((head, None), |(registry, rest)| (registry, Some(rest)));
    let registry = registry.split(':').next().unwrap_or_default();
    [Some(registry), rest, Some(last)].into_iter().flatten().collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::{BuildPlace, Image, Variable, job_variables};

    fn service(name: &str, alias: &str) -> Service {
        let image = Image { name: name.into(), ..Image::default() };
        Service { image, alias: alias.into(), ..Service::default() }
    }

    #[test]
    fn names_are_made_of_the_image_and_the_aliases() {
        for (image, aliases, expected) in [
            ("redis", "", &["redis"][..]),
            ("redis:7.2-alpine", "", &["redis"]),
            ("postgres@sha256:0123", "db", &["postgres", "db"]),
            ("tutum/wordpress", "", &["tutum__wordpress", "tutum-wordpress"]),
            ("tutum/wordpress:latest", "blog, web  x", &["tutum__wordpress", "tutum-wordpress", "blog", "web", "x"]),
            ("my.test:5000/group/app:1.2", "", &["my.test__group__app", "my.test-group-app"]),
            ("my.test/app:1@sha256:00", "app,app", &["my.test__app", "my.test-app", "app"]),
            ("localhost:5000/a", "", &["localhost__a", "localhost-a"]),
            ("mysql", "mysql", &["mysql"]),
        ] {
            let aliases = super::aliases(&service(image, aliases), &Variables::default()).unwrap();
            assert_eq!(service_names(image, &aliases), expected, "{image}");
        }
    }

    #[test]
    fn an_alias_is_expanded_and_has_to_be_a_host_name() {
        let variables: Variables =
            [Variable::public("NAME", "db.test"), Variable::public("BAD", "a b")].into_iter().collect();
        for (alias, expected) in [
            ("$NAME", Ok(&["db.test"][..])),
            ("$NOPE", Ok(&[])),
            ("$BAD", Ok(&["a", "b"])),
            ("my_db", Err("provided host alias my_db for service redis:$TAG is invalid DNS. a lowercase RFC 1123")),
            ("DB", Err("provided host alias DB for service")),
            ("-x", Err("-x")),
            ("a..b", Err("a..b")),
        ] {
            match (aliases(&service("redis:$TAG", alias), &variables), expected) {
                (Ok(aliases), Ok(expected)) => assert_eq!(aliases, expected, "{alias}"),
                (Err(error), Err(said)) => assert!(error.to_string().contains(said), "{error}"),
                (got, _) => panic!("{alias}: {got:?}"),
            }
        }
        let long = "a".repeat(254);
        let error = aliases(&service("redis", &long), &variables).unwrap_err().to_string();
        assert!(error.ends_with("must be no more than 253 characters"), "{error}");
    }

    #[test]
    fn the_facts_of_a_jobs_services_are_all_in_its_claim() {
        let body = serde_json::json!({"id": 1, "token": "t", "variables": [{"key": "TAG", "value": "$MAJOR"}, {"key": "MAJOR", "value": "16"}], "services": [
            {"name": "postgres:$TAG", "alias": "db"},
            {"name": "my/tool", "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": "8080"}]},
        ]});
        let job = Job::read(body.to_string().as_bytes()).unwrap();
        let facts = service_facts(&job, &job_variables(&job, &BuildPlace::default())).unwrap();
        assert_eq!((facts[0].image.as_str(), &facts[0].aliases[..]), ("postgres:16", &["db".to_owned()][..]));
        assert_eq!(facts[0].names, ["postgres", "db"]);
        assert_eq!(facts[0].readiness, Readiness::Usual(5432));
        assert_eq!(facts[1].readiness, Readiness::Asked(vec![8080]));
    }
}

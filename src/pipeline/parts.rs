//! Reads the values of the larger keywords: images, services, variables, caches, artifacts, environments.

use super::cache_key::CacheKey;
use super::duration::duration;
use super::error::ReadError;
use super::job::{Artifacts, Cache, Environment, Image, Service, Variable};
use super::node::{Kind, Node};

const WHEN: [&str; 3] = ["on_success", "on_failure", "always"];
const IMAGE_KEYS: [&str; 5] = ["name", "entrypoint", "pull_policy", "docker", "kubernetes"];
const CACHE_KEYS: [&str; 7] = ["key", "paths", "untracked", "policy", "when", "fallback_keys", "unprotect"];
const ENVIRONMENT_KEYS: [&str; 7] =
    ["name", "url", "action", "on_stop", "auto_stop_in", "deployment_tier", "kubernetes"];
const ARTIFACTS_KEYS: [&str; 10] =
    ["name", "paths", "exclude", "untracked", "when", "expire_in", "reports", "expose_as", "access", "public"];

pub(super) fn image(node: &Node) -> Result<Image, ReadError> {
    if let Kind::Scalar { .. } = node.kind {
        return Ok(Image { name: node.text("image")?, ..Image::default() });
    }
    let mut image = Image::default();
    for (key, value) in node.entries("image")? {
        if !image_option(&mut image, key, value)? {
            return Err(value.unknown_key("image", key, IMAGE_KEYS));
        }
    }
    named(node, "image", image)
}

pub(super) fn services(node: &Node) -> Result<Vec<Service>, ReadError> {
    match &node.kind {
        Kind::List(_) => node.flat_items("services")?.into_iter().map(service).collect(),
        _ => Err(node.error("`services` should be a list")),
    }
}

pub(super) fn variables(node: &Node) -> Result<Vec<Variable>, ReadError> {
    node.entries("variables")?.iter().map(|(key, value)| variable(key, value)).collect()
}

pub(super) fn caches(node: &Node) -> Result<Vec<(Cache, CacheKey)>, ReadError> {
    match &node.kind {
        Kind::List(_) => {
            let items = node.flat_items("cache")?;
            if items.len() > 4 {
                return Err(node.error("a job has at most 4 caches"));
            }
            items.into_iter().map(cache).collect()
        }
        // `cache: {}` turns the default off.
        Kind::Map(entries) if entries.is_empty() => Ok(Vec::new()),
        _ => Ok(vec![cache(node)?]),
    }
}

pub(super) fn artifacts(node: &Node) -> Result<Artifacts, ReadError> {
    let mut artifacts = Artifacts::default();
    for (key, value) in node.entries("artifacts")? {
        match key.as_str() {
            "name" => artifacts.name = Some(value.text("artifacts:name")?),
            "paths" => artifacts.paths = value.texts("artifacts:paths")?,
            "exclude" => artifacts.exclude = value.texts("artifacts:exclude")?,
            "untracked" => artifacts.untracked = value.boolean("artifacts:untracked")?,
            "when" => artifacts.when = Some(value.one_of("artifacts:when", &WHEN)?),
            "expire_in" => artifacts.expire_in = Some(expire_in(value)?),
            "reports" => artifacts.reports = reports(value)?,
            // These three act in GitLab alone and never reach a runner (runner-behaviour.md §6.3).
            "expose_as" => drop(value.text("artifacts:expose_as")?),
            "access" => drop(value.one_of("artifacts:access", &["all", "developer", "maintainer", "none"])?),
            "public" => drop(value.boolean("artifacts:public")?),
            _ => return Err(value.unknown_key("artifacts", key, ARTIFACTS_KEYS)),
        }
    }
    Ok(artifacts)
}

pub(super) fn environment(node: &Node) -> Result<Environment, ReadError> {
    if let Kind::Scalar { .. } = node.kind {
        return Ok(Environment { name: node.text("environment")?, ..Environment::default() });
    }
    let mut environment = Environment::default();
    for (key, value) in node.entries("environment")? {
        match key.as_str() {
            "name" => environment.name = value.text("environment:name")?,
            "url" => environment.url = Some(value.text("environment:url")?),
            "deployment_tier" => environment.tier = Some(value.text("environment:deployment_tier")?),
            // GitLab's own: what stops an environment, when, and which cluster shows it.
            "on_stop" | "auto_stop_in" | "kubernetes" => {}
            "action" => {
                let actions = ["start", "prepare", "stop", "verify", "access"];
                environment.action = Some(value.one_of("environment:action", &actions)?);
            }
            _ => return Err(value.unknown_key("environment", key, ENVIRONMENT_KEYS)),
        }
    }
    if environment.name.is_empty() {
        return Err(node.error("`environment` needs a `name`"));
    }
    Ok(environment)
}

fn image_option(image: &mut Image, key: &str, value: &Node) -> Result<bool, ReadError> {
    match key {
        "name" => image.name = value.text("name")?,
        "entrypoint" => image.entrypoint = Some(value.one_or_more("entrypoint")?),
        "pull_policy" => {
            for policy in value.one_or_more("pull_policy")? {
                if !["always", "if-not-present", "never"].contains(&policy.as_str()) {
                    return Err(value.error(format!("`pull_policy` cannot be `{policy}`")));
                }
                image.pull_policy.get_or_insert_default().push(policy);
            }
        }
        "docker" => {
            for (option, value) in value.entries("docker")? {
                match option.as_str() {
                    "platform" => image.docker_platform = Some(value.text("docker:platform")?),
                    "user" => image.docker_user = Some(value.text("docker:user")?),
                    _ => return Err(value.unknown_key("docker", option, ["platform", "user"])),
                }
            }
        }
        "kubernetes" => {
            for (option, value) in value.entries("kubernetes")? {
                match option.as_str() {
                    "user" => image.kubernetes_user = Some(value.text("kubernetes:user")?),
                    _ => return Err(value.unknown_key("kubernetes", option, ["user"])),
                }
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn named(node: &Node, keyword: &str, image: Image) -> Result<Image, ReadError> {
    if image.name.is_empty() {
        return Err(node.error(format!("`{keyword}` needs a `name`")));
    }
    Ok(image)
}

fn service(node: &Node) -> Result<Service, ReadError> {
    if let Kind::Scalar { .. } = node.kind {
        let image = Image { name: node.text("services")?, ..Image::default() };
        return Ok(Service { image, ..Service::default() });
    }
    let mut service = Service::default();
    for (key, value) in node.entries("services")? {
        match key.as_str() {
            "alias" => service.alias = Some(value.text("services:alias")?),
            "command" => service.command = Some(value.one_or_more("services:command")?),
            "variables" => service.variables = Some(variables(value)?),
            _ if image_option(&mut service.image, key, value)? => {}
            _ => {
                let known = IMAGE_KEYS.into_iter().chain(["alias", "command", "variables"]);
                return Err(value.unknown_key("services", key, known));
            }
        }
    }
    service.image = named(node, "services", service.image)?;
    Ok(service)
}

fn variable(key: &str, node: &Node) -> Result<Variable, ReadError> {
    let mut variable = Variable { key: key.to_owned(), ..Variable::default() };
    if node.is_null() {
        return Ok(variable);
    }
    let Kind::Map(entries) = &node.kind else {
        variable.value = node.text(key)?;
        return Ok(variable);
    };
    for (option, value) in entries {
        match option.as_str() {
            "value" => variable.value = value.text("value")?,
            "expand" => variable.raw = !value.boolean("expand")?,
            // For the form that starts a pipeline by hand.
            "description" => drop(value.text("description")?),
            "options" => drop(value.texts("options")?),
            _ => {
                let known = ["value", "expand", "description", "options"];
                return Err(value.unknown_key(&format!("variables:{key}"), option, known));
            }
        }
    }
    Ok(variable)
}

fn cache(node: &Node) -> Result<(Cache, CacheKey), ReadError> {
    let mut cache = Cache {
        key: "default".to_owned(),
        paths: Vec::new(),
        untracked: false,
        policy: "pull-push".to_owned(),
        when: "on_success".to_owned(),
        fallback_keys: Vec::new(),
        unprotect: false,
    };
    let mut cache_key = CacheKey::Text(cache.key.clone());
    for (key, value) in node.entries("cache")? {
        match key.as_str() {
            _ if value.is_null() => {}
            "key" => cache_key = CacheKey::read(value)?,
            "paths" => cache.paths = value.texts("cache:paths")?,
            "untracked" => cache.untracked = value.boolean("cache:untracked")?,
            "policy" => cache.policy = policy(value)?,
            "when" => cache.when = value.one_of("cache:when", &WHEN)?,
            "fallback_keys" => cache.fallback_keys = value.texts("cache:fallback_keys")?,
            "unprotect" => cache.unprotect = value.boolean("cache:unprotect")?,
            _ => return Err(value.unknown_key("cache", key, CACHE_KEYS)),
        }
    }
    if cache.fallback_keys.len() > 5 {
        return Err(node.error("`cache:fallback_keys` has at most 5 keys"));
    }
    Ok((cache, cache_key))
}

fn policy(node: &Node) -> Result<String, ReadError> {
    let policy = node.text("cache:policy")?;
    if policy.contains('$') || ["pull-push", "pull", "push"].contains(&policy.as_str()) {
        return Ok(policy);
    }
    Err(node.error(format!("`cache:policy` cannot be `{policy}`")))
}

fn expire_in(node: &Node) -> Result<String, ReadError> {
    let text = node.text("artifacts:expire_in")?;
    if text == "never" || duration(&text).is_some() {
        return Ok(text);
    }
    Err(node.error(format!("`artifacts:expire_in` should be a duration or `never`, not `{text}`")))
}

fn reports(node: &Node) -> Result<Vec<(String, Vec<String>)>, ReadError> {
    let mut reports = Vec::new();
    for (kind, value) in node.entries("artifacts:reports")? {
        if kind != "coverage_report" {
            reports.push((kind.clone(), value.one_or_more(&format!("artifacts:reports:{kind}"))?));
            continue;
        }
        let (mut format, mut paths) = (None, Vec::new());
        for (key, value) in value.entries("coverage_report")? {
            match key.as_str() {
                "coverage_format" => format = Some(value.one_of(key, &["cobertura", "jacoco"])?),
                "path" => paths = vec![value.text(key)?],
                _ => return Err(value.unknown_key("coverage_report", key, ["coverage_format", "path"])),
            }
        }
        let Some(format) = format.filter(|_| !paths.is_empty()) else {
            return Err(value.error("`coverage_report` needs a `coverage_format` and a `path`"));
        };
        reports.push((format, paths));
    }
    Ok(reports)
}

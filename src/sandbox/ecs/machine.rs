//! Owns what containers as local processes have of this machine, where a real task would have it of its image.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where tools are and how they reach the world, passed on as it is. In a real image these are part of the image; here
/// the machine is the image. Nothing that could be a secret: no token, no `AWS_…`, nothing that a job could not see
/// in any image.
const PASSED_ON: [&str; 23] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "JAVA_HOME",
    "GOROOT",
    "SDKMAN_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "npm_config_registry",
    "GOPROXY",
    "GOFLAGS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
];

/// Tools that look for themselves below the home directory, which is another one in a container: the variable that
/// tells them, and its default below the user's home.
const BELOW_HOME: [(&str, &str); 4] =
    [("RUSTUP_HOME", ".rustup"), ("CARGO_HOME", ".cargo"), ("PYENV_ROOT", ".pyenv"), ("NVM_DIR", ".nvm")];

/// Whom no proxy may stand before: all that a task talks to is on this machine.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
const LOOPBACK: &str = "127.0.0.1,localhost";

/// The variables that a container finds besides those of its task.
pub(super) fn machine() -> Vec<(&'static str, OsString)> {
    of(|name| std::env::var_os(name), |path| path.is_dir())
}

fn of(get: impl Fn(&str) -> Option<OsString>, is_there: impl Fn(&PathBuf) -> bool) -> Vec<(&'static str, OsString)> {
    let passed =
        PASSED_ON.into_iter().filter_map(|name| Some((name, get(name)?))).filter(|(_, value)| !has_login(value));
    let below = BELOW_HOME.into_iter().filter_map(|(name, folder)| {
        let default = || get("HOME").map(|home| PathBuf::from(home).join(folder)).filter(&is_there).map(PathBuf::into);
        Some((name, get(name).or_else(default)?))
    });
    let unproxied = NO_PROXY.into_iter().map(|name| {
        let others = get(name).filter(|others| !others.is_empty());
        let others = others.map(|others| format!("{},", others.to_string_lossy())).unwrap_or_default();
        (name, OsString::from(others + LOOPBACK))
    });
    passed.chain(below).chain(unproxied).collect()
}

/// A URL with a user's name or password in it.
fn has_login(value: &OsString) -> bool {
    let value = value.to_string_lossy();
    let mut words = value.split([' ', ',']);
    words.any(|word| {
        word.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().unwrap_or_default().contains('@'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_find_themselves_and_secrets_stay() {
        let get = |name: &str| {
            let value = match name {
                "HOME" => "/home/ada",
                "PATH" => "/bin",
                "CARGO_HOME" => "/opt/cargo",
                "AWS_SECRET_ACCESS_KEY" | "GITLAB_TOKEN" => "secret",
                "HTTPS_PROXY" => "http://proxy:3128",
                "NO_PROXY" => ".example",
                "PIP_INDEX_URL" => "https://ada:secret@pypi.example/simple",
                _ => return None,
            };
            Some(OsString::from(value))
        };

        let found = of(get, |path| path.ends_with(".rustup"));

        let found: Vec<String> = found.into_iter().map(|(name, value)| format!("{name}={}", value.display())).collect();
        let expected = [
            "PATH=/bin",
            "HTTPS_PROXY=http://proxy:3128",
            "RUSTUP_HOME=/home/ada/.rustup",
            "CARGO_HOME=/opt/cargo",
            "NO_PROXY=.example,127.0.0.1,localhost",
            "no_proxy=127.0.0.1,localhost",
        ];
        assert_eq!(found, expected);
    }
}

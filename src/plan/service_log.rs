//! Writes what the log says of a service that did not start, as Docker's executor does (runner-behaviour.md §8.2).

/// A service that was waited for in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceFailure<'a> {
    /// What people call it.
    pub service: &'a str,
    /// Why it counts as not started.
    pub error: &'a str,
    /// What the check said, line by line.
    pub checks: &'a str,
    /// What the service said, as far as anybody knows.
    pub output: &'a str,
}

const YELLOW: &str = "\x1b[0;33m";
const RESET: &str = "\x1b[0;m";

/// The block of lines that warns of `failure`; the job goes on.
pub fn service_warning(failure: ServiceFailure<'_>) -> String {
    let ServiceFailure { service, error, checks, output } = failure;
    let error = error.trim();
    format!(
        "\n{YELLOW}*** WARNING:{RESET} Service {service} probably didn't start properly.\n\n\
         Health check error:\n{error}\n\n\
         Health check container logs:\n{checks}\n\n\
         Service container logs:\n{output}\n\n\
         {YELLOW}*********{RESET}\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_is_docker_executors_to_the_byte() {
        let warning = service_warning(ServiceFailure {
            service: "postgres",
            error: "service \"postgres\" timeout\n",
            checks: "waiting for TCP connection to localhost on [5432]...\n",
            output: "no data directory\n",
        });
        assert_eq!(
            warning,
            "\n\x1b[0;33m*** WARNING:\x1b[0;m Service postgres probably didn't start properly.\n\nHealth check error:\n\
             service \"postgres\" timeout\n\nHealth check container logs:\nwaiting for TCP connection to localhost on \
             [5432]...\n\n\nService container logs:\nno data directory\n\n\n\x1b[0;33m*********\x1b[0;m\n\n"
        );
    }
}

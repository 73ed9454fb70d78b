//! Owns when a service counts as started: the port that it says itself, or the usual one of its image.
//!
//! Kubernetes' executor waits where the service's own variables name `HEALTHCHECK_TCP_PORT`; Docker's looks up which ports
//! the image exposes. Nobody looks into images here, so the well-known ones have a table (runner-behaviour.md §8.2).

use std::time::Duration;

use crate::gitlab::{Service, Variables};

use super::services::without_version;

/// The variable by which a service says its port.
const HEALTHCHECK: &str = "HEALTHCHECK_TCP_PORT";

/// When a job may begin, as far as one service goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not before all of these answer: the job says so.
    Asked(Vec<u16>),
    /// When this answers, or after [`PATIENCE`](Readiness::PATIENCE) with a warning: it is the usual port of the image.
    Usual(u16),
    /// At once.
    Unknown,
}

impl Readiness {
    /// So long a service that did not ask for it is waited for: `wait_for_services_timeout` of Docker's executor.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// The ports on localhost to wait for.
    pub fn ports(&self) -> &[u16] {
        match self {
            Readiness::Asked(ports) => ports,
            Readiness::Usual(port) => std::slice::from_ref(port),
            Readiness::Unknown => &[],
        }
    }
}

/// The last part of an image's name, and the port that everybody talks to it at.
const USUAL: [(&[&str], u16); 24] = [
    (&["postgres", "postgresql", "postgis", "timescaledb", "pgvector", "pgvecto-rs"], 5432),
    (&["mysql", "mysql-server", "mariadb", "percona", "percona-server"], 3306),
    (&["redis", "redis-stack", "redis-stack-server", "valkey", "keydb", "dragonfly"], 6379),
    (&["memcached"], 11211),
    (&["mongo", "mongodb", "mongodb-community-server", "percona-server-mongodb"], 27017),
    (&["rabbitmq"], 5672),
    (&["elasticsearch", "elasticsearch-oss", "opensearch"], 9200),
    (&["cassandra", "scylla"], 9042),
    (&["couchdb"], 5984),
    (&["clickhouse", "clickhouse-server"], 8123),
    (&["neo4j"], 7687),
    (&["influxdb"], 8086),
    (&["etcd"], 2379),
    (&["zookeeper"], 2181),
    (&["kafka", "cp-kafka", "redpanda"], 9092),
    (&["nats"], 4222),
    (&["minio"], 9000),
    (&["localstack"], 4566),
    (&["dynamodb-local"], 8000),
    (&["standalone-chrome", "standalone-chromium", "standalone-firefox", "standalone-edge"], 4444),
    (&["nginx", "httpd", "caddy", "traefik"], 80),
    (&["vault", "openbao"], 8200),
    (&["mailhog", "mailpit"], 1025),
    (&["registry"], 5000),
];

/// What to wait for before a job with `service` begins.
pub fn readiness(service: &Service, image: &str, variables: &Variables) -> Readiness {
    let asked = service.variables.iter().rev().find(|variable| variable.key == HEALTHCHECK);
    if let Some(asked) = asked {
        let text = if asked.raw { asked.value.clone() } else { variables.expand(&asked.value) };
        let ports = text.split(|c: char| c == ',' || c.is_whitespace()).filter_map(|word| word.parse().ok());
        let ports: Vec<u16> = ports.filter(|port| *port != 0).collect();
        return if ports.is_empty() { Readiness::Unknown } else { Readiness::Asked(ports) };
    }
    let name = without_version(image);
    let name = name.rsplit('/').next().unwrap_or_default();
    let usual = USUAL.iter().find(|(names, _)| names.contains(&name));
    usual.map_or(Readiness::Unknown, |(_, port)| Readiness::Usual(*port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::Variable;

    #[test]
    fn a_service_is_waited_for_where_it_says_or_where_everybody_knows() {
        for (image, variable, expected) in [
            ("postgres:16", None, Readiness::Usual(5432)),
            ("my.test:5000/mirror/mysql:8@sha256:00", None, Readiness::Usual(3306)),
            ("selenium/standalone-chrome", None, Readiness::Usual(4444)),
            ("my/postgres-tools", None, Readiness::Unknown),
            ("postgres:16", Some("8080"), Readiness::Asked(vec![8080])),
            ("my/app", Some("$PORT"), Readiness::Asked(vec![9000])),
            ("my/app", Some("80,81"), Readiness::Asked(vec![80, 81])),
            ("postgres", Some(""), Readiness::Unknown),
            ("my/app", Some("http"), Readiness::Unknown),
            ("my/app", Some("70000"), Readiness::Unknown),
        ] {
            let own = variable.map(|value| Variable { raw: false, ..Variable::public(HEALTHCHECK, value) });
            let service = Service { variables: own.into_iter().collect(), ..Service::default() };
            let variables = [Variable::public("PORT", "9000"), Variable::public(HEALTHCHECK, "1")];
            let variables: Variables = variables.into_iter().collect();
            let found = readiness(&service, image, &variables);
            assert_eq!(found, expected, "{image} {variable:?}");
        }
        assert_eq!(Readiness::Asked(vec![1, 2]).ports(), [1, 2]);
        assert_eq!(Readiness::Usual(3).ports(), [3]);
    }
}

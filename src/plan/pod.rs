//! Owns what a job would ask for as a pod: Kubernetes' requests and limits, from its variables and the runner's settings
//! (runner-behaviour.md §8.2).
//!
//! A task is sized as a whole, so what counts is the larger of request and limit of each container, and their sum. The
//! helper's figure alone is not the size of a task. A variable counts without a `…_overwrite_max_allowed`: the fleet's
//! ceilings are the bound then.

use std::collections::BTreeSet;
use std::fmt;

use crate::config::JobSettings;
use crate::gitlab::{Service, Variables};

use super::ask::AskError;
use super::memory::HelperMemory;
use super::quantity::{Mib, Millicpu, QuantityError};

/// A sum, and where its first part comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Figure<T> {
    pub amount: T,
    pub source: String,
    /// The job's variables have a part in it, not the settings alone.
    pub by_job: bool,
}

/// What a pod asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pod {
    pub cpu: Option<Figure<Millicpu>>,
    pub memory: Option<Figure<Mib>>,
    pub storage: Option<Figure<Mib>>,
    /// Of each service.
    pub service_memory: Option<Mib>,
    pub helper_memory: Option<HelperMemory>,
    /// Lines for the log: what a variable replaced.
    pub words: Vec<String>,
}

/// Reads what `variables` and `settings` say of the pod with these services.
pub(super) fn pod(variables: &Variables, services: &[Service], settings: &JobSettings) -> Result<Pod, AskError> {
    let mut reader = Reader { variables, settings, words: Vec::new(), told: BTreeSet::new() };
    let cpu = reader.sum(&CPU, services, true)?;
    let memory = reader.sum(&MEMORY, services, true)?;
    let storage = reader.sum(&STORAGE, services, false)?;
    let service_memory = reader.larger(&MEMORY, SERVICE, None)?.map(|figure| figure.amount);
    let helper_memory = reader.helper_memory()?;
    let words = if services.is_empty() { reader.words_without_services() } else { reader.words };
    Ok(Pod {
        cpu: cpu.map(|f| f.of(Millicpu)),
        memory: memory.map(|f| f.of(Mib)),
        storage: storage.map(|f| f.of(Mib)),
        service_memory: service_memory.map(Mib),
        helper_memory,
        words,
    })
}

/// One kind of resource: its words in variables and settings, and how it is read.
struct Resource {
    variable: &'static str,
    setting: &'static str,
    field: &'static str,
    read: fn(&str) -> Result<u64, QuantityError>,
}

const CPU: Resource = Resource {
    variable: "CPU",
    setting: "cpu",
    field: "CPU",
    read: |text| Millicpu::read_kubernetes(text).map(|cpu| cpu.0),
};
const MEMORY: Resource = Resource {
    variable: "MEMORY",
    setting: "memory",
    field: "Memory",
    read: |text| Mib::read_kubernetes(text).map(|memory| memory.0),
};
const STORAGE: Resource = Resource {
    variable: "EPHEMERAL_STORAGE",
    setting: "ephemeral_storage",
    field: "EphemeralStorage",
    read: |text| Mib::read_kubernetes(text).map(|storage| storage.0),
};

/// A container, as variables, settings and messages call it.
type Container = (&'static str, &'static str, &'static str);
const BUILD: Container = ("", "", "");
const HELPER: Container = ("HELPER_", "helper_", "Helper");
const SERVICE: Container = ("SERVICE_", "service_", "Service");
const POD: Container = ("POD_", "pod_", "Pod");

const REQUEST: (&str, &str, &str) = ("REQUEST", "request", "Request");
const LIMIT: (&str, &str, &str) = ("LIMIT", "limit", "Limit");

/// Less than this is a figure without its unit: `512` is 512 bytes.
const LEAST_SENSIBLE_MIB: u64 = 16;

struct Reader<'a> {
    variables: &'a Variables,
    settings: &'a JobSettings,
    words: Vec<String>,
    told: BTreeSet<String>,
}

impl Reader<'_> {
    /// Build, helper and services; a figure for the pod as a whole counts where it is larger.
    fn sum(&mut self, what: &Resource, services: &[Service], pod: bool) -> Result<Option<Figure<u64>>, AskError> {
        let mut parts = vec![self.larger(what, BUILD, None)?];
        for service in services {
            let own: Variables = service.variables.iter().cloned().collect();
            parts.push(self.larger(what, SERVICE, Some(&own))?);
        }
        let sum = parts.into_iter().flatten().reduce(|sum, part| Figure {
            amount: sum.amount + part.amount,
            by_job: sum.by_job || part.by_job,
            source: if part.by_job && !sum.by_job { part.source } else { sum.source },
        });
        let helper = self.larger(what, HELPER, None)?.map_or(0, |helper| helper.amount);
        let sum = sum.map(|sum| Figure { amount: sum.amount + helper, ..sum });
        let whole = if pod { self.larger(what, POD, None)? } else { None };
        Ok(match (sum, whole) {
            (Some(sum), Some(whole)) if sum.amount >= whole.amount => Some(sum),
            (sum, whole) => whole.or(sum),
        })
    }

    fn helper_memory(&mut self) -> Result<Option<HelperMemory>, AskError> {
        let is_limit = self.figure(&MEMORY, HELPER, None, LIMIT)?.is_some();
        let Some(Figure { amount, source: given_by, .. }) = self.larger(&MEMORY, HELPER, None)? else {
            return Ok(None);
        };
        if amount < LEAST_SENSIBLE_MIB {
            return Err(AskError::HelperMemory { given_by });
        }
        Ok(Some(HelperMemory { figure: Mib(amount), is_limit, given_by }))
    }

    fn larger(
        &mut self,
        what: &Resource,
        container: Container,
        own: Option<&Variables>,
    ) -> Result<Option<Figure<u64>>, AskError> {
        let request = self.figure(what, container, own, REQUEST)?;
        let limit = self.figure(what, container, own, LIMIT)?;
        Ok(match (request, limit) {
            (Some(request), Some(limit)) => Some(if limit.amount >= request.amount { limit } else { request }),
            (request, limit) => limit.or(request),
        })
    }

    fn figure(
        &mut self,
        what: &Resource,
        (prefix, container, named): Container,
        own: Option<&Variables>,
        (upper, lower, field): (&str, &str, &str),
    ) -> Result<Option<Figure<u64>>, AskError> {
        let variable = format!("KUBERNETES_{prefix}{}_{upper}", what.variable);
        let setting = format!("{container}{}_{lower}", what.setting);
        let own = own.and_then(|own| own.find(&variable)).map(|own| match own.raw {
            true => own.value.clone(),
            false => self.variables.expand(&own.value),
        });
        let text = own.or_else(|| self.variables.get(&variable).map(str::to_owned));
        let text = text.filter(|text| !text.trim().is_empty());
        let read_setting = |name: &str| {
            let text = self.settings.resource(name);
            let read = text.map(|text| (what.read)(text).map(|amount| (amount, text.to_owned()))).transpose();
            read.map_err(|source| AskError::Fleet { setting: format!("settings.{name}"), source })
        };
        let Some(text) = text else {
            let amount = read_setting(&setting)?;
            let source = format!("setting {setting}");
            return Ok(amount.map(|(amount, _)| Figure { amount, source, by_job: false }));
        };
        let amount = (what.read)(&text).map_err(|source| AskError::Quantity { variable: variable.clone(), source })?;
        if let Some((most, most_text)) = read_setting(&format!("{setting}_overwrite_max_allowed"))? {
            let resource = format!("{named}{}{field}", what.field);
            if amount > most {
                return Err(AskError::TooHigh { resource, asked: text.trim().into(), most: most_text });
            }
            let word = format!("{} overwritten with {}", Quoted(&resource), Quoted(text.trim()));
            if self.told.insert(word.clone()) {
                self.words.push(word);
            }
        }
        Ok(Some(Figure { amount, source: format!("variable {variable}"), by_job: true }))
    }

    /// Of containers that are not there nothing is told.
    fn words_without_services(self) -> Vec<String> {
        self.words.into_iter().filter(|word| !word.starts_with("\"Service")).collect()
    }
}

impl Figure<u64> {
    fn of<T>(self, unit: fn(u64) -> T) -> Figure<T> {
        Figure { amount: unit(self.amount), source: self.source, by_job: self.by_job }
    }
}

/// Go's `%q` of a word without odd characters.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::Variable;

    fn read(variables: &[(&str, &str)], settings: &[(&str, &str)], services: usize) -> Result<Pod, AskError> {
        let variables = variables.iter().map(|(key, value)| Variable::public(key, *value)).collect();
        let resources = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let settings = JobSettings { resources, ..JobSettings::default() };
        pod(&variables, &vec![Service::default(); services], &settings)
    }

    #[test]
    fn requests_and_limits_of_all_containers_make_the_pod() {
        for (variables, settings, services, cpu, memory, storage) in [
            (&[][..], &[][..], 2, None, None, None),
            (&[("KUBERNETES_CPU_REQUEST", "1"), ("KUBERNETES_CPU_LIMIT", "2")], &[], 0, Some(2000), None, None),
            (&[("KUBERNETES_CPU_REQUEST", "3"), ("KUBERNETES_CPU_LIMIT", "2")], &[], 0, Some(3000), None, None),
            (&[("KUBERNETES_CPU_REQUEST", "1")], &[("helper_cpu_limit", "500m")], 0, Some(1500), None, None),
            (&[("KUBERNETES_HELPER_MEMORY_LIMIT", "1Gi")], &[("helper_cpu_limit", "500m")], 0, None, None, None),
            (&[("KUBERNETES_SERVICE_CPU_REQUEST", "1")], &[], 2, Some(2000), None, None),
            (&[("KUBERNETES_SERVICE_CPU_REQUEST", "1")], &[], 0, None, None, None),
            (&[("KUBERNETES_CPU_REQUEST", "1"), ("KUBERNETES_POD_CPU_LIMIT", "4")], &[], 0, Some(4000), None, None),
            (&[("KUBERNETES_CPU_REQUEST", "4"), ("KUBERNETES_POD_CPU_LIMIT", "1")], &[], 0, Some(4000), None, None),
            (&[], &[("memory_request", "1Gi"), ("service_memory_limit", "512Mi")], 1, None, Some(1536), None),
            (&[("KUBERNETES_EPHEMERAL_STORAGE_LIMIT", "30Gi")], &[], 0, None, None, Some(30720)),
        ] {
            let pod = read(variables, settings, services).unwrap();
            assert_eq!(pod.cpu.map(|f| f.amount.0), cpu, "{variables:?} {settings:?}");
            assert_eq!(pod.memory.map(|f| f.amount.0), memory, "{variables:?} {settings:?}");
            assert_eq!(pod.storage.map(|f| f.amount.0), storage, "{variables:?} {settings:?}");
            assert!(pod.words.is_empty());
        }
    }

    #[test]
    fn an_overwrite_is_told_up_to_its_maximum_and_refused_above() {
        let settings = [
            ("cpu_request_overwrite_max_allowed", "2"),
            ("service_memory_limit_overwrite_max_allowed", "1Gi"),
            ("helper_ephemeral_storage_request_overwrite_max_allowed", "1Gi"),
            ("pod_cpu_limit_overwrite_max_allowed", "4"),
        ];
        for (variable, value, services, expected) in [
            ("KUBERNETES_CPU_REQUEST", "2", 0, Ok(&[r#""CPURequest" overwritten with "2""#][..])),
            ("KUBERNETES_CPU_REQUEST", "2000m", 0, Ok(&[r#""CPURequest" overwritten with "2000m""#])),
            ("KUBERNETES_CPU_LIMIT", "9", 0, Ok(&[])),
            ("KUBERNETES_SERVICE_MEMORY_LIMIT", "1Gi", 3, Ok(&[r#""ServiceMemoryLimit" overwritten with "1Gi""#])),
            ("KUBERNETES_SERVICE_MEMORY_LIMIT", "1Gi", 0, Ok(&[])),
            (
                "KUBERNETES_CPU_REQUEST",
                "3",
                0,
                Err(r#"the resource "CPURequest" requested "3" is higher than limit allowed "2""#),
            ),
            (
                "KUBERNETES_HELPER_EPHEMERAL_STORAGE_REQUEST",
                "2Gi",
                0,
                Err(
                    r#"the resource "HelperEphemeralStorageRequest" requested "2Gi" is higher than limit allowed "1Gi""#,
                ),
            ),
            (
                "KUBERNETES_POD_CPU_LIMIT",
                "5",
                0,
                Err(r#"the resource "PodCPULimit" requested "5" is higher than limit allowed "4""#),
            ),
        ] {
            match (read(&[(variable, value)], &settings, services), expected) {
                (Ok(pod), Ok(words)) => assert_eq!(pod.words, words, "{variable}"),
                (Err(error), Err(said)) => assert_eq!(error.to_string(), said),
                (got, _) => panic!("{variable}={value}: {got:?}"),
            }
        }
    }

    #[test]
    fn the_helpers_figure_is_the_larger_of_request_and_limit_and_a_variable_beats_a_setting() {
        const REQUEST: &str = "KUBERNETES_HELPER_MEMORY_REQUEST";
        const LIMIT: &str = "KUBERNETES_HELPER_MEMORY_LIMIT";
        for (variables, settings, expected) in [
            (&[][..], &[][..], None),
            (&[(LIMIT, "1Gi")], &[], Some((1024, true, "variable KUBERNETES_HELPER_MEMORY_LIMIT"))),
            (&[(REQUEST, "256Mi")], &[], Some((256, false, "variable KUBERNETES_HELPER_MEMORY_REQUEST"))),
            (&[(REQUEST, "2Gi"), (LIMIT, "1Gi")], &[], Some((2048, true, "variable KUBERNETES_HELPER_MEMORY_REQUEST"))),
            (&[(LIMIT, " ")], &[("helper_memory_limit", "1Gi")], Some((1024, true, "setting helper_memory_limit"))),
            (
                &[(LIMIT, "512Mi")],
                &[("helper_memory_limit", "1Gi")],
                Some((512, true, "variable KUBERNETES_HELPER_MEMORY_LIMIT")),
            ),
        ] {
            let helper = read(variables, settings, 0).unwrap().helper_memory;
            let helper = helper.as_ref().map(|h| (h.figure.0, h.is_limit, h.given_by.as_str()));
            assert_eq!(helper, expected, "{variables:?} {settings:?}");
        }
        let error = read(&[(LIMIT, "512")], &[], 0).unwrap_err().to_string();
        assert!(error.contains("`512Mi`") && error.contains(LIMIT), "{error}");
    }

    #[test]
    fn a_setting_that_is_no_quantity_is_the_fleets_mistake() {
        let error = read(&[], &[("cpu_request", "many")], 0).unwrap_err().to_string();
        assert!(error.contains("the fleet configuration says `settings.cpu_request`"), "{error}");
    }
}

//! Owns `needs` and `dependencies`: reads them, and finds the jobs of the pipeline that they name.

use std::collections::{HashMap, HashSet};

use super::error::ReadError;
use super::job::{Job, Need, Variable};
use super::matrix::{combinations, instance_name};
use super::nearest::did_you_mean;
use super::node::{Kind, Node};

/// GitLab's bound (`ci_needs_size_limit`).
const MAX_NEEDS: usize = 50;

/// One entry of `needs`.
#[derive(Clone, Debug)]
pub(super) struct NeedSpec {
    pub job: String,
    pub artifacts: bool,
    pub optional: bool,
    /// `parallel:matrix`: the combinations that are meant, before this job's own variables are put in.
    matrix: Option<Node>,
    node: Node,
}

/// Reads `needs`; what names another pipeline or project is GitLab's to bring, and left out.
pub(super) fn needs(node: &Node) -> Result<Vec<NeedSpec>, ReadError> {
    let items = match &node.kind {
        Kind::List(_) => node.flat_items("needs")?,
        _ => vec![node],
    };
    if items.len() > MAX_NEEDS {
        return Err(node.error(format!("`needs` should have {MAX_NEEDS} jobs at most")));
    }
    let needs: Vec<NeedSpec> = items.into_iter().map(need).filter_map(Result::transpose).collect::<Result<_, _>>()?;
    let mut seen = HashSet::new();
    match needs.iter().find(|need| need.matrix.is_none() && !seen.insert(need.job.as_str())) {
        Some(twice) => Err(twice.node.error(format!("`needs` names `{}` twice", twice.job))),
        None => Ok(needs),
    }
}

fn need(node: &Node) -> Result<Option<NeedSpec>, ReadError> {
    let place = node.with_text("");
    if !node.is_map() {
        let job = node.text("needs")?;
        return Ok(Some(NeedSpec { job, artifacts: true, optional: false, matrix: None, node: place }));
    }
    if node.get("pipeline").is_some() || node.get("project").is_some() {
        return Ok(None);
    }
    let job = node.get("job").ok_or_else(|| node.error("`needs` needs a `job`"))?.text("needs:job")?;
    let mut need = NeedSpec { job, artifacts: true, optional: false, matrix: None, node: place };
    for (key, value) in node.entries("needs")? {
        match key.as_str() {
            "job" => {}
            "artifacts" => need.artifacts = value.boolean("needs:artifacts")?,
            "optional" => need.optional = value.boolean("needs:optional")?,
            "parallel" => {
                let matrix = value.get("matrix").ok_or_else(|| value.error("`needs:parallel` needs a `matrix`"))?;
                need.matrix = Some(matrix.clone());
            }
            _ => {
                return Err(value.unknown_key("needs", key, ["job", "artifacts", "optional", "parallel"]));
            }
        }
    }
    Ok(Some(need))
}

/// The jobs of one file and one pipeline, for those who name them.
pub(super) struct Names {
    /// Every job of the file, by the name in the file and by the names that it has in pipelines: its stage's place.
    defined: HashMap<String, usize>,
    /// The names in this pipeline, by the name in the file.
    instances: HashMap<String, Vec<String>>,
    /// The names in this pipeline, and the jobs of the file that made them.
    present: HashMap<String, String>,
    /// Trigger jobs, which are left out.
    triggers: HashSet<String>,
}

impl Names {
    pub fn new() -> Self {
        Names { defined: HashMap::new(), instances: HashMap::new(), present: HashMap::new(), triggers: HashSet::new() }
    }

    /// A job of the file, in the stage at `stage`.
    pub fn define(&mut self, name: &str, stage: usize) {
        self.defined.insert(name.to_owned(), stage);
    }

    /// A job that starts a pipeline elsewhere.
    pub fn define_trigger(&mut self, name: &str) {
        self.triggers.insert(name.to_owned());
    }

    /// A job of the pipeline, made of the job `of` of the file.
    pub fn create(&mut self, of: &str, name: &str) {
        self.instances.entry(of.to_owned()).or_default().push(name.to_owned());
        self.present.insert(name.to_owned(), of.to_owned());
    }

    /// The job of the file that made the job `name` of the pipeline.
    pub fn maker_of(&self, name: &str) -> Option<&str> {
        self.present.get(name).map(String::as_str)
    }

    /// The jobs that `specs` name, for a job in the stage at `stage` with the variables of its matrix.
    pub fn needs(&self, specs: &[NeedSpec], stage: usize, matrix: &[Variable]) -> Result<Vec<Need>, ReadError> {
        let mut needs: Vec<Need> = Vec::new();
        for spec in specs.iter().filter(|spec| !self.triggers.contains(&spec.job)) {
            let names = self.named(spec, stage, matrix)?;
            for job in names {
                match needs.iter_mut().find(|need| need.job == job) {
                    Some(need) => need.artifacts |= spec.artifacts,
                    None => needs.push(Need { job, artifacts: spec.artifacts }),
                }
                if needs.len() > MAX_NEEDS {
                    let what =
                        format!("`needs` should come to {MAX_NEEDS} jobs at most, parallel ones counted one by one");
                    return Err(spec.node.error(what));
                }
            }
        }
        Ok(needs)
    }

    fn named(&self, spec: &NeedSpec, stage: usize, matrix: &[Variable]) -> Result<Vec<String>, ReadError> {
        let name = &spec.job;
        match self.defined.get(name) {
            Some(needed) if *needed > stage => {
                return Err(spec.node.error(format!("`needs` names `{name}`, which is in a later stage")));
            }
            Some(_) => {}
            None if spec.optional => return Ok(Vec::new()),
            None => {
                let near = did_you_mean(name, self.defined.keys().map(String::as_str));
                return Err(spec.node.error(format!("`needs` names `{name}`, which is no job{near}")));
            }
        }
        let absent = |name: &str| {
            spec.node.error(format!(
                "`needs` names `{name}`, which is not in this pipeline by its `rules`, `only` or `except`: \
                 make the need `optional: true`, or give both jobs the same rules"
            ))
        };
        let Some(wanted) = &spec.matrix else {
            let names = match self.instances.get(name) {
                Some(names) => names.clone(),
                None => self.present.get_key_value(name).map(|(name, _)| name.clone()).into_iter().collect(),
            };
            return if names.is_empty() && !spec.optional { Err(absent(name)) } else { Ok(names) };
        };
        let filled = fill(wanted, matrix);
        let mut names = Vec::new();
        for combination in combinations(&filled, "needs:parallel:matrix")? {
            let name = instance_name(name, &combination);
            match self.present.contains_key(&name) {
                true => names.push(name),
                false if spec.optional => {}
                false if self.defined.contains_key(&name) => return Err(absent(&name)),
                false => {
                    let near = did_you_mean(&name, self.defined.keys().map(String::as_str));
                    return Err(spec.node.error(format!("`needs:parallel` names `{name}`, which is no job{near}")));
                }
            }
        }
        Ok(names)
    }

    /// The jobs whose artifacts a job wants by name.
    pub fn dependencies(
        &self,
        job: &Job,
        names: &[String],
        stage: usize,
        place: &Node,
    ) -> Result<Vec<String>, ReadError> {
        let mut found = Vec::new();
        for name in names.iter().filter(|name| !self.triggers.contains(*name)) {
            let instances = match self.instances.get(name) {
                Some(names) => names.clone(),
                None => vec![name.clone()],
            };
            match self.defined.get(name) {
                None => {
                    let near = did_you_mean(name, self.defined.keys().map(String::as_str));
                    return Err(place.error(format!("`dependencies` names `{name}`, which is no job{near}")));
                }
                Some(own) if *own > stage => {
                    return Err(place.error(format!("`dependencies` names `{name}`, which is in a later stage")));
                }
                Some(_) => {}
            }
            // Absent jobs are no error to `needs` either, if they are optional.
            let needed = |needs: &Vec<Need>| {
                instances
                    .iter()
                    .all(|name| needs.iter().any(|need| need.job == *name) || !self.present.contains_key(name))
            };
            if !job.needs.as_ref().is_none_or(needed) {
                return Err(place.error(format!("`dependencies` names `{name}`, which should be in `needs`, too")));
            }
            found.extend(instances);
        }
        Ok(found)
    }
}

/// Refuses jobs that wait for each other.
pub(super) fn no_circles(jobs: &[Job]) -> Result<(), ReadError> {
    let places: HashMap<&str, usize> = jobs.iter().enumerate().map(|(at, job)| (job.name.as_str(), at)).collect();
    let mut waiting: Vec<usize> = jobs.iter().map(|job| job.needs.as_ref().map_or(0, Vec::len)).collect();
    let mut waited_for: Vec<Vec<usize>> = vec![Vec::new(); jobs.len()];
    for (at, job) in jobs.iter().enumerate() {
        for need in job.needs.iter().flatten() {
            waited_for[places[need.job.as_str()]].push(at);
        }
    }
    let mut free: Vec<usize> = (0..jobs.len()).filter(|at| waiting[*at] == 0).collect();
    let mut freed = 0;
    while let Some(at) = free.pop() {
        freed += 1;
        for next in &waited_for[at] {
            waiting[*next] -= 1;
            if waiting[*next] == 0 {
                free.push(*next);
            }
        }
    }
    match jobs.iter().zip(&waiting).find(|(_, waiting)| **waiting > 0) {
        Some((job, _)) if freed < jobs.len() => {
            Err(ReadError::at(job.line, "`needs` goes in a circle").in_job(&job.name))
        }
        _ => Ok(()),
    }
}

/// Puts a job's own matrix into `$[[ matrix.NAME ]]`.
fn fill(node: &Node, matrix: &[Variable]) -> Node {
    let kind = match &node.kind {
        Kind::List(items) => Kind::List(items.iter().map(|item| fill(item, matrix)).collect()),
        Kind::Map(entries) => {
            Kind::Map(entries.iter().map(|(key, value)| (key.clone(), fill(value, matrix))).collect())
        }
        Kind::Scalar { text, plain } => {
            let inside = text.strip_prefix("$[[").and_then(|text| text.strip_suffix("]]")).map(str::trim);
            let name = inside.and_then(|inside| inside.strip_prefix("matrix."));
            match name.and_then(|name| matrix.iter().find(|variable| variable.key == name)) {
                Some(variable) => Kind::Scalar { text: variable.value.clone(), plain: false },
                None => Kind::Scalar { text: text.clone(), plain: *plain },
            }
        }
    };
    Node { file: node.file.clone(), line: node.line, tag: node.tag.clone(), kind }
}

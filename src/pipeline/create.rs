//! Makes a pipeline of a configuration: holds workflow and jobs against the event, multiplies parallel jobs, finds needs.

use super::condition::Facts;
use super::definition::Definition;
use super::error::ReadError;
use super::expand::expand;
use super::job::{Job, Pipeline, Variable};
use super::keywords::SERVER_SIDE;
use super::matrix::{Instance, Parallel};
use super::nearest::did_you_mean;
use super::needs::{Names, NeedSpec, no_circles};
use super::node::Node;
use super::only::Policy;
use super::parts;
use super::request::Request;
use super::rules::{self, Rule, Starts};
use super::scope::{Known, Scope};

/// GitLab's bound for the jobs of a pipeline is a plan's; this is a pipeline that nobody reads any more.
const MAX_JOBS: usize = 10_000;
/// The text of all jobs together, in bytes: every job carries its variables and scripts itself.
const MAX_TEXT: usize = 256 * 1024 * 1024;

/// Makes the pipeline that `request` asks for.
///
/// # Errors
/// What is wrong in the file, with its line; or that no pipeline comes of it for this event.
pub fn create(request: &Request<'_>) -> Result<Pipeline, ReadError> {
    let (known, facts) = (Known::new(&request.variables, &request.settings), Facts::new(&request.tree));
    let expanded = expand(request, &known, &facts)?;
    let mut variables = expanded.variables.as_ref().map(parts::variables).transpose()?.unwrap_or_default();
    let workflow = Workflow::read(expanded.workflow.as_ref())?;
    workflow.decide(&mut variables, &known, &facts)?;

    let maker = Maker { known: &known, facts: &facts, globals: &variables, by_workflow: workflow.rules.is_some() };
    let definitions = expanded.jobs.iter().map(|(name, node)| {
        let definition = Definition::read(name, node).map_err(|error| error.in_job(name))?;
        check_stage(&definition, node, &expanded.stages).map_err(|error| error.in_job(name))?;
        Ok(definition)
    });
    let definitions: Vec<Definition> = definitions.collect::<Result<_, ReadError>>()?;
    if definitions.is_empty() {
        return Err(ReadError::at(0, "the file has no visible job"));
    }
    let place = |stage: &str| expanded.stages.iter().position(|known| known == stage).unwrap_or_default();
    let (mut names, mut made, mut text) = (Names::new(), Vec::new(), 0);
    for definition in &definitions {
        let (name, stage) = (&definition.job.name, place(&definition.job.stage));
        if definition.trigger {
            names.define_trigger(name);
            continue;
        }
        names.define(name, stage);
        for instance in Parallel::instances(definition.parallel.as_ref(), name) {
            names.define(&instance.name, stage);
            match names.maker_of(&instance.name) {
                None => {}
                // The same combination twice is one job.
                Some(maker) if maker == name => continue,
                Some(maker) => {
                    let what = format!("`{name}` and `{maker}` both make a job called `{}`", instance.name);
                    return Err(definition.node.error(what).in_job(name));
                }
            }
            if let Some(one) = maker.job(definition, &instance).map_err(|error| error.in_job(name))? {
                names.create(name, &one.job.name);
                text += one.text();
                made.push((definition, one));
            }
            if made.len() > MAX_JOBS || text > MAX_TEXT {
                let what = format!("the pipeline has more than {MAX_JOBS} jobs, or {MAX_TEXT} bytes of text in them");
                return Err(ReadError::at(0, what));
            }
        }
    }
    let mut jobs = Vec::with_capacity(made.len());
    for (definition, one) in made {
        let stage = place(&one.job.stage);
        let found = one.with_needs(definition, &names, stage);
        jobs.push(found.map_err(|error| error.in_job(&definition.job.name))?);
    }
    no_circles(&jobs)?;
    if jobs.iter().all(|job| job.stage == ".pre" || job.stage == ".post") {
        return Err(no_pipeline(&jobs, &definitions));
    }
    let notes = notes(&definitions);
    let scope = Scope { known: &known, file: &variables };
    let name = workflow.name.map(|name| scope.expand(&name));
    Ok(Pipeline { name, stages: expanded.stages, variables, jobs, notes })
}

fn no_pipeline(jobs: &[Job], definitions: &[Definition]) -> ReadError {
    let what = match (jobs.is_empty(), definitions.iter().all(|definition| definition.trigger)) {
        (true, true) => "the pipeline has trigger jobs only: what they start is GitLab's to run",
        (true, false) => "no job runs for this event: `rules`, `only` and `except` leave out all of them",
        (false, _) => "the pipeline has jobs in `.pre` and `.post` only, and GitLab runs no such pipeline",
    };
    ReadError::at(0, what)
}

fn check_stage(definition: &Definition, node: &Node, stages: &[String]) -> Result<(), ReadError> {
    let stage = &definition.job.stage;
    if stages.contains(stage) || definition.trigger {
        return Ok(());
    }
    let near = did_you_mean(stage, stages.iter().map(String::as_str));
    let known = stages.join("`, `");
    Err(node
        .get("stage")
        .unwrap_or(node)
        .error(format!("the stage `{stage}` does not exist; the stages are `{known}`{near}")))
}

/// `workflow`.
#[derive(Default)]
struct Workflow {
    name: Option<String>,
    rules: Option<Vec<Rule>>,
    line: usize,
}

impl Workflow {
    fn read(node: Option<&Node>) -> Result<Workflow, ReadError> {
        let Some(node) = node else { return Ok(Workflow::default()) };
        let mut workflow = Workflow { line: node.line, ..Workflow::default() };
        for (key, value) in node.entries("workflow")? {
            match key.as_str() {
                "name" => workflow.name = value.optional_text("workflow:name")?,
                "rules" if !value.is_null() => workflow.rules = Some(Rule::read_all(value)?),
                // GitLab cancels what is outdated.
                "rules" | "auto_cancel" => {}
                _ => {
                    return Err(value.unknown_key("workflow", key, ["name", "rules", "auto_cancel"]));
                }
            }
        }
        Ok(workflow)
    }

    /// Adds the variables of the rule that holds; none that holds means no pipeline.
    fn decide(&self, variables: &mut Vec<Variable>, known: &Known, facts: &Facts<'_>) -> Result<(), ReadError> {
        let Some(rules) = &self.rules else { return Ok(()) };
        match rules::first(rules, &Scope { known, file: variables }, facts)? {
            Some(rule) if rule.when != Some(Starts::Never) => {
                override_with(variables, &rule.variables);
                Ok(())
            }
            _ => Err(ReadError::at(self.line, "`workflow:rules` wants no pipeline for this event")),
        }
    }
}

/// Makes the jobs of one pipeline.
struct Maker<'a> {
    known: &'a Known,
    facts: &'a Facts<'a>,
    globals: &'a [Variable],
    by_workflow: bool,
}

/// A job that the event adds; whom it waits for is not found yet.
struct Made<'a> {
    job: Job,
    needs: Option<&'a [NeedSpec]>,
    matrix: Vec<Variable>,
}

impl Maker<'_> {
    fn job<'a>(&self, definition: &'a Definition, instance: &Instance) -> Result<Option<Made<'a>>, ReadError> {
        let inherited = self.globals.iter().filter(|variable| definition.inherit_variables.lets(&variable.key));
        let mut variables: Vec<Variable> = inherited.cloned().collect();
        override_with(&mut variables, &definition.job.variables);
        override_with(&mut variables, &instance.variables);
        let scope = Scope { known: self.known, file: &variables };

        let mut job = Job { name: instance.name.clone(), node: instance.node, ..definition.job.clone() };
        if job.name.chars().count() > 255 {
            return Err(definition.node.error("with its matrix the name of the job has more than 255 characters"));
        }
        let mut needs = definition.needs.as_deref();
        match &definition.rules {
            Some(rules) => {
                let Some(rule) = rules::first(rules, &scope, self.facts)? else { return Ok(None) };
                match rule.when {
                    Some(Starts::Never) => return Ok(None),
                    Some(Starts::When(when)) => job.when = when,
                    None => {}
                }
                // A manual job by a rule holds the stages up, unless the job or the rule says that it may fail.
                if let Some(allow_failure) = &rule.allow_failure {
                    job.allow_failure = allow_failure.clone();
                }
                job.interruptible = rule.interruptible.unwrap_or(job.interruptible);
                needs = rule.needs.as_deref().or(needs);
                override_with(&mut variables, &rule.variables);
            }
            None => {
                if !self.runs_without_rules(definition, &scope)? {
                    return Ok(None);
                }
            }
        }
        let scope = Scope { known: self.known, file: &variables };
        for (index, (cache, key)) in job.cache.iter_mut().zip(&definition.cache_keys).enumerate() {
            cache.key = key.key(index, &scope, self.facts.tree);
        }
        job.variables = variables;
        Ok(Some(Made { job, needs, matrix: instance.variables.clone() }))
    }

    /// `only` and `except`. A job that says neither runs for branches and tags, unless workflow rules decide.
    fn runs_without_rules(&self, definition: &Definition, scope: &Scope<'_>) -> Result<bool, ReadError> {
        let by_default = Policy::branches_and_tags();
        let only = match &definition.only {
            Some(only) => Some(only),
            None if self.by_workflow => None,
            None => Some(&by_default),
        };
        if let Some(only) = only
            && !only.allows(scope, self.facts)?
        {
            return Ok(false);
        }
        match &definition.except {
            Some(except) => Ok(!except.excludes(scope, self.facts)?),
            None => Ok(true),
        }
    }
}

impl Made<'_> {
    /// The bytes that grow with the number of jobs.
    fn text(&self) -> usize {
        let job = &self.job;
        let scripts = job.before_script.iter().chain(&job.script).chain(&job.after_script);
        let variables = job.variables.iter().map(|variable| variable.key.len() + variable.value.len());
        scripts.map(String::len).chain(variables).sum()
    }

    fn with_needs(self, definition: &Definition, names: &Names, stage: usize) -> Result<Job, ReadError> {
        let mut job = self.job;
        job.needs = self.needs.map(|specs| names.needs(specs, stage, &self.matrix)).transpose()?;
        let dependencies = job.dependencies.take();
        let found = dependencies.map(|wanted| names.dependencies(&job, &wanted, stage, &definition.node));
        job.dependencies = found.transpose()?;
        Ok(job)
    }
}

/// The later ones take the places of those with the same name.
fn override_with(variables: &mut Vec<Variable>, later: &[Variable]) {
    for variable in later {
        match variables.iter_mut().find(|known| known.key == variable.key) {
            Some(known) => *known = variable.clone(),
            None => variables.push(variable.clone()),
        }
    }
}

/// One line for each keyword that acts in GitLab alone, with the jobs that use it.
fn notes(definitions: &[Definition]) -> Vec<String> {
    let mut notes = Vec::new();
    for (keyword, meaning) in SERVER_SIDE {
        let users: Vec<&str> = definitions
            .iter()
            .filter(|definition| definition.server_side.contains(&keyword))
            .map(|definition| definition.job.name.as_str())
            .collect();
        if !users.is_empty() {
            notes.push(format!("`{keyword}` ({}): {meaning}", in_short(&users)));
        }
    }
    let triggers: Vec<&str> =
        definitions.iter().filter(|definition| definition.trigger).map(|d| d.job.name.as_str()).collect();
    if !triggers.is_empty() {
        notes
            .push(format!("`trigger` ({}): left out; the pipelines that they start are GitLab's", in_short(&triggers)));
    }
    notes
}

fn in_short(names: &[&str]) -> String {
    match names {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        _ => names.join(", "),
    }
}

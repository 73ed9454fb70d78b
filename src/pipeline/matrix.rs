//! Owns `parallel`: how many jobs become of one, their names and variables.

use super::error::ReadError;
use super::job::{Node as Place, Variable};
use super::node::Node;

/// GitLab's bound for `parallel`, and for all combinations of a matrix.
const MAX: usize = 200;

/// `parallel` of a job.
#[derive(Clone, Debug)]
pub(super) enum Parallel {
    Count(usize),
    /// Every combination: its variables in order.
    Matrix(Vec<Vec<Variable>>),
}

/// One of the jobs that become of a definition.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub name: String,
    pub variables: Vec<Variable>,
    pub node: Option<Place>,
}

impl Parallel {
    pub fn read(node: &Node) -> Result<Parallel, ReadError> {
        if !node.is_map() {
            let count = node.number("parallel")?;
            let count = usize::try_from(count).ok().filter(|count| (1..=MAX).contains(count));
            return count
                .map(Parallel::Count)
                .ok_or_else(|| node.error(format!("`parallel` should be between 1 and {MAX}")));
        }
        let matrix = node.get("matrix").ok_or_else(|| node.error("`parallel` needs a number or a `matrix`"))?;
        let combinations = combinations(matrix, "parallel:matrix")?;
        if combinations.is_empty() || combinations.len() > MAX {
            let count = combinations.len();
            return Err(matrix.error(format!("`parallel:matrix` makes {count} jobs; it should make 1 to {MAX}")));
        }
        Ok(Parallel::Matrix(combinations))
    }

    /// The jobs called `name`.
    pub fn instances(parallel: Option<&Parallel>, name: &str) -> Vec<Instance> {
        match parallel {
            None => vec![Instance { name: name.to_owned(), variables: Vec::new(), node: None }],
            Some(Parallel::Count(total)) => (1..=*total)
                .map(|index| Instance {
                    name: format!("{name} {index}/{total}"),
                    variables: Vec::new(),
                    node: Some(Place { index, total: *total }),
                })
                .collect(),
            Some(Parallel::Matrix(combinations)) => combinations
                .iter()
                .enumerate()
                .map(|(at, variables)| Instance {
                    name: instance_name(name, variables),
                    variables: variables.clone(),
                    node: Some(Place { index: at + 1, total: combinations.len() }),
                })
                .collect(),
        }
    }
}

/// `job: [a, b]`.
pub(super) fn instance_name(name: &str, variables: &[Variable]) -> String {
    let values: Vec<&str> = variables.iter().map(|variable| variable.value.as_str()).collect();
    format!("{name}: [{}]", values.join(", "))
}

/// Every combination of every entry, the first variable turning slowest.
pub(super) fn combinations(matrix: &Node, keyword: &str) -> Result<Vec<Vec<Variable>>, ReadError> {
    let mut all = Vec::new();
    for entry in matrix.flat_items(keyword)? {
        let mut product: Vec<Vec<Variable>> = vec![Vec::new()];
        for (key, value) in entry.entries(keyword)? {
            let values = value.one_or_more(key)?;
            if product.len() * values.len() > MAX {
                return Err(entry.error(format!("`{keyword}` makes more than {MAX} jobs")));
            }
            let with = |combination: &Vec<Variable>, value: &String| {
                let variable = Variable { key: key.clone(), value: value.clone(), raw: false };
                combination.iter().cloned().chain([variable]).collect()
            };
            product = product.iter().flat_map(|c| values.iter().map(move |value| with(c, value))).collect();
        }
        all.extend(product.into_iter().filter(|combination| !combination.is_empty()));
        if all.len() > MAX {
            return Err(entry.error(format!("`{keyword}` makes more than {MAX} jobs")));
        }
    }
    Ok(all)
}

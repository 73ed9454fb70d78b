//! Owns which CPU and memory pairs Fargate has (aws.md §1.1), and how they are written.

use super::refusal::Refusal;

/// A legal Fargate size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// CPU units, 1024 a vCPU.
    pub(super) cpu: u32,
    /// MiB.
    pub(super) memory: u32,
}

impl Size {
    /// Reads a pair as it stands in a request.
    pub(super) fn parse(cpu: Option<&str>, memory: Option<&str>) -> Result<Size, Refusal> {
        let cpu = cpu.ok_or_else(|| Refusal::client("Fargate requires that 'cpu' be defined at the task level."))?;
        let memory =
            memory.ok_or_else(|| Refusal::client("Fargate requires that 'memory' be defined at the task level."))?;
        let cpu = amount(cpu, "vcpu").ok_or_else(|| invalid("cpu", cpu))?;
        let memory = amount(memory, "gb").ok_or_else(|| invalid("memory", memory))?;
        if !memories(cpu).contains(&memory) {
            let given = format!("{cpu} CPU, {memory} memory");
            let text = format!(
                "No Fargate configuration exists for given values: {given}. See the Amazon ECS documentation for the valid values."
            );
            return Err(Refusal::client(text));
        }
        Ok(Size { cpu, memory })
    }
}

/// The MiB that go with `cpu` units, empty if Fargate has no such CPU.
fn memories(cpu: u32) -> Vec<u32> {
    let steps = |first: u32, last: u32, step: usize| (first..=last).step_by(step).collect();
    match cpu {
        256 => vec![512, 1024, 2048],
        512 => steps(1024, 4096, 1024),
        1024 => steps(2048, 8192, 1024),
        2048 => steps(4096, 16384, 1024),
        4096 => steps(8192, 30720, 1024),
        8192 => steps(16384, 61440, 4096),
        16384 => steps(32768, 122_880, 8192),
        32768 => vec![61440, 122_880, 249_856],
        _ => Vec::new(),
    }
}

/// `1024`, or `1 vCPU` and `.5 GB` in thousands of 1024.
fn amount(text: &str, unit: &str) -> Option<u32> {
    let text = text.trim().to_ascii_lowercase();
    let Some(number) = text.strip_suffix(unit) else { return text.parse().ok() };
    let number: f64 = number.trim().parse().ok()?;
    let units = number * 1024.0;
    (units.fract() == 0.0 && (1.0..=1_048_576.0).contains(&units)).then_some(units as u32)
}

fn invalid(what: &str, given: &str) -> Refusal {
    Refusal::client(format!("Invalid '{what}' setting for task: `{given}`."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(cpu: &str, memory: &str) -> String {
        Size::parse(Some(cpu), Some(memory)).expect_err("it is no legal size").message().to_owned()
    }

    #[test]
    fn the_pairs_of_the_table_are_taken_in_both_spellings() {
        for (cpu, memory) in
            [("256", "512"), ("4096", "30720"), ("32768", "249856"), ("1 vCPU", "3 GB"), (".25 vCPU", "0.5GB")]
        {
            assert!(Size::parse(Some(cpu), Some(memory)).is_ok(), "{cpu} {memory}");
        }
        assert_eq!(Size::parse(Some("1 vCPU"), Some("3 GB")).unwrap(), Size { cpu: 1024, memory: 3072 });
    }

    #[test]
    fn pairs_beside_the_table_are_refused() {
        for (cpu, memory) in [("256", "4096"), ("1024", "2500"), ("8192", "20000"), ("32768", "122881"), ("300", "512")]
        {
            assert!(refused(cpu, memory).starts_with("No Fargate configuration exists"), "{cpu} {memory}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for (cpu, memory) in [("one", "512"), ("-256", "512"), ("1e9 vCPU", "512"), ("NaN vCPU", "512")] {
            assert!(refused(cpu, memory).starts_with("Invalid 'cpu'"), "{cpu}");
        }
        assert!(Size::parse(Some("256"), None).is_err());
    }
}

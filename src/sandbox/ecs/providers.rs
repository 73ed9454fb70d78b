//! Owns where a task is to run: launch type or capacity providers (aws.md §1.3).

use serde_json::Value;

use super::definition_rules::given;
use super::json::{list, number, text};
use super::refusal::Refusal;

/// The capacity provider of each of `count` tasks; `None` for launch type FARGATE.
pub(super) fn choose(request: &Value, count: usize) -> Result<Vec<Option<String>>, Refusal> {
    let strategy = list(request, "capacityProviderStrategy");
    let launch_type = text(request, "launchType");
    if given(request, "launchType") && !strategy.is_empty() {
        return Err(Refusal::parameter(
            "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.",
        ));
    }
    match launch_type {
        Some("FARGATE") => return Ok(vec![None; count]),
        Some(other) => {
            return Err(Refusal::client(format!("This sandbox has Fargate only, not launch type `{other}`.")));
        }
        None if strategy.is_empty() => return Ok(vec![Some("FARGATE".to_owned()); count]),
        None => {}
    }
    check(strategy)?;
    Ok(spread(strategy, count))
}

fn check(strategy: &[Value]) -> Result<(), Refusal> {
    let mut names = Vec::new();
    for item in strategy {
        let name = text(item, "capacityProvider").unwrap_or_default();
        if !["FARGATE", "FARGATE_SPOT"].contains(&name) {
            let text = format!(
                "The specified capacity provider `{name}` was not found. It is not associated with the cluster."
            );
            return Err(Refusal::parameter(text));
        }
        if names.contains(&name) {
            return Err(Refusal::parameter(format!("The capacity provider `{name}` is named twice.")));
        }
        names.push(name);
        let (weight, base) = (number(item, "weight").unwrap_or(0), number(item, "base").unwrap_or(0));
        if !(0..=1000).contains(&weight) || !(0..=100_000).contains(&base) {
            return Err(Refusal::parameter("weight must be 0 to 1000 and base 0 to 100000."));
        }
    }
    if !strategy.iter().any(|item| number(item, "weight").unwrap_or(0) > 0) {
        return Err(Refusal::parameter("At least one capacity provider must have a weight greater than 0."));
    }
    if strategy.iter().filter(|item| number(item, "base").unwrap_or(0) > 0).count() > 1 {
        return Err(Refusal::parameter("Only one capacity provider can have a base."));
    }
    Ok(())
}

/// First the base, then whoever is furthest behind its weight.
fn spread(strategy: &[Value], count: usize) -> Vec<Option<String>> {
    let mut given_out = vec![0_i64; strategy.len()];
    let mut chosen = Vec::new();
    for _ in 0..count {
        let weight = |at: usize| number(&strategy[at], "weight").unwrap_or(0);
        let owed = |at: &usize| given_out[*at] < number(&strategy[*at], "base").unwrap_or(0);
        let behind = || {
            let weighted = (0..strategy.len()).filter(|at| weight(*at) > 0);
            weighted.min_by_key(|at| (given_out[*at] + 1) * 1_000_000 / weight(*at))
        };
        let Some(at) = (0..strategy.len()).find(owed).or_else(behind) else { break };
        given_out[at] += 1;
        chosen.push(text(&strategy[at], "capacityProvider").map(str::to_owned));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_launch_type_and_a_strategy_exclude_each_other() {
        let strategy = json!([{"capacityProvider": "FARGATE_SPOT", "weight": 1}]);
        let both = json!({"launchType": "FARGATE", "capacityProviderStrategy": strategy});

        assert!(choose(&both, 1).is_err());
        assert_eq!(choose(&json!({"launchType": "FARGATE"}), 2).unwrap(), [None, None]);
        assert_eq!(
            choose(&json!({"capacityProviderStrategy": strategy}), 1).unwrap(),
            [Some("FARGATE_SPOT".to_owned())]
        );
    }

    #[test]
    fn a_strategy_needs_a_weight_and_known_providers() {
        for strategy in [
            json!([{"capacityProvider": "FARGATE_SPOT"}]),
            json!([{"capacityProvider": "FARGATE_SPOT", "weight": 0}]),
            json!([{"capacityProvider": "my-asg", "weight": 1}]),
            json!([{"capacityProvider": "FARGATE", "weight": 1001}]),
            json!([{"capacityProvider": "FARGATE", "weight": 1}, {"capacityProvider": "FARGATE", "weight": 1}]),
        ] {
            assert!(choose(&json!({"capacityProviderStrategy": strategy}), 1).is_err(), "{strategy}");
        }
        assert!(choose(&json!({"launchType": "EC2"}), 1).is_err());
    }

    #[test]
    fn base_comes_first_and_weights_share_the_rest() {
        let strategy = json!([
            {"capacityProvider": "FARGATE", "weight": 1, "base": 1}, {"capacityProvider": "FARGATE_SPOT", "weight": 3},
        ]);

        let chosen = choose(&json!({"capacityProviderStrategy": strategy}), 8).unwrap();

        assert_eq!(chosen[0].as_deref(), Some("FARGATE"));
        assert_eq!(chosen.iter().filter(|p| p.as_deref() == Some("FARGATE_SPOT")).count(), 6);
    }
}

//! One condition of a statement: an operator, a key, the expected values.
//!
//! A condition on an absent key is false, unless its operator is negated, ends in `IfExists`, starts with `ForAllValues`,
//! or is `Null`.

use std::cmp::Ordering::{self, Equal, Greater, Less};
use std::collections::BTreeMap;

use super::pattern::{matches, matches_arn, parts};

/// The condition keys of a request, in lower case, each with its values.
pub(in crate::sandbox::ecs) type Keys = BTreeMap<String, Vec<String>>;

/// One condition.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    quantifier: Quantifier,
    test: Test,
    negated: bool,
    if_exists: bool,
    key: String,
    values: Vec<String>,
}

/// How many of the key's values have to pass the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    /// The key may have one value only.
    One,
    All,
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Text,
    TextOfAnyCase,
    Like,
    Arn,
    Bool,
    Null,
    /// The orders of the actual number to the expected one that pass.
    Number(&'static [Ordering]),
}

impl Condition {
    /// Reads `"operator": {"key": values}`.
    ///
    /// # Errors
    /// Says what is not understood.
    pub(super) fn new(operator: &str, key: &str, values: Vec<String>) -> Result<Condition, String> {
        let (quantifier, name) = match operator.split_once(':') {
            None => (Quantifier::One, operator),
            Some(("ForAllValues", name)) => (Quantifier::All, name),
            Some(("ForAnyValue", name)) => (Quantifier::Any, name),
            Some(_) => return Err(format!("`{operator}` is not an operator that this evaluator has")),
        };
        let (name, if_exists) = name.strip_suffix("IfExists").map_or((name, false), |name| (name, true));
        let (test, negated) =
            test(name).ok_or_else(|| format!("`{operator}` is not an operator that this evaluator has"))?;
        if test == Test::Null && (if_exists || quantifier != Quantifier::One) {
            return Err(format!("`{operator}` asks nothing: `Null` takes neither a set nor `IfExists`"));
        }
        for value in &values {
            check_value(test, value).map_err(|why| format!("`{operator}` of `{key}`: {why}"))?;
        }
        if values.is_empty() || (test == Test::Null && values.len() > 1) {
            return Err(format!("`{operator}` of `{key}` needs a value"));
        }
        Ok(Condition { quantifier, test, negated, if_exists, key: key.to_ascii_lowercase(), values })
    }

    /// Whether it is true for a request with these keys.
    ///
    /// # Errors
    /// The key has several values, and the operator takes one.
    pub(super) fn holds(&self, keys: &Keys) -> Result<bool, String> {
        let actual = keys.get(&self.key).map_or(&[][..], Vec::as_slice);
        if self.test == Test::Null {
            return Ok(actual.is_empty() == (self.values[0] == "true"));
        }
        match (self.quantifier, actual) {
            (Quantifier::One, []) => Ok(self.negated || self.if_exists),
            (Quantifier::One, [one]) => Ok(self.fits(one)),
            (Quantifier::One, _) => {
                Err(format!("`{}` has several values and needs ForAllValues or ForAnyValue", self.key))
            }
            (Quantifier::Any, []) => Ok(self.if_exists),
            (Quantifier::Any, all) => Ok(all.iter().any(|actual| self.fits(actual))),
            (Quantifier::All, all) => Ok(all.iter().all(|actual| self.fits(actual))),
        }
    }

    /// One expected value is enough to match; a negated operator must match none.
    fn fits(&self, actual: &str) -> bool {
        self.values.iter().any(|wanted| self.test.compare(wanted, actual)) != self.negated
    }
}

impl Test {
    fn compare(self, wanted: &str, actual: &str) -> bool {
        match self {
            Test::Text => wanted == actual,
            Test::TextOfAnyCase => wanted.eq_ignore_ascii_case(actual),
            Test::Like => matches(wanted, actual),
            Test::Arn => matches_arn(wanted, actual),
            Test::Bool => actual.eq_ignore_ascii_case(wanted),
            Test::Number(orders) => {
                let (wanted, actual) = (wanted.parse::<f64>().ok(), actual.parse::<f64>().ok());
                let order = wanted.zip(actual).and_then(|(wanted, actual)| actual.partial_cmp(&wanted));
                order.is_some_and(|order| orders.contains(&order))
            }
            // Answered before any value is compared.
            Test::Null => false,
        }
    }
}

fn test(name: &str) -> Option<(Test, bool)> {
    Some(match name {
        "StringEquals" => (Test::Text, false),
        "StringNotEquals" => (Test::Text, true),
        "StringEqualsIgnoreCase" => (Test::TextOfAnyCase, false),
        "StringNotEqualsIgnoreCase" => (Test::TextOfAnyCase, true),
        "StringLike" => (Test::Like, false),
        "StringNotLike" => (Test::Like, true),
        // The two are one in IAM.
        "ArnEquals" | "ArnLike" => (Test::Arn, false),
        "ArnNotEquals" | "ArnNotLike" => (Test::Arn, true),
        "Bool" => (Test::Bool, false),
        "Null" => (Test::Null, false),
        "NumericEquals" => (Test::Number(&[Equal]), false),
        "NumericNotEquals" => (Test::Number(&[Equal]), true),
        "NumericLessThan" => (Test::Number(&[Less]), false),
        "NumericLessThanEquals" => (Test::Number(&[Less, Equal]), false),
        "NumericGreaterThan" => (Test::Number(&[Greater]), false),
        "NumericGreaterThanEquals" => (Test::Number(&[Greater, Equal]), false),
        _ => return None,
    })
}

fn check_value(test: Test, value: &str) -> Result<(), String> {
    let right = match test {
        Test::Bool | Test::Null => ["true", "false"].contains(&value),
        Test::Number(_) => value.parse::<f64>().is_ok_and(f64::is_finite),
        Test::Arn => parts(value).is_some(),
        Test::Text | Test::TextOfAnyCase | Test::Like => true,
    };
    if value.contains("${") {
        return Err(format!("`{value}` has a variable, and none is known here"));
    }
    if right { Ok(()) } else { Err(format!("`{value}` is no such value")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(operator: &str, wanted: &[&str], actual: Option<&[&str]>) -> Result<bool, String> {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let keys = actual.map(|actual| ("ecs:key".to_owned(), texts(actual))).into_iter().collect();
        Condition::new(operator, "ECS:Key", texts(wanted))?.holds(&keys)
    }

    #[test]
    fn one_value_is_compared_as_its_operator_says() {
        let arn = "arn:aws:ecs:r:1:cluster/mayfly";
        for (operator, wanted, actual, expected) in [
            ("StringEquals", "a", "a", true),
            ("StringEquals", "a", "A", false),
            ("StringEquals", "a*", "ab", false),
            ("StringNotEquals", "a", "a", false),
            ("StringNotEquals", "a", "b", true),
            ("StringEqualsIgnoreCase", "a", "A", true),
            ("StringLike", "a*", "ab", true),
            ("StringNotLike", "a*", "ab", false),
            ("ArnEquals", arn, arn, true),
            ("ArnLike", "arn:aws:ecs:*:*:cluster/*", arn, true),
            ("ArnEquals", "arn:aws:ecs:*:*:cluster/*", arn, true),
            ("ArnEquals", arn, "mayfly", false),
            ("ArnNotEquals", arn, "arn:aws:ecs:r:1:cluster/other", true),
            ("ArnNotLike", "arn:aws:ecs:*:*:cluster/*", arn, false),
            ("Bool", "true", "True", true),
            ("Bool", "true", "false", false),
            ("NumericEquals", "4096", "4096.0", true),
            ("NumericNotEquals", "4096", "4096", false),
            ("NumericLessThan", "4096", "4096", false),
            ("NumericLessThanEquals", "4096", "4096", true),
            ("NumericGreaterThan", "256", "512", true),
            ("NumericGreaterThanEquals", "1024", "512", false),
            ("NumericLessThanEquals", "4096", "four", false),
        ] {
            assert_eq!(holds(operator, &[wanted], Some(&[actual])), Ok(expected), "{operator} {wanted} {actual}");
        }
    }

    #[test]
    fn a_key_that_is_absent_fails_all_but_negated_and_tolerant_operators() {
        let arn = "arn:aws:ecs:r:1:cluster/mayfly";
        for (operator, wanted, expected) in [
            ("StringEquals", "a", false),
            ("StringNotEquals", "a", true),
            ("StringLike", "*", false),
            ("ArnLike", arn, false),
            ("ArnNotLike", arn, true),
            ("Bool", "false", false),
            ("NumericLessThan", "1", false),
            ("NumericNotEquals", "1", true),
            ("StringEqualsIfExists", "a", true),
            ("BoolIfExists", "false", true),
            ("NumericLessThanEqualsIfExists", "1", true),
            ("Null", "true", true),
            ("Null", "false", false),
            ("ForAllValues:StringEquals", "a", true),
            ("ForAnyValue:StringEquals", "a", false),
            ("ForAnyValue:StringNotEquals", "a", false),
            ("ForAnyValue:StringEqualsIfExists", "a", true),
        ] {
            assert_eq!(holds(operator, &[wanted], None), Ok(expected), "{operator}");
            assert_eq!(holds(operator, &[wanted], Some(&[])), Ok(expected), "{operator}, with no value");
        }
        assert_eq!(holds("Null", &["false"], Some(&["x"])), Ok(true));
        assert_eq!(holds("StringEqualsIfExists", &["a"], Some(&["b"])), Ok(false));
    }

    #[test]
    fn sets_of_values_need_an_operator_for_sets() {
        for (operator, wanted, actual, expected) in [
            ("ForAllValues:StringEquals", &["FARGATE"][..], &["FARGATE"][..], true),
            ("ForAllValues:StringEquals", &["FARGATE"], &["FARGATE", "EC2"], false),
            ("ForAllValues:StringNotEquals", &["EC2"], &["FARGATE", "EC2"], false),
            ("ForAnyValue:StringEquals", &["FARGATE"], &["EC2", "FARGATE"], true),
            ("ForAnyValue:StringNotEquals", &["FARGATE"], &["EC2", "FARGATE"], true),
            ("StringEquals", &["a", "b"], &["b"], true),
            ("StringNotEquals", &["a", "b"], &["b"], false),
        ] {
            assert_eq!(holds(operator, wanted, Some(actual)), Ok(expected), "{operator} {wanted:?} {actual:?}");
        }
        assert!(holds("StringEquals", &["a"], Some(&["a", "b"])).is_err());
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (operator, wanted) in [
            ("StringMatches", &["a"][..]),
            ("stringequals", &["a"]),
            ("DateLessThan", &["2026-01-01"]),
            ("IpAddress", &["10.0.0.0/8"]),
            ("ForEachValue:StringEquals", &["a"]),
            ("ForAllValues:Null", &["true"]),
            ("NullIfExists", &["true"]),
            ("Null", &["maybe"]),
            ("Null", &["true", "false"]),
            ("Bool", &["yes"]),
            ("NumericLessThan", &["many"]),
            ("NumericLessThan", &["NaN"]),
            ("ArnLike", &["mayfly"]),
            ("ArnLike", &["*"]),
            ("StringEquals", &["${aws:username}"]),
            ("StringLike", &["a${*}"]),
            ("StringEquals", &[]),
            ("IfExists", &["a"]),
            ("", &["a"]),
        ] {
            assert!(holds(operator, wanted, None).is_err(), "{operator} {wanted:?}");
        }
    }
}

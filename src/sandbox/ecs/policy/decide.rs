//! Decides one request: what a policy denies is denied, what none allows as well.

use super::condition::Keys;
use super::document::{Statement, read};

/// What is asked of a caller's policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox::ecs) struct Ask {
    /// Such as `ecs:RunTask`.
    pub(in crate::sandbox::ecs) action: String,
    /// An ARN, or `*` where the action has no resource.
    pub(in crate::sandbox::ecs) resource: String,
    /// The condition keys that the request has, in lower case.
    pub(in crate::sandbox::ecs) keys: Keys,
}

/// What came of it, and which statement of which policy decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox::ecs) struct Decided {
    pub(in crate::sandbox::ecs) outcome: Outcome,
    pub(in crate::sandbox::ecs) policy: Option<String>,
    pub(in crate::sandbox::ecs) sid: Option<String>,
}

/// What policies say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox::ecs) enum Outcome {
    /// A statement allows it, and none denies it.
    Allow,
    /// A statement denies it.
    Deny,
    /// No statement speaks of it.
    ImplicitDeny,
    /// A policy cannot be understood, and so nothing is allowed.
    Error(String),
}

/// What policies, each with its name and text, say to `ask`.
pub(in crate::sandbox::ecs) fn decide(policies: &[(String, String)], ask: &Ask) -> Decided {
    statements(policies).and_then(|statements| weigh(&statements, ask)).unwrap_or_else(|(policy, error)| Decided {
        outcome: Outcome::Error(error),
        policy: Some(policy),
        sid: None,
    })
}

/// The name of a policy, and what is wrong with it.
type Wrong = (String, String);

fn statements(policies: &[(String, String)]) -> Result<Vec<(&str, Statement)>, Wrong> {
    let mut all = Vec::new();
    for (name, text) in policies {
        let statements = read(text).map_err(|error| (name.clone(), error))?;
        all.extend(statements.into_iter().map(|statement| (name.as_str(), statement)));
    }
    Ok(all)
}

fn weigh(statements: &[(&str, Statement)], ask: &Ask) -> Result<Decided, Wrong> {
    for (denies, outcome) in [(true, Outcome::Deny), (false, Outcome::Allow)] {
        for (policy, statement) in statements.iter().filter(|(_, statement)| statement.denies == denies) {
            let applies = statement.applies(&ask.action, &ask.resource, &ask.keys);
            if applies.map_err(|error| ((*policy).to_owned(), error))? {
                let policy = Some((*policy).to_owned());
                return Ok(Decided { outcome, policy, sid: statement.sid.clone() });
            }
        }
    }
    Ok(Decided { outcome: Outcome::ImplicitDeny, policy: None, sid: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const TASK: &str = "arn:aws:ecs:us-east-1:123456789012:task/mayfly/0a1b";
    const CLUSTER: &str = "arn:aws:ecs:us-east-1:123456789012:cluster/mayfly";

    fn stop() -> Ask {
        let keys = [("ecs:cluster".to_owned(), vec![CLUSTER.to_owned()])].into();
        Ask { action: "ecs:StopTask".to_owned(), resource: TASK.to_owned(), keys }
    }

    fn of(statements: &Value) -> Decided {
        let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        decide(&[("inline".to_owned(), policy)], &stop())
    }

    fn error(text: &str) -> String {
        match decide(&[("inline".to_owned(), text.to_owned())], &stop()) {
            Decided { outcome: Outcome::Error(error), policy: Some(policy), sid: None } if policy == "inline" => error,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn allow() -> Value {
        json!({"Sid": "Stop", "Effect": "Allow", "Action": "ecs:StopTask", "Resource": "arn:aws:ecs:*:*:task/mayfly/*",
            "Condition": {"ArnEquals": {"ecs:cluster": CLUSTER}}})
    }

    fn with(member: &str, value: Value) -> Value {
        let mut statement = allow();
        statement[member] = value;
        statement
    }

    #[test]
    fn a_statement_allows_what_all_of_its_parts_fit() {
        let allowed =
            Decided { outcome: Outcome::Allow, policy: Some("inline".to_owned()), sid: Some("Stop".to_owned()) };
        assert_eq!(of(&allow()), allowed);
        for (member, value) in [
            ("Action", json!(["ecs:RunTask", "ECS:stoptask"])),
            ("Action", json!("ecs:Stop*")),
            ("Action", json!("*")),
            ("Resource", json!("*")),
            ("Resource", json!(["arn:aws:ecs:*:*:cluster/x", TASK])),
            ("Condition", json!({})),
            ("Condition", json!({"ArnLike": {"ECS:Cluster": ["arn:aws:ecs:*:*:cluster/other", CLUSTER]}})),
        ] {
            assert_eq!(of(&json!([with(member, value.clone())])), allowed, "{member}: {value}");
        }
        for (member, value) in [
            ("Action", json!("ecs:StopTasks")),
            ("Action", json!("ecs:Stop")),
            ("Action", json!("s3:*")),
            ("Resource", json!("arn:aws:ecs:*:*:task/other/*")),
            ("Resource", json!("arn:aws:ecs:*:task/mayfly/*:")),
            ("Condition", json!({"ArnEquals": {"ecs:cluster": "arn:aws:ecs:us-east-1:123456789012:cluster/other"}})),
            ("Condition", json!({"ArnEquals": {"ecs:cluster": CLUSTER}, "Bool": {"ecs:privileged": "false"}})),
            ("Condition", json!({"StringEquals": {"ecs:cluster": CLUSTER, "ecs:unknown": "x"}})),
        ] {
            let decided = of(&json!([with(member, value.clone())]));
            assert_eq!((decided.outcome, decided.sid), (Outcome::ImplicitDeny, None), "{member}: {value}");
        }
    }

    #[test]
    fn a_denial_wins_wherever_it_stands() {
        let deny = json!({"Sid": "No", "Effect": "Deny", "Action": "ecs:*", "Resource": "*"});
        for statements in [json!([allow(), deny]), json!([deny, allow()])] {
            let decided = of(&statements);
            assert_eq!((decided.outcome, decided.sid.as_deref()), (Outcome::Deny, Some("No")));
        }
        let other = json!({"Effect": "Deny", "Action": "ecs:*", "Resource": "*",
            "Condition": {"StringNotEquals": {"ecs:cluster": CLUSTER}}});
        assert_eq!(of(&json!([allow(), other])).outcome, Outcome::Allow);
        let policies = [allow(), deny].map(|statement| json!({"Statement": statement}).to_string());
        let policies: Vec<_> = ["one", "two"].map(str::to_owned).into_iter().zip(policies).collect();
        let decided = decide(&policies, &stop());
        assert_eq!((decided.outcome, decided.policy.as_deref()), (Outcome::Deny, Some("two")));
    }

    #[test]
    fn not_action_is_everything_else() {
        let allows_but = |actions: Value| {
            let statement = json!({"Effect": "Allow", "NotAction": actions, "Resource": "*"});
            of(&json!([statement])).outcome
        };
        assert_eq!(allows_but(json!("iam:*")), Outcome::Allow);
        assert_eq!(allows_but(json!(["iam:*", "ecs:Stop*"])), Outcome::ImplicitDeny);
    }

    #[test]
    fn an_absent_flag_is_denied_by_its_value_and_never_allowed_by_it() {
        let with_deny = json!([allow(), {"Effect": "Deny", "Action": "*", "Resource": "*",
            "Condition": {"Bool": {"ecs:enable-execute-command": "true"}}}]);
        assert_eq!(of(&with_deny).outcome, Outcome::Allow);
        let condition = json!({"StringEquals": {"ecs:enable-execute-command": "false"}});
        assert_eq!(of(&json!([with("Condition", condition)])).outcome, Outcome::ImplicitDeny);
        // `ForAllValues` alone passes on absence (aws.md §9).
        let all = json!({"ForAllValues:StringEquals": {"ecs:compute-compatibility": "FARGATE"}});
        assert_eq!(of(&json!([with("Condition", all.clone())])).outcome, Outcome::Allow);
        let mut both = all;
        both["Null"] = json!({"ecs:compute-compatibility": false});
        assert_eq!(of(&json!([with("Condition", both)])).outcome, Outcome::ImplicitDeny);
    }

    #[test]
    fn without_policies_nothing_is_allowed() {
        assert_eq!(decide(&[], &stop()).outcome, Outcome::ImplicitDeny);
        assert_eq!(of(&json!([])).outcome, Outcome::ImplicitDeny);
    }

    #[test]
    fn what_is_not_understood_denies_and_says_so() {
        for (member, value, said) in [
            ("Effect", json!("allow"), "`Effect`"),
            ("Effect", json!(null), "`Effect`"),
            ("Sid", json!(1), "`Sid`"),
            ("NotAction", json!("iam:*"), "either"),
            ("Action", json!(null), "no action"),
            ("Action", json!([]), "no action"),
            ("Action", json!([1]), "no action"),
            ("Action", json!("StopTask"), "`StopTask`"),
            ("Action", json!("ecs:Stop Task"), "`ecs:Stop Task`"),
            ("Action", json!("ecs:"), "`ecs:`"),
            ("Resource", json!("mayfly"), "`mayfly`"),
            ("Resource", json!("arn:aws:ecs"), "`arn:aws:ecs`"),
            ("Resource", json!("arn:aws:s3:::${aws:username}"), "${aws:username}"),
            ("Resource", json!({"Ref": "Cluster"}), "no resource"),
            ("NotResource", json!("*"), "`NotResource`"),
            ("Principal", json!("*"), "`Principal`"),
            ("condition", json!({}), "`condition`"),
            ("Condition", json!("x"), "`Condition`"),
            ("Condition", json!({"Bool": "true"}), "`Bool`"),
            ("Condition", json!({"Bool": {"a:b": {"x": 1}}}), "`Bool` of `a:b`"),
            ("Condition", json!({"Bool": {"a:b": [["true"]]}}), "`Bool` of `a:b`"),
            ("Condition", json!({"Bool": {"a:b": []}}), "`Bool` of `a:b`"),
            ("Condition", json!({"StringEqual": {"a:b": "c"}}), "`StringEqual`"),
        ] {
            // Beside a statement that would allow everything.
            let everything = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
            let policy = json!({"Statement": [everything, with(member, value.clone())]}).to_string();
            let error = error(&policy);
            assert!(error.starts_with("statement ") && error.contains(said), "{member}: {value}: {error}");
        }
    }

    #[test]
    fn hostile_documents_deny_and_say_so() {
        let deep = format!("{{\"Statement\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        for text in [
            "",
            "{",
            "null",
            "[]",
            "\"*\"",
            "{}",
            &deep,
            "{\"Statement\": null}",
            "{\"Statement\": \"*\"}",
            "{\"Statement\": [null]}",
            "{\"Version\": \"2027-01-01\", \"Statement\": []}",
            "{\"Version\": 2012, \"Statement\": []}",
            "{\"Statement\": [], \"statement\": []}",
            "{\"Statement\": [{\"Effect\": \"Allow\", \"Action\": \"*\"}]}",
        ] {
            assert!(!error(text).is_empty());
        }
    }

    #[test]
    fn a_key_with_several_values_needs_an_operator_for_sets() {
        let mut ask = stop();
        ask.keys.insert("ecs:cluster".to_owned(), vec![CLUSTER.to_owned(), CLUSTER.to_owned()]);
        let policy = json!({"Statement": allow()}).to_string();
        let decided = decide(&[("inline".to_owned(), policy)], &ask);
        assert!(matches!(decided.outcome, Outcome::Error(text) if text.contains("several values")));
    }
}

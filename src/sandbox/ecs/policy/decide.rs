//! Decides one request: an explicit denial wins, and what no statement allows is denied.

use super::condition::Keys;
use super::document::{Kind, Statement, read};

/// One permission that a request needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sandbox::ecs) struct Ask {
    /// Such as `ecs:RunTask`.
    pub(in crate::sandbox::ecs) action: String,
    /// An ARN, or `*` where the action has no resource.
    pub(in crate::sandbox::ecs) resource: String,
    /// The condition keys that the request has, in lower case.
    pub(in crate::sandbox::ecs) keys: Keys,
    /// The names of the caller that a `Principal` may hold: `AWS:<ARN>`, `Service:<name>`.
    pub(in crate::sandbox::ecs) names: Vec<String>,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox::ecs) struct Policy {
    pub(in crate::sandbox::ecs) kind: Kind,
    pub(in crate::sandbox::ecs) name: String,
    pub(in crate::sandbox::ecs) text: String,
}

/// The decision, with the policy and the statement that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox::ecs) struct Decided {
    pub(in crate::sandbox::ecs) outcome: Outcome,
    pub(in crate::sandbox::ecs) policy: Option<String>,
    pub(in crate::sandbox::ecs) sid: Option<String>,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox::ecs) enum Outcome {
    /// A statement allows it, and none denies it.
    Allow,
    /// A statement denies it.
    Deny,
    /// No statement applies.
    ImplicitDeny,
    /// A policy cannot be understood, and so nothing is allowed.
    Error(String),
}

/// Evaluates the policies of a role together with that of a resource in the same account.
pub(in crate::sandbox::ecs) fn decide(policies: &[Policy], ask: &Ask) -> Decided {
    statements(policies).and_then(|statements| weigh(&statements, ask)).unwrap_or_else(|(policy, error)| Decided {
        outcome: Outcome::Error(error),
        policy: Some(policy),
        sid: None,
    })
}

/// The name of a policy, and what is wrong with it.
type Wrong = (String, String);

fn statements(policies: &[Policy]) -> Result<Vec<(&str, Statement)>, Wrong> {
    let mut all = Vec::new();
    for Policy { kind, name, text } in policies {
        let statements = read(*kind, text).map_err(|error| (name.clone(), error))?;
        all.extend(statements.into_iter().map(|statement| (name.as_str(), statement)));
    }
    Ok(all)
}

fn weigh(statements: &[(&str, Statement)], ask: &Ask) -> Result<Decided, Wrong> {
    for (denies, outcome) in [(true, Outcome::Deny), (false, Outcome::Allow)] {
        for (policy, statement) in statements.iter().filter(|(_, statement)| statement.denies == denies) {
            if statement.applies(ask).map_err(|error| ((*policy).to_owned(), error))? {
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
        Ask { action: "ecs:StopTask".to_owned(), resource: TASK.to_owned(), keys, names: Vec::new() }
    }

    fn inline(text: impl Into<String>) -> Policy {
        Policy { kind: Kind::Identity, name: "inline".to_owned(), text: text.into() }
    }

    fn of(statements: &Value) -> Decided {
        let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        decide(&[inline(policy)], &stop())
    }

    fn error(text: &str) -> String {
        match decide(&[inline(text)], &stop()) {
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
        let named = |(name, policy): (&str, String)| Policy { name: name.to_owned(), ..inline(policy) };
        let policies: Vec<Policy> = ["one", "two"].into_iter().zip(policies).map(named).collect();
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
        let decided = decide(&[inline(policy)], &ask);
        assert!(matches!(decided.outcome, Outcome::Error(text) if text.contains("several values")));
    }

    const LEDGER: &str = "arn:aws:s3:::ledger/services/a.env";
    const EXECUTION: &str = "arn:aws:iam::123456789012:role/execution";

    fn read_file() -> Ask {
        let keys = [("aws:principalarn".to_owned(), vec![EXECUTION.to_owned()])].into();
        let names = vec![format!("AWS:{EXECUTION}"), "AWS:123456789012".to_owned(), "AWS:*".to_owned()];
        Ask { action: "s3:GetObject".to_owned(), resource: LEDGER.to_owned(), keys, names }
    }

    fn with_bucket(bucket: Value) -> Decided {
        let allow = json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::ledger/*"});
        let bucket =
            Policy { kind: Kind::Bucket, name: "bucket".to_owned(), text: json!({"Statement": [bucket]}).to_string() };
        decide(&[inline(json!({"Statement": [allow]}).to_string()), bucket], &read_file())
    }

    #[test]
    fn a_buckets_policy_denies_who_it_names() {
        let deny = |principal: Value, but: &str| {
            json!({"Effect": "Deny", "Principal": principal, "Action": "s3:*", "Resource": "arn:aws:s3:::ledger/*",
                "Condition": {"ArnNotLike": {"aws:PrincipalArn": but}}})
        };
        let other = "arn:aws:iam::123456789012:role/other";
        for (principal, but, outcome) in [
            (json!("*"), other, Outcome::Deny),
            (json!({"AWS": "*"}), other, Outcome::Deny),
            (json!({"AWS": [other, EXECUTION]}), other, Outcome::Deny),
            (json!({"AWS": "123456789012"}), other, Outcome::Deny),
            (json!("*"), EXECUTION, Outcome::Allow),
            (json!({"AWS": other}), other, Outcome::Allow),
            (json!({"Service": "ecs-tasks.amazonaws.com"}), other, Outcome::Allow),
        ] {
            assert_eq!(with_bucket(deny(principal.clone(), but)).outcome, outcome, "{principal} but {but}");
        }
        for principal in [json!({"Federated": "x"}), json!({"AWS": "execution"}), json!([]), json!({"Service": "ecs"})]
        {
            assert!(matches!(with_bucket(deny(principal, other)).outcome, Outcome::Error(_)));
        }
        assert!(matches!(
            with_bucket(json!({"Effect": "Deny", "Action": "*", "Resource": "*"})).outcome,
            Outcome::Error(_)
        ));
    }

    #[test]
    fn a_trust_names_who_may_take_the_role() {
        let trusts = |principal: Value, source: &str| {
            let statement = json!({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole",
                "Condition": {"ArnLike": {"aws:SourceArn": source}}});
            let text = json!({"Statement": statement}).to_string();
            let keys = [("aws:sourcearn".to_owned(), vec![TASK.to_owned()])].into();
            let (action, resource) = ("sts:AssumeRole".to_owned(), EXECUTION.to_owned());
            let ask = Ask { action, resource, keys, names: vec!["Service:ecs-tasks.amazonaws.com".to_owned()] };
            decide(&[Policy { kind: Kind::Trust, name: "trust".to_owned(), text }], &ask).outcome
        };
        let ecs = || json!({"Service": "ecs-tasks.amazonaws.com"});
        assert_eq!(trusts(ecs(), "arn:aws:ecs:us-east-1:123456789012:*"), Outcome::Allow);
        assert_eq!(trusts(ecs(), "arn:aws:ecs:us-east-1:210987654321:*"), Outcome::ImplicitDeny);
        assert_eq!(trusts(ecs(), "arn:aws:ecs:us-east-1:123456789012:cluster/mayfly"), Outcome::ImplicitDeny);
        assert_eq!(trusts(json!({"Service": "lambda.amazonaws.com"}), "arn:*:*:*:*:*"), Outcome::ImplicitDeny);
        assert_eq!(trusts(json!({"AWS": "*"}), "arn:*:*:*:*:*"), Outcome::ImplicitDeny);
    }
}

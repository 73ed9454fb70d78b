"""What template.yaml must say where no request can show it. The template is read as it is deployed."""

import json
import re
from pathlib import Path

import yaml

SOURCES = Path(__file__).parent.parent.parent / "src"

ROLES_OF = {"WebhookRole": "Webhook", "DispatcherRole": "Dispatcher", "BrokerRole": "Broker"}
BUCKETS = ("Configuration", "Ledger", "Cache")


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Ref X` is {"Ref": "X"}, `!GetAtt X.Y` is {"Fn::GetAtt": "X.Y"}."""


def short_form(loader, suffix, node):
    read = {yaml.ScalarNode: loader.construct_scalar, yaml.SequenceNode: loader.construct_sequence,
            yaml.MappingNode: loader.construct_mapping}[type(node)]
    value = read(node) if isinstance(node, yaml.ScalarNode) else read(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", short_form)


class Template:
    def __init__(self, path):
        self.text = path.read_text()
        self.whole = yaml.load(self.text, Loader)
        self.resources = self.whole["Resources"]

    def properties(self, name):
        return self.resources[name]["Properties"]

    def of_type(self, kind):
        return {name: resource for name, resource in self.resources.items() if resource["Type"] == kind}

    def statements(self, role):
        """The statements of a role by their names, those behind a condition as well."""
        found = {}
        for policy in self.properties(role)["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                if "Fn::If" in statement:
                    statement = statement["Fn::If"][1]
                found[statement["Sid"]] = statement
        return found


def holds(condition, what):
    assert condition, what


# ---- in place of requests that nothing here makes: see exemptions.py


def log_is_written_to_the_own_group(template, role, sid):
    statement, function = template.statements(role)[sid], template.properties(ROLES_OF[role])
    holds(statement["Action"] == ["logs:CreateLogStream", "logs:PutLogEvents"], statement)
    group = function["LoggingConfig"]["LogGroup"]["Ref"]
    holds(statement["Resource"] == {"Fn::GetAtt": f"{group}.Arn"}, statement)


def messages_of_both_event_sources(template, role, sid):
    statement, function = template.statements(role)[sid], template.properties(ROLES_OF[role])
    holds(statement["Action"] == ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], statement)
    queues = [event["Properties"]["Queue"] for event in function["Events"].values()]
    holds(statement["Resource"] == queues and len(queues) == 2, (statement, queues))


def ticks_go_to_the_queue(template, role, sid):
    statement, target = template.statements(role)[sid], template.properties("Tick")["Target"]
    holds(statement["Action"] == "sqs:SendMessage" and statement["Resource"] == target["Arn"], statement)
    holds(target["RoleArn"] == {"Fn::GetAtt": f"{role}.Arn"}, target)


def missing_objects_are_told(template, role, sid):
    statement = template.statements(role)[sid]
    holds(statement["Action"] == "s3:ListBucket", statement)
    listed = [statement["Resource"]] if isinstance(statement["Resource"], dict) else statement["Resource"]
    # Every bucket of which the role reads objects: each has keys that may be missing.
    read = {bucket for one in template.statements(role).values() for bucket in BUCKETS
            if "s3:GetObject" in one["Action"] and f"${{{bucket}.Arn}}/" in str(one["Resource"])}
    named = {one["Fn::GetAtt"].split(".")[0] for one in listed}
    others = {one["Resource"]["Fn::GetAtt"].split(".")[0] for name, one in template.statements(role).items()
              if one["Action"] == "s3:ListBucket" and name != sid}
    holds(named | others == read, (named, others, read))


# ---- what a deployment must have


def every_alarm_has_its_words(template):
    """Each `alarm = "..."` of the functions' logs has a filter and an alarm, and each queue has two."""
    filters = {f["Properties"]["FilterPattern"].split('"')[1]: f["Properties"]
               for f in template.of_type("AWS::Logs::MetricFilter").values()}
    raised = {word for path in SOURCES.rglob("*.rs") for word in re.findall(r'alarm = "(\w+)"', path.read_text())}
    holds(set(filters) == raised, (filters, raised))
    alarms = [alarm["Properties"] for alarm in template.of_type("AWS::CloudWatch::Alarm").values()]
    for word, one in filters.items():
        group = "BrokerLogs" if word == "ticket" else "DispatcherLogs"
        holds(one["LogGroupName"] == {"Ref": group}, one)
        metric = one["MetricTransformations"][0]["MetricName"]
        holds(any(alarm["MetricName"] == metric and alarm["Namespace"] == one["MetricTransformations"][0][
            "MetricNamespace"] for alarm in alarms), f"no alarm for {word}")
    for metric, queues in (("ApproximateNumberOfMessagesVisible", {"QueueDeadLetters", "StopsDeadLetters"}),
                           ("ApproximateAgeOfOldestMessage", {"Queue", "Stops"})):
        watched = {alarm["Dimensions"][0]["Value"]["Fn::GetAtt"].split(".")[0]
                   for alarm in alarms if alarm["MetricName"] == metric}
        holds(watched == queues, (metric, watched))


def works_in_a_new_account(template):
    text = str(template.whole)
    holds("ReservedConcurrentExecutions" not in text, "a new account has nothing to reserve")
    concurrency = template.whole["Parameters"]["MaximumConcurrency"]
    holds((concurrency["Default"], concurrency["MinValue"], concurrency["MaxValue"]) == (2, 2, 5), concurrency)
    holds(all("Default" in parameter for parameter in template.whole["Parameters"].values()), "a default is missing")
    holds(template.properties("Dispatcher")["RecursiveLoop"] == "Allow", "the dispatcher sends messages to itself")


def has_a_form_for_people(template):
    parameters = template.whole["Parameters"]
    holds(len(parameters) <= 25, f"{len(parameters)} parameters")
    groups = template.whole["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    holds(sorted(grouped) == sorted(parameters), set(grouped) ^ set(parameters))
    holds(all(parameter.get("Description") for parameter in parameters.values()), "a description is missing")


def has_the_limits_of_its_queues(template):
    timeout = template.properties("Dispatcher")["Timeout"]
    for name in ("Queue", "Stops"):
        queue = template.properties(name)
        holds(queue["VisibilityTimeout"] >= 6 * timeout and queue["SqsManagedSseEnabled"], queue)
        holds(queue["RedrivePolicy"]["maxReceiveCount"] >= 5, queue)
        holds(queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": f"{name}DeadLetters.Arn"}, queue)
    for event in template.properties("Dispatcher")["Events"].values():
        holds(event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"], event)
        holds(event["Properties"]["BatchSize"] == 10, event)
    holds([template.properties(f)["Timeout"] for f in ("Webhook", "Dispatcher", "Broker")] == [10, 300, 30], "timeouts")


def keeps_buckets_private(template):
    for name in BUCKETS:
        bucket = template.properties(name)
        holds(all(bucket["PublicAccessBlockConfiguration"].values()), name)
        holds(bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}], name)
        statements = {s["Sid"]: s for s in template.properties(f"{name}Policy")["PolicyDocument"]["Statement"]}
        tls = statements["TlsOnly"]
        holds((tls["Effect"], tls["Action"], tls["Condition"]) ==
              ("Deny", "s3:*", {"Bool": {"aws:SecureTransport": "false"}}), tls)
        if name != "Ledger":  # no URL of the ledger is ever signed
            old = statements["OldUrls"]
            holds((old["Effect"], old["Condition"]) ==
                  ("Deny", {"NumericGreaterThan": {"s3:signatureAge": "900000"}}), old)


def expires_only_what_may_go(template):
    """A rule without a prefix would take everything in a bucket; only unfinished uploads may be everywhere."""
    for name in BUCKETS:
        rules = template.properties(name).get("LifecycleConfiguration", {"Rules": []})["Rules"]
        for rule in rules:
            rule = rule["Fn::If"][1] if "Fn::If" in rule else rule
            holds(rule.get("Prefix") or "ExpirationInDays" not in rule, (name, rule))
    uploads = template.properties("Cache")["LifecycleConfiguration"]["Rules"]
    holds(any("AbortIncompleteMultipartUpload" in rule for rule in uploads), "unfinished uploads stay for ever")


def names_its_wildcards(template):
    for role in template.of_type("AWS::IAM::Role"):
        for sid, statement in template.statements(role).items():
            if statement["Resource"] == "*":
                holds(sid.endswith("HasNoResources"), f"{sid} of {role} is for everything, and its name has no reason")
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            holds(not any("*" in action for action in actions), f"{sid} of {role}: {actions}")


def pins_what_is_dangerous(template):
    statements = template.statements("DispatcherRole")
    cluster = {"Fn::GetAtt": "Cluster.Arn"}
    passing = statements["PassExecutionRole"]
    holds(passing["Resource"] == {"Fn::GetAtt": "ExecutionRole.Arn"}, passing)
    holds(passing["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}, passing)
    for sid in ("RunTasks", "WatchAndStopTasks"):
        holds(statements[sid]["Condition"] == {"ArnEquals": {"ecs:cluster": cluster}}, statements[sid])
    shells = statements["NoShellsInTasks"]
    # The key is absent where no shell is asked for: an Allow for "false" would refuse every task.
    holds((shells["Effect"], shells["Condition"]) ==
          ("Deny", {"Bool": {"ecs:enable-execute-command": "true"}}), shells)
    register = statements["RegisterDefinitions"]["Condition"]
    holds(register["Null"] == {"ecs:compute-compatibility": "false"}, register)
    trust = template.properties("ExecutionRole")["AssumeRolePolicyDocument"]["Statement"][0]["Condition"]
    holds(set(trust) == {"StringEquals", "ArnLike"}, trust)


def trusts_one_service_each(template):
    trusted = {"WebhookRole": "lambda", "DispatcherRole": "lambda", "BrokerRole": "lambda", "TickRole": "scheduler",
               "ExecutionRole": "ecs-tasks"}
    holds(set(template.of_type("AWS::IAM::Role")) == set(trusted), template.of_type("AWS::IAM::Role").keys())
    for role, service in trusted.items():
        statements = template.properties(role)["AssumeRolePolicyDocument"]["Statement"]
        holds([(s["Effect"], s["Principal"], s["Action"]) for s in statements] ==
              [("Allow", {"Service": f"{service}.amazonaws.com"}, "sts:AssumeRole")], (role, statements))
        if service == "lambda":
            continue
        # These services act for every account: without the key another account's could be confused with ours.
        account = statements[0]["Condition"]["StringEquals"]
        holds(account == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}, (role, account))


def ticks_every_minute(template):
    tick = template.properties("Tick")
    holds(tick["ScheduleExpression"] == "rate(1 minute)" and tick.get("State", "ENABLED") == "ENABLED", tick)
    holds(tick["Target"]["Arn"] == {"Fn::GetAtt": "Queue.Arn"}, tick)
    holds(json.loads(tick["Target"]["Input"]) == {"event": "tick"}, tick)


def hears_of_its_own_stopped_tasks(template):
    """The sandbox sends these events to the queue itself, because ministack refuses those of `aws.ecs`."""
    rule = template.properties("StoppedTasks")
    cluster = {"Fn::GetAtt": "Cluster.Arn"}
    holds(rule["EventPattern"] == {
        "source": ["aws.ecs"], "detail-type": ["ECS Task State Change"],
        "detail": {"clusterArn": [cluster], "lastStatus": ["STOPPED"]}}, rule)
    holds(rule.get("State", "ENABLED") == "ENABLED", rule)
    holds([target["Arn"] for target in rule["Targets"]] == [{"Fn::GetAtt": "Stops.Arn"}], rule)
    # The event is the body as it is: the dispatcher reads nothing else.
    holds(not {"Input", "InputPath", "InputTransformer"} & set(rule["Targets"][0]), rule)
    holds(rule["Targets"][0]["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": "StopsDeadLetters.Arn"}}, rule)
    policy = template.properties("StoppedTasksMayBeSent")
    holds(policy["Queues"] == [{"Ref": "Stops"}, {"Ref": "StopsDeadLetters"}], policy)
    queues = [{"Fn::GetAtt": "Stops.Arn"}, {"Fn::GetAtt": "StopsDeadLetters.Arn"}]
    allowed = [(s["Effect"], s["Principal"], s["Action"], s["Resource"], s["Condition"])
               for s in policy["PolicyDocument"]["Statement"]]
    holds(allowed == [("Allow", {"Service": "events.amazonaws.com"}, "sqs:SendMessage", queues,
                       {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": "StoppedTasks.Arn"}}})], allowed)


def keeps_the_ledger_to_its_roles(template):
    statements = {s["Sid"]: s for s in template.properties("LedgerPolicy")["PolicyDocument"]["Statement"]}
    ours = statements["OnlyOurRoles"]
    holds((ours["Effect"], ours["Principal"]) == ("Deny", "*"), ours)
    holds(ours["Action"] == ["s3:GetObject*", "s3:PutObject*", "s3:DeleteObject*", "s3:ListBucket*"], ours)
    holds(ours["Resource"] == [{"Fn::GetAtt": "Ledger.Arn"}, {"Fn::Sub": "${Ledger.Arn}/*"}], ours)
    roles = ("DispatcherRole", "BrokerRole", "ExecutionRole")
    named = [{"Fn::GetAtt": f"{role}.Arn"} for role in roles] + [
        {"Fn::Sub": f"arn:${{AWS::Partition}}:sts::${{AWS::AccountId}}:assumed-role/${{{role}}}/*"} for role in roles]
    holds(ours["Condition"] == {"ArnNotLike": {"aws:PrincipalArn": named}}, ours["Condition"])
    # A role that reads the ledger and is not named would be denied on AWS.
    users = {role for role in template.of_type("AWS::IAM::Role") for statement in template.statements(role).values()
             if "Ledger." in str(statement["Resource"])}
    holds(users == set(roles), users)


def ends_every_log(template):
    groups = template.of_type("AWS::Logs::LogGroup")
    for name, group in groups.items():
        holds(group["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}, name)
    functions = template.of_type("AWS::Serverless::Function")
    # A function without a group of its own gets one from Lambda, which is kept for ever.
    named = [function["Properties"]["LoggingConfig"]["LogGroup"]["Ref"] for function in functions.values()]
    holds(sorted([*named, "TaskLogs"]) == sorted(groups), (named, groups.keys()))


def has_no_aliases(template):
    """CloudFormation does not read them."""
    aliases = [f"line {event.start_mark.line + 1}" for event in yaml.parse(template.text, yaml.SafeLoader)
               if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None)]
    holds(not aliases, aliases)


def bounds_every_role(template):
    for name, role in template.of_type("AWS::IAM::Role").items():
        boundary = role["Properties"].get("PermissionsBoundary", {})
        holds(boundary.get("Fn::If", [None])[0] == "HasBoundary", name)
        holds("ManagedPolicyArns" not in role["Properties"], name)


ALL = {
    "every alarm that the code raises has its filter and alarm": every_alarm_has_its_words,
    "the defaults work in a new account": works_in_a_new_account,
    "every parameter has a description and a group": has_a_form_for_people,
    "queues and event sources have their limits": has_the_limits_of_its_queues,
    "buckets are private, and take TLS only": keeps_buckets_private,
    "lifecycle rules name what expires": expires_only_what_may_go,
    "every wildcard has its reason in its name": names_its_wildcards,
    "what is dangerous is pinned": pins_what_is_dangerous,
    "every role can be bounded": bounds_every_role,
    "every role trusts one service": trusts_one_service_each,
    "a tick comes every minute": ticks_every_minute,
    "tasks of the own cluster that stop are heard of": hears_of_its_own_stopped_tasks,
    "the ledger is open to the roles that use it": keeps_the_ledger_to_its_roles,
    "every log is kept for a bounded time": ends_every_log,
    "the template has no YAML aliases": has_no_aliases,
}


def are_kept(world):
    template = Template(world.release / "template.yaml")
    for sentence, function in ALL.items():
        world.checks.check(sentence, function, template)
    from exemptions import NOT_ASKED  # which names functions of this file

    for (role, sid), (reason, assertion) in NOT_ASKED.items():
        world.checks.check(f"{sid} of {role} is right, though nothing asks it: {reason}", assertion, template, role, sid)

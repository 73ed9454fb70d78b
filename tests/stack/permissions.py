"""Whether the stack's roles allow what is needed, and nothing else: judged by the record of IAM decisions."""

from botocore.exceptions import ClientError

from checks import wait_for
from exemptions import ACTIONS_NOT_ASKED, ASKED_BY_THE_TEST, NOT_ASKED
from probes import Probes
from record import Record
from statements import Statements
import story

REGISTRY_SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:registry-AbCdEf"
ECR_REPOSITORY = "arn:aws:ecr:us-east-1:123456789012:repository/images"
# With these the statements that depend on parameters are there as well.
PARAMETERS = (f"RegistrySecretArns={REGISTRY_SECRET}", f"EcrRepositoryArns={ECR_REPOSITORY}")


def are_asked_and_needed(world):
    check = world.checks.check
    permissions = Permissions(world)
    check("no request of the functions was refused", permissions.refused_nothing)
    check("every statement has a name of its own", permissions.have_names)
    check("the functions asked every statement that is not exempt", permissions.were_asked)
    for statement in permissions.statements.all:
        if (statement.role, statement.sid) not in NOT_ASKED:
            answer = "refused" if statement.effect == "Allow" else "allowed"
            check(f"without {statement} its request is {answer}", permissions.is_needed, statement)
    check("every action that a statement allows was asked, or is exempt", permissions.have_no_spare_actions)
    check("all policies are as they were deployed", permissions.statements.are_as_deployed)
    check("the record shows what a function may not do, and what becomes of it", permissions.are_missed, world)
    check("an administrator cannot read the ledger", permissions.keep_administrators_out)


class Permissions:
    def __init__(self, world):
        self.world, self.cloud, self.stack = world, world.cloud, world.stack
        self.record = Record(world.cloud.record, world.sandbox.decisions)
        self.before = self.record.since()
        self.statements = Statements(world.cloud, world.stack)
        self.probes = Probes(world.cloud, world.stack, world.sandbox, REGISTRY_SECRET, ECR_REPOSITORY)

    def refused_nothing(self):
        roles = {statement.physical_role for statement in self.statements.all}
        refused = {decision for decision in self.before if decision.role in roles and not decision.allowed}
        assert not refused, refused

    def have_names(self):
        names = [(statement.role, statement.sid) for statement in self.statements.all]
        assert all(sid for _, sid in names) and len(set(names)) == len(names), names
        unknown = (set(NOT_ASKED) | set(ASKED_BY_THE_TEST)) - set(names)
        assert not unknown, f"exempt, and not in the template: {unknown}"

    def were_asked(self):
        allowed = {(decision.role, decision.sid) for decision in self.before if decision.allowed}
        exempt = set(NOT_ASKED) | set(ASKED_BY_THE_TEST)
        names = {(s.role, s.sid): (s.physical_role, s.sid) in allowed for s in self.statements.all}
        missing = [name for name, asked in names.items() if not asked and name not in exempt]
        needless = [name for name, asked in names.items() if asked and name in exempt]
        assert not missing and not needless, f"never asked: {missing}; exempt, but asked: {needless}"

    def have_no_spare_actions(self):
        asked = {(decision.role, decision.sid, decision.action) for decision in self.record.since()}
        spare = {(statement.role, statement.sid, action) for statement in self.statements.all
                 if (statement.role, statement.sid) not in NOT_ASKED
                 for action in self.statements.actions(statement)
                 if (statement.physical_role, statement.sid, action) not in asked}
        assert spare == set(ACTIONS_NOT_ASKED), f"not exempt, or exempt but asked: {spare ^ set(ACTIONS_NOT_ASKED)}"

    def is_needed(self, statement):
        """Its request is decided by it; taken out, the same request is decided otherwise."""
        like = [d for d in self.before if (d.role, d.sid) == (statement.physical_role, statement.sid)]
        normal = statement.effect == "Allow"
        decided = wait_for(f"a request that {statement} decides", lambda: self.decided(
            statement, like, lambda d: d.sid == statement.sid and d.allowed == normal), 10)
        with self.statements.without(statement):
            # The sandbox takes a changed policy within a second.
            wait_for(f"another answer without {statement}", lambda: self.decided(
                statement, like or decided, lambda d: d.sid != statement.sid and d.allowed != normal
                and d.action in {one.action for one in decided}), 10)

    def decided(self, statement, like, wanted):
        mark = self.record.mark()
        self.probes.send(statement, like)

        def seen():
            return [d for d in self.record.since(mark) if d.role == statement.physical_role and wanted(d)]
        # A task asks only when it starts, after the answer.
        try:
            return wait_for("the record", seen, 1, 0.05)
        except AssertionError:
            return []

    def are_missed(self, world):
        """The same through the functions themselves, where they ask at each request."""
        find = {(statement.role, statement.sid): statement for statement in self.statements.all}
        mark = self.record.mark()
        with self.statements.without(find["WebhookRole", "SendKnocks"]):
            status, _ = story.send_hook(world, story.hook_token(world.cloud, world.stack))
            assert status >= 500, f"the webhook answers {status} although it cannot send a knock"
            self.shows(mark, "WebhookRole", "sqs:SendMessage")
        mark = self.record.mark()
        with self.statements.without(find["BrokerRole", "ReadClaims"]):
            pipeline = world.sandbox.start_pipeline(ONLY="greet")
            self.shows(mark, "BrokerRole", "s3:GetObject")
        status, traces = world.sandbox.finished(pipeline)
        assert status == "success", f"put back, the job ends with {status}: {traces}"
        mark = self.record.mark()
        with self.statements.without(find["DispatcherRole", "RunTasks"]):
            pipeline = world.sandbox.start_pipeline(ONLY="greet")
            self.shows(mark, "DispatcherRole", "ecs:RunTask")
            status, traces = world.sandbox.finished(pipeline)
        assert status == "failed" and "not authorized" in traces["greet"], (status, traces)

    def shows(self, mark, role, action):
        physical = self.stack.resources[role]
        wait_for(f"a refusal of {action} for {role}", lambda: any(
            (d.role, d.action, d.allowed) == (physical, action, False) for d in self.record.since(mark)), 30)

    def keep_administrators_out(self):
        iam = self.cloud.client("iam")
        iam.create_user(UserName="administrator")
        everything = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
        iam.put_user_policy(UserName="administrator", PolicyName="everything", PolicyDocument=everything)
        key = iam.create_access_key(UserName="administrator")["AccessKey"]
        s3 = self.cloud.client("s3", None, (key["AccessKeyId"], key["SecretAccessKey"], None))
        s3.list_objects_v2(Bucket=self.stack.resources["Configuration"])
        for operation, arguments in ((s3.list_objects_v2, {}), (s3.get_object, {"Key": "lease"})):
            try:
                operation(Bucket=self.stack.resources["Ledger"], **arguments)
            except ClientError as error:
                assert error.response["Error"]["Code"] == "AccessDenied", error
            else:
                raise AssertionError("an administrator reads the ledger")

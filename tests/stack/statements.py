"""The statements of the stack's roles as they are deployed, and how one is taken out and put back."""

import json
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Statement:
    role: str  # the logical id
    physical_role: str
    policy: str
    sid: str
    effect: str

    def __str__(self):
        return f"{self.sid} of {self.role}"


class Statements:
    def __init__(self, cloud, stack):
        self.iam = cloud.client("iam")
        self.documents, self.all = {}, []
        for logical, physical in sorted(stack.resources.items()):
            if logical.endswith("Role"):
                self.read(logical, physical)

    def read(self, logical, physical):
        for policy in self.iam.list_role_policies(RoleName=physical)["PolicyNames"]:
            document = self.iam.get_role_policy(RoleName=physical, PolicyName=policy)["PolicyDocument"]
            self.documents[physical, policy] = document
            self.all += [Statement(logical, physical, policy, statement.get("Sid", ""), statement["Effect"])
                         for statement in document["Statement"]]

    def actions(self, statement):
        document = self.documents[statement.physical_role, statement.policy]
        actions = next(one["Action"] for one in document["Statement"] if one["Sid"] == statement.sid)
        return [actions] if isinstance(actions, str) else actions

    @contextmanager
    def without(self, statement):
        """The stack as if the template did not have `statement`."""
        whole = self.documents[statement.physical_role, statement.policy]
        rest = [other for other in whole["Statement"] if other.get("Sid") != statement.sid]
        assert len(rest) == len(whole["Statement"]) - 1, f"{statement} is not one statement"
        self.put(statement, {**whole, "Statement": rest})
        try:
            yield
        finally:
            self.put(statement, whole)

    def put(self, statement, document):
        self.iam.put_role_policy(RoleName=statement.physical_role, PolicyName=statement.policy,
                                 PolicyDocument=json.dumps(document))

    def are_as_deployed(self):
        for (role, policy), document in self.documents.items():
            now = self.iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            assert now == document, f"the policy {policy} of {role} was not put back"

"""The record of IAM decisions: ministack's and those of the sandbox's ECS, in one form."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    role: str  # the physical name
    action: str
    resource: str
    sid: str
    allowed: bool


class Record:
    def __init__(self, *files):
        self.files = files

    def mark(self):
        """A place in the record: what comes after it can be read alone."""
        return [file.stat().st_size for file in self.files]

    def since(self, mark=None):
        """All decisions after `mark`, file by file."""
        found = []
        for file, start in zip(self.files, mark or [0] * len(self.files)):
            with open(file, "rb") as text:
                text.seek(start)
                # A line that is being written has no end yet.
                lines = text.read().split(b"\n")[:-1]
            found += [decision(json.loads(line)) for line in lines]
        return found


def decision(line):
    kind, *names = line["principal"].split(":")[-1].split("/")
    role = names[0] if kind == "assumed-role" else names[-1] if kind == "role" else ""
    return Decision(role, line["action"], line["resource"], line["sid"] or "", line["decision"] == "Allow")

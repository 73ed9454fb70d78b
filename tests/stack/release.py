"""Makes another version of a release directory: the same programs, but an agent with other bytes."""

import hashlib
import json
import shutil
import zipfile


def agent_of(release):
    """The SHA-256 of the agent for amd64."""
    with zipfile.ZipFile(release / "dispatcher.zip") as package:
        return json.loads(package.read("agents.json"))["amd64"]


def with_another_agent(release, place):
    """Bytes behind the end of a program change its hash and nothing else."""
    shutil.copytree(release, place)
    old = agent_of(release)
    with zipfile.ZipFile(release / "broker.zip") as package:
        agent = package.read(f"agents/{old}") + b"\nanother version"
    new = hashlib.sha256(agent).hexdigest()
    for name in ("dispatcher.zip", "broker.zip"):
        rewrite(release / name, place / name, old, new, agent)
    return new


def rewrite(source, target, old, new, agent):
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as after:
        for entry in before.infolist():
            content = before.read(entry)
            if entry.filename == "agents.json":
                content = json.dumps({**json.loads(content), "amd64": new}).encode()
            elif entry.filename == f"agents/{old}":
                entry.filename, content = f"agents/{new}", agent
            after.writestr(entry, content)

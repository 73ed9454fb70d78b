"""`mayfly sandbox`: the GitLab and the ECS that the deployed stack meets, and GitLab's API for the test."""

import json
import select
import subprocess

from checks import wait_for
from cloud import ACCOUNT, REGION, ROOT
from servers import Server, request

FINISHED = ("success", "failed", "canceled", "skipped")


class Sandbox:
    def __init__(self, program, room, cloud, stack, project):
        self.decisions = room / "decisions-ecs.jsonl"
        self.decisions.touch()
        callers = [f"--caller={stack.arns[name]}={stack.roles[name]}" for name in ("Dispatcher", "Broker")]
        command = [
            program, "sandbox", "--json", "--project", project, "--region", REGION, "--account", ACCOUNT,
            "--cluster", stack.outputs["Cluster"], "--aws-endpoint", cloud.endpoint,
            "--stops-queue", stack.queue_url("Stops"), "--iam", cloud.endpoint, "--decisions", self.decisions, *callers]
        self.server = Server(command, room / "sandbox.log", {**ROOT, "TMPDIR": str(room)}, stdout=subprocess.PIPE)
        ready, _, _ = select.select([self.server.process.stdout], [], [], 60)
        line = self.server.process.stdout.readline() if ready else b""
        assert line, f"`mayfly sandbox` does not start: see {self.server.log}"
        self.ready = json.loads(line)
        assert "error" not in self.ready, self.ready
        self.gitlab, self.ecs = self.ready["gitlab"].rstrip("/"), self.ready["ecs"].rstrip("/")

    def call(self, path, body=None):
        """GitLab's API, as the project's owner."""
        headers = {"PRIVATE-TOKEN": self.ready["private_token"], "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.gitlab}/api/v4/{path.replace(':project', str(self.ready['project']))}"
        status, text = request(url, "GET" if body is None else "POST", headers, data)
        assert status < 300, f"GitLab answers {status} to {path}: {text}"
        return text

    def add_hook(self, url, token):
        self.call("projects/:project/hooks", {"url": url, "token": token, "job_events": True, "pipeline_events": True})

    def start_pipeline(self, **variables):
        variables = [{"key": key, "value": value} for key, value in variables.items()]
        answer = self.call("projects/:project/pipeline", {"ref": self.ready["branch"], "variables": variables})
        return json.loads(answer)["id"]

    def jobs(self, pipeline):
        """The jobs of a pipeline by their names."""
        found = json.loads(self.call(f"projects/:project/pipelines/{pipeline}/jobs"))
        return {job["name"]: job for job in found}

    def trace(self, job):
        return self.call(f"projects/:project/jobs/{job['id']}/trace")

    def finished(self, pipeline, seconds=120):
        """Waits for a pipeline's end and returns its status, with the logs of all jobs."""
        def ended():
            status = json.loads(self.call(f"projects/:project/pipelines/{pipeline}"))["status"]
            return status if status in FINISHED else None

        def traces():
            return {name: self.trace(job) for name, job in self.jobs(pipeline).items()}

        try:
            return wait_for(f"the end of pipeline {pipeline}", ended, seconds), traces()
        except AssertionError as error:
            raise AssertionError(f"{error}; the jobs' logs: {traces()}") from None

    def end(self):
        self.server.end()
        if self.server.process.stdout:
            self.server.process.stdout.close()



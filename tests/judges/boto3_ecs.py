"""Registers, runs, watches and retires one task with boto3, which knows nothing of Mayfly.

usage: boto3_ecs.py ENDPOINT CLUSTER
"""

import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, cluster = sys.argv[1:]
ecs = boto3.client(
    "ecs",
    endpoint_url=endpoint,
    region_name="eu-central-1",
    aws_access_key_id="AKIASANDBOX",
    aws_secret_access_key="secret",
    config=Config(retries={"total_max_attempts": 1}),
)


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        got = error.response["Error"]["Code"]
        assert got == code, f"{got} instead of {code}: {error}"
        return error.response
    raise AssertionError(f"{code} was expected")


def container(name, script):
    return {
        "name": name,
        "image": f"{name}:1",
        "entryPoint": ["sh", "-c"],
        "command": [script],
        "stopTimeout": 2,
        "environment": [{"name": "MAYFLY_AGENT_DIR", "value": "/mayfly"}],
        "mountPoints": [{"sourceVolume": "agent", "containerPath": "/mayfly"}],
    }


definition = {
    "family": "mayfly-judge",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
    "cpu": "256",
    "memory": "512",
    "volumes": [{"name": "agent"}],
    "containerDefinitions": [
        container("helper", "echo $SAY > $MAYFLY_AGENT_DIR/new; mv $MAYFLY_AGENT_DIR/new $MAYFLY_AGENT_DIR/said; sleep 1000"),
        container("build", "until test -f $MAYFLY_AGENT_DIR/said; do sleep 0.02; done; exit $(cat $MAYFLY_AGENT_DIR/said)"),
    ],
}
refused("ClientException", ecs.register_task_definition, **{**definition, "memory": "4096"})
registered = ecs.register_task_definition(**definition)["taskDefinition"]
assert registered["revision"] == 1 and registered["status"] == "ACTIVE", registered
assert registered["registeredAt"].year > 2000

run = {
    "cluster": cluster,
    "taskDefinition": "mayfly-judge",
    "launchType": "FARGATE",
    "clientToken": "judge-1",
    "startedBy": "judge/1",
    "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": "ENABLED"}},
    "overrides": {"containerOverrides": [{"name": "helper", "environment": [{"name": "SAY", "value": "42"}]}]},
}
answer = ecs.run_task(**run)
assert answer["failures"] == [], answer
task = answer["tasks"][0]
assert ecs.run_task(**run)["tasks"][0]["taskArn"] == task["taskArn"], "the token is honoured"
conflict = refused("ConflictException", ecs.run_task, **{**run, "startedBy": "judge/2"})
assert conflict["resourceIds"] == [task["taskArn"]], conflict

deadline = time.monotonic() + 60
versions = [task["version"]]
while task["lastStatus"] != "STOPPED":
    assert time.monotonic() < deadline, task
    time.sleep(0.05)
    task = ecs.describe_tasks(cluster=cluster, tasks=[task["taskArn"]])["tasks"][0]
    versions.append(task["version"])
codes = {container["name"]: container.get("exitCode") for container in task["containers"]}
assert codes == {"build": 42, "helper": 143}, task
assert task["stopCode"] == "EssentialContainerExited", task
assert versions == sorted(versions) and versions[-1] > versions[0], versions
assert task["createdAt"] <= task["startedAt"] <= task["stoppingAt"] <= task["stoppedAt"], task

pages = ecs.get_paginator("list_tasks").paginate(cluster=cluster, desiredStatus="STOPPED")
assert [arn for page in pages for arn in page["taskArns"]] == [task["taskArn"]]
missing = ecs.describe_tasks(cluster=cluster, tasks=["0" * 32])
assert missing["failures"][0]["reason"] == "MISSING", missing
refused("ClusterNotFoundException", ecs.list_tasks, cluster="other")
refused("InvalidParameterException", ecs.stop_task, cluster=cluster, task="0" * 32)
refused("ClientException", ecs.describe_task_definition, taskDefinition="nobody")
ecs.deregister_task_definition(taskDefinition="mayfly-judge:1")
deleted = ecs.delete_task_definitions(taskDefinitions=["mayfly-judge:1"])
assert deleted["taskDefinitions"][0]["status"] == "DELETE_IN_PROGRESS", deleted
assert ecs.list_task_definitions()["taskDefinitionArns"] == []
print("judged")

"""What the stack's ledger holds, read as the account's root, which its policy does not bind here."""

import json


def keys(cloud, stack, prefix):
    pages = cloud.client("s3").get_paginator("list_objects_v2").paginate(
        Bucket=stack.resources["Ledger"], Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def record(cloud, stack, job):
    """The record of a job by its number in GitLab; `None` if there is none."""
    for key in keys(cloud, stack, "records/"):
        if key.split("/")[-1] == str(job):
            return json.loads(cloud.client("s3").get_object(Bucket=stack.resources["Ledger"], Key=key)["Body"].read())
    return None


def agent_of_task(record):
    """The SHA-256 of the agent that the job's task was told to fetch."""
    environments = [dict(container["environment"]) for container in record["attempt"]["run_task"]["containers"]]
    return next(one["MAYFLY_AGENT_SHA256"] for one in environments if "MAYFLY_AGENT_SHA256" in one)

"""The deployed stack: how it is deployed, and what is in it."""

import json
import os
import subprocess

from cloud import ROOT, function_key

FUNCTIONS = ("Webhook", "Dispatcher", "Broker")


class Stack:
    def __init__(self, cloud, room, name="mayfly"):
        self.cloud, self.room, self.name = cloud, room, name
        self.functions, self.lambda_ = cloud.client("lambda"), None

    def deploy(self, release, *parameters):
        """`sam deploy` in the release directory, as the README says, without questions."""
        command = ["sam", "deploy", "--no-confirm-changeset", "--no-progressbar", "--stack-name", self.name]
        if parameters:
            command += ["--parameter-overrides", *parameters]
        environment = {**os.environ, **ROOT, "AWS_ENDPOINT_URL": self.cloud.endpoint, "SAM_CLI_TELEMETRY": "0",
                       "SAM_CLI_POLL_DELAY": "1", "HOME": str(self.room)}
        done = subprocess.run(command, cwd=release, env=environment, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        with open(self.room / "sam.log", "a") as log:
            log.write(done.stdout)
        assert done.returncode == 0, f"sam deploy failed:\n{done.stdout[-3000:]}"
        self.read()

    def read(self):
        formation = self.cloud.client("cloudformation")
        description = formation.describe_stacks(StackName=self.name)["Stacks"][0]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in description.get("Outputs", [])}
        pages = formation.get_paginator("list_stack_resources").paginate(StackName=self.name)
        self.resources = {resource["LogicalResourceId"]: resource["PhysicalResourceId"]
                          for page in pages for resource in page["StackResourceSummaries"]}
        configured = {name: self.functions.get_function_configuration(FunctionName=self.resources[name])
                      for name in FUNCTIONS}
        self.arns = {name: configuration["FunctionArn"] for name, configuration in configured.items()}
        self.roles = {name: configuration["Role"] for name, configuration in configured.items()}

    def queue_url(self, logical_id):
        return self.resources[logical_id]

    def key(self, function):
        """The credentials of one function."""
        return function_key(self.arns[function], self.roles[function])

    def set_variables(self, variables):
        """Adds variables to all functions, as if the SDK had been told from outside where AWS is."""
        for name in FUNCTIONS:
            old = self.functions.get_function_configuration(FunctionName=self.resources[name])
            new = {**old["Environment"]["Variables"], **variables}
            self.functions.update_function_configuration(
                FunctionName=self.resources[name], Environment={"Variables": new})

    def log(self, function):
        """What a function has logged, line by line."""
        logs = self.cloud.client("logs")
        found = logs.filter_log_events(logGroupName=self.resources[f"{function}Logs"])
        return [event["message"] for event in found["events"]]

    def waiting(self, logical_id):
        """How many messages are in a queue, waiting or being worked on."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible",
                 "ApproximateNumberOfMessagesDelayed"]
        found = self.cloud.client("sqs").get_queue_attributes(QueueUrl=self.queue_url(logical_id), AttributeNames=names)
        return sum(int(found["Attributes"].get(name, 0)) for name in names)

    def tick(self):
        body = json.dumps({"event": "tick"})
        self.cloud.client("sqs").send_message(QueueUrl=self.queue_url("Queue"), MessageBody=body)

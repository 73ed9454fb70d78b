"""Requests with the credentials of the stack's own functions: the same that the functions have made.

A removed statement is looked for with such a request, because a warm function keeps secrets for five minutes, and a
restarted one would take minutes for all statements. The request meets the same service and the same evaluation.
"""

import json

from botocore.exceptions import ClientError

FUNCTION_OF = {"WebhookRole": "Webhook", "DispatcherRole": "Dispatcher", "BrokerRole": "Broker"}
# Of the actions of a statement, the one that changes least.
HARMLESS_FIRST = ("Get", "Describe", "List", "Send", "Pass", "Register", "Run", "Stop")


class Probes:
    def __init__(self, cloud, stack, sandbox, registry_secret, ecr_repository):
        self.cloud, self.stack, self.sandbox = cloud, stack, sandbox
        self.registry_secret, self.image = registry_secret, ecr_image(ecr_repository)
        self.definition = None

    def client(self, service, function):
        endpoint = self.sandbox.ecs if service == "ecs" else None
        return self.cloud.client(service, endpoint, self.stack.key(function))

    def send(self, statement, decisions):
        """Makes a request that `statement` decides, like one of `decisions`. Refusals are for the record to show."""
        try:
            if statement.role == "ExecutionRole":
                return self.run_task()
            if statement.sid == "NoShellsInTasks":
                return self.run_task(enableExecuteCommand=True)
            if statement.sid == "ReadServiceLogs":
                return self.read_service_log()
            chosen = min(decisions, key=lambda decision: rank(decision.action))
            service, operation = chosen.action.split(":")
            return getattr(self, f"{service}_{operation}")(FUNCTION_OF[statement.role], chosen.resource)
        except ClientError as error:
            # 404: the request was allowed, there is only no such object.
            return error.response["Error"]["Code"]

    def secretsmanager_GetSecretValue(self, function, resource):
        self.client("secretsmanager", function).get_secret_value(SecretId=resource)

    def sqs_SendMessage(self, function, resource):
        url = self.stack.queue_url("Queue")
        assert resource.split(":")[-1] == url.split("/")[-1], resource
        # The dispatcher takes what it does not know from the queue.
        self.client("sqs", function).send_message(QueueUrl=url, MessageBody='{"event": "nothing"}')

    def s3_GetObject(self, function, resource):
        bucket, key = resource.split(":::")[1].split("/", 1)
        self.client("s3", function).get_object(Bucket=bucket, Key=key)

    def s3_ListBucket(self, function, resource):
        self.client("s3", function).list_objects_v2(Bucket=resource.split(":::")[1], MaxKeys=1)

    def ecs_DescribeTaskDefinition(self, function, _resource):
        self.client("ecs", function).describe_task_definition(taskDefinition=f"{self.stack.name}-stack-test")

    def ecs_RegisterTaskDefinition(self, function, _resource):
        self.client("ecs", function).register_task_definition(**self.a_definition())

    def ecs_RunTask(self, _function, _resource):
        self.run_task()

    def iam_PassRole(self, _function, _resource):
        self.run_task()

    def ecs_DescribeTasks(self, function, resource):
        self.client("ecs", function).describe_tasks(cluster=self.stack.outputs["Cluster"], tasks=[resource])

    def read_service_log(self):
        logs = self.cloud.client("logs", self.sandbox.ecs, self.stack.key("Broker"))
        logs.get_log_events(logGroupName=self.stack.resources["TaskLogs"], logStreamName="svc-0/svc-0/none")

    def run_task(self, **more):
        """A task that needs everything that ECS can do for one: secret, environment file, registry, ECR, logs."""
        ecs = self.client("ecs", "Dispatcher")
        if not self.definition:
            registered = ecs.register_task_definition(**self.a_definition())
            self.definition = registered["taskDefinition"]["taskDefinitionArn"]
            self.client("s3", "Dispatcher").put_object(Bucket=self.stack.resources["Ledger"], Key=self.file, Body=b"A=b\n")
        subnets = json.loads(self.variables()["MAYFLY_STACK"])["tasks"]
        network = {"subnets": subnets["subnets"], "securityGroups": subnets["security_groups"], "assignPublicIp": "ENABLED"}
        file = {"type": "s3", "value": f"arn:aws:s3:::{self.stack.resources['Ledger']}/{self.file}"}
        ecs.run_task(
            cluster=self.stack.outputs["Cluster"], taskDefinition=self.definition, count=1,
            capacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1}],
            networkConfiguration={"awsvpcConfiguration": network},
            overrides={"containerOverrides": [{"name": "svc-0", "environmentFiles": [file]}]}, **more)

    file = "services/stack-test/svc-0.env"

    def variables(self):
        name = self.stack.resources["Dispatcher"]
        return self.stack.functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]

    def a_definition(self):
        stack = self.stack
        launch_key = json.loads(self.variables()["MAYFLY_STACK"])["tasks"]["launch_key"]
        logs = {"awslogs-group": stack.resources["TaskLogs"], "awslogs-region": "us-east-1",
                "awslogs-stream-prefix": "svc-0"}
        container = {
            "name": "svc-0", "image": self.image, "essential": True, "entryPoint": ["true"], "memory": 256,
            "secrets": [{"name": "LAUNCH_KEY", "valueFrom": launch_key}],
            "logConfiguration": {"logDriver": "awslogs", "options": logs}}
        private = {"name": "svc-1", "image": "registry.example.com/image", "essential": False, "entryPoint": ["true"],
                   "repositoryCredentials": {"credentialsParameter": self.registry_secret}}
        return {
            "family": f"{stack.name}-stack-test", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
            "cpu": "256", "memory": "512", "executionRoleArn": self.execution_role(),
            "containerDefinitions": [container, private]}

    def execution_role(self):
        return json.loads(self.variables()["MAYFLY_STACK"])["tasks"]["execution_role"]


def rank(action):
    name = action.split(":")[1]
    return next((place for place, word in enumerate(HARMLESS_FIRST) if name.startswith(word)), len(HARMLESS_FIRST))


def ecr_image(repository):
    _, _, _, region, account, name = repository.split(":", 5)
    return f"{account}.dkr.ecr.{region}.amazonaws.com/{name.split('/', 1)[1]}:latest"

"""What happens to a stack in its life: deployed, set up, used, upgraded, changed."""

import json

from checks import wait_for
from fleet import hook_token, put_fleet, put_token
from ledger import agent_of_task, keys, record
from release import agent_of, with_another_agent
from sandbox import Sandbox
from servers import request


def deploys(world):
    world.checks.need("the release directory is deployed without a compiler", world.stack.deploy, world.release, *world.parameters)
    # The functions are told where ECS is after the deployment, as nothing of this belongs into the template.
    world.sandbox = world.checks.need("the sandbox takes the stack's roles", start_sandbox, world)
    variables = {"AWS_ENDPOINT_URL_ECS": world.sandbox.ecs, "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": world.sandbox.ecs}
    world.checks.need("the functions find their ECS", world.stack.set_variables, variables)


def start_sandbox(world):
    return Sandbox(world.mayfly, world.room, world.cloud, world.stack, world.project.directory)


def is_not_set_up_yet(world):
    check = world.checks.check
    check("ticks before the setup are taken and dropped", drops_ticks, world)
    check("a hook with the generated token is taken before the setup", takes_hooks, world)
    check("a hook with another token is refused", refuses_hooks, world)
    check("the broker answers 503 before the setup and says what to do", asks_for_the_setup, world)


def drops_ticks(world):
    world.stack.tick()
    wait_for("the tick to be dropped", lambda: has_logged(world, "Dispatcher", "not set up yet"), 60)
    wait_for("an empty queue", lambda: world.stack.waiting("Queue") == 0)
    has_no_dead_letters(world)


def has_logged(world, function, text):
    return any(text in line for line in world.stack.log(function))


def send_hook(world, token):
    url = world.cloud.function_url(world.stack.outputs["WebhookUrl"])
    body = json.dumps({"object_kind": "build", "build_status": "pending", "build_id": 1}).encode()
    headers = {"Content-Type": "application/json", "X-Gitlab-Event": "Job Hook", "X-Gitlab-Token": token}
    return request(url, "POST", headers, body)


def takes_hooks(world):
    answer = send_hook(world, hook_token(world.cloud, world.stack))
    assert answer[0] == 200, answer


def refuses_hooks(world):
    answer = send_hook(world, "not-the-token")
    assert answer[0] == 401, answer


def asks_for_the_setup(world):
    url = world.cloud.function_url(world.stack.outputs["BrokerUrl"])
    status, text = request(f"{url}/agent/{'0' * 64}")
    assert status == 503 and "aws s3 cp fleet.toml s3://" in text, (status, text)


def runs_a_pipeline(world):
    world.checks.need("fleet.toml, the runner's token and the webhook are put in their places", set_up, world)
    world.checks.need("two jobs with cache and artifacts are green", two_jobs, world, "nothing")
    world.checks.check("a second pipeline finds the first one's cache", two_jobs, world, "42")
    world.checks.check("the stopped tasks close their jobs' records", stopped_tasks_are_settled, world)
    world.checks.check("jobs that have ended leave no claim and no message", leaves_nothing, world)


def set_up(world):
    put_fleet(world.cloud, world.stack, world.sandbox.gitlab)
    put_token(world.cloud, world.stack, world.sandbox.ready["runner_token"])
    # A hook in the two seconds for which a missing document counts is dropped, and the first job would wait for a tick.
    wait_for("the dispatcher to read the fleet", lambda: reads_fleet(world), 30, 0.5)
    hook = world.cloud.function_url(world.stack.outputs["WebhookUrl"])
    world.sandbox.add_hook(hook, hook_token(world.cloud, world.stack))


def reads_fleet(world):
    world.stack.tick()
    return has_logged(world, "Dispatcher", "read the fleet configuration")


def two_jobs(world, cached):
    """Returns the pipeline."""
    pipeline = world.sandbox.start_pipeline()
    status, traces = world.sandbox.finished(pipeline)
    assert status == "success", (status, traces)
    assert f"cached before - {cached}" in traces["build"], traces["build"]
    return pipeline


def record_of(world, pipeline, job):
    return record(world.cloud, world.stack, world.sandbox.jobs(pipeline)[job]["id"])


def stopped_tasks_are_settled(world):
    """A tick closes the record of a job that has ended, too. How its task stopped is only in the event."""
    pipeline = two_jobs(world, "42")

    def settled(job):
        found = record_of(world, pipeline, job)
        return found if found and found["phase"] == "settled" else None

    records = [wait_for(f"the end of the record of `{job}`", lambda: settled(job)) for job in ("build", "test")]
    assert all(found["tasks_started"] == 1 for found in records), records
    # A tick may come between the end of a job and the event, but not for both jobs.
    codes = [(found["stopped"] or {}).get("stop_code") for found in records]
    assert "EssentialContainerExited" in codes, f"no event of a stopped task has arrived: {codes}"


def ends(world):
    world.checks.check("after all of this no job is left, and no message is dead", leaves_nothing, world)


def leaves_nothing(world):
    wait_for("a ledger without claims", lambda: not keys(world.cloud, world.stack, "claims/"), 90)
    wait_for("an empty queue of stopped tasks", lambda: world.stack.waiting("Stops") == 0, 60)
    has_no_dead_letters(world)


def has_no_dead_letters(world):
    for letters in ("QueueDeadLetters", "StopsDeadLetters"):
        assert world.stack.waiting(letters) == 0, f"{letters} has messages"


def upgrades(world):
    world.checks.check("a job that runs during an upgrade keeps its agent and ends well", upgrade, world)


def upgrade(world):
    gate = world.room / "gate"
    gate.mkdir()
    pipeline = world.sandbox.start_pipeline(ONLY="long", GATE=str(gate))
    wait_for("the long job", (gate / "runs").exists)
    world.stack.tick()
    wait_for("a look at the running task", lambda: "ecs:DescribeTasks" in world.sandbox.decisions.read_text())
    old, new = agent_of(world.release), with_another_agent(world.release, world.room / "release-2")
    world.stack.deploy(world.room / "release-2", *world.parameters)
    # The deployment has put the variables back to the template's.
    ecs = world.sandbox.ecs
    world.stack.set_variables({"AWS_ENDPOINT_URL_ECS": ecs, "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": ecs})
    (gate / "go").touch()
    status, traces = world.sandbox.finished(pipeline)
    assert status == "success", (status, traces)
    after = two_jobs(world, "42")
    used = [agent_of_task(record_of(world, *job)) for job in ((pipeline, "long"), (after, "build"), (after, "test"))]
    assert used == [old, new, new], f"expected {old}, then {new} twice: {used}"
    bucket = world.stack.outputs["ConfigurationBucket"]
    listed = world.cloud.client("s3").list_objects_v2(Bucket=bucket, Prefix="agents/")
    agents = {entry["Key"] for entry in listed["Contents"]}
    assert agents == {f"agents/{old}", f"agents/{new}"}, agents


def changes_the_fleet(world):
    world.checks.check("a change of fleet.toml is in force within a minute and without a restart", change_fleet, world)


def change_fleet(world):
    put_fleet(world.cloud, world.stack, world.sandbox.gitlab, greeting="welcome")

    def greeted():
        status, traces = world.sandbox.finished(world.sandbox.start_pipeline(ONLY="greet"))
        assert status == "success", (status, traces)
        return "greeting of the fleet - welcome" in traces["greet"]

    wait_for("the new greeting", greeted, 75)
    assert has_logged(world, "Dispatcher", "`settings` changed"), "the change is not in the log"

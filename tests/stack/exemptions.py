"""Statements that the functions of a pipeline do not ask for here, each with its reason.

Those of NOT_ASKED are asked by nothing at all: `template_checks.py` holds what they must say. Those of ASKED_BY_THE_TEST
are asked by requests that the test makes with the role's own credentials. ACTIONS_NOT_ASKED are parts of statements that
are asked for something else.
"""

from template_checks import (
    log_is_written_to_the_own_group, messages_of_both_event_sources, missing_objects_are_told, ticks_go_to_the_queue)

LOGS = "ministack writes the logs of functions itself, and asks no policy"
LISTING = "it only changes S3's answer for a missing object from 403 to 404; ministack answers 404 to everybody"

NOT_ASKED = {
    ("WebhookRole", "WriteLog"): (LOGS, log_is_written_to_the_own_group),
    ("DispatcherRole", "WriteLog"): (LOGS, log_is_written_to_the_own_group),
    ("BrokerRole", "WriteLog"): (LOGS, log_is_written_to_the_own_group),
    ("DispatcherRole", "ReceiveMessages"): (
        "ministack's event source mapping takes messages without asking the function's role",
        messages_of_both_event_sources),
    ("TickRole", "SendTicks"): ("ministack's Scheduler sends without asking its role", ticks_go_to_the_queue),
    ("DispatcherRole", "TellMissingFleet"): (LISTING, missing_objects_are_told),
    ("BrokerRole", "TellMissingObjects"): (LISTING, missing_objects_are_told),
}

SERVICES = "tasks are processes here, and services need images"

ASKED_BY_THE_TEST = {
    ("DispatcherRole", "NoShellsInTasks"): "Mayfly never asks for a shell; the test does, and is refused",
    ("ExecutionRole", "ReadServiceEnvironment"): SERVICES,
    ("ExecutionRole", "FindServiceEnvironment"): SERVICES,
    ("BrokerRole", "ReadServiceLogs"): SERVICES,
    ("ExecutionRole", "ReadRegistryCredentials"): "no private registry is in reach",
    ("ExecutionRole", "EcrTokenHasNoResources"): "no ECR is in reach",
    ("ExecutionRole", "PullFromEcr"): "no ECR is in reach",
}

ACTIONS_NOT_ASKED = {
    ("DispatcherRole", "WatchAndStopTasks", "ecs:StopTask"): (
        "a task is stopped when its job was canceled and its agent did not end it within a minute"),
    ("BrokerRole", "SignCacheUrls", "s3:AbortMultipartUpload"): "an upload is aborted when a job dies while it uploads",
}

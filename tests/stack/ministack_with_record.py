"""Runs ministack with a record of each IAM decision: one line of JSON in the file that MAYFLY_RECORD names.

Resource policies pass through the same evaluator as the policies of roles. Only a decision about the whole of a request
is written: the outer call, which knows both.
"""

import json
import os

import ministack.app as app
from ministack.core import iam_evaluator
from ministack.services import lambda_svc

RECORD = open(os.environ["MAYFLY_RECORD"], "a", buffering=1)


def recorded(evaluate):
    """The policies of the role (and no limits) are what is evaluated first for a request."""
    def wrapped(context, policies, *limits):
        result = evaluate(context, policies, *limits)
        line = {"principal": context.principal_arn, "action": context.action, "resource": context.resource_arn,
                "sid": result.matched_sid, "decision": result.decision}
        RECORD.write(json.dumps(line) + "\n")
        return result
    return wrapped


def without_record(evaluate_resource_policy, plain):
    """A resource policy that allows nothing is no refusal; one that denies is."""
    def wrapped(document, context, *arguments, **options):
        inner, iam_evaluator.evaluate = iam_evaluator.evaluate, plain
        try:
            result = evaluate_resource_policy(document, context, *arguments, **options)
        finally:
            iam_evaluator.evaluate = inner
        if result.decision == "Deny":
            line = {"principal": context.principal_arn, "action": context.action, "resource": context.resource_arn,
                    "sid": result.matched_sid, "decision": "Deny", "by": "resource policy"}
            RECORD.write(json.dumps(line) + "\n")
        return result
    return wrapped


def over_tls(pin_request_origin):
    """Everything here is plain HTTP on loopback: without this the buckets' TLS-only policies deny all of it."""
    return lambda address, _secure: pin_request_origin(address, True)


def as_number(concurrency):
    """A parameter of the type Number arrives as text here (ministack 1.5.33), and its poller stops at that."""
    return lambda *arguments: int(concurrency(*arguments))


# The resource policies first: they are evaluated by what is then wrapped.
iam_evaluator.evaluate_resource_policy = without_record(
    iam_evaluator.evaluate_resource_policy, iam_evaluator.evaluate)
iam_evaluator.evaluate = recorded(iam_evaluator.evaluate)
app.pin_request_origin = over_tls(app.pin_request_origin)
lambda_svc._sqs_esm_concurrency = as_number(lambda_svc._sqs_esm_concurrency)
app.main()

"""Decides IAM requests with ministack's evaluator; a program, because ministack has an environment of its own.

Reads from standard input a JSON object of the role's `policies` (documents), the
`resource_policies` (documents, by the ARN they stand on) and `requests` (objects of `action`,
`resource` and `context`), and writes one decision per request, as AWS names them.
"""

import json
import sys

from ministack.core.iam_evaluator import EvalContext, evaluate, evaluate_resource_policy, parse_policy_document

DECISIONS = {"Allow": "allowed", "Deny": "explicitDeny", "ImplicitDeny": "implicitDeny"}


def main() -> None:
    asked = json.load(sys.stdin)
    policies = [parse_policy_document(document) for document in asked["policies"]]
    decisions = []
    for request in asked["requests"]:
        context = EvalContext(
            principal_arn=asked["role"],
            principal_type="AssumedRole",
            principal_account=asked["role"].split(":")[4],
            action=request["action"],
            resource_arn=request["resource"],
            region=asked["region"],
            service_context={key.lower(): value for key, value in request["context"].items()},
        )
        by_resource = evaluate_resource_policy(asked["resource_policies"].get(request["resource"]), context)
        denied = by_resource.decision == "Deny"
        decisions.append(DECISIONS["Deny" if denied else evaluate(context, policies).decision])
    json.dump(decisions, sys.stdout)


if __name__ == "__main__":
    main()

"""An account of AWS's as its documents describe it: clients of the real SDK, whose answers are a table.

What is asked for is checked against the service's model before, and what is answered after, as on the wire. An
operation that is not in the table is refused, as by a policy.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import boto3
import botocore.loaders
import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.validate import ParamValidator

LOADER: Final = botocore.loaders.create_loader(botocore.session.get_session().get_config_variable("data_path"))
"""Keeps the services' models, which take long to read."""
REGION: Final = "us-east-1"
ZONES: Final = [f"{REGION}{letter}" for letter in "abcdef"]
ENDPOINT_SERVICES: Final = {"lambda": ZONES, "secretsmanager": ZONES, "ssm": ZONES}

Answer = Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]]


def refusal(code: str, message: str = "") -> dict[str, Any]:
    """Return the answer that makes the SDK raise a ClientError."""
    return {"Error": {"Code": code, "Message": message or code}}


def stack(name: str, status: str, *, protected: bool = False, owner: str = "") -> dict[str, Any]:
    """Return a stack as DescribeStacks does, of the copy of the repository that owns it."""
    created = datetime(2026, 11, 1, tzinfo=UTC)
    return {
        "StackName": name,
        "CreationTime": created,
        "StackStatus": status,
        "EnableTerminationProtection": protected,
        "Parameters": [{"ParameterKey": "Owner", "ParameterValue": owner}] if owner else [],
    }


def stacks(**statuses: str) -> Answer:
    """Answer DescribeStacks with the state of each of dev's stacks by name, as Network="CREATE_COMPLETE"."""

    def answer(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        if "StackName" not in asked:
            return {"Stacks": [stack(f"demoApp-dev-{name}", status) for name, status in statuses.items()]}
        name = str(asked["StackName"])
        status = statuses.get(name.rpartition("-")[2])
        missing = refusal("ValidationError", f"Stack with id {name} does not exist")
        return {"Stacks": [stack(name, status)]} if status else missing

    return answer


def paged(key: str, *pages: list[dict[str, Any]], marker: str = "NextToken") -> Answer:
    """Answer a page for each call, with the number of the next in the answer's marker."""

    def answer(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        number = int(asked.get(marker, 0))
        following = {marker: str(number + 1)} if number + 1 < len(pages) else {}
        return {key: pages[number], **following}

    return answer


def endpoint_services(served: Mapping[str, list[str]]) -> Answer:
    """Answer DescribeVpcEndpointServices, which refuses a name that it does not know and filters by names it does.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVpcEndpointServices.html
    """
    details = {
        f"com.amazonaws.{REGION}.{name}": {"ServiceName": f"com.amazonaws.{REGION}.{name}", "AvailabilityZones": zones}
        for name, zones in served.items()
    }

    def answer(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        if unknown := set(asked.get("ServiceNames", [])) - set(details):
            return refusal("InvalidServiceName", f"The Vpc Endpoint Service '{unknown.pop()}' does not exist")
        names = [value for each in asked.get("Filters", []) for value in each["Values"]] or list(details)
        return {"ServiceDetails": [details[name] for name in names if name in details]}

    return answer


def orderable(zones: list[str] = ZONES, versions: tuple[str, ...] = ("8.0.43", "8.4.6"), **values: Any) -> Answer:
    """Answer DescribeOrderableDBInstanceOptions with an option for each version, in these zones."""
    option = {"MultiAZCapable": True, "AvailabilityZones": [{"Name": zone} for zone in zones], **values}
    return {"OrderableDBInstanceOptions": [{**option, "EngineVersion": version} for version in versions]}


HEALTHY: Final[Mapping[str, Answer]] = {
    "sts.GetCallerIdentity": {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/a", "UserId": "A"},
    "cloudformation.DescribeStacks": stacks(),
    "ssm.GetParameter": {"Parameter": {"Value": "30"}},
    "ssm.GetParameters": {"Parameters": []},
    "lambda.GetAccountSettings": {"AccountLimit": {"UnreservedConcurrentExecutions": 1000}},
    "logs.DescribeLogGroups": {"logGroups": []},
    "rds.DescribeDBInstances": {"DBInstances": []},
    "rds.DescribeOrderableDBInstanceOptions": orderable(),
    "ec2.DescribeAvailabilityZones": {
        "AvailabilityZones": [{"ZoneName": zone, "State": "available"} for zone in ZONES]
    },
    "ec2.DescribeSubnets": {"Subnets": []},
    "ec2.DescribeVpcEndpointServices": endpoint_services(ENDPOINT_SERVICES),
    "freetier.GetAccountPlanState": refusal("ResourceNotFoundException"),
    "iam.ListOpenIDConnectProviders": {"OpenIDConnectProviderList": []},
}
"""A new environment's account, in which nothing stops a deploy."""


def session(**changed: Answer) -> Any:
    """Return a boto3 session of the healthy account with other answers, as `ec2__DescribeSubnets={...}`."""
    answers = {**HEALTHY, **{name.replace("__", "."): answer for name, answer in changed.items()}}
    core = botocore.session.get_session()
    core.register_component("data_loader", LOADER)
    made = boto3.Session("AKIATEST", "secret", region_name=REGION, botocore_session=core)

    def keep(params: Any, model: Any, context: dict[str, Any], **_: Any) -> None:
        context["asked"] = dict(params)

    def answered(model: Any, context: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        name = f"{model.service_model.service_name}.{model.name}"
        answer = answers.get(name, refusal("AccessDeniedException", f"not authorized to perform: {name}"))
        answer = dict(answer(context["asked"]) if callable(answer) else answer)
        status = 400 if "Error" in answer else 200
        if status == 200 and model.output_shape:
            report = ParamValidator().validate(answer, model.output_shape)
            assert not report.has_errors(), f"{name}: {report.generate_report()}"
        return AWSResponse("", status, {}, None), {**answer, "ResponseMetadata": {"HTTPStatusCode": status}}

    made.events.register("before-parameter-build", keep)
    made.events.register("before-call", answered)
    return made

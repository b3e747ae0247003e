"""Draws docs/pictures/*.svg (`make diagram`): the architecture as the templates have it, and two sequences.

Which boxes there are, which arrows go between them, to which port, and what each function
may do is read from the templates; only where a box stands is decided here.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import aws_cdk as cdk

from app import build
from local.install import ROOT
from local.picture import Box, Picture, sequence
from stacks.settings import from_context

PICTURES: Final = ROOT / "docs" / "pictures"
Template = dict[str, Any]


def architecture(egress: str) -> str:
    """The stacks of dev: boxes for what there is, arrows for what security groups let through."""
    settings = from_context({"egress": egress})
    flags = json.loads((ROOT / "cdk.json").read_text())["context"]
    app = cdk.App(context=flags | {"aws:cdk:bundling-stacks": []})
    build(app, settings)
    templates: list[Template] = [stack.template for stack in app.synth().stacks]
    resources = {name: each for template in templates for name, each in template["Resources"].items()}
    kinds = [each["Type"] for each in resources.values()]
    ways = list(_ways(resources))

    picture = Picture(1100, 580, f"The architecture with egress={egress}")
    outside = "no route out" if egress == "endpoints" else "out by NAT"
    picture.frame((15, 15, 720, 550), f"VPC {settings.vpc_cidr}: private subnets in two zones, {outside}")
    boxes: dict[str, Box] = {"Function": (35, 55, 310, 150), "Rotation": (35, 410, 310, 135)}
    picture.box(boxes["Function"], "Function", *_actions(resources, "Function"))
    picture.box((50, 150, 280, 38), "Extension: caches both", fill="#dfeaf5")
    picture.box(boxes["Rotation"], "Rotation", *_actions(resources, "Rotation"))
    boxes["SecurityGroup"] = (460, 310, 255, 75)
    instance = next(each["Properties"] for each in resources.values() if each["Type"] == "AWS::RDS::DBInstance")
    zones = "primary and standby, Multi-AZ" if instance["MultiAZ"] else "one zone"
    picture.box(boxes["SecurityGroup"], "RDS for MySQL", zones, "TLS verified; encrypted")
    if egress == "endpoints":
        boxes |= {"SystemsManager": (460, 70, 255, 45), "SecretsManager": (460, 160, 255, 45)}
        picture.box(boxes["SystemsManager"], "Endpoint: Parameter Store")
        picture.box(boxes["SecretsManager"], "Endpoint: Secrets Manager")
    else:
        boxes["0.0.0.0/0"] = (460, 70, 255, 135)
        gateways = [f"{kinds.count(f'AWS::EC2::{each}')} {each}" for each in ("NatGateway", "InternetGateway")]
        picture.box(boxes["0.0.0.0/0"], "Public subnet", *gateways)
    picture.box((805, 70, 280, 45), "Parameter Store: app_config")
    picture.box((805, 150, 280, 75), "Secrets Manager", "the application user's secret", "the master's, kept by RDS")
    for top in (92, 182):
        picture.arrow([(715, top), (805, top)], "443")
    picture.box((805, 260, 280, 60), f"KMS: {kinds.count('AWS::KMS::Key')} keys", "data, secrets, logs and alarms")
    picture.box((805, 355, 280, 75), "Smoke test, outside the VPC", *_actions(resources, "SmokeTest"))
    alarms = kinds.count("AWS::CloudWatch::Alarm")
    picture.box((805, 465, 280, 80), f"CloudWatch: {alarms} alarms", "a dashboard", "an SNS topic, and mail if wanted")
    for source, target, port in ways:
        picture.arrow(_route(boxes[source], boxes[target], source, target), f"{port}")
    return str(picture)


def _ways(resources: Template) -> Iterator[tuple[str, str, int]]:
    """What the security groups of the functions let through: whence, whither, and the port."""
    for name, resource in resources.items():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::EC2::SecurityGroupEgress":
            named = json.dumps(properties["DestinationSecurityGroupId"])
            target = re.findall("(SystemsManager|SecretsManager|)SecurityGroup[0-9A-F]{8}", named)[0]
            source = properties["GroupId"]["Fn::GetAtt"][0]
            yield source[:-8].removesuffix("SecurityGroup"), target or "SecurityGroup", properties["FromPort"]
        elif resource["Type"] == "AWS::EC2::SecurityGroup":
            for rule in properties.get("SecurityGroupEgress", []):
                if rule["CidrIp"] == "0.0.0.0/0":
                    yield name[:-8].removesuffix("SecurityGroup"), "0.0.0.0/0", rule["FromPort"]


def _actions(resources: Template, function: str) -> list[str]:
    """What the function's own policy allows, but for its log."""
    (policy,) = [
        each
        for name, each in resources.items()
        if each["Type"] == "AWS::IAM::ManagedPolicy" and name[:-8] == f"{function}Policy"
    ]
    allowed: list[str] = []
    for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
        action = statement["Action"]
        allowed += [action] if isinstance(action, str) else action
    return [each for each in dict.fromkeys(allowed) if not each.startswith("logs:")]


def _route(source: Box, target: Box, name: str, to: str) -> list[tuple[int, int]]:
    """From the source's right side to the target's left, at a height of its own."""
    heights = {"SystemsManager": 20, "SecretsManager": 70, "0.0.0.0/0": 45, "SecurityGroup": 120}
    start = source[1] + (heights[to] if name == "Function" else {"SecurityGroup": 30}.get(to, 80))
    end = target[1] + (target[3] // 3 if name == "Function" else 2 * target[3] // 3)
    return [(source[0] + source[2], start), (target[0], end)]


def invocation() -> str:
    """What a cold and a warm invocation ask of whom."""
    settings = from_context({})
    function, extension, aws, mysql = range(4)
    return sequence(
        "An invocation, cold and warm",
        ["Function", "Extension", "AWS, by endpoints", "RDS for MySQL"],
        [
            (
                "Cold: the extension asks AWS, the function logs in",
                [
                    (function, extension, "GET parameter"),
                    (extension, aws, "GetParameter"),
                    (aws, extension, "app_config"),
                    (extension, function, "app_config"),
                    (function, extension, "GET secret"),
                    (extension, aws, "GetSecretValue"),
                    (aws, extension, "user, password"),
                    (extension, function, "user, password"),
                    (function, mysql, "TLS, verified; login"),
                    (function, mysql, "SELECT"),
                    (mysql, function, "answer"),
                ],
            ),
            (
                f"Warm, for {settings.secret_ttl} s: from the cache, on the kept connection",
                [
                    (function, extension, "GET parameter"),
                    (extension, function, "from the cache"),
                    (function, extension, "GET secret"),
                    (extension, function, "from the cache"),
                    (function, mysql, "SELECT"),
                    (mysql, function, "answer"),
                ],
            ),
        ],
    )


def rotation() -> str:
    """The rotation's four steps, and an invocation with a cache that has not heard of it."""
    manager, rotate, mysql, function = range(4)
    return sequence(
        "The life of a password",
        ["Secrets Manager", "Rotation", "RDS for MySQL", "Function"],
        [
            (
                f"Every {from_context({}).rotation_days} days: the other of two users gets a new password",
                [
                    (manager, rotate, "createSecret"),
                    (rotate, manager, "new version: AWSPENDING"),
                    (manager, rotate, "setSecret"),
                    (rotate, mysql, "as master: user, grants"),
                    (manager, rotate, "testSecret"),
                    (rotate, mysql, "login as the new"),
                    (manager, rotate, "finishSecret"),
                    (rotate, manager, "AWSCURRENT moves"),
                ],
            ),
            (
                "Meanwhile and after: the old user goes on until the next rotation",
                [
                    (function, mysql, "login as the old"),
                    (mysql, function, "answer"),
                ],
            ),
            (
                "A cache that slept through two rotations",
                [
                    (function, mysql, "login as the oldest"),
                    (mysql, function, "denied"),
                    (function, manager, "GetSecretValue, around the cache, once"),
                    (function, mysql, "login as the new"),
                ],
            ),
        ],
    )


def pictures() -> dict[str, str]:
    """Every picture by its file's name."""
    return {
        "architecture-endpoints.svg": architecture("endpoints"),
        "architecture-nat.svg": architecture("nat"),
        "invocation.svg": invocation(),
        "rotation.svg": rotation(),
    }


def main() -> None:
    """Write the pictures."""
    PICTURES.mkdir(exist_ok=True)
    for name, picture in pictures().items():
        (PICTURES / name).write_text(picture)
        print(PICTURES / name)


if __name__ == "__main__":
    main()

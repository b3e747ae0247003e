"""Draws docs/pictures/*.svg (`make docs`): the architecture as the templates have it.

Which arrows there are and to which port, what each function may do, and how many keys,
alarms, endpoints and gateways there are is read from the templates. Where a box stands and
which way an arrow takes is decided here: a Mermaid flowchart of the same data, seen in a browser, cannot put a function
into two zones side by side, lets arrows cross and their ports cover each other, and takes 30 lines of README.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from app import templates
from operations.commands import ROOT
from proof.picture import STRONG, WARM, Picture, Point
from stacks.settings import Settings, from_context

PICTURES: Final = ROOT / "docs" / "pictures"
Template = dict[str, Any]


def architecture(egress: str) -> Picture:
    """The stacks of dev: a region, a VPC, two zones side by side, and arrows for what security groups let through."""
    settings = from_context({"egress": egress})
    synthesised = templates(egress=egress).values()
    resources = {name: each for template in synthesised for name, each in template["Resources"].items()}
    kinds = [each["Type"] for each in resources.values()]
    instance = next(each["Properties"] for each in resources.values() if each["Type"] == "AWS::RDS::DBInstance")

    picture = Picture(1120, 690, f"The architecture with egress={egress}")
    picture.frame((10, 10, 1100, 670), "Region", dashes="2 3")
    outside = "no route to the internet" if egress == "endpoints" else "out through one NAT gateway"
    picture.frame((25, 42, 765, 625), f"VPC {settings.vpc_cidr}: {outside}")
    for left, zone, cidr in (
        (40, "first", settings.private_subnet_a_cidr),
        (410, "second", settings.private_subnet_b_cidr),
    ):
        picture.frame((left, 75, 360, 580), f"Private subnet {cidr}, {zone} zone", dashes="3 3")

    picture.box((55, 112, 700, 118), "Serving function, in both subnets", *_actions(resources, "Serving"))
    picture.box((430, 172, 300, 58), "Parameters and Secrets extension", "local cache of both values", fill=STRONG)
    standby = "standby" if instance["MultiAZ"] else "none"
    picture.box((55, 395, 330, 68), "RDS for MySQL: primary", "TLS verified, encrypted at rest")
    picture.box((425, 395, 330, 68), f"RDS for MySQL: {standby}", "takes over in a failover")
    picture.box((55, 500, 330, 140), "Rotation function, both subnets", *_actions(resources, "Rotation"))
    picture.box((425, 500, 330, 140), "Migration function, both subnets", *_actions(resources, "Migration"))
    picture.arrow("RDS replicates to the standby", (385, 429), (425, 429))

    picture.box((835, 75, 260, 50), "Parameter Store: app_config")
    picture.box(
        (835, 145, 260, 110),
        "Secrets Manager",
        "the serving user's",
        "the migration user's",
        "the master's, kept by RDS",
    )
    picture.box((835, 275, 260, 70), f"KMS: {kinds.count('AWS::KMS::Key')} keys", "data, secrets, logs, alarms")
    picture.box((835, 365, 260, 92), "Deploy steps, outside the VPC", *_actions(resources, "SmokeTest"))
    alarms = kinds.count("AWS::CloudWatch::Alarm")
    picture.box((835, 477, 260, 75), f"CloudWatch: {alarms} alarms", "dashboard, logs, SNS topic")

    places = _endpoints(picture, kinds) if egress == "endpoints" else _gateways(picture, settings, kinds)
    for source, target, port in _ways(resources):
        picture.arrow(f"{source} to {NAMES[target]}, port {port}", *places[source, target])
    return picture


NAMES: Final = {
    "SecurityGroup": "the database",
    "SecretsManager": "Secrets Manager's endpoint",
    "SystemsManager": "Parameter Store's endpoint",
    "0.0.0.0/0": "the internet",
}
"""Of what the functions connect to, by its security group or address range."""
Routes = dict[tuple[str, str], list[Point]]
TO_DATABASE: Final[Routes] = {
    ("Serving", "SecurityGroup"): [(400, 230), (400, 378), (350, 378), (350, 395)],
    ("Rotation", "SecurityGroup"): [(220, 500), (220, 463)],
    ("Migration", "SecurityGroup"): [(480, 500), (480, 482), (320, 482), (320, 463)],
}
"""The serving function's goes between the two subnets; Migration's to the primary in the other one."""


def _endpoints(picture: Picture, kinds: list[str]) -> Routes:
    """Draw two endpoints in each zone, and how they reach the services."""
    assert kinds.count("AWS::EC2::VPCEndpoint") == 2
    for left in (65, 435):
        picture.box((left, 275, 150, 68), "Endpoint", "Parameter Store")
        picture.box((left + 160, 275, 150, 68), "Endpoint", "Secrets Manager")
    picture.arrow("endpoint to Parameter Store", (510, 275), (510, 250), (803, 250), (803, 100), (835, 100))
    picture.arrow("endpoint to Secrets Manager", (745, 290), (815, 290), (815, 200), (835, 200))
    return TO_DATABASE | {
        ("Serving", "SystemsManager"): [(470, 230), (470, 275)],
        ("Serving", "SecretsManager"): [(660, 230), (660, 275)],
        ("Rotation", "SecretsManager"): [(55, 560), (47, 560), (47, 360), (270, 360), (270, 343)],
        ("Migration", "SecretsManager"): [(755, 560), (763, 560), (763, 325), (745, 325)],
    }


def _gateways(picture: Picture, settings: Settings, kinds: list[str]) -> Routes:
    """Draw the public subnet with the NAT gateway, in the first zone, and the way out."""
    assert kinds.count("AWS::EC2::NatGateway") == kinds.count("AWS::EC2::InternetGateway") == 1
    picture.box((65, 275, 290, 68), f"Public subnet {settings.public_subnet_cidr}", "NAT gateway", fill=WARM)
    picture.box((600, 275, 145, 68), "Internet", "gateway", fill=WARM)
    picture.arrow("NAT gateway to the internet gateway", (355, 325), (600, 325))
    picture.arrow("internet gateway to Parameter Store", (745, 285), (803, 285), (803, 100), (835, 100))
    picture.arrow("internet gateway to Secrets Manager", (745, 300), (815, 300), (815, 200), (835, 200))
    return TO_DATABASE | {
        ("Serving", "0.0.0.0/0"): [(470, 230), (470, 295), (355, 295)],
        ("Rotation", "0.0.0.0/0"): [(55, 560), (47, 560), (47, 309), (65, 309)],
        ("Migration", "0.0.0.0/0"): [(755, 560), (763, 560), (763, 360), (270, 360), (270, 343)],
    }


def _ways(resources: Template) -> Iterator[tuple[str, str, int]]:
    """The connections that the functions' security groups allow: source, target and port."""
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
    """What the function's own policy allows, but for its log and what IAM knows no resource for."""
    (policy,) = [
        each
        for name, each in resources.items()
        if each["Type"] == "AWS::IAM::ManagedPolicy" and name[:-8] == f"{function}Policy"
    ]
    allowed: list[str] = []
    for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
        action = statement["Action"]
        if statement["Resource"] != "*":
            allowed += [action] if isinstance(action, str) else action
    return [each for each in dict.fromkeys(allowed) if not each.startswith("logs:")]


def pictures() -> dict[str, Picture]:
    """Every picture by its file's name."""
    return {f"architecture-{egress}.svg": architecture(egress) for egress in ("endpoints", "nat")}


def main() -> None:
    """Write the pictures."""
    PICTURES.mkdir(exist_ok=True)
    for name, picture in pictures().items():
        (PICTURES / name).write_text(str(picture))
        print(PICTURES / name)


if __name__ == "__main__":
    main()

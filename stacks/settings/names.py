"""What AWS and MySQL refuse in the names that an application and its environments give to their parts."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from stacks.settings.rds_mysql import RDS_USERS
from stacks.settings.settings import Settings

APPLICATION: Final = "[A-Za-z][A-Za-z0-9]*"
"""Without a hyphen, so that a stack's name says where the application ends and the environment begins."""
ENVIRONMENT: Final = "[a-z][a-z0-9]*(-[a-z0-9]+)*"
"""In small letters, and without the double or closing hyphens that RDS refuses."""
_RESERVED: Final = ("aws", "ssm")
"""What the names of parameters and of metrics' namespaces must not begin with."""


class Place(NamedTuple):
    """A part that is named after the application."""

    name: Callable[[Settings], str]
    """The longest name there."""
    limit: int
    """Characters that AWS or MySQL takes, by the page beside it."""


PLACES: Final[Mapping[str, Place]] = MappingProxyType(
    {
        # https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html
        "stack": Place(lambda settings: f"{settings.stack_prefix}Deployment", 128),
        # CloudFormation makes a function's name of its stack's, its logical id and 13 characters, and cuts what is
        # too long. The patterns of the GitHub role need the stack's name whole.
        # Serving functions may have ids of fifteen letters.
        # https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
        "function": Place(lambda settings: f"{settings.stack_prefix}Service-{15 * 'F'}{8 * 'X'}-{13 * 'X'}", 64),
        # https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html
        "parameter": Place(lambda settings: settings.parameter_name, 1011),
        # https://dev.mysql.com/doc/refman/8.4/en/user-names.html
        "database user": Place(lambda settings: f"{settings.schema_username}_clone", 32),
        # https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html
        "database instance": Place(lambda settings: settings.database_identifier, 63),
        # https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateLogGroup.html
        "log group": Place(lambda settings: f"/aws/rds/instance/{settings.database_identifier}/slowquery", 512),
        # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
        "metric namespace": Place(lambda settings: settings.metric_namespace, 255),
        # With the longest region: an account's dashboards are the same in all regions.
        # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutDashboard.html
        "dashboard": Place(lambda settings: f"{settings.stack_prefix}ap-southeast-1", 255),
        # https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html
        "tag": Place(lambda settings: settings.application, 256),
    }
)
"""Everything that carries the application's name and has a limit. What CloudFormation names itself, it also cuts."""


def application_faults(environments: Iterable[Settings]) -> Iterator[str]:
    """Say what would be refused of the name that these environments of one application share."""
    environments = list(environments)
    application = environments[0].application
    if not re.fullmatch(APPLICATION, application):
        yield f"application={application}: not a letter, then letters or digits, as orders or ordersApi"
        return
    if application.lower().startswith(_RESERVED) or application.lower() in RDS_USERS:
        yield f"application={application}: taken by AWS or MySQL; choose another name"
    longest, env, place = min(
        (place.limit - len(place.name(each)) + len(application), each.env, name)
        for each in environments
        for name, place in PLACES.items()
    )
    if longest < 1:
        yield f"env={env}: too long: the {place} has {PLACES[place].limit} characters at the most"
    elif longest < len(application):
        yield (
            f"application={application}: {len(application)} characters, of which {longest} would do: "
            f"the {place} of {env} has {PLACES[place].limit} at the most"
        )


def environment_faults(envs: Iterable[str]) -> Iterator[str]:
    """Say which environments' names would be refused."""
    for env in envs:
        if not re.fullmatch(ENVIRONMENT, env) or env.startswith(_RESERVED):
            yield (
                f"env={env}: not small letters and digits with single hyphens between them, as pre-prod, "
                f"that begin with neither {' nor '.join(_RESERVED)}"
            )

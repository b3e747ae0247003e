"""An environment that is deployed: its functions, with their logs, and its alarms.

`make logs`, `make invoke` and `make alarms` ask it, with ENV= in the account of the shell's credentials and the region
of its settings, without it in the local cloud.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from app import lasting_settings
from operations.aws import AccountError, listed, session_for
from stacks.constructs.serving_function import ALIAS
from stacks.settings import ENVIRONMENTS, SettingsError

HASH: Final = re.compile("[0-9A-F]{8}$")
"""With which CDK ends a logical id."""


class EnvironmentUnknownError(Exception):
    """What was asked cannot be answered; the message says why and what to do."""


class Environment:
    """The environment's functions and alarms.

    Args:
        env: its name.
        session: a boto3 session, whose credentials and region are used.
    """

    def __init__(self, env: str, session: Any) -> None:
        self.env = env
        self._session = session

    def client(self, service: str, config: Any = None) -> Any:
        """A boto3 client with the session's credentials."""
        return self._session.client(service, config=config)

    @cached_property
    def resources(self) -> list[dict[str, Any]]:
        """The resources of its stacks, as CloudFormation lists them."""
        client, prefix = self.client("cloudformation"), lasting_settings(self.env).stack_prefix
        stacks = listed(client, "describe_stacks", "Stacks")
        names = [each["StackName"] for each in stacks if re.fullmatch(f"{prefix}[A-Za-z]+", each["StackName"])]
        found = [listed(client, "list_stack_resources", "StackResourceSummaries", StackName=name) for name in names]
        return [each for resources in found for each in resources if "PhysicalResourceId" in each]

    def named(self, kind: str) -> dict[str, str]:
        """The physical ids of the resources of a type, by the name that they have in the stacks."""
        return {
            HASH.sub("", each["LogicalResourceId"]): each["PhysicalResourceId"]
            for each in self.resources
            if each["ResourceType"] == kind
        }

    @cached_property
    def functions(self) -> dict[str, str]:
        """The functions' names, by name in the stacks.

        Raises:
            EnvironmentUnknownError: there is none.
        """
        found = self.named("AWS::Lambda::Function")
        if not found:
            raise EnvironmentUnknownError(f"no functions of {self.env} here: make up, or make deploy ENV={self.env}")
        return found

    def function(self, name: str) -> str:
        """The short name of the function of this name, whichever of its two names that is.

        Raises:
            EnvironmentUnknownError: there is none.
        """
        for short, full in self.functions.items():
            if name in (short, full):
                return short
        raise EnvironmentUnknownError(f"FUNCTION={name}: expected one of {', '.join(self.functions)}")

    @cached_property
    def serving(self) -> dict[str, str]:
        """What callers invoke, by the function's name: those that have the alias."""
        client = self.client("lambda")
        return {
            short: f"{full}:{ALIAS}"
            for short, full in self.functions.items()
            if ALIAS in [each["Name"] for each in listed(client, "list_aliases", "Aliases", FunctionName=full)]
        }

    @cached_property
    def log_groups(self) -> dict[str, str]:
        """Each function's log group, by the function's name."""
        client = self.client("lambda")
        configurations = {
            short: client.get_function_configuration(FunctionName=full) for short, full in self.functions.items()
        }
        return {
            short: each.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{each['FunctionName']}"
            for short, each in configurations.items()
        }


def command(run: Callable[[Environment], object], arguments: Sequence[str]) -> None:
    """Run a command for the environment that the arguments name; end with a sentence when it cannot be done."""
    with ending():
        env = arguments[0] if arguments else ""
        if env not in ENVIRONMENTS:
            raise EnvironmentUnknownError(f"ENV={env}: expected one of {', '.join(ENVIRONMENTS)}")
        run(Environment(env, session_for(lasting_settings(env))))


@contextmanager
def ending() -> Any:
    """End the process with a sentence instead of a traceback."""
    try:
        yield
    except (EnvironmentUnknownError, AccountError, SettingsError) as error:
        sys.exit(str(error))
    except (BotoCoreError, ClientError) as error:
        local = os.environ.get("AWS_ENDPOINT_URL")
        if local and isinstance(error, EndpointConnectionError):
            sys.exit(f"nothing is running at {local}: make up")
        sys.exit(f"AWS does not answer as asked: {error}")
    except BrokenPipeError:  # The reader has seen enough, as `head` has; nothing more is written to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(130)

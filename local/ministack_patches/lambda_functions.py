"""Lambda: the deployed package in AWS's own Python runtime, with the extension beside it.

ministack speaks the Lambda Runtime API to functions of the runtime `provided`. Python
functions are served the same way here, by AWS's runtime interface client (awslambdaric),
so that logs, errors and context are those of Lambda. This patch can go when ministack runs
Python functions in AWS's runtime, with extensions.
"""

import copy
import io
import itertools
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import zipfile
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any, Final

from ministack.core import lambda_runtime
from ministack.core.responses import error_response_json
from ministack.services import lambda_svc, ssm
from ministack.services.cloudformation import provisioners

from local.certificates import Certificates
from local.ministack_patches import Created, Properties, access, network
from local.ministack_patches.refusals import check_concurrency
from local.mysql import free_port
from local.peer import is_this_user
from operations.commands import ROOT
from operations.waiting import comes_up

AN_HOUR: Final = 3600
SOURCES: Final = ROOT / "lambda_src"
RUN: Final = Path(os.environ["LOCAL_RUN"])
LAYER: Final = "AWS-Parameters-and-Secrets-Lambda-Extension"
PORT: Final = "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"
DEBUG_PORT: Final = int(os.environ["LOCAL_DEBUG_PORT"])
"""Where a debugger attaches to the serving function, or 0."""
SERVING: Final = "handler.lambda_handler"
ENDINGS: Final = {"Sandbox.Timedout": "timeout", "Runtime.ExitError": "error"}
"""What Lambda reports when it ends an environment, or finds it ended, by the error's type."""
_IS_ROOT: Final = network.ENFORCED and os.geteuid() == 0
ROOT_CERTIFICATES: Final = "shared/rds-root-certificates.pem"

_turns = itertools.count()
_create_function = provisioners._lambda_create
_update_function = provisioners._lambda_update
_delete_function = provisioners._lambda_delete
_get_policy = lambda_svc._get_policy
_public_parameter = ssm._public_parameter
_zip_inline = provisioners._zip_inline


def install() -> None:
    """Have functions run in AWS's runtime."""
    handler = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    handler["create"] = provisioners._lambda_create = _create
    handler["update"] = _update
    handler["delete"] = _delete
    provisioners._zip_inline = _inline_code
    lambda_svc._execute_function_warm = lambda_svc._execute_function_provided_warm
    lambda_runtime._worker_class_for = lambda _: ExecutionEnvironment
    lambda_svc._get_policy = _own_policy
    ssm._public_parameter = _extension_or_public_parameter
    lambda_svc._ACCOUNT_CONCURRENCY_CAP = int(os.environ["LOCAL_CONCURRENCY_LIMIT"])


def _create(logical_id: str, props: Properties, stack: str) -> Created:
    name, attributes = _create_function(logical_id, props, stack)
    _apply(name, props)
    return name, attributes


def _update(physical_id: str, old: Properties, new: Properties, stack: str, logical_id: str) -> Created:
    name, attributes = _update_function(physical_id, old, new, stack, logical_id)
    _apply(name, new)
    return name, attributes


def _delete(physical_id: str, props: Properties) -> None:
    """End its environments too: they would answer for one that is made again, which has the same name here."""
    _delete_function(physical_id, props)
    lambda_runtime.invalidate_worker(physical_id)


def _apply(name: str, props: Properties) -> None:
    """What ministack's CloudFormation leaves out of a function."""
    function = lambda_svc._functions[name]
    function["config"]["VpcConfig"] = lambda_svc._vpc_config_with_id(props.get("VpcConfig"))
    function["config"]["KMSKeyArn"] = props.get("KmsKeyArn", "")
    access.grant_variables(function["config"])
    function.pop("concurrency", None)
    if "ReservedConcurrentExecutions" in props:
        check_concurrency(name, int(props["ReservedConcurrentExecutions"]))
        function["concurrency"] = int(props["ReservedConcurrentExecutions"])


def _own_policy(name: str, query: Any = None, qualifier: str | None = None) -> Any:
    """A function's own policy; its aliases and versions have others.

    https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html
    """
    status, headers, body = _get_policy(name, query, qualifier)
    answer = json.loads(body)
    if status == 200 and not lambda_svc._qualifier_from_path_or_query(qualifier, query):
        policy = json.loads(answer["Policy"])
        policy["Statement"] = [each for each in policy["Statement"] if each["Resource"].endswith(f":function:{name}")]
        if not policy["Statement"]:
            message = "The resource you requested does not exist."
            return error_response_json("ResourceNotFoundException", message, 404)
        body = json.dumps(answer | {"Policy": json.dumps(policy)}).encode()
    return status, headers, body


def _extension_or_public_parameter(name: str) -> dict[str, Any] | None:
    """AWS's public parameters with the newest layer's ARN, beside those that ministack has."""
    suffixes = {
        f"/aws/service/aws-parameters-and-secrets-lambda-extension/{processor}/latest": suffix
        for processor, suffix in (("x86", ""), ("arm64", "-Arm64"))
    }
    if name not in suffixes:
        return _public_parameter(name)
    region = lambda_svc.get_region()
    return {
        "Name": name,
        "Type": "String",
        "Value": f"arn:aws:lambda:{region}:177933569100:layer:{LAYER}{suffixes[name]}:99",
        "Version": 99,
        "LastModifiedDate": 1785196800,
        "ARN": f"arn:aws:ssm:{region}::parameter{name}",
    }


class ExecutionEnvironment(lambda_runtime.ProvidedWorker):
    """One execution environment: the function's process and, with the layer, its extension's."""

    def __init__(self, func_name: str, config: dict[str, Any], code_zip: bytes) -> None:
        self._deployed = config
        config = copy.deepcopy(config)
        logging_config = config.get("LoggingConfig") or {}
        config["Environment"] = config.get("Environment") or {}
        # https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
        config["Environment"].setdefault("Variables", {}).setdefault("TZ", ":UTC")
        config["Environment"]["Variables"].update(
            AWS_LAMBDA_LOG_FORMAT=logging_config.get("LogFormat", "Text"),
            AWS_LAMBDA_LOG_LEVEL=logging_config.get("ApplicationLogLevel", "INFO"),
            AWS_LAMBDA_LOG_GROUP_NAME=logging_config.get("LogGroup", ""),
            # On AWS on-demand, or another of Lambda's values. Here errors may quote MySQL's own sentence.
            AWS_LAMBDA_INITIALIZATION_TYPE="local",
        )
        config["Environment"]["Variables"].update(network.variables(config))
        if subnets := (config.get("VpcConfig") or {}).get("SubnetIds"):
            # AWS spreads environments over the subnets: the first of them is this one's.
            turn = next(_turns) % len(subnets)
            config["VpcConfig"]["SubnetIds"] = subnets[turn:] + subnets[:turn]
        is_debugged = bool(DEBUG_PORT) and config["Handler"] == SERVING
        if is_debugged:
            config["Timeout"] = AN_HOUR
        super().__init__(func_name, config, _prepared(code_zip, is_debugged=is_debugged))
        self._extension: subprocess.Popen[str] | None = None
        self._extension_said: deque[str] = deque()
        network.environments.add(self)

    @property
    def pids(self) -> set[int]:
        """The processes that it started."""
        return {each.pid for each in (self._proc, self._extension) if each}

    def invoke(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run one invocation, after telling the extension of it, as Lambda does."""
        if self._proc is None or self._proc.poll() is not None:
            self._start_extension()
        if self._extension and self._extension.stdin:
            self._extension.stdin.write("INVOKE\n")
            self._extension.stdin.flush()
        try:
            result: dict[str, Any] = super().invoke(*args, **kwargs)
        except RuntimeError:
            if not isinstance(self._init_error, dict):
                raise
            # What the runtime said of a module that cannot be imported; ministack makes a text of it.
            result = {"status": "error", "error": str(self._init_error.get("errorMessage"))}
            result |= {"error_payload": self._init_error, "cold_start": True, "log": self._drain_stderr()}
        failure = (result.get("error_payload") or {}).get("errorType", "")
        if failure in ENDINGS:
            result["log"] += self._report(str(args[1]), failure)
        said = [self._extension_said.popleft() for _ in range(len(self._extension_said))]
        result["log"] = "\n".join([*said, *filter(None, [result["log"]])])
        return result

    def _drain_stderr_bounded(self, *args: Any, **kwargs: Any) -> str:
        """All that the function wrote before it answered: a mark follows it through the same pipe (Linux).

        ministack waits for a quarter of a second at the most, in which a busy machine reads nothing.
        """
        mark = str(lambda_svc.new_uuid())
        try:
            with Path(f"/proc/{self._proc.pid}/fd/1").open("w") as output:
                output.write(f"{mark}\n")
        except (AttributeError, OSError):  # No Linux, or the process has ended.
            return str(super()._drain_stderr_bounded(*args, **kwargs))
        lines = []
        while not (line := self._stderr_queue.get(timeout=60)).endswith(mark):
            lines.append(line)
        return "\n".join([*lines, *filter(None, [line.removesuffix(mark)])])

    def _report(self, request_id: str, failure: str) -> str:
        """Lambda's own line of an invocation that it ended, where the function logs in JSON.

        https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
        """
        record = {"requestId": request_id, "status": ENDINGS[failure], "errorType": failure}
        return "\n" + json.dumps({"time": lambda_svc._now_iso(), "type": "platform.report", "record": record})

    def _spawn(self, *args: Any) -> None:
        access.check_variables(self._deployed)
        super()._spawn(*args)

    def _build_handler_class(self, *args: Any) -> Any:
        """The Runtime API's server: for this user alone, and without the 40 ms of Nagle's algorithm.

        In Lambda nobody else is in the execution environment.
        """
        base = super()._build_handler_class(*args)

        class Handler(base):  # type: ignore[misc, valid-type]
            disable_nagle_algorithm = True

            def handle(self) -> None:
                if is_this_user(self.client_address, self.server.server_address):
                    super().handle()

        return Handler

    def _discard_tmpdir(self) -> None:
        """The last that ministack calls of an environment that it ends."""
        super()._discard_tmpdir()
        network.environments.discard(self)
        self._stop_extension()

    def _stop_extension(self) -> None:
        if self._extension:
            self._extension.terminate()
            self._extension.wait()
            self._extension = None

    def _start_extension(self) -> None:
        """Start it before the function, as Lambda does, on a port of its own.

        In Lambda each environment has a localhost of its own, so that 2773 is always free.
        """
        self._stop_extension()
        if not any(f":layer:{LAYER}" in layer["Arn"] for layer in self.config.get("Layers") or []):
            return
        variables = self.config["Environment"]["Variables"]
        variables[PORT] = str(free_port())
        env = lambda_svc._provided_worker_env(self.config, "", 0)
        self._extension = subprocess.Popen(
            [sys.executable, "-m", "local.extension", "--lambda"],
            env=env | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._listen, args=(self._extension,), daemon=True).start()
        comes_up(self._extension, partial(_is_listening, int(variables[PORT])))

    def _listen(self, extension: "subprocess.Popen[str]") -> None:
        """Its lines go to the function's log group, as they do in Lambda, with the next invocation that ends."""
        for line in extension.stderr or ():
            self._extension_said.append(line.rstrip("\n"))


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_readable(entry: zipfile.ZipInfo) -> bool:
    """Whether others than its owner may read a file. An archive from Windows has no modes."""
    mode = entry.external_attr >> 16
    return not mode or bool(mode & stat.S_IROTH)


def _inline_code(*args: Any) -> bytes | None:
    """What ministack makes of code in a template, readable for all as on AWS."""
    made = _zip_inline(*args)
    if not made:
        return made
    readable = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(made)) as source, zipfile.ZipFile(readable, "w") as target:
        for entry in source.infolist():
            entry.external_attr = 0o644 << 16
            target.writestr(entry, source.read(entry))
    return readable.getvalue()


def _prepared(code_zip: bytes, *, is_debugged: bool) -> bytes:
    """The deployed package, with Lambda's runtime to start it and this cloud's authority to trust.

    Here RDS's certificates come from a throw-away authority; on AWS the package's own
    root certificates are the right ones. Nothing else of the package is touched, except for a
    debugger: its breakpoints are in the files of lambda_src/, so that these take the modules' places.

    A file that only its owner may read is missing, because all functions run as the cloud's own user. On AWS it is
    there, and the import fails all the same (https://docs.aws.amazon.com/lambda/latest/dg/python-package.html).
    """
    authority = Certificates.within(RUN / "certificates").ca.read_bytes()
    authority = f"# {os.environ['MINISTACK_REGION']}\n".encode() + authority
    # Root's processes could take each other's descriptors.
    drop = "setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace" if _IS_ROOT else ""
    start = [f'exec {drop} "{sys.executable}" -m awslambdaric "$_HANDLER"']
    prepared = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(code_zip)) as source, zipfile.ZipFile(prepared, "w") as target:
        if is_debugged:
            modules = [name for name in source.namelist() if name.endswith(".py") and (SOURCES / name).is_file()]
            start = [
                *(f'ln -sf "{SOURCES / name}" "{name}"' for name in modules),
                "rm -rf __pycache__ shared/__pycache__",  # Bytecode of the package is never checked.
                f'export PYTHONPATH="$PWD:{ROOT}" PYTHONDONTWRITEBYTECODE=1 PYDEVD_RESOLVE_SYMLINKS=true',
                f'exec {drop} "{sys.executable}" -Xfrozen_modules=off -m local.debugger {DEBUG_PORT} "$_HANDLER"',
            ]
        for entry in source.infolist():
            if not _is_readable(entry):
                continue
            target.writestr(entry, authority if entry.filename == ROOT_CERTIFICATES else source.read(entry))
        target.writestr("bootstrap", "\n".join(["#!/bin/sh", *start, ""]))
    return prepared.getvalue()

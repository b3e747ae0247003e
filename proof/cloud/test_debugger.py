"""`make debug`: a debugger attaches to the deployed function, stops it, reads a variable, and lets it go on."""

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from local.__main__ import DEBUG_PORT
from local.cloud import LocalCloud
from local.mysql import free_port
from local.tests.fixtures import assembly, local_cloud
from operations.aws import invoke
from operations.commands import ROOT

APPLICATION = ROOT / "lambda_src" / "application.py"


class Debugger:
    """As much of the Debug Adapter Protocol as an editor uses to attach and to stop at a line.

    Source: https://microsoft.github.io/debug-adapter-protocol/specification
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._file = self._socket.makefile("rb")
        self._sent = 0
        self._received: list[dict[str, Any]] = []

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def send(self, command: str, **arguments: Any) -> int:
        self._sent += 1
        message = {"seq": self._sent, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(message).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        return self._sent

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request, and return the body of its response."""
        sent = self.send(command, **arguments)
        response = self._wait(request_seq=sent)
        assert response["success"], response
        body: dict[str, Any] = response.get("body", {})
        return body

    def evaluate(self, expression: str, frame: dict[str, Any]) -> str:
        return str(self.ask("evaluate", expression=expression, frameId=frame["id"])["result"])

    def wait_for(self, event: str) -> dict[str, Any]:
        """Return the body of the next event of that name."""
        body: dict[str, Any] = self._wait(event=event).get("body", {})
        return body

    def _wait(self, **wanted: Any) -> dict[str, Any]:
        while True:
            for message in self._received:
                if wanted.items() <= message.items():
                    self._received.remove(message)
                    return message
            header = self._file.readline()
            assert header, f"the debugger closed the connection; waiting for {wanted}, received {self._received}"
            self._file.readline()
            self._received.append(json.loads(self._file.read(int(header.split(b":")[1]))))


@pytest.fixture
def cloud() -> Iterator[LocalCloud]:
    with local_cloud("debugger", debug_port=free_port()) as cloud:
        cloud.bootstrap()
        cloud.deploy(assembly=assembly())
        yield cloud


def test_a_breakpoint_in_the_sources_stops_the_deployed_function(cloud: LocalCloud) -> None:
    (line,) = [number for number, text in enumerate(APPLICATION.read_text().splitlines(), 1) if "found = {" in text]
    name = cloud.outputs("Service")["FunctionName"]
    answers: list[Any] = []
    invocation = threading.Thread(target=lambda: answers.append(invoke(cloud.client("lambda"), name)["answer"]))
    debugger = Debugger(cloud.debug_port)
    try:
        debugger.ask("initialize", adapterID="debugpy", pathFormat="path")
        debugger.send("attach", connect={"host": "127.0.0.1", "port": cloud.debug_port})
        debugger.wait_for("initialized")
        debugger.ask("setBreakpoints", source={"path": str(APPLICATION)}, breakpoints=[{"line": line}])
        debugger.ask("configurationDone")
        invocation.start()
        stopped = debugger.wait_for("stopped")
        frames = debugger.ask("stackTrace", threadId=stopped["threadId"])["stackFrames"]
        assert (frames[0]["source"]["path"], frames[0]["line"]) == (str(APPLICATION), line)
        assert debugger.evaluate("name", frames[0]) == "'devDB'"
        (handle,) = [frame for frame in frames if frame["name"].endswith("handle")]
        # Longer than the function's timeout of 36 s and the handler's own deadline.
        assert float(debugger.evaluate("context.get_remaining_time_in_millis() / 1000", handle)) > 3000
        assert float(debugger.evaluate("self._deadline.remaining()", handle)) > 3000
        assert not answers
        debugger.ask("continue", threadId=stopped["threadId"])
        invocation.join()
        assert answers[0]["database"] == "devDB"
    finally:
        debugger.close()


def test_the_launch_configuration_is_for_the_port_that_make_debug_opens() -> None:
    (configuration,) = json.loads((ROOT / ".vscode" / "launch.json").read_text())["configurations"]
    assert configuration["connect"] == {"host": "127.0.0.1", "port": DEBUG_PORT}

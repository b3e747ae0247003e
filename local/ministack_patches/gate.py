"""Accepts only requests that are signed with a key of this cloud.

ministack treats a request as the administrator's when its key is empty, `test`, twelve digits or the configured one,
whatever its signature, and serves its own paths to everybody. This patch
can go when it verifies every signature.
"""

import os
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs, quote

from ministack import app
from ministack.core import iam_evaluator, sigv4
from ministack.core.responses import _account_from_sts_session
from ministack.core.router import extract_access_key_id
from ministack.services.cloudformation import custom_resource

HEALTH: Final = "/_ministack/health"
RESPONSE: Final = "/_ministack/cfn-response/"
"""Where a custom resource sends its result; the rest of the path is a random token, as in AWS's signed address."""

Scope = dict[str, Any]


async def gate(scope: Scope, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """Serve ASGI: refuse what is not signed, and hand the rest to ministack."""
    if scope["type"] == "lifespan":
        await app.app(scope, receive, send)
        return
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1008})
        return
    if (scope["method"], scope["path"]) == ("GET", HEALTH):
        await _answer(send, 200, {}, b"")
        return
    is_response = scope["method"] == "PUT" and scope["path"].removeprefix(RESPONSE) in custom_resource._pending
    is_unsigned = is_response or (not _claims_a_key(scope) and _asks_itself(scope))
    if not is_unsigned and (refusal := _refusal(scope, None)):
        await _answer(send, *refusal)  # Its body is not read.
        return
    parts = []
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"".join(parts)
    refusal = None if is_unsigned else _refusal(scope, body)
    if refusal:
        await _answer(send, *refusal)
        return
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return messages.pop() if messages else await receive()

    await app.app(scope, replay, send)


def _refusal(scope: Scope, body: bytes | None) -> tuple[int, dict[str, str], bytes] | None:
    """Return the answer to a request without a valid signature, or None if it is valid.

    Before its body is read, a request may be valid if its key is, and its signature where that covers a header with
    the body's hash.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), sigv4.decode_header_value(raw_value)
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    query = parse_qs(scope.get("query_string", b"").decode(), keep_blank_values=True)
    failure = _failure(scope, headers, query, body)
    if not failure:
        return None
    found = re.search("Credential=[^/]+/[0-9]+/[^/]*/([^/]+)/", headers.get("authorization", ""))
    denied = iam_evaluator.AuthError(*failure)
    return app._credential_failure(found[1] if found else "sts", "", "refused", denied, headers)


def _failure(
    scope: Scope, headers: dict[str, str], query: dict[str, list[str]], body: bytes | None
) -> tuple[str, str] | None:
    presigned = "authorization" not in headers
    key = extract_access_key_id(headers, query)
    if scope["path"].startswith("/_ministack/") or not key:
        return "MissingAuthenticationToken", "Request is missing Authentication Token"
    parsed = sigv4.parse_query_signature(query) if presigned else sigv4.parse_header_signature(headers)
    if isinstance(parsed, tuple):
        return parsed[:2]
    if parsed.access_key_id != key:
        return "UnrecognizedClientException", "The security token included in the request is invalid."
    is_ours = key == os.environ["AWS_ACCESS_KEY_ID"] or not iam_evaluator.is_root_access_key(key)
    token = query.get("X-Amz-Security-Token", [""])[0] if presigned else headers.get("x-amz-security-token", "")
    credential = iam_evaluator.resolve_credential(key, _account_from_sts_session(key), token) if is_ours else None
    if credential is None or isinstance(credential, iam_evaluator.CredentialResolutionError):
        return "UnrecognizedClientException", "The security token included in the request is invalid."
    if not presigned and (late := sigv4.request_time_failure(parsed)):
        return late[:2]
    signed_body = headers.get("x-amz-content-sha256", "")
    if body is None and (not signed_body or signed_body.startswith("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")):
        return None
    raw_path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
    return sigv4.header_signature_failure(
        parsed,
        credential.secret_access_key,
        scope["method"],
        raw_path,
        query,
        headers,
        body or b"",
        presigned=presigned,
    )


def _asks_itself(scope: Scope) -> bool:
    """Whether the request is for a route of an HTTP API that has an authoriser, which answers as API Gateway does.

    On AWS a route without one serves everybody. Here it serves those with a key of this cloud.
    """
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"host"), "")
    called = app._parse_execute_api_url(host, scope["path"])
    if not called:
        return False
    api, tentative_stage, path = called
    stage, path = app._resolve_stage_and_path(api, tentative_stage, path)
    return app._execute_api_authorization_type(api, stage, scope["method"], path) in ("AWS_IAM", "CUSTOM", "JWT")


def _claims_a_key(scope: Scope) -> bool:
    """Whether the request names a key, in a header or in its address."""
    return b"X-Amz-Credential=" in scope.get("query_string", b"") or any(
        name.lower() == b"authorization" for name, _ in scope["headers"]
    )


async def _answer(send: Callable[[Any], Any], status: int, headers: dict[str, str], body: bytes) -> None:
    raw = [(name.lower().encode(), str(value).encode()) for name, value in headers.items()]
    await send(
        {"type": "http.response.start", "status": status, "headers": [*raw, (b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})

"""The ``http:`` store's requests, as an ASGI application (``protocol.py`` lists them)."""

from __future__ import annotations

import asyncio

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from controlplane.domain.names import shown
from controlplane.store.asked import asked_to_text
from controlplane.store.contract import AgentStore, StoreCorrupt, StoreDenied, StoreError
from controlplane.store.http.credentials import CredentialsInUse
from controlplane.store.http.notifier import Notifier
from controlplane.store.http.protocol import (
    ASKED_HEADER,
    GENERATION_HEADER,
    MARK_HEADER,
    MAX_POLL_SECONDS,
    MAX_REQUEST_BYTES,
    error_to_answer,
)
from controlplane.store.marks import mark_to_text
from controlplane.store.names import check_kind
from controlplane.store.reports import decode_report, parse_object, read_origin

BODY_SECONDS = 10.0
"""How long a request's body may take to arrive."""

_PRIVATE = {"cache-control": "no-store"}


class Requests:
    """Answers agents' requests from a store. Store calls run in a thread pool."""

    def __init__(self, store: AgentStore, notifier: Notifier) -> None:
        self._store = store
        self._notifier = notifier

    async def kinds(self, _request: Request) -> Response:
        """GET /v1/kinds."""
        kinds = await run_in_threadpool(self._store.kinds)
        return JSONResponse({"kinds": dict(kinds)}, headers=_PRIVATE)

    async def wait(self, request: Request) -> Response:
        """POST /v1/wait: the long poll. It takes no thread."""
        content = parse_object(await _body(request), "a request")
        seen, timeout = content.get("seen"), content.get("timeout_seconds")
        if not isinstance(seen, dict) or not all(_seen(item) for item in seen.items()):
            raise StoreCorrupt("a request's seen must map kinds to generations")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
            raise StoreCorrupt("a request's timeout_seconds must be a number from 0 on")
        await self._notifier.wait(seen, min(timeout, MAX_POLL_SECONDS))
        return await self.kinds(request)

    async def document(self, request: Request) -> Response:
        """GET /v1/documents/<kind>."""
        version = await run_in_threadpool(self._store.latest, request.path_params["kind"])
        if version is None:
            return Response(status_code=204, headers=_PRIVATE)
        headers = {**_PRIVATE, GENERATION_HEADER: str(version.generation)}
        return Response(version.data, media_type="application/octet-stream", headers=headers)

    async def key(self, request: Request) -> Response:
        """GET /v1/keys/<key id>."""
        key = await run_in_threadpool(self._store.key, request.path_params["key_id"])
        return Response(key, media_type="application/octet-stream", headers=_PRIVATE)

    async def acknowledge(self, request: Request) -> Response:
        """POST /v1/servers/<name>/acknowledgement."""
        content = parse_object(await _body(request), "an acknowledgement")
        server = _same_server(request, content.get("server"))
        kind, generation = content.get("kind"), content.get("generation")
        if not isinstance(kind, str) or type(generation) is not int:
            raise StoreCorrupt("an acknowledgement has a kind and a generation")
        origin = read_origin(content)
        await run_in_threadpool(self._store.acknowledge, server, kind, generation, origin)
        return Response(status_code=204)

    async def report(self, request: Request) -> Response:
        """PUT /v1/servers/<name>/report."""
        report = decode_report(await _body(request))
        _same_server(request, report.server)
        await run_in_threadpool(self._store.report, report)
        mark, asked = self._store.mark, self._store.asked
        headers = {MARK_HEADER: mark_to_text(mark)} if mark else {}
        if asked:
            headers[ASKED_HEADER] = asked_to_text(asked)
        return Response(status_code=204, headers=headers)


class BearerOnly:
    """Refuses requests without the token (RFC 6750), before it reads a body."""

    def __init__(self, app: ASGIApp, credentials: CredentialsInUse) -> None:
        self._app = app
        self._credentials = credentials
        self._log = structlog.get_logger(__name__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or hand the request on."""
        if scope["type"] == "http" and not self._authorized(scope):
            peer = scope.get("client")
            self._log.warning("token refused", peer=peer[0] if peer else "unknown")
            refusal = JSONResponse(
                {"error": "denied", "message": "wrong token: check token_file"},
                status_code=401,
                headers={"www-authenticate": "Bearer", "connection": "close"},
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _authorized(self, scope: Scope) -> bool:
        return self._credentials.accepts(Headers(scope=scope).get("authorization", ""))


def application(store: AgentStore, credentials: CredentialsInUse, notifier: Notifier) -> Starlette:
    """Return the application that serves ``store`` to clients with an accepted token."""
    requests = Requests(store, notifier)
    log = structlog.get_logger(__name__)

    async def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, ClientDisconnect):
            return Response(status_code=400)
        if not isinstance(error, StoreError):
            raise error
        if not notifier.stopping:
            log.warning("request failed", path=shown(request.url.path), error=str(error))
        status, content = error_to_answer(error)
        return JSONResponse(content, status_code=status, headers=_PRIVATE)

    return Starlette(
        routes=[
            Route("/v1/kinds", requests.kinds),
            Route("/v1/wait", requests.wait, methods=["POST"]),
            Route("/v1/documents/{kind:path}", requests.document),
            Route("/v1/keys/{key_id:path}", requests.key),
            Route("/v1/servers/{server}/acknowledgement", requests.acknowledge, methods=["POST"]),
            Route("/v1/servers/{server}/report", requests.report, methods=["PUT"]),
        ],
        middleware=[Middleware(BearerOnly, credentials=credentials)],
        exception_handlers={StoreError: failed, ClientDisconnect: failed},
        lifespan=lambda _: notifier.running(),
    )


async def _body(request: Request) -> bytes:
    """Return a request's body. ``StoreCorrupt`` if it is too large or too slow."""

    async def read() -> bytes:
        received = bytearray()
        async for chunk in request.stream():
            received += chunk
            if len(received) > MAX_REQUEST_BYTES:
                raise StoreCorrupt(f"a request is larger than {MAX_REQUEST_BYTES} bytes")
        return bytes(received)

    try:
        return await asyncio.wait_for(read(), BODY_SECONDS)
    except TimeoutError as error:
        raise StoreCorrupt(f"a request took longer than {BODY_SECONDS:g} s to arrive") from error


def _same_server(request: Request, named: object) -> str:
    """Return the server in the path; the body must name the same one."""
    server: str = request.path_params["server"]
    if server != named:
        raise StoreDenied(f"{shown(server)} may not report for {shown(named)}")
    return server


def _seen(item: tuple[object, object]) -> bool:
    kind, generation = item
    return check_kind(kind) == kind and type(generation) is int and generation >= 0

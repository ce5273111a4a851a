"""The ``http:`` store: an agent's part of the contract, over a controller's server."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from controlplane.domain.errors import ConfigError
from controlplane.domain.objects import Origin, Report
from controlplane.store.asked import text_to_asked
from controlplane.store.contract import (
    NOBODY,
    AgentStore,
    StoreCorrupt,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    Version,
    is_newer,
)
from controlplane.store.file.generations import MAX_DOCUMENT_BYTES
from controlplane.store.http.protocol import (
    ASKED_HEADER,
    GENERATION_HEADER,
    MARK_HEADER,
    MAX_POLL_SECONDS,
    MAX_REQUEST_BYTES,
    answer_to_error,
)
from controlplane.store.marks import text_to_mark
from controlplane.store.names import (
    check_document,
    check_generation,
    check_key,
    check_kind,
    check_name,
)
from controlplane.store.reports import encode_report, parse_object

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 5.0
_KEEP_ALIVE_SECONDS = 30.0
"""Less than the server's, so that it is this end that closes an idle connection."""
_OK = 200
_EMPTY = 204
_UNAUTHORIZED = 401


@dataclass(frozen=True)
class _Response:
    """Status, generation, mark, flows asked for, and body: ``content`` may be a secret."""

    status: int
    generation: str
    mark: str
    asked: str
    content: bytes = field(repr=False)


class HttpStore(AgentStore):
    """A store on a controller. Any number of threads may use it."""

    def __init__(self, url: str, token: str, ca_file: Path | str | None = None) -> None:
        """Prepare a client of ``url``, without connecting. Raises ``ConfigError``.

        ``ca_file`` holds the certificate authority of an ``https:`` URL, the system's if ``None``.
        Proxies and credentials from the environment are ignored.
        """
        self._url = _checked_url(url)
        self._closed = threading.Event()
        self._lending = threading.Lock()
        self._users: Counter[httpx2.Client] = Counter()
        self._client = self._new_client(token, trust(ca_file))

    def renew(self, token: str, authorities: ssl.SSLContext) -> None:
        """Use this token and these authorities for requests from now on, on new connections."""
        fresh = self._new_client(token, authorities)
        with self._lending:
            old, self._client = self._client, fresh
            unused = not self._users[old]
        if unused:
            old.close()

    def latest(self, kind: str) -> Version | None:
        """Return the newest document of this kind, ``None`` if there never was one."""
        answer = self._ask("GET", f"/v1/documents/{check_document(kind)}")
        if answer.status == _EMPTY:
            return None
        if not (answer.generation.isascii() and answer.generation.isdecimal()):
            raise self._not_a_store(answer)
        return Version(kind, check_generation(int(answer.generation)), answer.content)

    def kinds(self) -> Mapping[str, int]:
        """Return every published kind with its newest generation."""
        return _kinds(self._ask("GET", "/v1/kinds"))

    def wait(self, seen: Mapping[str, int], timeout_seconds: float) -> Mapping[str, int]:
        """Block until some kind is newer than in ``seen``, or the timeout. A long poll."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            poll = min(left, MAX_POLL_SECONDS)
            body = {"seen": dict(seen), "timeout_seconds": poll}
            kinds = _kinds(self._ask("POST", "/v1/wait", body, patience_seconds=poll))
            if is_newer(kinds, seen) or time.monotonic() >= deadline:
                return kinds

    def key(self, key_id: str) -> bytes:
        """Return a pool's secret key (16 bytes). ``StoreCorrupt`` if there is none."""
        key = self._ask("GET", f"/v1/keys/{check_name(key_id, 'key')}").content
        return check_key(key_id, key)

    def acknowledge(self, server: str, kind: str, generation: int, origin: Origin = NOBODY) -> None:
        """Record that this server's data plane has this generation in use."""
        path = f"/v1/servers/{check_name(server, 'server')}/acknowledgement"
        body = {
            "server": server,
            "kind": check_kind(kind),
            "generation": check_generation(generation),
            **vars(origin),
        }
        self._ask("POST", path, body)

    def report(self, report: Report) -> None:
        """Replace this server's report."""
        path = f"/v1/servers/{check_name(report.server, 'server')}/report"
        answer = self._ask("PUT", path, encode_report(report))
        self.mark, self.asked = text_to_mark(answer.mark), text_to_asked(answer.asked)

    def is_led(self) -> bool:
        """Return whether the controller answers: only the one that leads serves the store."""
        self.kinds()
        return True

    def close(self) -> None:
        """Close the connections; a waiting thread notices at the end of its poll."""
        self._closed.set()
        self._client.close()

    def _new_client(self, token: str, authorities: ssl.SSLContext) -> httpx2.Client:
        return httpx2.Client(
            base_url=self._url,
            headers={"authorization": f"Bearer {token}", "accept-encoding": "identity"},
            verify=authorities,
            timeout=httpx2.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            limits=httpx2.Limits(keepalive_expiry=_KEEP_ALIVE_SECONDS),
            trust_env=False,
        )

    @contextmanager
    def _lent(self) -> Iterator[httpx2.Client]:
        """Lend the client to one request. The last user of a replaced one closes it."""
        with self._lending:
            client = self._client
            self._users[client] += 1
        try:
            yield client
        finally:
            with self._lending:
                self._users[client] -= 1
                unused = not self._users[client]
                if unused:
                    del self._users[client]
                replaced = client is not self._client
            if unused and replaced:
                client.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None = None,
        patience_seconds: float = 0.0,
    ) -> _Response:
        """Return a good answer, read to its end, or raise a ``StoreError``."""
        if self._closed.is_set():
            raise StoreUnavailable("the store was closed")
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        timeout = httpx2.Timeout(_ANSWER_SECONDS + patience_seconds, connect=_CONNECT_SECONDS)
        try:
            with (
                self._lent() as client,
                client.stream(method, path, content=content, timeout=timeout) as stream,
            ):
                answer = _read(stream)
        except (httpx2.HTTPError, httpx2.StreamError, RuntimeError) as error:
            raise self._translated(error) from error
        if answer.status in (_OK, _EMPTY):
            return answer
        raise self._refusal(answer)

    def _refusal(self, answer: _Response) -> StoreError:
        if answer.status == _UNAUTHORIZED:
            return StoreDenied(f"{self._url} refused the token: check token_file")
        try:
            error = answer_to_error(parse_object(answer.content, "an answer"))
        except StoreCorrupt:
            error = None
        return error or self._not_a_store(answer)

    def _not_a_store(self, answer: _Response) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._url} answered HTTP {answer.status}, but not as a store: check store"
        )

    def _translated(self, error: Exception) -> StoreError:
        if isinstance(error, RuntimeError) and not self._closed.is_set():
            raise error  # only a closed client may raise it
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return StoreDenied(
                    f"certificate of {self._url} refused ({cause.verify_message}): check ca_file"
                )
            cause = cause.__cause__ or cause.__context__
        reason = str(error) or type(error).__name__
        return StoreUnavailable(f"store {self._url} does not answer: {reason}")


def _read(stream: httpx2.Response) -> _Response:
    """Read an answer to its end, at most the size of the largest document."""
    limit = MAX_DOCUMENT_BYTES if stream.status_code == _OK else MAX_REQUEST_BYTES
    received = bytearray()
    for chunk in stream.iter_raw():
        received += chunk
        if len(received) > limit:
            raise StoreCorrupt(f"the store's answer is larger than {limit} bytes")
    generation = stream.headers.get(GENERATION_HEADER, "")
    mark = stream.headers.get(MARK_HEADER, "")
    asked = stream.headers.get(ASKED_HEADER, "")
    return _Response(stream.status_code, generation, mark, asked, bytes(received))


def _kinds(answer: _Response) -> dict[str, int]:
    content = parse_object(answer.content, "the store's answer").get("kinds")
    if not isinstance(content, dict):
        raise StoreCorrupt("the store's answer does not have kinds")
    return {check_kind(kind): check_generation(value) for kind, value in content.items()}


def _checked_url(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ConfigError(f"store {url!r}: {error}") from error
    if parsed.userinfo:
        raise ConfigError("store: a URL must not have a password: set token_file")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(
            f"store {url!r} is not a store: use http://HOST:PORT or https://HOST:PORT"
        )
    return url.rstrip("/")


def trust(ca_file: Path | str | None) -> ssl.SSLContext:
    """Return a context that trusts this authority, ``None``: the system's. ``ConfigError``."""
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"ca_file {ca_file}: {error.strerror or error}") from error

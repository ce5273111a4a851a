"""Serves a controller's store to agents as the ``http:`` store."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import structlog
import uvicorn
from starlette.types import ASGIApp

from controlplane.domain.errors import BrigadeError, ConfigError
from controlplane.store.contract import AgentStore
from controlplane.store.http.application import application
from controlplane.store.http.credentials import Credentials, CredentialsInUse, read_credentials
from controlplane.store.http.notifier import Notifier

_START_SECONDS = 10.0
_FINISH_SECONDS = 2
"""How long requests that are being answered may take when the server stops."""
_CLOSE_SECONDS = 1.0
"""How long clients may take to close their connections then."""
_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 512


@dataclass(frozen=True)
class ServeConfig:
    """Where and how to serve. ``certificate`` and ``private_key`` (PEM) go together: TLS."""

    address: str
    port: int
    token_file: Path
    certificate: Path | None = None
    private_key: Path | None = None

    def credentials(self) -> Credentials:
        """Read the token, the certificate and its key. Raises ``ConfigError``."""
        return read_credentials(self.token_file, self.certificate, self.private_key)


@dataclass(frozen=True)
class Serving:
    """A running server."""

    url: str
    thread: threading.Thread
    credentials: CredentialsInUse

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self.thread.is_alive()


@contextmanager
def serve(
    store: AgentStore, config: ServeConfig, credentials: Credentials | None = None
) -> Iterator[Serving]:
    """Serve ``store`` from a thread of its own for the context's life.

    ``credentials`` are read here unless given. Raises ``ConfigError`` for an invalid token,
    certificate or address, ``BrigadeError`` if the address is in use, all before anything runs.
    Leaving the context ends long polls at once.
    """
    notifier = Notifier(store)
    in_use = CredentialsInUse(credentials or config.credentials())
    server = _server(application(store, in_use, notifier), in_use)
    with _listener(config) as listener:
        scheme = "http" if config.certificate is None else "https"
        url = _url(scheme, listener)
        if scheme == "http" and not ip_address(config.address).is_loopback:
            structlog.get_logger(__name__).warning(
                "store is served in the clear",
                url=url,
                remedy="token and keys can be overheard: set certificate and private_key",
            )
        thread = threading.Thread(
            target=server.run, args=([listener],), name="store-server", daemon=True
        )
        thread.start()
        try:
            _await_start(server, thread)
            yield Serving(url, thread, in_use)
        finally:
            server.should_exit = True
            if thread.is_alive():
                notifier.stop()
            thread.join(_FINISH_SECONDS + _START_SECONDS)


class _Server(uvicorn.Server):
    """Ends within ``_FINISH_SECONDS``, also if clients do not close their side of TLS.

    Such a client, as an agent that is paused, would hold its connection open for 30 s, without a
    request: uvicorn would log that as an error.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all connections; requests that are being answered may finish."""
        timer = asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self._abort_closed)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()

    def _abort_closed(self) -> None:
        """End the connections that are closed on this side only."""
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None and transport.is_closing():
                transport.abort()


def _server(app: ASGIApp, credentials: CredentialsInUse) -> uvicorn.Server:
    settings = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="on",
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_FINISH_SECONDS,
    )
    settings.load()
    settings.ssl = credentials.tls
    return _Server(settings)


@contextmanager
def _listener(config: ServeConfig) -> Iterator[socket.socket]:
    try:
        address = ip_address(config.address)
    except ValueError as error:
        raise ConfigError(f"[listen] address: {error}") from error
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        # Connections inherit it. Without it, a body waits 40 ms for the ACK of its header.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((str(address), config.port))
            listener.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise BrigadeError(
                f"cannot listen on {address} port {config.port}: {reason}; "
                "set [listen] address and port, or end the process that uses them"
            ) from error
        yield listener


def _url(scheme: str, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise BrigadeError("the store's server did not start; see its log")
        thread.join(0.005)

"""An `http:` store's client, and servers that are no store or never answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from controlplane.domain.errors import BrigadeError
from controlplane.store.contract import AgentStore, StoreCorrupt, StoreUnavailable, Version
from controlplane.store.file import generations
from tests.unit.controlplane.store.conftest import opened


@contextmanager
def stranger(answer: bytes) -> Iterator[str]:
    """A server that sends the same bytes to every client and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(65536)
                    peer.sendall(answer)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def answer(status: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers])
    return f"{head}\r\n\r\n".encode() + body


Ask = Callable[[AgentStore], object]


LATEST: Ask = lambda store: store.latest("cluster")  # noqa: E731 a table of what is asked


KINDS: Ask = lambda store: store.kinds()  # noqa: E731


GENERATION = "brigade-generation: 3"


@pytest.mark.parametrize(
    ("sent", "asked", "error"),
    [
        (b"", LATEST, StoreUnavailable),
        (b"SSH-2.0-OpenSSH\r\n", LATEST, StoreUnavailable),
        (answer("200 OK", b"half", GENERATION, length=100), LATEST, StoreUnavailable),
        (answer("200 OK", b"x"), LATEST, StoreUnavailable),
        (answer("200 OK", b"x", "brigade-generation: -3"), LATEST, StoreUnavailable),
        (answer("200 OK", b"x", "brigade-generation: 0"), LATEST, StoreCorrupt),
        (answer("200 OK", b"x" * 2000, GENERATION), LATEST, StoreCorrupt),
        (answer("200 OK", b"<html>"), KINDS, StoreCorrupt),
        (answer("200 OK", b'{"kinds": {"../x": 1}}'), KINDS, StoreCorrupt),
        (answer("200 OK", b'{"kinds": {"cluster": "1"}}'), KINDS, StoreCorrupt),
        (answer("200 OK", b"short"), lambda store: store.key("k"), StoreCorrupt),
        (answer("301 Moved", b"", "location: http://192.0.2.1/"), KINDS, StoreUnavailable),
        (answer("404 Not Found", b"<html>"), LATEST, StoreUnavailable),
        (answer("502 Bad Gateway", b"<html>"), KINDS, StoreUnavailable),
        (answer("503 No", b'{"error": "x", "message": []}'), KINDS, StoreUnavailable),
        (answer("503 No", b'{"error": "unavailable", "message": "m"}'), KINDS, StoreUnavailable),
        (answer("422 No", b'{"error": "corrupt", "message": "a\\u001b"}'), KINDS, StoreCorrupt),
    ],
)
def test_a_stranger_at_the_stores_address_is_an_error_and_no_document(
    held: ExitStack, monkeypatch: pytest.MonkeyPatch, sent: bytes, asked: Ask, error: type
) -> None:
    monkeypatch.setattr("controlplane.store.http.client.MAX_DOCUMENT_BYTES", 1000)
    with stranger(sent) as url, pytest.raises(BrigadeError) as caught:
        asked(opened(held, url))
    assert type(caught.value) is error
    assert str(caught.value).isprintable()


def test_a_document_is_read_up_to_the_largest_size(held: ExitStack) -> None:
    assert generations.MAX_DOCUMENT_BYTES > 8 * (1 << 20)
    with stranger(answer("200 OK", b"x" * 1000, GENERATION)) as url:
        assert opened(held, url).latest("cluster") == Version("cluster", 3, b"x" * 1000)


def test_a_server_that_never_answers_is_given_up(
    held: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.store.http.client._ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        agent = opened(held, f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            agent.wait({}, 0.3)
        assert time.monotonic() - started < 3

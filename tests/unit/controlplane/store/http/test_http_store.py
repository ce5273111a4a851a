"""The `http:` store over real sockets: who may do what, limits, unclean ends."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from structlog.testing import capture_logs

from controlplane.domain.objects import Report
from controlplane.store.contract import (
    ControllerStore,
    StoreCorrupt,
    StoreDenied,
    StoreUnavailable,
    Version,
)
from controlplane.store.file.store import FileStore
from controlplane.store.http import application
from controlplane.store.http.protocol import MAX_REQUEST_BYTES
from controlplane.store.http.server import ServeConfig, Serving, serve
from controlplane.store.reports import encode_report
from netns.polling import wait_until
from tests.unit.controlplane.store.conftest import TOKEN, opened, write_token

Served = tuple[ControllerStore, Serving]
KEY = b"\xc3key-of-the-pool"
REPORT = encode_report(Report("alpha", "b", 1, 0.0))
ACKNOWLEDGEMENT = json.dumps({"server": "alpha", "kind": "cluster", "generation": 1}).encode()
ROUTES = [
    ("GET", "/v1/kinds", b""),
    ("POST", "/v1/wait", b'{"seen": {}, "timeout_seconds": 0}'),
    ("GET", "/v1/documents/cluster", b""),
    ("GET", "/v1/documents/table/web", b""),
    ("GET", "/v1/keys/web-1", b""),
    ("POST", "/v1/servers/alpha/acknowledgement", ACKNOWLEDGEMENT),
    ("PUT", "/v1/servers/alpha/report", REPORT),
]


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for the many requests that change nothing, with a secret beside its store."""
    directory = tmp_path_factory.mktemp("lasting")
    (directory / "secret").write_bytes(b"the secret of 16")
    (directory / "secret").chmod(0o600)
    store = FileStore(directory / "store")
    with serve(store, ServeConfig("127.0.0.1", 0, write_token(directory))) as serving:
        yield store, serving


def ask(
    serving: Serving, method: str, path: str, body: bytes, authorization: str | None
) -> httpx2.Response:
    headers = {} if authorization is None else {"authorization": authorization}
    return httpx2.request(method, f"{serving.url}{path}", content=body, headers=headers)


def fill(store: ControllerStore) -> None:
    store.publish(Version("cluster", 1, b"the cluster"))
    store.publish(Version("table/web", 1, b"the table"))
    store.put_key("web-1", KEY)


WRONG = [
    None,
    "",
    "Bearer",
    TOKEN,
    f"Basic {TOKEN}",
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN.upper()}",
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_nothing_is_done_without_the_token(
    served: Served, method: str, path: str, body: bytes
) -> None:
    store, serving = served
    fill(store)
    for authorization in WRONG:
        answer = ask(serving, method, path, body, authorization)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.content
        assert b"the cluster" not in answer.content
    assert store.reports() == {}
    assert store.acknowledgements() == {}


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_with_the_token_each_is_answered(
    served: Served, method: str, path: str, body: bytes
) -> None:
    store, serving = served
    fill(store)
    answer = ask(serving, method, path, body, f"Bearer {TOKEN}")
    assert answer.status_code in (200, 204)
    assert "server" not in answer.headers


def test_a_wrong_token_is_one_line_with_the_remedy(served: Served, held: ExitStack) -> None:
    agent = opened(held, served[1].url, "wrong")
    for act in (
        agent.kinds,
        lambda: agent.wait({}, 1),
        lambda: agent.latest("cluster"),
        lambda: agent.key("web-1"),
        lambda: agent.report(Report("alpha", "b", 1, 0.0)),
        lambda: agent.acknowledge("alpha", "cluster", 1),
    ):
        with pytest.raises(StoreDenied, match="refused the token: check token_file"):
            act()


def test_an_agent_speaks_for_itself_alone(served: Served) -> None:
    store, serving = served
    for method, path, body in (
        ("PUT", "/v1/servers/beta/report", REPORT),
        ("POST", "/v1/servers/beta/acknowledgement", ACKNOWLEDGEMENT),
    ):
        answer = ask(serving, method, path, body, f"Bearer {TOKEN}")
        assert answer.status_code == 403
        assert "'beta' may not report for 'alpha'" in answer.json()["message"]
    assert store.reports() == {}
    assert store.acknowledgements() == {}


@pytest.mark.parametrize("prefix", ["documents/", "documents/table/", "keys/"])
@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fsecret", "%2e%2e/%2e%2e/secret", "../../secret", "%00", ".", "%2fetc%2fpasswd", ""],
)
def test_no_path_leads_out_of_the_store(lasting: Served, prefix: str, name: str) -> None:
    host, port = lasting[1].url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as raw:  # httpx2 would tidy up the path
        head = f"GET /v1/{prefix}{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        raw.sendall(f"{head}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert int(answer.split()[1]) in (404, 422)
    assert b"secret of" not in answer


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/wait", b""),
        ("/v1/wait", b"{"),
        ("/v1/wait", b"[]"),
        ("/v1/wait", b"{}"),
        ("/v1/wait", b'{"seen": [], "timeout_seconds": 0}'),
        ("/v1/wait", b'{"seen": {"cluster": "1"}, "timeout_seconds": 0}'),
        ("/v1/wait", b'{"seen": {"cluster": -1}, "timeout_seconds": 0}'),
        ("/v1/wait", b'{"seen": {"../x": 1}, "timeout_seconds": 0}'),
        ("/v1/wait", b'{"seen": {}, "timeout_seconds": -1}'),
        ("/v1/wait", b'{"seen": {}, "timeout_seconds": NaN}'),
        ("/v1/wait", b'{"seen": {}, "timeout_seconds": true}'),
        ("/v1/wait", b'{"seen": {}}'),
        ("/v1/servers/alpha/acknowledgement", b'{"server": "alpha"}'),
        (
            "/v1/servers/alpha/acknowledgement",
            b'{"server": "alpha", "kind": "cluster", "generation": true}',
        ),
        (
            "/v1/servers/alpha/acknowledgement",
            b'{"server": "alpha", "kind": 1, "generation": 1}',
        ),
        ("/v1/servers/..%2fx/acknowledgement", b'{"server": "../x"}'),
    ],
)
def test_nonsense_is_refused_as_such(lasting: Served, path: str, body: bytes) -> None:
    store, serving = lasting
    answer = ask(serving, "POST", path, body, f"Bearer {TOKEN}")
    assert answer.status_code in (404, 422)
    assert store.acknowledgements() == {}


@pytest.mark.parametrize("declared", [True, False])
def test_a_request_has_a_largest_size(served: Served, declared: bool) -> None:
    store, serving = served
    large = b'{"server": "alpha", "x": "' + b"x" * (MAX_REQUEST_BYTES + 1) + b'"}'

    def chunks() -> Iterator[bytes]:
        yield large

    answer = httpx2.put(
        f"{serving.url}/v1/servers/alpha/report",
        content=large if declared else chunks(),
        headers={"authorization": f"Bearer {TOKEN}"},
    )
    assert answer.status_code == 422
    assert "larger than" in answer.json()["message"]
    assert store.reports() == {}


def test_a_request_that_never_ends_is_ended(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "BODY_SECONDS", 0.2)
    host, port = served[1].url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as raw:
        head = "PUT /v1/servers/alpha/report HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        raw.sendall(f"{head}Authorization: Bearer {TOKEN}\r\n\r\n{{".encode())
        assert b"422" in raw.recv(100)


def test_no_secret_is_logged_anywhere(
    served: Served, held: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    store, serving = served
    fill(store)
    with caplog.at_level(logging.DEBUG), capture_logs() as logs:
        agent = opened(held, serving.url)
        assert agent.key("web-1") == KEY
        agent.report(Report("alpha", "b", 1, 0.0))
        with pytest.raises(StoreCorrupt):
            agent.key("absent")
        with pytest.raises(StoreDenied):
            opened(held, serving.url, "a-wrong-token").key("web-1")
    output = f"{logs} {caplog.text} {serving!r} {agent!r}"
    assert "token refused" in output
    for secret in (TOKEN, "a-wrong-token", "key-of-the-pool", KEY.hex()):
        assert secret not in output


def test_waiting_agents_cost_no_threads(served: Served, held: ExitStack) -> None:
    store, serving = served
    agents = 80  # twice the server's pool of threads
    before = threading.active_count()
    with ThreadPoolExecutor(agents) as pool:
        stores = [opened(held, serving.url) for _ in range(agents)]
        waiting = [pool.submit(stores[i].wait, {}, 20.0) for i in range(agents)]
        probe = opened(held, serving.url)
        for _ in range(10):
            started = time.monotonic()
            assert probe.kinds() == {}
            assert time.monotonic() - started < 1
        assert threading.active_count() - before - agents < 45
        assert not any(future.done() for future in waiting)
        store.publish(Version("cluster", 1, b"x"))
        started = time.monotonic()
        assert all(future.result(10) == {"cluster": 1} for future in waiting)
        assert time.monotonic() - started < 3


def test_stopping_ends_long_polls_at_once(tmp_path: Path, held: ExitStack) -> None:
    store = FileStore(tmp_path / "store")
    with ThreadPoolExecutor(4) as pool:
        with serve(store, ServeConfig("127.0.0.1", 0, write_token(tmp_path))) as serving:
            waiting = [pool.submit(opened(held, serving.url).wait, {}, 60.0) for _ in range(4)]
            wait_until(lambda: sum(f.running() for f in waiting) == 4, "four long polls")
            opened(held, serving.url).kinds()
            started = time.monotonic()
        for future in waiting:
            with pytest.raises(StoreUnavailable):
                future.result(10)
        assert time.monotonic() - started < 1.5
    assert not serving.alive
    assert store.kinds() == {}  # the store is its owner's and stays open
    with pytest.raises(StoreUnavailable, match="does not answer") as caught:
        opened(held, serving.url).kinds()
    assert caught.value.exit_code == 5


def test_an_agent_outlives_its_controller(tmp_path: Path, held: ExitStack) -> None:
    store = FileStore(tmp_path / "store")
    token = write_token(tmp_path)
    with serve(store, ServeConfig("127.0.0.1", 0, token)) as serving:
        agent = opened(held, serving.url)
        assert agent.kinds() == {}
    with pytest.raises(StoreUnavailable):
        agent.report(Report("alpha", "b", 1, 0.0))
    port = int(serving.url.rpartition(":")[2])
    with serve(store, ServeConfig("127.0.0.1", port, token)):
        agent.report(Report("alpha", "b", 2, 0.0))
        assert store.reports()["alpha"].sequence == 2


def test_a_broken_store_behind_it_is_said_and_mended(
    served: Served, held: ExitStack, tmp_path: Path
) -> None:
    store, serving = served
    fill(store)
    agent = opened(held, serving.url)
    (tmp_path / "store/keys/web-1").chmod(0o644)
    with pytest.raises(StoreDenied, match="chmod 600"):
        agent.key("web-1")
    with pytest.raises(StoreCorrupt, match="no key"):
        agent.key("absent")
    (tmp_path / "store/documents").rename(tmp_path / "away")
    with pytest.raises(StoreUnavailable):
        agent.kinds()
    shutil.rmtree(tmp_path / "store/documents", ignore_errors=True)  # made anew, empty
    (tmp_path / "away").rename(tmp_path / "store/documents")
    wait_until(
        lambda: agent.wait({}, 1.0) == {"cluster": 1, "table/web": 1},
        "the documents that were away",
    )


def test_proxies_of_the_environment_are_ignored(
    served: Served, held: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://192.0.2.1:1")
    assert opened(held, served[1].url).kinds() == {}

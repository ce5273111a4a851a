"""Load from Prometheus: strange answers, and a real Prometheus whose numbers shares follow."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from controlplane.observe import prometheus as prometheus_module
from controlplane.observe.prometheus import (
    PrometheusLoad,
    Query,
    QueryFailed,
    ask,
    loads_of,
    samples,
)
from netns.polling import wait_until
from tests.needed import missing
from tests.unit.controlplane.conftest import Fleet

DIPS = {"s1": "10.1.0.1", "s2": "10.1.0.2", "s3": "10.1.0.3"}


def sample(value: Any, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [1700000000.0, value]}


def test_samples_are_matched_by_name_dip_or_instance() -> None:
    vector = [
        sample("0.25", instance="s1"),
        sample("0.5", instance="10.1.0.2"),
        sample("0.75", instance="10.1.0.3:9100"),
        sample("0.9", instance="another"),
    ]
    assert loads_of(samples(vector, "instance"), DIPS) == {"s1": 0.25, "s2": 0.5, "s3": 0.75}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "many", None, []])
def test_what_is_no_load_is_unknown(value: Any) -> None:
    found = samples([sample(value, instance="s1"), sample("1", instance="s2")], "instance")
    assert loads_of(found, DIPS) == {"s1": None, "s2": 1.0, "s3": None}


def test_two_samples_of_one_server_are_none() -> None:
    vector = [sample("1", instance="s1", job="a"), sample("2", instance="s1", job="b")]
    assert samples(vector, "instance") == {}


@pytest.mark.parametrize("result", [None, {}, "x", [None], [{}], [{"metric": {}}], [[1]]])
def test_strange_vectors_do_no_harm(result: Any) -> None:
    assert samples(result, "instance") == {}


def client(status: int, body: str) -> httpx2.Client:
    return httpx2.Client(
        transport=httpx2.MockTransport(lambda _: httpx2.Response(status, text=body))
    )


QUERY = Query("http://p:9090/", "up", "instance")


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (502, "bad gateway", "status 502"),
        (200, "[]", "status 200"),
        (400, json.dumps({"status": "error", "error": "parse error"}), "parse error"),
        (200, json.dumps({"status": "success", "data": {"resultType": "matrix"}}), "instant"),
        (200, json.dumps({"status": "success", "data": 5}), "instant"),
    ],
)
def test_answers_that_are_none_say_why(status: int, body: str, reason: str) -> None:
    with client(status, body) as http, pytest.raises(QueryFailed, match=reason):
        ask(http, QUERY)


def test_a_password_is_sent_and_never_shown() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(401, text="no")

    secret = Query("http://us:s3cr%40et@p:9090/x", "up", "instance")
    transport = httpx2.MockTransport(answer)
    with httpx2.Client(transport=transport) as http, pytest.raises(QueryFailed) as caught:
        ask(http, secret)
    assert "s3cr" not in str(caught.value)
    assert str(seen[0].url).startswith("http://p:9090/x/api/v1/query")
    assert base64.b64decode(seen[0].headers["authorization"].split()[1]) == b"us:s3cr@et"
    with httpx2.Client() as http, pytest.raises(QueryFailed) as caught:
        ask(http, Query("http://us:s3cret@127.0.0.1:1", "up", "instance"))
    assert "s3cret" not in str(caught.value)


def test_ending_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop ends an asker when settings change, and has deaths to look after."""
    asked, answer = threading.Event(), threading.Event()

    def endless(client: httpx2.Client, query: Query) -> dict[str, float]:
        del client, query
        asked.set()
        answer.wait(10.0)
        return {}

    monkeypatch.setattr(prometheus_module, "ask", endless)
    asker = PrometheusLoad(Query("http://192.0.2.1", "x", "server"), 1.0)
    assert asked.wait(5.0)
    started = time.monotonic()
    asker.close()
    assert time.monotonic() - started < 1.0
    answer.set()


def test_nobody_there_says_so() -> None:
    with httpx2.Client() as http, pytest.raises(QueryFailed, match=r"127\.0\.0\.1"):
        ask(http, Query("http://127.0.0.1:1", "up", "instance"))


class Exporter:
    """A tiny exporter: ``busy{server="s1"} 0.5``."""

    def __init__(self) -> None:
        self.busy: dict[str, float] = {}
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                lines = [f'busy{{server="{n}"}} {v}\n' for n, v in exporter.busy.items()]
                body = "".join(lines).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    found = Exporter()
    yield found
    found.close()


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture(scope="module")
def prometheus(exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a real Prometheus on loopback that scrapes the exporter; returns its URL."""
    program = shutil.which("prometheus")
    if program is None:
        missing("prometheus is not installed (apt-get install prometheus)")
    directory = tmp_path_factory.mktemp("prometheus")
    settings = directory / "prometheus.yml"
    settings.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        "scrape_configs:\n- job_name: busy\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{exporter.port}']}}]\n"
    )
    port = free_port()
    process = subprocess.Popen(
        [
            program,
            f"--config.file={settings}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def test_shares_follow_a_real_prometheus(fleet: Fleet, prometheus: str, exporter: Exporter) -> None:
    exporter.busy = {"s1": 0.2, "s2": 0.8}
    pool = {
        "name": "web",
        "buckets": 1024,
        "load": "prometheus",
        "prometheus_url": prometheus,
        "query": "max by (server) (busy)",
        "server_label": "server",
    }
    fleet.up(2, pool=[pool])
    assert fleet.current() == {"s1": 512, "s2": 512}
    wait_until(lambda: fleet.current()["s1"] > 560, "the idle one gets more", 20)
    # Its sample disappears: unknown is not idle, and one alone cannot be compared.
    del exporter.busy["s1"]
    wait_until(lambda: settled_shares(fleet), "nothing moves", 10)
    before = fleet.current()
    exporter.busy = {"s1": 0.9, "s2": 0.1}
    wait_until(lambda: fleet.current()["s1"] < before["s1"], "the busy one gets less", 20)


def settled_shares(fleet: Fleet) -> bool:
    """Whether a second passed without a new table."""
    generation = (table := fleet.table()) and table.generation
    for _ in range(10):
        fleet.store.wait({"cluster": 1 << 40, "table/web": generation or 0}, 0.1)
        table = fleet.table()
        if table and table.generation != generation:
            return False
    return True


def test_old_answers_are_unknown(prometheus: str, exporter: Exporter) -> None:
    exporter.busy = {"s1": 0.25, "10.1.0.2": 0.5}
    now = [0.0]
    asker = PrometheusLoad(Query(prometheus, "busy", "server"), 0.1, lambda: now[0])
    try:
        expected = {"s1": 0.25, "s2": 0.5, "s3": None}
        wait_until(lambda: asker.loads(DIPS) == expected, "loads", 20)
    finally:
        asker.close()
    now[0] = 0.3
    assert asker.loads(DIPS) == expected
    now[0] = 0.31
    assert asker.loads(DIPS) == {"s1": None, "s2": None, "s3": None}

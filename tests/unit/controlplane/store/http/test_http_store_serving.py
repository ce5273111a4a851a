"""Serving an `http:` store: TLS, certificates, addresses, starts that fail."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvicorn
from structlog.testing import capture_logs

from controlplane.domain.errors import BrigadeError, ConfigError
from controlplane.domain.objects import Report
from controlplane.store.contract import StoreDenied, StoreUnavailable, Version
from controlplane.store.file.store import FileStore
from controlplane.store.http.server import ServeConfig, serve
from tests.unit.controlplane.store.conftest import opened, write_token
from tests.unit.controlplane.store.helpers import certificate, later


def test_tls(tmp_path: Path, held: ExitStack) -> None:
    store = FileStore(tmp_path / "store")
    pem, key = certificate(tmp_path)
    config = ServeConfig("127.0.0.1", 0, write_token(tmp_path), pem, key)
    with serve(store, config) as serving:
        assert serving.url.startswith("https://")
        agent = opened(held, serving.url, ca=pem)
        agent.report(Report("alpha", "b", 1, 0.0))
        with later(0.1, lambda: store.publish(Version("cluster", 1, b"x"))):
            assert agent.wait({}, 10.0) == {"cluster": 1}
        with pytest.raises(StoreDenied, match=r"certificate.*check ca_file"):
            opened(held, serving.url).kinds()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            opened(held, serving.url.replace("https", "http")).kinds()
    assert set(store.reports()) == {"alpha"}


@pytest.mark.parametrize("wrong", ["half", "swapped", "absent", "empty", "encrypted"])
def test_a_wrong_certificate_is_one_line_and_no_prompt(tmp_path: Path, wrong: str) -> None:
    pem, key = certificate(tmp_path)
    pair: tuple[Path, Path | None] = (pem, key)
    if wrong == "half":
        pair = (pem, None)
    elif wrong == "swapped":
        pair = (key, pem)
    elif wrong == "absent":
        pair = (pem, tmp_path / "absent")
    elif wrong == "empty":
        pem.write_text("")
    else:
        command = f"openssl rsa -in {key} -aes128 -passout pass:x -out {key}.enc".split()
        subprocess.run(command, check=True, capture_output=True)
        pair = (pem, Path(f"{key}.enc"))
    config = ServeConfig("127.0.0.1", 0, write_token(tmp_path), *pair)
    with (
        pytest.raises(ConfigError, match="private_key"),
        serve(FileStore(tmp_path / "store"), config),
    ):
        pytest.fail("served")


def test_an_address_that_is_taken_is_said_before_anything_runs(tmp_path: Path) -> None:
    store, token = FileStore(tmp_path / "store"), write_token(tmp_path)
    with serve(store, ServeConfig("127.0.0.1", 0, token)) as serving:
        port = int(serving.url.rpartition(":")[2])
        before = threading.active_count()
        with (
            pytest.raises(BrigadeError, match=rf"cannot listen on 127.0.0.1 port {port}.*in use"),
            serve(store, ServeConfig("127.0.0.1", port, token)),
        ):
            pytest.fail("served twice")
        assert threading.active_count() == before
    for address, wrong_port in (("192.0.2.77", 0), ("127.0.0.1", 70000)):
        with (
            pytest.raises(BrigadeError, match="cannot listen"),
            serve(store, ServeConfig(address, wrong_port, token)),
        ):
            pytest.fail("served")
    with (
        pytest.raises(ConfigError, match="address"),
        serve(store, ServeConfig("localhost", 0, token)),
    ):
        pytest.fail("served")


@pytest.mark.parametrize(
    ("address", "tls", "warned"),
    [("127.0.0.1", False, False), ("0.0.0.0", False, True), ("0.0.0.0", True, False)],
)
def test_serving_in_clear_beyond_loopback_is_warned_of(
    tmp_path: Path, address: str, tls: bool, warned: bool
) -> None:
    pair = certificate(tmp_path) if tls else (None, None)
    config = ServeConfig(address, 0, write_token(tmp_path), *pair)
    with capture_logs() as logs, serve(FileStore(tmp_path / "store"), config):
        pass
    assert ("store is served in the clear" in {log["event"] for log in logs}) == warned


@pytest.mark.parametrize("asks", [False, True], ids=["idle", "in a long poll"])
def test_a_client_that_does_not_read_makes_the_end_no_error(
    tmp_path: Path, held: ExitStack, caplog: pytest.LogCaptureFixture, asks: bool
) -> None:
    """Its side of TLS is never closed, as with an agent that is stopped (SIGSTOP)."""
    store, token = FileStore(tmp_path / "store"), write_token(tmp_path)
    pem, key = certificate(tmp_path)
    with serve(store, ServeConfig("127.0.0.1", 0, token, pem, key)) as serving:
        address = ("127.0.0.1", int(serving.url.rpartition(":")[2]))
        context = ssl.create_default_context(cafile=str(pem))
        raw = held.enter_context(socket.create_connection(address))
        client = held.enter_context(context.wrap_socket(raw, server_hostname="127.0.0.1"))
        if asks:
            body = b'{"seen":{},"timeout_seconds":30}'
            head = f"POST /v1/wait HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
            head += f"authorization: Bearer {token.read_text().strip()}\r\n\r\n"
            client.sendall(head.encode() + body)
            opened(held, serving.url, ca=pem).kinds()
    assert not serving.alive
    assert [record.getMessage() for record in caplog.records] == []


def test_a_request_that_does_not_end_with_the_server_is_an_error(
    tmp_path: Path, held: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    store, token = FileStore(tmp_path / "store"), write_token(tmp_path)
    with serve(store, ServeConfig("127.0.0.1", 0, token)) as serving:
        address = ("127.0.0.1", int(serving.url.rpartition(":")[2]))
        client = held.enter_context(socket.create_connection(address))
        head = "POST /v1/wait HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n"
        head += f"authorization: Bearer {token.read_text().strip()}\r\n\r\n"
        client.sendall(head.encode())
        opened(held, serving.url).kinds()
    assert "Cancel 1 running task(s)" in caplog.text


def test_a_server_that_does_not_start_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_: None)
    config = ServeConfig("127.0.0.1", 0, write_token(tmp_path))
    with (
        pytest.raises(BrigadeError, match="did not start"),
        serve(FileStore(tmp_path / "store"), config),
    ):
        pytest.fail("served")

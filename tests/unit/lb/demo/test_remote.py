"""Restarts by a command: what is asked is done, and a failure is the command's exit code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controlplane.domain.errors import BrigadeError
from controlplane.operator.rolling.command import words_for
from lb.demo.site.remote import DONE, Remote, command, request


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "remote.sock"


def test_an_action_is_done_with_the_server_that_is_named(socket: Path) -> None:
    done: list[str] = []
    with Remote(socket, {"restart": done.append}):
        assert request(socket, "server2", "restart") == DONE
        words = words_for(command(socket, "restart"), "server3", "10.0.3.2")
        assert subprocess.run(words, check=False, capture_output=True).returncode == 0
    assert done == ["server2", "server3"]
    assert not socket.exists()


def test_a_failure_is_the_exit_code_of_the_command(socket: Path) -> None:
    def fails(server: str) -> None:
        raise BrigadeError(f"{server} does not start")

    with Remote(socket, {"restart": fails}):
        words = words_for(command(socket, "restart"), "server1", "10.0.1.2")
        ended = subprocess.run(words, check=False, capture_output=True, text=True)
        assert ended.returncode == 1
        assert ended.stdout == "restart of server1: server1 does not start\n"
        assert "other of server1: 'other'" in request(socket, "server1", "other")

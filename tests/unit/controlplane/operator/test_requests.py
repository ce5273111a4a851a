"""Who requests something, when and why."""

from __future__ import annotations

import os
import pwd
import socket
import time

import pytest

from controlplane.domain.controller_state import DrainRequest
from controlplane.operator.requests import drain_request, operator, request_text


def test_the_user_behind_sudo_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    assert operator() == f"ann@{socket.gethostname()}"
    monkeypatch.delenv("SUDO_USER")
    assert operator() == f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert operator().startswith(f"uid {os.getuid()}@")


def test_a_request_is_of_now_and_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 12.0)
    request = drain_request("disk\n" + "x" * 500)
    assert request.at == 12.0
    assert request.reason.startswith("disk?xxx")
    assert len(request.reason) == 160


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (DrainRequest(), ""),
        (DrainRequest("a@b", 0.0, "disk"), " by a@b: disk"),
        (DrainRequest("", 0.0, "disk"), ": disk"),
    ],
)
def test_what_is_unknown_is_left_out(request_: DrainRequest, text: str) -> None:
    assert request_text(request_) == text
    when = request_text(DrainRequest("a@b", 1_000_000_000.0))
    assert when.startswith(" by a@b at 2001-09-0")

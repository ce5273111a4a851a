"""One holder for each interface; who asks learns who it is; it goes with its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid

import pytest

from controlplane.domain.errors import BrigadeError, ExitCode
from lb.agent.machine.lock import Holder, find_holder, interface_lock


@pytest.fixture
def interface() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


def test_the_second_gets_an_error_that_names_the_first(interface: str) -> None:
    assert find_holder(interface) is None
    with interface_lock(interface):
        assert find_holder(interface) == Holder(os.getpid(), os.getuid())
        with pytest.raises(BrigadeError, match=f"process {os.getpid()}") as caught:
            interface_lock(interface).__enter__()
        assert caught.value.exit_code == ExitCode.REFUSED
    assert find_holder(interface) is None


def test_roles_do_not_exclude_each_other(interface: str) -> None:
    with interface_lock(interface), interface_lock(interface, "down"):
        assert find_holder(interface, "down") is not None


def test_many_may_ask(interface: str) -> None:
    with interface_lock(interface):
        assert all(find_holder(interface) for _ in range(200))


def test_sigkill_gives_it_back(interface: str) -> None:
    code = (
        "import time; from lb.agent.machine.lock import interface_lock\n"
        f"with interface_lock({interface!r}): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        holder = find_holder(interface)
        assert holder is not None
        assert holder.pid == process.pid
        process.send_signal(signal.SIGKILL)
    assert find_holder(interface) is None
    with interface_lock(interface):
        pass


def test_another_users_process_is_named_and_systemd_tries_again(
    interface: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user can take the name; an exit code that prevents restarts would keep the agent down."""
    with interface_lock(interface):
        stranger = Holder(4711, os.getuid() + 1000)
        monkeypatch.setattr("lb.agent.machine.lock.find_holder", lambda *_: stranger)
        with pytest.raises(BrigadeError, match=f"process 4711 of user id {stranger.uid}") as caught:
            interface_lock(interface).__enter__()
        assert caught.value.exit_code == ExitCode.FAILED

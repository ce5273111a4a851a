"""The programs are loaded once for all data-plane tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.dataplane.maps import grace
from netns.libc import mount, unmount
from tests.dataplane.in_kernel import InKernel
from tests.dataplane.own_netns import OwnNetns
from tests.dataplane.rig import Rig
from tests.dataplane.socket_case import Case, make_server


@pytest.fixture(scope="session")
def loaded_rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
def rig(loaded_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """No packet is in flight between two test runs, so nothing has to wait for one."""
    monkeypatch.setattr(grace, "GRACE_SECONDS", 0.0)
    return loaded_rig


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A bpffs of this test's own; its pins go with it."""
    folder = tmp_path / "bpf"
    folder.mkdir()
    mount("bpf", folder, "bpf")
    try:
        yield folder
    finally:
        unmount(folder)


@pytest.fixture(scope="session")
def socket_server() -> Iterator[OwnNetns]:
    """A server's network namespace; tests leave no sockets in it."""
    with make_server() as netns:
        yield netns


@pytest.fixture
def kernel(rig: Rig, socket_server: OwnNetns) -> InKernel:
    """The programs in the kernel as an executor of rows."""
    return InKernel(rig, socket_server)


@pytest.fixture
def case(rig: Rig, socket_server: OwnNetns) -> Iterator[Case]:
    """That server with its redirector, and sockets that go with the test."""
    made = Case(rig, socket_server)
    with made.sockets:
        yield made

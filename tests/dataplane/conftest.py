"""The programs are loaded once for all data-plane tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.dataplane import grace
from netns.libc import mount, unmount
from tests.dataplane.rig import Rig


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

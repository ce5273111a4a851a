"""Which pinned map a new agent takes for the array that others' programs jump through."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lb import abi
from lb.agent.attach import guests
from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall, root_array
from lb.dataplane.load.bpf_syscall import MapInfo

OURS = MapInfo(bpf_syscall.MAP_TYPE_PROG_ARRAY, 9, 4, 4, 5, 0, "lb_root_slots")
XDP = bpf_syscall.ATTACH_TYPE_XDP
USUAL, LEFT = "eth0~100", ("eth0~100:0", "eth0~100:3-new-77", "eth0~100:old")


class Pinned:
    """A bpffs: maps by the paths of their pins, each with the attach types that it takes."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        maps: Mapping[Path, MapInfo],
        takes: Mapping[MapInfo, tuple[int, ...]] | None = None,
    ) -> None:
        self._maps = maps
        self._takes = takes or {}
        self.open: dict[int, MapInfo] = {}
        monkeypatch.setattr(bpf_syscall, "obj_get", self._get)
        monkeypatch.setattr(bpf_syscall, "map_info", self.open.__getitem__)
        monkeypatch.setattr(bpf_syscall, "prog_load", self._load)

    def _get(self, path: Path) -> int:
        if path not in self._maps:
            raise OSError(errno.ENOENT, "No such file or directory")
        descriptor = os.open("/dev/null", os.O_RDONLY)
        self.open[descriptor] = self._maps[path]
        return descriptor

    def _load(
        self,
        _type: int,
        code: bytes,
        *,
        name: str,
        expected_attach_type: int,
    ) -> int:
        array = self.open[int.from_bytes(code[4:8], "little")]
        if expected_attach_type not in self._takes.get(array, (XDP, 0)):
            raise OSError(errno.EINVAL, "Invalid argument")
        return os.open("/dev/null", os.O_RDONLY)

    def leaked(self) -> int:
        """How many descriptors are open still."""
        return sum(Path(f"/proc/self/fd/{number}").exists() for number in self.open)


@pytest.fixture
def pins(tmp_path: Path) -> tuple[Path, ...]:
    """Where eth0.100's array may be; others have pins too."""
    for name in (*LEFT, "eth0", "eth0:0", "eth0~1001:0"):
        (tmp_path / name).mkdir()
    return guests.root_pins(tmp_path, "eth0.100")


def test_an_agent_that_died_may_have_left_it_elsewhere(
    tmp_path: Path, pins: tuple[Path, ...]
) -> None:
    assert pins == tuple(tmp_path / name / "root" for name in (USUAL, *LEFT))


def test_the_array_is_found_wherever_it_is(
    monkeypatch: pytest.MonkeyPatch, pins: tuple[Path, ...]
) -> None:
    for pin in pins:
        pinned = Pinned(monkeypatch, {pin: OURS})
        found = root_array.find_root(pins, (XDP, 0))
        assert found is not None
        assert pinned.open[found.fd] == OURS
        assert found.xdp_attach_type == XDP
        assert pinned.leaked() == 1
        os.close(found.fd)


def test_without_a_pin_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Pinned(monkeypatch, {})
    assert root_array.find_root(guests.root_pins(tmp_path / "nothing", "eth0"), (XDP,)) is None
    assert root_array.find_root((), (XDP,)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"map_type": bpf_syscall.MAP_TYPE_ARRAY},
        {"key_size": 8},
        {"value_size": 8},
        {"max_entries": 16},
        {"max_entries": 4},
        {"flags": bpf_syscall.F_MMAPABLE},
    ],
    ids=["type", "key", "value", "more", "fewer", "flags"],
)
def test_what_another_version_has_left_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, pins: tuple[Path, ...], change: dict[str, Any]
) -> None:
    other = replace(OURS, map_id=10, **change)
    pinned = Pinned(monkeypatch, {pins[0]: other})
    assert root_array.find_root(pins, (XDP, 0)) is None
    assert pinned.leaked() == 0
    pinned = Pinned(monkeypatch, {pins[0]: other, pins[2]: OURS})
    found = root_array.find_root(pins, (XDP, 0))
    assert found is not None
    assert pinned.leaked() == 1
    os.close(found.fd)


def test_programs_are_of_the_type_that_the_array_takes(
    monkeypatch: pytest.MonkeyPatch, pins: tuple[Path, ...]
) -> None:
    """An agent whose bcc could not say 37 has left it, with others' programs of type 0."""
    pinned = Pinned(monkeypatch, {pins[0]: OURS}, {OURS: (0,)})
    found = root_array.find_root(pins, (XDP, 0))
    assert found is not None
    assert found.xdp_attach_type == 0
    os.close(found.fd)
    assert root_array.find_root(pins, (XDP,)) is None
    assert pinned.leaked() == 0


def test_a_pin_that_cannot_be_opened_is_named(
    monkeypatch: pytest.MonkeyPatch, pins: tuple[Path, ...]
) -> None:
    def refuse(_path: Path) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(bpf_syscall, "obj_get", refuse)
    with pytest.raises(DataplaneError, match=r"eth0~100/root: Operation not permitted"):
        root_array.find_root(pins, (XDP,))


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOMEM])
def test_a_kernel_that_does_not_let_us_try_is_told_of(
    monkeypatch: pytest.MonkeyPatch, pins: tuple[Path, ...], number: int
) -> None:
    """Locked down, or short of memory."""
    pinned = Pinned(monkeypatch, {pins[0]: OURS})

    def refuse(*_arguments: Any, **_more: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(bpf_syscall, "prog_load", refuse)
    with pytest.raises(DataplaneError, match=os.strerror(number)):
        root_array.find_root(pins, (XDP,))
    assert pinned.leaked() == 0


def test_slots_that_others_use_keep_their_numbers() -> None:
    slots = {"BEFORE": 0, "BEFORE_2": 1, "FORWARDER": 2, "AFTER": 3, "AFTER_2": 4, "COUNT": 5}
    assert {slot.name: int(slot) for slot in abi.Slot} == slots

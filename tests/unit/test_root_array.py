"""Which pinned map a new agent takes for the array that others' programs jump through."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from lb import abi
from lb.agent.root import root_pins
from lb.dataplane import bpf_syscall, root_array
from lb.dataplane.bpf_syscall import MapInfo
from lb.dataplane.errors import DataplaneError

OURS = MapInfo(bpf_syscall.MAP_TYPE_PROG_ARRAY, 9, 4, 4, 5, 0, "lb_root_slots")
PINS = root_pins(Path("/pins"), "eth0.100")


class Pinned:
    """A bpffs: descriptors of maps by the paths of their pins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, maps: dict[Path, MapInfo]) -> None:
        self._maps = maps
        self._open: dict[int, MapInfo] = {}
        monkeypatch.setattr(bpf_syscall, "obj_get", self._get)
        monkeypatch.setattr(bpf_syscall, "map_info", self._open.__getitem__)

    def _get(self, path: Path) -> int:
        if path not in self._maps:
            raise OSError(errno.ENOENT, "No such file or directory")
        descriptor = os.open("/dev/null", os.O_RDONLY)
        self._open[descriptor] = self._maps[path]
        return descriptor

    def leaked(self) -> int:
        """How many descriptors are open still."""
        return sum(Path(f"/proc/self/fd/{number}").exists() for number in self._open)


def test_the_array_is_found_wherever_an_agent_that_died_has_left_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [str(pin) for pin in PINS] == [
        "/pins/eth0~100/root",
        "/pins/eth0~100:old/root",
        "/pins/eth0~100:new/root",
    ]
    for pin in PINS:
        pinned = Pinned(monkeypatch, {pin: OURS})
        found = root_array.find_root(PINS)
        assert found is not None
        assert pinned.leaked() == 1
        os.close(found)


def test_without_a_pin_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Pinned(monkeypatch, {})
    assert root_array.find_root(PINS) is None
    assert root_array.find_root(()) is None


@pytest.mark.parametrize(
    "other",
    [
        replace(OURS, map_type=bpf_syscall.MAP_TYPE_ARRAY),
        replace(OURS, key_size=8),
        replace(OURS, value_size=8),
        replace(OURS, max_entries=16),
        replace(OURS, max_entries=4),
        replace(OURS, flags=bpf_syscall.F_RDONLY),
    ],
    ids=["type", "key", "value", "more", "fewer", "flags"],
)
def test_something_else_is_refused_with_how_to_remove_it(
    monkeypatch: pytest.MonkeyPatch, other: MapInfo
) -> None:
    pinned = Pinned(monkeypatch, {PINS[0]: other})
    with pytest.raises(DataplaneError, match=r"rm /pins/eth0~100/root;.*lbctl up") as caught:
        root_array.find_root(PINS)
    assert "\n" not in str(caught.value)
    assert pinned.leaked() == 0


def test_slots_that_others_use_keep_their_numbers() -> None:
    slots = {"BEFORE": 0, "BEFORE_2": 1, "FORWARDER": 2, "AFTER": 3, "AFTER_2": 4, "COUNT": 5}
    assert {slot.name: int(slot) for slot in abi.Slot} == slots

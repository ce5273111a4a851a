"""VIPs on lo: ours come and go, others' stay, the record is ahead of the change."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from lb.agent.place import Place
from lb.agent.record import Journal, Record, read_record
from lb.agent.vips import VipKeeper

A, B, C = (IPv4Address(f"192.0.2.{n}") for n in (10, 20, 30))


class Lo:
    """Addresses, and what the record said at each change."""

    def __init__(self, state_dir: Path, *present: IPv4Address) -> None:
        self.state_dir = state_dir
        self.present = dict.fromkeys(present, 1)
        self.recorded: list[tuple[str, bool]] = []

    def _recorded(self, vip: IPv4Address) -> bool:
        record = read_record(self.state_dir)
        return record is not None and vip in record.vips

    def add(self, _: Any, vip: IPv4Address) -> None:
        self.recorded.append((f"+{vip}", self._recorded(vip)))
        self.present[vip] = 1

    def remove(self, _: Any, vip: IPv4Address) -> None:
        self.recorded.append((f"-{vip}", self._recorded(vip)))
        self.present.pop(vip, None)

    def addresses(self, _: Any) -> Mapping[IPv4Address, int]:
        return self.present


def keeper(lo: Lo, *ours: IPv4Address) -> VipKeeper:
    journal = Journal(lo.state_dir, Record(Place("b", "n"), "eth0", "/b"))
    journal.note(vips=ours)
    made = VipKeeper(
        None, journal, add=lo.add, remove=lo.remove, addresses=lambda n: dict(lo.addresses(n))
    )
    made.enabled = True
    return made


def test_nothing_happens_before_it_is_enabled(tmp_path: Path) -> None:
    lo = Lo(tmp_path)
    vips = keeper(lo)
    vips.enabled = False
    vips.extend(frozenset({A}))
    vips.shrink(frozenset())
    assert lo.recorded == []


def test_each_is_recorded_before_it_is_added_and_until_it_is_removed(tmp_path: Path) -> None:
    lo = Lo(tmp_path)
    vips = keeper(lo)
    vips.extend(frozenset({A, B}))
    vips.shrink(frozenset({B}))
    assert lo.recorded == [(f"+{A}", True), (f"+{B}", True), (f"-{A}", True)]
    assert set(lo.present) == {B}


def test_one_that_was_there_before_is_neither_added_nor_removed(tmp_path: Path) -> None:
    lo = Lo(tmp_path, A)
    vips = keeper(lo)
    vips.extend(frozenset({A, B}))
    vips.shrink(frozenset())
    assert set(lo.present) == {A}
    assert [change for change, _ in lo.recorded] == [f"+{B}", f"-{B}"]


@pytest.mark.parametrize("still_there", [True, False])
def test_those_of_a_killed_agent_are_taken_over(tmp_path: Path, still_there: bool) -> None:
    lo = Lo(tmp_path, *((A,) if still_there else ()))
    vips = keeper(lo, A, C)
    vips.shrink(frozenset({A, B}))
    vips.extend(frozenset({A, B}))
    assert set(lo.present) == {A, B}
    record = read_record(tmp_path)
    assert record is not None
    assert set(record.vips) == {A, B}

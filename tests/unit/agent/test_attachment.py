"""The order in which programs get onto the interface, and what is written down before."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from lb.agent import bpffs, clsact, root, xdp
from lb.agent.attachment import Attachment
from lb.agent.config import AgentConfig
from lb.agent.netlink import LinkInfo
from lb.agent.place import Place
from lb.agent.record import Journal, Record, read_record
from lb.agent.xdp import AttachedXdp

LINK = LinkInfo(3, "eth0", bytes(6), 1500, up=True, addresses=frozenset())


class Programs:
    """A data plane of which only the numbers matter."""

    forwarder_fd, redirector_fd = 7, 8

    def __init__(self, happened: list[str]) -> None:
        self._happened = happened

    def program_ids(self) -> tuple[int, int]:
        return 70, 80

    def pin(self, directory: Path) -> None:
        self._happened.append("pin")

    def enter_root(self) -> None:
        self._happened.append("others go on to the new forwarder")


@pytest.fixture
def happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done to the interface, in order, and what was on record by then."""
    done: list[str] = []

    def note(what: str) -> None:
        record = read_record(tmp_path)
        assert record is not None
        done.append(what)
        assert 70 in record.forwarders
        assert 80 in record.redirectors

    def attach_filter(_netlink: Any, _index: int, descriptor: int) -> None:
        note(f"redirector {descriptor}")

    def attach_xdp(
        _netlink: Any, _index: int, descriptor: int, mode: str, old: Any, *, remedy: str
    ) -> None:
        assert remedy
        note(f"forwarder {descriptor} {mode} for {old}")

    def add_clsact(_netlink: Any, _index: int) -> None:
        note("clsact")
        record = read_record(tmp_path)
        assert record is not None
        assert record.clsact_made

    def take_place(_base: Path, _interface: str) -> Path:
        note("pins take place")
        return tmp_path

    monkeypatch.setattr(clsact, "has_clsact", lambda *_: False)
    monkeypatch.setattr(clsact, "add_clsact", add_clsact)
    monkeypatch.setattr(clsact, "attach_filter", attach_filter)
    monkeypatch.setattr(xdp, "attach_xdp", attach_xdp)
    monkeypatch.setattr(xdp, "query_xdp", lambda *_: AttachedXdp(native=60))
    monkeypatch.setattr(root, "foreign_programs", lambda _pin: {})
    monkeypatch.setattr(bpffs, "prepare", lambda _base: None)
    monkeypatch.setattr(bpffs, "fresh_directory", lambda base, _interface: base)
    monkeypatch.setattr(bpffs, "take_place", take_place)
    return done


def test_the_redirector_is_there_before_the_forwarder_and_all_is_written_down(
    tmp_path: Path, happened: list[str]
) -> None:
    """Else packets that are encapsulated to this very server would meet nobody who decides."""
    config = AgentConfig(
        name="s1", interface="eth0", dip=IPv4Address("10.0.0.2"), bpffs=tmp_path / "pins"
    )
    record = Record(Place("boot", "net"), "eth0", str(config.bpffs), forwarders=(60,))
    journal = Journal(tmp_path, record)
    Attachment(None, LINK, config, journal).attach(Programs(happened))
    assert happened == [
        "pin",
        "clsact",
        "redirector 8",
        "forwarder 7 native for 60",
        "others go on to the new forwarder",
        "pins take place",
    ]
    assert (journal.record.forwarders, journal.record.redirectors) == ((70,), (80,))

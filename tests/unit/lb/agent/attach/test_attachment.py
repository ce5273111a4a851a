"""The order in which programs get onto the interface, and what is written down before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.errors import BrigadeError
from lb.agent.attach import attachment, bpffs, clsact, guests, xdp
from lb.agent.attach.attachment import Attachment
from lb.agent.attach.xdp import AttachedXdp
from lb.agent.config import AgentConfig
from lb.agent.machine.boot import NamespaceId
from lb.agent.machine.undo_record import Journal, Record, read_record
from lb.agent.netlink.links import LinkInfo
from lb.agent.netlink.route_socket import RouteSocket

LINK = LinkInfo(3, "eth0", bytes(6), 1500, up=True, addresses=frozenset())


class Programs:
    """A data plane of which only the numbers matter."""

    forwarder_fd, redirector_fd, egress_fd = 7, 8, 9

    def __init__(self, happened: list[str]) -> None:
        self._happened = happened

    def program_ids(self) -> tuple[int, int, int]:
        return 70, 80, 90

    def pin(self, directory: Path) -> None:
        self._happened.append("pin")

    @contextmanager
    def in_root(self) -> Iterator[None]:
        self._happened.append("others continue with the new forwarder")
        try:
            yield
        except OSError:
            self._happened.append("others continue with the old one")
            raise


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
        assert 90 in record.egresses

    def attach_filter(
        _netlink: Any, index: int, descriptor: int, hook: clsact.Hook = clsact.REDIRECTOR
    ) -> None:
        assert index == LINK.index
        note(f"{hook.program} {descriptor} on {hook.side}")

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

    def swap_in(_base: Path, _interface: str, fresh: Path) -> Path:
        assert fresh == config(tmp_path).bpffs
        note("pins take place")
        return tmp_path

    monkeypatch.setattr(clsact, "has_clsact", lambda *_: "clsact" in done)
    monkeypatch.setattr(clsact, "add_clsact", add_clsact)
    monkeypatch.setattr(clsact, "attach_filter", attach_filter)
    monkeypatch.setattr(xdp, "attach_xdp", attach_xdp)
    monkeypatch.setattr(xdp, "query_xdp", lambda *_: AttachedXdp(native=60))
    monkeypatch.setattr(clsact, "list_filters", lambda *_: ())
    monkeypatch.setattr(guests, "guest_programs", lambda _pin: {})
    monkeypatch.setattr(bpffs, "prepare", lambda _base: None)
    monkeypatch.setattr(bpffs, "fresh_directory", lambda base, _interface: base)
    monkeypatch.setattr(bpffs, "swap_in", swap_in)
    return done


def config(tmp_path: Path) -> AgentConfig:
    return AgentConfig(
        name="s1", interface="eth0", dip=IPv4Address("10.0.0.2"), bpffs=tmp_path / "pins"
    )


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    bpffs_of = str(config(tmp_path).bpffs)
    return Journal(tmp_path, Record(NamespaceId("boot", "net"), "eth0", bpffs_of, forwarders=(60,)))


def test_the_redirector_is_there_before_the_forwarder_and_all_is_written_down(
    tmp_path: Path, happened: list[str], journal: Journal
) -> None:
    """Else packets that are encapsulated to this very server would meet nobody who decides."""
    Attachment(RouteSocket(), LINK, config(tmp_path), journal).attach(Programs(happened))
    assert happened == [
        "pin",
        "clsact",
        "redirector 8 on ingress",
        "egress program 9 on egress",
        "others continue with the new forwarder",
        "forwarder 7 native for 60",
        "pins take place",
    ]
    record = journal.record
    assert (record.forwarders, record.redirectors, record.egresses) == ((70,), (80,), (90,))


def test_without_the_egress_program_packets_go_on(
    tmp_path: Path, happened: list[str], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = clsact.attach_filter

    def attach_filter(
        netlink: Any, index: int, descriptor: int, hook: clsact.Hook = clsact.REDIRECTOR
    ) -> None:
        if hook is clsact.EGRESS_PROGRAM:
            raise BrigadeError("cannot attach the egress program: it is an ingress qdisc")
        whole(netlink, index, descriptor, hook)

    monkeypatch.setattr(clsact, "attach_filter", attach_filter)
    Attachment(RouteSocket(), LINK, config(tmp_path), journal).attach(Programs(happened))
    assert happened[-1] == "pins take place"


def test_a_forwarder_that_is_refused_leaves_others_and_pins_as_they_were(
    tmp_path: Path, happened: list[str], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any, **_more: Any) -> None:
        raise OSError("busy")

    monkeypatch.setattr(xdp, "attach_xdp", refuse)
    with pytest.raises(OSError, match="busy"):
        Attachment(RouteSocket(), LINK, config(tmp_path), journal).attach(Programs(happened))
    assert happened[-2:] == [
        "others continue with the new forwarder",
        "others continue with the old one",
    ]
    assert set(journal.record.forwarders) == {60, 70}


@pytest.mark.parametrize("detached", [True, False], ids=["detached", "replaced by somebody"])
def test_a_refused_change_of_mode_puts_the_old_forwarder_back(
    tmp_path: Path,
    happened: list[str],
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    detached: bool,
) -> None:
    @contextmanager
    def open_program(number: int) -> Iterator[int]:
        happened.append(f"hold {number}")
        try:
            yield 6
        finally:
            happened.append(f"let go of {number}")

    def detach_xdp(_netlink: Any, _index: int, mode: str, old: int) -> bool:
        happened.append(f"detach {old} {mode}")
        return detached

    def attach_xdp(
        _netlink: Any, _index: int, fd: int, mode: str, old: Any, remedy: str = ""
    ) -> None:
        happened.append(f"attach {fd} {mode} for {old}")
        if mode == "native":
            assert remedy
            raise OSError("no native XDP")

    monkeypatch.setattr(attachment, "open_program", open_program)
    monkeypatch.setattr(xdp, "query_xdp", lambda *_: AttachedXdp(generic=60))
    monkeypatch.setattr(xdp, "detach_xdp", detach_xdp)
    monkeypatch.setattr(xdp, "attach_xdp", attach_xdp)
    with pytest.raises(OSError, match="no native XDP"):
        Attachment(RouteSocket(), LINK, config(tmp_path), journal).attach(Programs(happened))
    assert happened[happened.index("hold 60") :] == [
        "hold 60",
        "detach 60 generic",
        "attach 7 native for None",
        *(["attach 6 generic for None"] if detached else []),
        "let go of 60",
        "others continue with the old one",
    ]


def test_pins_that_others_left_are_removed_before_unless_something_of_them_runs(
    tmp_path: Path, happened: list[str], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new agent may fail as they did, again and again: what is left must not grow."""
    base = config(tmp_path).bpffs
    pinned = {"eth0": 59, "eth0:1": 60, "eth0:2": 61, "eth0:3-new-5": None, "eth1:0": 62}
    for name in pinned:
        (base / name).mkdir(parents=True)

    def pinned_ids(directories: Iterable[Path], _names: Any) -> frozenset[int]:
        ids = (pinned[directory.name] for directory in directories)
        return frozenset(number for number in ids if number is not None)

    monkeypatch.setattr(attachment, "pinned_ids", pinned_ids)
    Attachment(RouteSocket(), LINK, config(tmp_path), journal).attach(Programs(happened))
    assert sorted(path.name for path in base.iterdir()) == ["eth0", "eth0:1", "eth1:0"]

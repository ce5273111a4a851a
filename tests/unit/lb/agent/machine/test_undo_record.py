"""The record on disk: written before a change, read back whole, refused if it is not ours."""

from __future__ import annotations

import stat
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from controlplane.domain.errors import BrigadeError
from lb.agent.machine.boot import NamespaceId, current_namespace
from lb.agent.machine.undo_record import Journal, Record, decode, encode, erase_record, read_record

NAMESPACE = NamespaceId("boot", "cookie:7")
FULL = Record(
    NAMESPACE,
    "eth0",
    "/sys/fs/bpf/x",
    "generic",
    forwarders=(3, 4),
    redirectors=(5,),
    clsact_made=True,
    directories_made=("/a", "/a/b"),
    sysctls={"net/ipv4/conf/all/arp_ignore": ("0", "1")},
    vips=(IPv4Network("192.0.2.10/32"), IPv6Network("2001:db8::/64")),
    announced=True,
    run_dir_made=True,
)


def test_a_record_survives_its_encoding() -> None:
    assert decode(encode(FULL)) == FULL


def test_a_note_is_on_disk_for_root_alone_when_it_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path, Record(NAMESPACE, "eth0", "/b"))
    journal.note(clsact_made=True, forwarders=(9,))
    found = read_record(tmp_path)
    assert found == journal.record
    assert found is not None
    assert found.forwarders == (9,)
    assert stat.S_IMODE((tmp_path / "record.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_there_may_be_none(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    erase_record(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "place": 3}'])
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(BrigadeError, match=r"record\.json cannot be read"):
        read_record(tmp_path)


def test_a_namespace_is_the_same_twice() -> None:
    assert current_namespace() == current_namespace()
    assert current_namespace().boot_id

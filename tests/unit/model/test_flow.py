"""Hash input, hash, bucket and source port: the golden vectors of wire.md, section 1."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tests.model import Address, Flow, bucket_of, outer_source_port
from tests.packets.page import section, table_rows

KEY = bytes(range(16))
ROWS = [row for row in table_rows(section(1), columns=7) if row[2].isdigit()]
CLIENTS = [row for row in table_rows(section(1), columns=5) if row[3].isdigit()]


def _endpoint(text: str) -> tuple[Address, int]:
    """What stands before and behind the last colon, brackets taken off."""
    address, _, port = text.rpartition(":")
    return ip_address(address.strip("[]")), int(port)


def test_the_document_has_nine_flows_and_three_clients_under_the_key_of_these_tests() -> None:
    assert (len(ROWS), len(CLIENTS)) == (9, 3)
    assert f"Flows, key `{KEY.hex()}`, 65,536 buckets" in section(1)
    assert "(hash mode `client`), the same key and bucket count" in section(1)


@pytest.mark.parametrize("row", ROWS, ids=["-".join(row[:3]) for row in ROWS])
def test_golden_flow(row: tuple[str, ...]) -> None:
    flow = Flow(int(row[2]), *_endpoint(row[0]), *_endpoint(row[1]))
    flow_hash = flow.hash(KEY)
    found = (
        flow.hash_input().hex(),
        f"{flow_hash:016x}",
        str(bucket_of(flow_hash, 65536)),
        str(outer_source_port(flow_hash)),
    )
    assert found == row[3:]


@pytest.mark.parametrize("row", CLIENTS, ids=[row[0] for row in CLIENTS])
@pytest.mark.parametrize(("protocol", "port"), [(6, 40000), (17, 1)])
def test_golden_client(row: tuple[str, ...], protocol: int, port: int) -> None:
    client = ip_address(row[0])
    vip = ip_address("192.0.2.10" if client.version == 4 else "2001:db8::10")
    flow = Flow(protocol, client, port, vip, 80)
    flow_hash = flow.hash(KEY, by_client=True)
    found = (
        flow.hash_input(by_client=True).hex(),
        f"{flow_hash:016x}",
        str(bucket_of(flow_hash, 65536)),
        str(outer_source_port(flow_hash)),
    )
    assert found == row[1:]


def test_turned_round() -> None:
    there = Flow(6, ip_address("192.0.2.10"), 80, ip_address("198.51.100.7"), 40000)
    back = Flow(6, ip_address("198.51.100.7"), 40000, ip_address("192.0.2.10"), 80)
    assert there.turned_round() == back


def test_a_smaller_table_uses_the_low_bits() -> None:
    assert bucket_of(0xFA43B87DE3E4A666, 256) == 0x66
    assert bucket_of(0xFA43B87DE3E4A666, 1 << 20) == 0x4A666


def test_the_source_port_always_has_its_top_bit() -> None:
    assert outer_source_port(0) == 0x8000
    assert outer_source_port(0x7FFF << 48) == 0xFFFF
    assert outer_source_port(0xFFFF << 48) == 0xFFFF

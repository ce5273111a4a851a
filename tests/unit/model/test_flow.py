"""Hash input, hash, bucket and source port: the golden vectors of wire.md, section 1."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from tests.model import Flow, bucket_of, outer_source_port
from tests.unit.model.wire_document import section, table_rows

KEY = bytes(range(16))
ROWS = [row for row in table_rows(section(1), columns=7) if row[2].isdigit()]


def _endpoint(text: str) -> tuple[IPv4Address, int]:
    address, port = text.split(":")
    return IPv4Address(address), int(port)


def test_the_document_has_five_flows_under_the_key_of_these_tests() -> None:
    assert len(ROWS) == 5
    assert f"Flows, key `{KEY.hex()}`, 65,536 buckets" in section(1)


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


def test_a_smaller_table_uses_the_low_bits() -> None:
    assert bucket_of(0xFA43B87DE3E4A666, 256) == 0x66
    assert bucket_of(0xFA43B87DE3E4A666, 1 << 20) == 0x4A666


def test_the_source_port_always_has_its_top_bit() -> None:
    assert outer_source_port(0) == 0x8000
    assert outer_source_port(0x7FFF << 48) == 0xFFFF
    assert outer_source_port(0xFFFF << 48) == 0xFFFF
